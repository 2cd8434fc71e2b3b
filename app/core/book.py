"""What a centre runs: the flow of each dialled number, the queues and the agents, and what a call runs for which there is no flow."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.core.acd import AgentDef, QueueDef
from app.core.defined import plain_staff, staff_hash
from app.core.flow.compiled import Compiled, compile_program
from app.core.flow.program import Program
from app.core.transfer import Rules
from app.core.versions import Versions

AWAY = "callwright-fallback"
FALLBACK = Program.model_validate(
    {"flow": "fallback", "title": "No flow for this number", "start": "away", "on_error": "away", "steps": {"away": {"do": "release"}}}
)


NO_FLOW = compile_program(FALLBACK, {})
NO_ROOM = compile_program(
    Program.model_validate(
        {"flow": "no-room", "start": "away", "on_error": "away", "steps": {"away": {"do": "release", "for_good": "false"}}},
    ),
    {},
)
"""What a call runs for which there is no flow, or no room: back to the dialplan."""


@dataclass(slots=True)
class Book:
    """What a centre runs: the flow of each dialled number, the queues, the agents. Read from files at publish.

    `flows` are those that are active, `published` all versions that there are of each.
    """

    flows: Mapping[str, Compiled]
    queues: Mapping[str, QueueDef]
    agents: Mapping[str, AgentDef]
    max_calls: int = 1000
    published: Versions = field(default_factory=Versions)
    staff: str = ""
    """The hash of queues and agents as they were read (`app.core.defined`)."""
    transfers: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.published.shelf.update({compiled.version: compiled for compiled in self.flows.values()})
        self.staff = self.staff or staff_hash(plain_staff(self.queues, self.agents, self.transfers))

    def versions(self) -> list[Compiled]:
        """Every flow in every version that a call can go on with, each once; those that new calls run come first."""
        every = (*self.flows.values(), NO_FLOW, NO_ROOM, *self.published.shelf.values())
        return list({(flow.name, flow.version): flow for flow in every}.values())

    def version(self, flow: str, version: str) -> Compiled | None:
        """The flow in exactly this version, if it is there."""
        every = (*self.flows.values(), NO_FLOW, NO_ROOM, *self.published.shelf.values())
        return next((compiled for compiled in every if (compiled.name, compiled.version) == (flow, version)), None)

    def flow_for(self, dnis: str, call: str, ani: str) -> Compiled:
        """What a new call runs that dialled this number."""
        active = self.flows.get(dnis)
        return NO_FLOW if active is None else self.published.canary_for(active.name, call, ani) or active

    def renumber(self) -> None:
        """Give every number to the flow whose active version has it; a flow without versions keeps what the files gave it."""
        kept = {number: flow for number, flow in self.flows.items() if flow.name not in self.published.lines}
        self.flows = kept | {number: flow for flow in self.published.active() for number in flow.program.dnis}
