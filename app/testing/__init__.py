"""Tests of a project's flows without a PBX: virtual callers, agents, systems of record and time around the production core.

`plugin` is the pytest plugin and the only module here that needs pytest. `VirtualCentre` (in `centre`) can be used without it.
"""
