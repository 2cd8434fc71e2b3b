"""Agents are two tables: presence (one state an agent) and work (one state for each interaction in hand).

A verb that its table does not list raises `IllegalMove` and changes nothing. "Not ready" or "sign out" while work is in
hand is kept as pending and takes effect when the work ends; "ready" takes it back. An agent has capacity for one
interaction; one in wrap-up still counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from app.core.acd.queues import check_skills

PRESENCE: Mapping[str, Mapping[str, str]] = {
    "signed_out": {"sign_in": "not_ready"},
    "not_ready": {"ready": "ready", "sign_out": "signed_out"},
    "ready": {"not_ready": "not_ready", "no_answer": "not_ready", "sign_out": "signed_out"},
}
WORK: Mapping[str, Mapping[str, str | None]] = {
    "offered": {"answer": "connecting", "no_answer": None, "reject": None, "withdraw": None},
    "connecting": {"joined": "talking", "failed": None},
    "talking": {"hold": "held", "hangup": "wrap_up"},
    "held": {"resume": "talking", "hangup": "wrap_up"},
    "wrap_up": {"done": None, "expire": None},
}
CAPACITY = 1


class IllegalMove(ValueError):
    """The tables do not allow `verb` in `state`. Nothing has changed."""

    kind = "illegal-move"

    def __init__(self, verb: str, state: str, who: str) -> None:
        super().__init__(f"{who}: cannot {verb} when {state}")
        self.verb = verb
        self.state = state


class UnknownAgent(LookupError):
    """There is no agent of that id."""

    kind = "unknown-agent"


@dataclass(frozen=True, slots=True)
class AgentDef:
    """An agent as the files define one. `endpoint` names a phone; `skills` are levels 1-10; `wrap_up` (seconds) overrides the queue's."""

    id: str
    name: str
    endpoint: str
    skills: Mapping[str, int]
    queues: tuple[str, ...]
    wrap_up: float | None = None

    def __post_init__(self) -> None:
        check_skills(self.skills, f"agent {self.id}")

    @property
    def versatility(self) -> int:
        """How widely the agent can be used: the number of skills and queues. The less versatile is chosen first."""
        return len(self.skills) + len(self.queues)


class Agent:
    """One agent's state. Times are in seconds on the core's clock."""

    __slots__ = (
        "definition",
        "desk",
        "idle_since",
        "in_use",
        "pending",
        "pending_reason",
        "presence",
        "reachable",
        "reason",
        "since",
        "work",
    )

    def __init__(self, definition: AgentDef) -> None:
        self.definition = definition
        self.presence = "signed_out"
        self.reason = ""
        self.since = 0.0
        self.idle_since = 0.0
        self.reachable = False
        self.in_use = False
        self.desk = False
        self.pending = ""
        self.pending_reason = ""
        self.work: dict[str, tuple[str, float]] = {}

    @property
    def committed(self) -> bool:
        """Ready to work and meaning to stay so, with a phone: worth waiting for."""
        return self.reachable and self.presence == "ready" and not self.pending

    @property
    def available(self) -> bool:
        """Can be offered an interaction now."""
        return len(self.work) < CAPACITY and self.reachable and not self.in_use and self.presence == "ready" and not self.pending

    @property
    def unavailable(self) -> str:
        """Why nothing can be offered now: `signed_out`, `unreachable`, `busy`, `not_ready`; "" where it can be."""
        if self.presence == "signed_out":
            return "signed_out"
        if not self.reachable:
            return "unreachable"
        if self.in_use or len(self.work) >= CAPACITY:
            return "busy"
        return "" if self.available else "not_ready"

    def presence_verb(self, verb: str, now: float, reason: str = "") -> None:
        """Apply a verb of the presence table, at once or as pending while work is in hand."""
        if verb == "ready" and self.pending:
            self.pending = self.pending_reason = ""
            return
        if verb not in PRESENCE[self.presence]:
            raise IllegalMove(verb, self.presence, f"agent {self.definition.id}")
        if self.work and verb in ("not_ready", "sign_out"):
            self.pending, self.pending_reason = verb, reason
            return
        self._move(verb, now, reason)

    def offer(self, interaction: str, now: float) -> None:
        """Reserve the agent for an interaction."""
        if not self.available:
            raise IllegalMove("offer", next(iter(self.work.values()))[0] if self.work else self.presence, f"agent {self.definition.id}")
        self.work[interaction] = ("offered", now)

    def work_verb(self, interaction: str, verb: str, now: float) -> str | None:
        """Apply a verb of the work table; the new state, or None when the work has ended."""
        row = self.work.get(interaction)
        state = row[0] if row else "none"
        if row is None or verb not in WORK[state]:
            raise IllegalMove(verb, state, f"agent {self.definition.id}, interaction {interaction}")
        after = WORK[state][verb]
        if after is not None:
            self.work[interaction] = (after, now)
            return after
        del self.work[interaction]
        self.idle_since = now
        if verb == "no_answer" and self.presence == "ready":
            self._move("no_answer", now, "no_answer")
        if self.pending and not self.work:
            self._settle(now)
        return None

    def state(self) -> dict[str, Any]:
        """For boards and pages, as plain JSON values."""
        return {
            "id": self.definition.id,
            "name": self.definition.name,
            "presence": self.presence,
            "reason": self.reason,
            "work": [{"interaction": i, "state": state, "since": since} for i, (state, since) in self.work.items()],
            "since": self.since,
            "idle_since": self.idle_since,
            "phone": {"reachable": self.reachable, "in_use": self.in_use},
            "desk": self.desk,
            "pending": self.pending,
        }

    def dump(self) -> dict[str, Any]:
        """Everything that `load` needs to continue exactly here, as plain JSON values."""
        return {**self.state(), "pending_reason": self.pending_reason}

    def load(self, row: Mapping[str, Any]) -> None:
        """Take over what `dump` gave. Raises ValueError on a state that the tables do not have."""
        if row["presence"] not in PRESENCE or any(work["state"] not in WORK for work in row["work"]):
            raise ValueError(f"agent {self.definition.id}: no such state in {row}")
        self.presence = row["presence"]
        self.reason = row["reason"]
        self.since = row["since"]
        self.idle_since = row["idle_since"]
        self.reachable = row["phone"]["reachable"]
        self.in_use = row["phone"]["in_use"]
        self.desk = row["desk"]
        self.pending = row["pending"]
        self.pending_reason = row["pending_reason"]
        self.work = {work["interaction"]: (work["state"], work["since"]) for work in row["work"]}

    def _move(self, verb: str, now: float, reason: str) -> None:
        self.presence = PRESENCE[self.presence][verb]
        self.reason = reason if self.presence == "not_ready" else ""
        self.since = now
        if self.presence == "ready":
            self.idle_since = now

    def _settle(self, now: float) -> None:
        """The pending wish, now that no work is left. After a missed call the agent is not ready already."""
        verb, reason = self.pending, self.pending_reason
        self.pending = self.pending_reason = ""
        if verb in PRESENCE[self.presence]:
            self._move(verb, now, reason)
