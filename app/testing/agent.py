"""An agent in a test: a desk, and a telephone that rings and is answered when told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.core import commands as do
from app.core import events as ev
from app.core.acd import AgentDef

if TYPE_CHECKING:
    from app.testing.centre import VirtualCentre

PATIENCE = 60.0
RINGS_AFTER = 0.1
DESK_SHOWS_AFTER = 0.05
NO_ANSWER, DECLINED = 19, 21


@dataclass(slots=True)
class Leg:
    """The agent's phone in a call: ringing, or up."""

    call: str
    id: str
    rings: bool = False
    up: bool = False


@dataclass(frozen=True, slots=True)
class Habit:
    """What an agent does with every call, unasked: answers after so many seconds, hangs up after more, and is done after more still."""

    after: float
    talks: float | None
    wraps_up: float | None


class VirtualAgent:
    """One agent of the project."""

    def __init__(self, centre: VirtualCentre, definition: AgentDef) -> None:
        self.centre, self.definition, self.id = centre, definition, definition.id
        self.leg: Leg | None = None
        self.card: Mapping[str, Any] = {}
        """What the desk shows of the call that is offered or was last."""
        self.has_desk = False
        self._habit: Habit | None = None

    def __repr__(self) -> str:
        return f"<agent {self.id} ({self.definition.name}): {self._where()}>"

    # ---- what the agent does -------------------------------------------------------------------------------------------

    def ready(self, *, desk: bool = True) -> VirtualAgent:
        """Ask for work: with a phone that can be reached, signed in, and with a desk unless told otherwise."""
        state = self._row()
        if not state["phone"]["reachable"]:
            self.centre.happen(ev.AgentPhoneChanged(self.id, True))
        if state["presence"] == "signed_out":
            self.centre.happen(ev.AgentSignedIn(self.id))
        if desk and not state["desk"]:
            self.has_desk = True
            self.centre.happen(ev.DeskFound(self.id))
        self.centre.happen(ev.AgentBecameReady(self.id))
        return self

    def not_ready(self, reason: str = "") -> VirtualAgent:
        """Want no more work."""
        self.centre.happen(ev.AgentBecameNotReady(self.id, reason))
        return self

    def signs_out(self) -> VirtualAgent:
        """Go."""
        self.centre.happen(ev.AgentSignedOut(self.id))
        return self

    def answers(self, within: float = PATIENCE) -> VirtualAgent:
        """Answer the phone, once it rings."""
        leg = self._ringing(within)
        self.centre.happen(ev.LegAnswered(leg.call, leg.id))
        return self

    def ignores(self, within: float = PATIENCE) -> VirtualAgent:
        """Let the phone ring until it stops."""
        leg = self._ringing(within)
        if not self.centre.until(lambda: self.leg is not leg, PATIENCE + self.centre.ring_seconds(leg.call)):
            raise AssertionError(f"the phone of agent {self.id} rings and rings")
        return self

    def rejects(self, within: float = PATIENCE) -> VirtualAgent:
        """Decline the call at the desk."""
        self.centre.happen(ev.AgentRejected(self.id, self._ringing(within).call))
        return self

    def hangs_up(self) -> VirtualAgent:
        """Put the phone down."""
        leg = self.leg
        if leg is None:
            raise AssertionError(f"agent {self.id} has nothing to hang up: {self._where()}")
        self.centre.happen(ev.LegEnded(leg.call, leg.id, 16 if leg.up else DECLINED))
        return self

    def wraps_up(self, disposition: str = "", remarks: str = "") -> VirtualAgent:
        """Be done with the work after the call."""
        calls = [work["interaction"] for work in self._row()["work"] if work["state"] == "wrap_up"]
        if not calls:
            raise AssertionError(f"agent {self.id} has nothing to wrap up: {self._where()}")
        self.centre.happen(ev.AgentFinishedWrapUp(self.id, calls[0], disposition, remarks))
        return self

    def always_answers(self, after: float = 2.0, *, talks: float | None = None, wraps_up: float | None = None) -> VirtualAgent:
        """Answer every call from now on after so many seconds; hang up after `talks` more, and be done after `wraps_up` more."""
        self._habit = Habit(after, talks, wraps_up)
        return self

    def loses_the_desk(self) -> VirtualAgent:
        """The page at the desk is closed, or the line to it is cut."""
        self.has_desk = False
        self.centre.happen(ev.DeskLost(self.id))
        return self

    def unplugs_the_phone(self) -> VirtualAgent:
        """The phone is not registered any more."""
        self.centre.happen(ev.AgentPhoneChanged(self.id, False))
        return self

    # ---- what became of it ---------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """What the agent has in hand (`offered`, `talking`, `wrap_up`), or else the presence (`ready`, `not_ready`, `signed_out`)."""
        row = self._row()
        return str(row["work"][0]["state"] if row["work"] else row["presence"])

    @property
    def rings(self) -> bool:
        """Whether the phone rings."""
        return self.leg is not None and self.leg.rings and not self.leg.up

    # ---- the phone and the desk, as the commands reach them ------------------------------------------------------------

    def be_rung(self, command: do.RingAgent) -> None:
        """The phone rings, for as long as the command says."""
        self.leg = leg = Leg(command.call, command.leg)
        self.centre.later(RINGS_AFTER, lambda: self._begin_to_ring(leg))
        self.centre.later(command.seconds, self._act(leg, lambda leg: ev.LegEnded(leg.call, leg.id, NO_ANSWER), up=False))
        if self._habit is not None:
            self.centre.later(self._habit.after, self._act(leg, lambda leg: ev.LegAnswered(leg.call, leg.id), up=False))

    def _begin_to_ring(self, leg: Leg) -> None:
        if self.leg is leg and not leg.up:
            leg.rings = True
            self.centre.happen(ev.LegRinging(leg.call, leg.id))

    def talk(self) -> None:
        """The phone was answered."""
        if self.leg is None:
            return
        self.leg.up = True
        if self._habit is not None and self._habit.talks is not None:
            self.centre.later(self._habit.talks, self._act(self.leg, lambda leg: ev.LegEnded(leg.call, leg.id), up=True))

    def hung_up(self) -> None:
        """The phone is free again."""
        leg, self.leg = self.leg, None
        if leg and leg.up and self._habit and self._habit.wraps_up is not None:
            self.centre.later(self._habit.wraps_up, lambda: self._be_done(leg.call))

    def ending(self, cause: int) -> Callable[[], None]:
        """The end of the leg that there is now, should it still be there when this is called."""
        leg = self.leg

        def end() -> None:
            if leg is not None and self.leg is leg:
                self.centre.happen(ev.LegEnded(leg.call, leg.id, cause))

        return end

    def _be_done(self, call: str) -> None:
        if any(work["interaction"] == call and work["state"] == "wrap_up" for work in self._row()["work"]):
            self.centre.happen(ev.AgentFinishedWrapUp(self.id, call))

    def _act(self, leg: Leg, event: Callable[[Leg], ev.Event], *, up: bool) -> Callable[[], None]:
        def act() -> None:
            if self.leg is leg and leg.up is up:
                self.centre.happen(event(leg))

        return act

    def _ringing(self, within: float) -> Leg:
        self.centre.until(lambda: self.rings, within)
        if self.leg is None or not self.rings:
            raise AssertionError(
                f"expected the phone of agent {self.id} ({self.definition.name}) to ring within {within:g} s; {self._where()}"
            )
        return self.leg

    def _where(self) -> str:
        row = self._row()
        return f"the agent is {self.state}{' (' + row['reason'] + ')' if row['reason'] else ''}"

    def _row(self) -> dict[str, Any]:
        return self.centre.center.acd.state(self.id)
