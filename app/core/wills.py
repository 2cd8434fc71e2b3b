"""What is done with a message when its caller hangs up, which is how most messages end: a call's will.

A step that records leaves a will with the centre (`LeaveWill`): the recording under way, and the mail that takes it to its mailbox, if
there is one. While the caller is there the flow does all that itself, and takes the will back. Once the caller has left, the centre carries
it out: it waits for the recording's end, has it put on the shelf, sends the mail (again and later where no server took it), and then
deletes the recording. The call stays in the live rows until that is done, so that a message survives the end of this process. What no mail
server takes is kept on the shelf as long as recordings are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.call import Call
from app.core.flow.script import SPOKEN, LeaveWill

if TYPE_CHECKING:
    from app.core.center import Center

END_WITHIN = 5.0
"""Seconds after the caller's end in which the recording's must be told."""
ANSWER_GRACE = 5.0
KEEP_WITHIN = 10.0
AGAIN = (20.0, 60.0, 300.0, 900.0, 3600.0)
"""Seconds before each further try to hand the message to a mail server."""
NO_USE = ("bad_address", "bad_message", "no_attachment", "missing")


class Wills:
    """The centre's part that carries them out."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def order(self, call: Call, order: LeaveWill) -> None:
        """Write a will, or (without a recording) take it back."""
        if not order.recording:
            call.will = {}
            return
        mail = order.mail
        told = {"request": mail.request, "to": mail.to, "subject": mail.subject, "body": mail.body} if mail else None
        call.will = {"recording": order.recording, "mail": told, "whole": order.whole, "tries": 0}

    def caller_left(self, call: Call, now: float) -> None:
        """Begin. Without a mail there is nobody who wants the recording."""
        if call.will["mail"] is None:
            self._done(call)
        elif call.will["whole"]:
            self._send(call, now)
        else:
            self._center.timers.set(call.id, "will", now + END_WITHIN)

    def feed(self, call: Call, event: ev.Event, now: float) -> None:
        """An event of a call whose caller has left."""
        match event:
            case ev.RecordingEnded(recording=recording) if recording == call.will["recording"] and not call.will["whole"]:
                if event.reason:
                    self._done(call)
                else:
                    self._keep(call, now)
            case ev.RecordingKept(request=request) if request == self._request(call):
                if event.voiced < SPOKEN:
                    self._done(call)
                else:
                    self._send(call, now)
            case ev.MailSent(request=request) if request == call.will["mail"]["request"]:
                self._done(call)
            case ev.RecordingLost(request=request) if request == self._request(call):
                self._in_vain(call, event.reason, now)
            case ev.MailFailed(request=request) if request == call.will["mail"]["request"]:
                self._in_vain(call, event.reason, now)
            case _:
                self._center.ignored["nothing of a will"] += 1

    def due(self, call: Call, now: float) -> None:
        """It is time to try, or to try again."""
        if call.will["whole"]:
            self._send(call, now)
        else:
            self._keep(call, now)

    def took_over(self, now: float) -> None:
        """The answers to what the process before us had asked died with it: ask again, with the same Message-ID."""
        for call in self._center.calls.values():
            if call.will and not call.caller:
                self._center.timers.set(call.id, "will", now)

    def _keep(self, call: Call, now: float) -> None:
        self._center.timers.set(call.id, "will", now + KEEP_WITHIN)
        self._center.emit(call, do.KeepRecording(call.id, self._request(call), call.will["recording"]))

    def _send(self, call: Call, now: float) -> None:
        order = do.SendMail(call.id, **call.will["mail"], attachment=call.will["recording"])
        call.will = {**call.will, "whole": True}
        self._center.timers.set(call.id, "will", now + order.budget + ANSWER_GRACE)
        self._center.emit(call, order)

    def _in_vain(self, call: Call, reason: str, now: float) -> None:
        """A try came to nothing: later again, unless that is no use or it was the last."""
        tries = call.will["tries"]
        if reason in NO_USE or tries >= len(AGAIN):
            self._center.emit(call, facts.Noticed(call.id, "message not delivered", reason))
            self._done(call, keep=True)
            return
        call.will = {**call.will, "tries": tries + 1}
        self._center.timers.set(call.id, "will", now + AGAIN[tries])
        self._center.touch(call)

    def _request(self, call: Call) -> str:
        return f"{call.will['recording']}-will"

    def _done(self, call: Call, keep: bool = False) -> None:
        recording = call.will["recording"]
        order = do.KeepRecording(call.id, self._request(call), recording, move=True) if keep else do.DropRecording(call.id, recording)
        self._center.emit(call, order)
        call.will = {}
        self._center.timers.cancel(call.id, "will")
        self._center.touch(call)
        self._center.forget_when_done(call)
