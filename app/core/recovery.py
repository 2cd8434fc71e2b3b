"""Coming back: after a process that died, and after an Asterisk that was away or began anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import commands as do
from app.core import driving, facts
from app.core import events as ev
from app.core.agents import DESK_GRACE
from app.core.book import AWAY
from app.core.call import OFFERED, QUEUED, TALKING, Call

if TYPE_CHECKING:
    from app.core.center import Center


class Recovery:
    """The centre's part that makes what was ordered so again."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def pbx_back(self, event: ev.PbxBack, now: float) -> None:
        """Asterisk began anew: every call that was up is lost. None of them may be offered to anybody while they are being closed."""
        center = self._center
        for call in center.calls.values() if event.restarted else ():
            if call.caller:
                call.lost = True
                center.touch(call)
                center.offers.leave_queue(call, now)

    def took_over(self, event: ev.TookOver, now: float) -> None:
        """Requests whose answers died with the process before us are asked again, with time enough for an answer."""
        center = self._center
        for call in [call for call in center.calls.values() if call.caller]:
            fact = facts.TakenOver(call.id, event.last)
            center.emit(call, fact)
            center.run(call, now, driving.feed, fact)
            for again in driving.ask_again(call):
                center.emit(call, again)
        center.wills.took_over(now)
        center.callbacks.took_over(now)
        for state in center.acd.states():
            if state["desk"]:
                center.acd.desk(state["id"], False, now)
                center.timers.set(f"agent:{state['id']}", "desk", now + DESK_GRACE)
        center.settle()

    def found(self, event: ev.CallFound, now: float) -> None:
        """A call of ours lives after a gap: issue what was ordered and is not so.

        Legs that are gone have been told of by now; one that is not among those found was ordered since.
        """
        center = self._center
        call = center.calls.get(event.call)
        if call is None or not call.caller:
            return
        center.touch(call)
        if call.answered and not event.up:
            center.emit(call, do.Answer(call.id))
        if call.leaving:
            center.emit(call, do.HangUp(call.id) if call.leaving == "hangup" else do.Release(call.id, AWAY, do.FOR_GOOD))
        elif call.far:
            center.transfers.found(call, event, now)
        elif call.phase == TALKING and call.offer and call.offer.leg in event.legs:
            call.offer.answered = call.offer.at  # nobody knows when it was: they may have talked for long
            joined = call.offer.leg in event.bridged
            center.emit(call, (do.Talk if joined else do.JoinBridge)(call.id, call.bridge, call.offer.leg))
        elif call.phase in (QUEUED, OFFERED) or call.music:
            center.emit(call, do.StartMusic(call.id, self._music(call)))
        for bot in driving.bots(call):
            center.emit(call, do.StartBot(call.id, bot.request, bot.bot, again=True))
        if call.playing in event.playbacks and call.play is None:
            center.emit(call, do.StopPlay(call.id, call.playing))

    def _music(self, call: Call) -> str:
        queue = self._center.book.queues.get(call.place.queue) if call.place and call.phase in (QUEUED, OFFERED) else None
        return queue.music if queue else "default"
