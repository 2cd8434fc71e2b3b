"""What other systems do with a live call: write into its session, or send it on to one of its flow's entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import commands as do
from app.core import driving
from app.core import events as ev
from app.core.call import TALKING, Call
from app.core.flow.words import unknown
from app.core.session import SessionRefused, check_write

if TYPE_CHECKING:
    from app.core.center import Center


class Steering:
    """The centre's part that grants their wishes; raises `SessionRefused` for others, and then changes nothing."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def written(self, event: ev.SessionWritten, now: float) -> None:
        call = self._session_of(event)
        if event.expected is not None and event.expected != call.written:
            raise SessionRefused("stale", f"the session was written {call.written} times by now, not {event.expected}")
        check_write(event.values, call.vars, call.flow.program.session)
        call.written += 1
        self._center.touch(call)
        self._center.to_flow(event, now)

    def steered(self, event: ev.CallSteered, now: float) -> None:
        """Leave whatever the flow waits for, a queue included, and go on at the entry. A conversation is not cut."""
        center = self._center
        call = self._session_of(event)
        step = call.flow.program.entries.get(event.entry)
        if step is None:
            raise SessionRefused("unknown-entry", unknown("entry", event.entry, call.flow.program.entries))
        if call.phase == TALKING or call.leaving:
            raise SessionRefused("not-steerable", "the caller talks to an agent" if call.phase == TALKING else "the call is being let go")
        if call.far and call.far.answered:
            raise SessionRefused("not-steerable", "the caller is put through")
        center.offers.leave_queue(call, now)
        if call.music:
            call.music = False
            center.emit(call, do.StopMusic(call.id))
        if call.playing and call.play:
            call.play = None
            center.emit(call, do.StopPlay(call.id, call.playing))
        call.keys = ""
        center.run(call, now, driving.divert, step)

    def _session_of(self, event: ev.SessionEvent) -> Call:
        call = self._center.calls.get(event.call)
        if call is None:
            raise SessionRefused("unknown-call", "no such call")
        if not call.caller:
            raise SessionRefused("ended-call", "the call has ended")
        return call
