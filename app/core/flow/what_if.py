"""A recorded call under another version of its flow: the same caller, the same answers, on the way that the other version takes.

A recorded result serves only the same action with the same parameters, keys only the input of the same name, a wait only the same
queue with the same skills and place, or a transfer to the same number or agent, and a hang-up only the same visit of the same step. A
message's outcome serves one to the same address. A recording serves the input of the same name with the same limits, a talk with a bot
only the same bot that is told the same. What was typed into a sensitive input serves only an entry of the same shape, and an action that
gets it only after the same entries. Callbacks are booked by the project's rules. A prompt takes as long as it took; one that was not
played is given the time its words take to speak, and the caller is taken to stay for it. What other systems wrote comes at the time it
came. A call that was sent to an entry, or whose caller pressed the key that reaches a person, is led away from the same visit of the same
step. An automation's answer that is not on record leaves open only the steps that use it. Crashes and lost links are left out. Where
nothing recorded fits, the call is undetermined from that step.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from app.core.book import Book
from app.core.defined import Kept, Unknown
from app.core.flow.compiled import Compiled
from app.core.flow.other_run import Run
from app.core.flow.replay import Replayed
from app.core.flow.supply import Way
from app.core.flow.supply_read import supply_of
from app.core.recorded import PLENTY, Row


@dataclass(slots=True)
class WhatIf:
    """How a call went and how it would have gone. `undetermined` says why the rest cannot be known, from `step` on."""

    call: str
    version: str
    way: Way = field(default_factory=list)
    other_way: Way = field(default_factory=list)
    end: tuple[str, str, str] = ("", "", "")
    """Outcome, the last queue, the last step."""
    other_end: tuple[str, str, str] = ("", "", "")
    undetermined: str = ""
    step: str = ""

    @property
    def differs(self) -> int | None:
        """The first place at which the ways differ, as far as both are known; None where they do not."""
        n = next((n for n, (a, b) in enumerate(zip(self.way, self.other_way, strict=False)) if a != b), None)
        if self.undetermined:
            known = len(self.other_way) - 1
            return n if n is not None and (n < known or self.way[n][0] != self.other_way[n][0]) else None
        return min(len(self.way), len(self.other_way)) if n is None and len(self.way) != len(self.other_way) else n

    @property
    def verdict(self) -> str:
        """`same way`, `same end` (by another way), `other end`, or `undetermined`."""
        if self.undetermined:
            return "undetermined"
        if self.end != self.other_end:
            return "other end"
        return "same way" if self.differs is None else "same end"


def what_if(again: Replayed, rows: list[Row], other: Compiled, kept: Kept) -> WhatIf:
    """One call, replayed as `again` from its `rows`, under the version `other`."""
    result = WhatIf(again.call, again.version)
    try:
        if not again.flow:
            raise Unknown(again.unknown or "the flow it ran is not known")
        ran = kept.flow(again.flow, again.version)
        supply = supply_of(rows, again, ran.program)
        queues, agents, transfers = kept.staff(supply.staff)
    except Unknown as error:
        result.undetermined = str(error)
        return result
    result.way = supply.way
    result.end = (supply.outcome, supply.queue, supply.way[-1][0] if supply.way else "")
    own, under = (
        Book({supply.arrival.dnis: flow}, queues, agents, PLENTY, staff=supply.staff, transfers=transfers) for flow in (ran, other)
    )
    itself = Run(supply, own, replace(result, other_way=[])).to_its_end()
    if itself.verdict not in ("same way", "undetermined"):
        result.undetermined = "a crash or a lost link in it leaves open what the caller would have done without"
        return result
    return Run(supply, under, result).to_its_end()
