"""What a process runs, as plain JSON values under hashes, so that a replay can run it again after the files have changed.

There are two kinds: the program of a flow (its hash is its version), and the definitions of all queues and agents together. Order is kept:
two files that differ in the order of their agents are two definitions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

from app.core.acd.agents import AgentDef
from app.core.acd.queues import QueueDef
from app.core.acd.relaxation import Relax
from app.core.flow.compiled import Compiled, compile_program
from app.core.flow.program import Program
from app.core.transfer import Rules


class Staff(NamedTuple):
    """Who and what there is to reach."""

    queues: Mapping[str, QueueDef]
    agents: Mapping[str, AgentDef]
    transfers: Rules


class Unknown(Exception):
    """Something without which nothing can be replayed is not known; the text says what."""


def plain_staff(queues: Mapping[str, QueueDef], agents: Mapping[str, AgentDef], transfers: Rules) -> dict[str, Any]:
    """Queues, agents and the rules of transfers as plain JSON values."""
    return {
        "transfers": {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(transfers).items()},
        "queues": {name: asdict(queue) for name, queue in queues.items()},
        "agents": {name: {**asdict(agent), "skills": dict(agent.skills)} for name, agent in agents.items()},
    }


def staff_hash(plain: Mapping[str, Any]) -> str:
    """12 hex digits that are equal for equal queues, agents and rules."""
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]


def read_staff(plain: Mapping[str, Any]) -> Staff:
    """What `plain_staff` was given."""
    queues = {
        name: QueueDef(**{**queue, "relax": tuple(Relax(**rule) for rule in queue["relax"])}) for name, queue in plain["queues"].items()
    }
    agents = {name: AgentDef(**{**agent, "queues": tuple(agent["queues"])}) for name, agent in plain["agents"].items()}
    kept: Mapping[str, Any] = plain.get("transfers", {})
    rules: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}
    return Staff(queues, agents, Rules(**rules))


def plain_program(program: Program) -> dict[str, Any]:
    """A flow's program as plain JSON values."""
    return program.model_dump(mode="json")


def read_program(plain: Mapping[str, Any], version: str) -> Compiled:
    """The program that `plain_program` was given, under the version it had then, ready to run; raises ValueError."""
    program = Program.model_validate(plain).of_version(version)
    queues = {step["queue"]: None for step in plain["steps"].values() if step["do"] in ("queue", "callback")}
    return compile_program(program, queues)


class Kept:
    """What was run, by hash, as it was kept: (flow, plain JSON values); a flow of "" is queues and agents."""

    def __init__(self, kept: Mapping[str, tuple[str, Any]]) -> None:
        self._kept = kept
        self.flows: dict[str, Compiled] = {}
        self._staff: dict[str, Staff] = {}

    def flow(self, name: str, version: str) -> Compiled:
        """A flow in this version, ready to run; raises `Unknown`."""
        if version not in self.flows:
            flow, plain = self._kept.get(version, ("", None))
            if plain is None or flow != name:
                raise Unknown(f"version {version} of flow {name!r} was not kept")
            try:
                self.flows[version] = read_program(plain, version)
            except ValueError as error:
                raise Unknown(f"version {version} of flow {name!r} cannot be run any more: {error}") from None
        return self.flows[version]

    def staff(self, hash_: str) -> Staff:
        """Queues and agents; raises `Unknown`."""
        if hash_ not in self._staff:
            flow, plain = self._kept.get(hash_, ("", None))
            if plain is None or flow:
                raise Unknown(f"queues and agents {hash_} were not kept")
            try:
                self._staff[hash_] = read_staff(plain)
            except (ValueError, TypeError, KeyError) as error:
                raise Unknown(f"queues and agents {hash_} cannot be read any more: {error}") from None
        return self._staff[hash_]
