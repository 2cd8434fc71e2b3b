"""One call, told once, made twice: on the simulator, and on a real Asterisk with SIPp callers. A `Line` is what both can do."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Protocol

from app.testing.caller import VirtualCall
from app.testing.centre import VirtualCentre
from app.testing.project import Project
from crm.demo import PEOPLE, Person
from tests.e2e.house import LiveHouse, Visit
from tests.phones import until

Path = list[tuple[str, str]]
TALK = 0.5


class Line(Protocol):
    """A caller, agents, and a CRM that may be down."""

    def crm_is_down(self) -> None: ...

    def agent(self, agent: str) -> None:
        """An agent who answers every call, talks for a moment, and hangs up."""

    def dial(self, number: str) -> None: ...

    def reaches(self, step: str) -> None: ...

    def presses(self, keys: str) -> None: ...

    def hangs_up(self) -> None: ...

    def ends(self) -> tuple[Path, str]:
        """Wait until the call is over: every step with the exit taken, and the outcome."""


def typed(reference: str) -> str:
    """A customer reference as it is typed on a telephone's keys."""
    return reference.translate(str.maketrans("ABCDEFGHIJKLMNOPQRSTUVWXYZ", "22233344455566677778889999"))


def attributes(people: list[Person]) -> dict[str, Any] | None:
    """What the demo's actions get from the reference CRM about these people."""
    if not people:
        return None
    if len(people) > 1:
        return {"found": False, "count": len(people)}
    person = people[0]
    mail = f"{person.first_name}.{person.last_name}@{person.email}".lower() if person.email else ""
    return {
        **{"reference": person.reference, "first_name": person.first_name, "last_name": person.last_name},
        **{"email": mail, "language": person.language},
        **{"premium": person.premium, "tier": person.tier, "late_payment": person.late, "skills": person.skills},
        **{"order_id": f"order-of-{person.reference}" if person.order else "", "order_number": person.order[0] if person.order else ""},
    }


class VirtualLine:
    """The simulator, with the reference CRM's demo people behind the actions."""

    def __init__(self, project: Project) -> None:
        self.centre = VirtualCentre(project)
        self._call: VirtualCall | None = None
        by_phone, by_reference = (self.centre.action(f"crm.contact_by_{key}") for key in ("phone", "reference"))
        by_phone.answers_from(lambda asked: attributes([p for p in PEOPLE if asked["phone"] == f"+4930555000{p.tail}"]))
        by_reference.answers_from(lambda asked: attributes([p for p in PEOPLE if asked["digits"] == typed(p.reference)]))

    @property
    def call(self) -> VirtualCall:
        assert self._call is not None
        return self._call

    def crm_is_down(self) -> None:
        for action in self.centre.actions.values():
            action.fails()

    def agent(self, agent: str) -> None:
        self.centre.agent(agent).ready().always_answers(after=0.2, talks=TALK, wraps_up=1.0)

    def dial(self, number: str) -> None:
        self._call = self.centre.dial(number)

    def reaches(self, step: str) -> None:
        self.call.reaches(step)
        self.centre.waits(0.3)

    def presses(self, keys: str) -> None:
        self.call.presses(keys)

    def hangs_up(self) -> None:
        self.call.hangs_up()

    def ends(self) -> tuple[Path, str]:
        self.call.ends()
        self.centre.check()
        return self.call.path, self.call.outcome


class RealLine:
    """A real Asterisk: what happened is read from the timeline of the public API."""

    def __init__(self, house: LiveHouse, stack: ExitStack) -> None:
        self._house, self._stack = house, stack
        self._visit: Visit | None = None

    @property
    def visit(self) -> Visit:
        assert self._visit is not None
        return self._visit

    def crm_is_down(self) -> None:
        self._house.crm_fault("down")
        self._stack.callback(self._house.crm_fault, "off")

    def agent(self, agent: str) -> None:
        self._stack.enter_context(self._house.agent_phone(agent, ring=0.2, talk=TALK))

    def dial(self, number: str) -> None:
        self._visit = self._stack.enter_context(self._house.visit(number))

    def reaches(self, step: str) -> None:
        self._house.reaches(self.visit, step)

    def presses(self, keys: str) -> None:
        self.visit.phone.wait_for("answered")
        until(lambda: self.visit.phone.rtp.to, 5, "the caller's phone to know where to send")
        self.visit.phone.rtp.press(keys)

    def hangs_up(self) -> None:
        self.visit.phone.hang_up()

    def ends(self) -> tuple[Path, str]:
        row = self._house.over(self.visit.call, 60)
        path: Path = []
        for entry in self._house.timeline(self.visit.call):
            if entry["type"] == "StepEntered":
                path.append((entry["step"], ""))
            elif entry["type"] == "StepLeft":
                path[-1] = (entry["step"], entry["exit"])
        return path, row["outcome"]
