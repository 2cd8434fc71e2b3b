"""Steps that reach beyond the conversation: recordings and messages, transfers, text messages.

A recording goes on in Asterisk while we are away. One that was ordered and never began is begun once more after a take-over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.core import commands, facts
from app.core.events import DigitPressed, MailFailed, MailSent, RecordingEnded, RecordingKept, RecordingLost, SmsFailed, SmsSent
from app.core.flow import program as nodes
from app.core.flow.bot_step import bot
from app.core.flow.script import SPOKEN, LeaveWill, Script, Transfer, Wait, answer, delivered, mask, play, settled
from app.core.flow.texts import BadText

if TYPE_CHECKING:
    from app.core.call import Call

RECORD_GRACE = 10.0
"""Seconds beyond its length after which a recording that told nothing is given up."""
KEEP_BUDGET = 5.0
LISTEN, AGAIN, SEND = "1", "2", "3"
LISTENS = 5
"""How often a message can be heard again before it is sent as it is."""


def record(call: Call, node: nodes.Record) -> Script[str]:
    yield from play(call, call.prompt(node.prompt) if node.prompt else (), barge_in=True)
    recording, exit_ = yield from _take(call, node, None)
    yield LeaveWill()
    if exit_:
        yield commands.DropRecording(call.id, recording)
        return exit_
    call.set(f"vars.{node.into}", recording)
    return "recorded"


def voicemail(call: Call, node: nodes.Voicemail) -> Script[str]:
    to = call.fill_or_empty(node.to).strip()
    try:
        mail = commands.SendMail(call.id, call.mint("ml"), to, call.fill(node.subject), call.fill(node.body), node.budget)
    except BadText as error:
        call.note(facts.Noticed(call.id, "text failed", str(error)))
        return "failed"
    if not to:
        return "failed"
    yield from play(call, call.prompt(node.prompt), barge_in=True)
    recording = ""
    for take in range(1, node.takes + 1):
        recording, exit_ = yield from _take(call, node, mail)
        if not exit_ and (not node.review or (yield from _review(call, node.review, recording, take < node.takes)) == SEND):
            break
        yield LeaveWill()
        yield commands.DropRecording(call.id, recording)
        if exit_:
            return exit_
    return (yield from _hand_over(call, node, mail, recording))


def _review(call: Call, prompt: str, recording: str, again: bool) -> Script[str]:
    """What becomes of a message: sent, by key, by silence, or by having been heard often enough; or spoken again, while that is left."""
    for _ in range(LISTENS):
        yield from play(call, call.prompt(prompt), barge_in=True)
        if not call.keys:
            yield Wait((DigitPressed,), 5.0)
        key = call.take_key() if call.keys else SEND
        if key == LISTEN:
            yield from play(call, (f"recording:{recording}",), barge_in=True)
        elif key == SEND or (key == AGAIN and again):
            return key
    return SEND


def _hand_over(call: Call, node: nodes.Voicemail, mail: commands.SendMail, recording: str) -> Script[str]:
    """Send the message. One that no server takes now stays in the call's will, and is tried again when the caller has left."""
    yield commands.SendMail(call.id, mail.request, mail.to, mail.subject, mail.body, mail.budget, recording)
    until = call.now + node.budget + 0.5
    result = yield from mask(call, call.prompt(node.mask) if node.mask else (), (MailSent, MailFailed), until)
    if not isinstance(result, MailSent):
        return "failed"
    yield LeaveWill()
    yield commands.DropRecording(call.id, recording)
    return "left"


def _take(call: Call, node: nodes.Record | nodes.Voicemail, mail: commands.SendMail | None) -> Script[tuple[str, str]]:
    """One recording, from its beep to our shelf: its id, and `nothing` or `failed` where it is none.

    Keys typed meanwhile are nobody's.
    """
    recording, ended = "", None
    for _ in range(2):
        recording = call.mint("rc")
        yield LeaveWill(recording, mail)
        ended = yield from _recorded(call, node, recording)
        if ended is None or ended.reason != "never_was":
            break
    call.keys = ""
    call.end_entry(node.terminator)
    if ended is None or ended.reason:
        return recording, "failed"
    yield commands.KeepRecording(call.id, call.mint("kp"), recording, move=mail is None)
    kept = yield from mask(call, (), (RecordingKept, RecordingLost), call.now + KEEP_BUDGET)
    if not isinstance(kept, RecordingKept):
        return recording, "failed"
    if kept.voiced < SPOKEN:
        return recording, "nothing"
    yield LeaveWill(recording, mail, whole=True)
    return recording, ""


def _recorded(call: Call, node: nodes.Record | nodes.Voicemail, recording: str) -> Script[RecordingEnded | None]:
    """Record, and wait for the end; None for one that never told its end."""
    yield commands.StartRecord(call.id, recording, node.seconds, node.silence, node.terminator)
    until = call.now + node.seconds + RECORD_GRACE
    while True:
        ended = yield Wait((RecordingEnded,), until - call.now)
        if ended is None:
            yield commands.StopRecord(call.id, recording)
            return None
        if ended.recording == recording:
            assert isinstance(ended, RecordingEnded)
            return ended


def transfer(call: Call, node: nodes.Transfer) -> Script[str]:
    number = call.fill_or_empty(node.to or "").strip()
    yield from answer(call)
    return (yield from settled(call, Transfer(number, node.through or "", node.agent or "", node.ring)))


def sms(call: Call, node: nodes.Sms) -> Script[str]:
    to = call.fill_or_empty(node.to).strip()
    if not to:
        return "failed"
    try:
        text = call.fill(node.text)
    except BadText as error:
        call.note(facts.Noticed(call.id, "text failed", str(error)))
        return "failed"
    message = commands.SendSms(call.id, call.mint("sm"), to, text, node.budget)
    return (yield from delivered(call, message, node.mask, SmsSent, SmsFailed))


OUTSIDE_STEPS: dict[str, Callable[[Call, Any], Script[str]]] = {
    "record": record,
    "voicemail": voicemail,
    "transfer": transfer,
    "sms": sms,
    "bot": bot,
}
