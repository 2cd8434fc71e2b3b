"""What a process runs, as plain JSON values under hashes, so that a replay can run it again after the files have changed.

There are two kinds: the program of a flow (its hash is its version), and the definitions of all queues and agents together. Order is kept:
two files that differ in the order of their agents are two definitions.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from app.core.acd.agents import AgentDef
from app.core.acd.queues import QueueDef
from app.core.acd.relaxation import Relax


def plain_staff(queues: Mapping[str, QueueDef], agents: Mapping[str, AgentDef]) -> dict[str, Any]:
    """Queues and agents as plain JSON values."""
    return {
        "queues": {name: asdict(queue) for name, queue in queues.items()},
        "agents": {name: {**asdict(agent), "skills": dict(agent.skills)} for name, agent in agents.items()},
    }


def staff_hash(plain: Mapping[str, Any]) -> str:
    """12 hex digits that are equal for equal queues and agents."""
    return hashlib.sha256(json.dumps(plain).encode()).hexdigest()[:12]


def read_staff(plain: Mapping[str, Any]) -> tuple[dict[str, QueueDef], dict[str, AgentDef]]:
    """The queues and agents that `plain_staff` was given."""
    queues = {
        name: QueueDef(**{**queue, "relax": tuple(Relax(**rule) for rule in queue["relax"])}) for name, queue in plain["queues"].items()
    }
    return queues, {name: AgentDef(**{**agent, "queues": tuple(agent["queues"])}) for name, agent in plain["agents"].items()}
