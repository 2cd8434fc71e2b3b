"""One call's timeline as a person would want to read it: a line for each thing that mattered, with the seconds since it arrived.

`lines` is a pure function from the timeline of the public API (`GET /v1/calls/{call}/timeline`, entries as they come) to `Line`s:
records that only machines need are left out, what belongs together is put together (a prompt and how long it was heard, keys and how many
they were, a lookup and what it found). No key that was pressed and no full telephone number is ever in a line.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.table import Table
from rich.text import Text

from app.core.flow.spoken import text_in

Entry = Mapping[str, Any]
KEYS_APART = 6.0
"""Seconds between two keys that are told in one line when nothing happened in between."""
SAME_HAND = 1.0
"""Seconds between two keys that are told in one line whatever happened in between (the # after a reference)."""
OUTCOMES = {
    "answered": "an agent talked to the caller",
    "abandoned": "the caller left while waiting for an agent",
    "self_service": "the hotline said goodbye",
    "transferred": "the caller was put through",
    "hung_up": "the caller hung up before that",
    "booked": "the caller will be called back",
    "called_back": "the caller was called back and talked to an agent",
    "not_reached": "the caller could not be called back",
    "released": "back in the dialplan of the PBX",
    "lost_media_server": "the PBX went away",
}
REFUSALS = {
    "no_answer": "did not answer",
    "not_reached": "is free again: the customer was not reached",
    "busy": "was busy",
    "rejected": "declined",
    "unreachable": "could not be reached",
    "withdrawn": "no longer had to: the offer was withdrawn",
    "failed": "could not be called",
}
NO_QUEUE = {
    "no_agents": "nobody who could take this call is signed in",
    "too_long": "the longest wait is over",
    "withdrawn": "the call was taken out of the queue",
    "failed": "the queue could not take the call",
}
STYLES = {"good": "green", "bad": "red", "quiet": "dim", "plain": ""}


@dataclass(frozen=True, slots=True)
class Line:
    """One line: seconds since the call arrived, one word for what happened, a short sentence, and `good`, `bad`, `quiet` or `plain`."""

    at: float
    what: str
    text: str
    mood: str = "plain"


def lines(timeline: Sequence[Entry]) -> list[Line]:
    """The lines of a timeline, in order; a timeline that ends in the middle of a call is fine."""
    return _Reader(timeline).read()


class _Reader:
    """One pass over a timeline; later entries are looked up where a line needs the end of something."""

    def __init__(self, timeline: Sequence[Entry]) -> None:
        self._timeline = timeline
        self._began = timeline[0]["at"] if timeline else 0.0
        self._played = {e["playback"]: e for e in timeline if e["type"] == "PlaybackEnded"}
        self._stopped = {e["playback"] for e in timeline if e["type"] == "StopPlay"}
        self._asked: dict[str, Entry] = {}
        self._lines: list[Line] = []
        self._keys: list[float] = []
        self._keys_line = 0

    def read(self) -> list[Line]:
        for entry in self._timeline:
            tell = _TELL.get(entry["type"])
            if tell is not None:
                tell(self, entry)
        return self._lines

    def _say(self, entry: Entry, what: str, text: str, mood: str = "plain") -> None:
        self._lines.append(Line(round(entry["at"] - self._began, 3), what, text, mood))

    # ---- the caller ----------------------------------------------------------------------------------------------------

    def _arrived(self, e: Entry) -> None:
        who = masked(e.get("ani", "")) or "a caller who hides the number"
        back = ", back from the fallback" if e.get("returning") else ""
        self._say(e, "arrived", f"{who} calls {e.get('dnis') or '(no number)'}{back}")

    def _picked_up(self, e: Entry) -> None:
        self._say(e, "picked up", "the hotline answers the line", "quiet")

    def _play(self, e: Entry) -> None:
        words = " ".join(map(_spoken, e["media"]))
        ended = self._played.get(e["playback"])
        if ended is None:
            how = ""
        elif not ended.get("ok", True):
            how = " (could not be played)"
        else:
            seconds = ended["at"] - e["at"]
            how = f" (interrupted after {seconds:.1f} s)" if e["playback"] in self._stopped else f" ({seconds:.1f} s)"
        self._say(e, "played", words + how, "bad" if "not be played" in how else "plain")

    def _digit(self, e: Entry) -> None:
        at = e["at"] - self._began
        quiet = self._keys_line == len(self._lines) - 1
        if self._keys and at - self._keys[-1] <= (KEYS_APART if quiet else SAME_HAND):
            self._keys.append(at)
            told = f"{'•' * len(self._keys)} ({len(self._keys)} keys in {at - self._keys[0]:.1f} s)"
            self._lines[self._keys_line] = replace(self._lines[self._keys_line], text=told)
        else:
            self._keys, self._keys_line = [at], len(self._lines)
            self._say(e, "pressed", "• (1 key)")

    def _music(self, e: Entry) -> None:
        self._say(e, "music", "while the caller waits", "quiet")

    def _ended(self, e: Entry) -> None:
        good = e["outcome"] in ("answered", "self_service", "transferred")
        told = OUTCOMES.get(e["outcome"], e["outcome"])
        self._say(e, "ended", f"{e['outcome'].replace('_', ' ')}: {told}; {e['seconds']:.1f} s in all", "good" if good else "bad")

    def _hang_up(self, e: Entry) -> None:
        self._say(e, "hung up", "the hotline ends the call", "quiet")

    def _release(self, e: Entry) -> None:
        self._say(e, "released", f"the caller goes on in the dialplan, at {e['context']}", "bad")

    # ---- other systems -------------------------------------------------------------------------------------------------

    def _asks(self, e: Entry) -> None:
        self._asked[e["request"]] = e

    def _answered(self, e: Entry) -> None:
        question, values = self._question(e), e.get("values", {})
        ms = f"in {e.get('ms', 0)} ms"
        if "count" not in values:
            self._say(e, "looked up", f"{question} answered {ms}")
        elif values["count"] == 1:
            self._say(e, "recognised", f"{_person(values)} by {question} {ms}", "good")
        else:
            why = "several people have it" if values["count"] else "nobody has it"
            self._say(e, "not known", f"{why}, says {question} {ms}")

    def _failed(self, e: Entry) -> None:
        self._say(e, "failed", f"{self._question(e)}: {e['reason'].replace('_', ' ')} after {e.get('ms', 0)} ms", "bad")

    def _question(self, e: Entry) -> str:
        asked = self._asked.get(e["request"])
        if asked is None:
            return "an action"
        return str(asked["action"])

    def _mail(self, e: Entry) -> None:
        to = e["to"]
        self._say(e, "mailing", f"“{e['subject']}” to {to[:1]}•••@{to.rpartition('@')[2]}", "quiet")

    def _mailed(self, e: Entry) -> None:
        self._say(e, "mailed", "the mail server took the message", "good")

    def _not_mailed(self, e: Entry) -> None:
        self._say(e, "failed", f"the mail was not sent: {e['reason']}", "bad")

    def _texting(self, e: Entry) -> None:
        self._say(e, "texting", f"a text message to {masked(e['to'])}", "quiet")

    def _texted(self, e: Entry) -> None:
        self._say(e, "texted", "the gateway took the message", "good")

    def _not_texted(self, e: Entry) -> None:
        self._say(e, "failed", f"the text message was not sent: {e['reason'].replace('_', ' ')}", "bad")

    # ---- recordings ----------------------------------------------------------------------------------------------------

    def _records(self, e: Entry) -> None:
        self._say(e, "records", f"what the caller says, {e['seconds']} s at most", "quiet")

    def _recorded(self, e: Entry) -> None:
        if e.get("reason"):
            self._say(e, "failed", f"nothing was recorded: {e['reason'].replace('_', ' ')}", "bad")
        else:
            seconds = e.get("seconds", -1)
            self._say(e, "recorded", f"{seconds} s" if seconds >= 0 else "a recording that ended while we were away")

    def _not_kept(self, e: Entry) -> None:
        self._say(e, "failed", f"the recording could not be kept: {e['reason']}", "bad")

    def _bot(self, e: Entry) -> None:
        self._say(e, "bot", f"the call goes to bot {e['bot']}{', once more' if e.get('again') else ''}", "quiet")

    def _bot_began(self, e: Entry) -> None:
        self._say(e, "bot", "the bot hears the caller", "good")

    def _bot_ended(self, e: Entry) -> None:
        told = f"the bot is lost: {e['reason'].replace('_', ' ')}" if e.get("reason") else f"the bot gives the call back by {e['exit']}"
        self._say(e, "bot over", told, "bad" if e.get("reason") else "good")

    def _written(self, e: Entry) -> None:
        self._say(e, "written", f"{e.get('by') or 'another system'} set {', '.join(e['values'])}")

    def _steered(self, e: Entry) -> None:
        self._say(e, "steered", f"{e.get('by') or 'another system'} sent the call to {e['entry']}")

    # ---- agents --------------------------------------------------------------------------------------------------------

    def _queued(self, e: Entry) -> None:
        asked = ", ".join(f"{name} {level}" for name, level in e["skills"].items())
        credit = e["credit"]
        place = "" if not credit else f", {'ahead' if credit > 0 else 'behind'} by {abs(credit):.0f} s"
        self._say(e, "queued", f"{e['queue']}, place {e['position']}{place}{f'; asks for {asked}' if asked else ''}")

    def _offered(self, e: Entry) -> None:
        self._say(e, "offered", f"to {e['agent']}: {why(e.get('decision', {}))}")

    def _popped(self, e: Entry) -> None:
        contact = e["card"].get("contact") or {}
        who = _person(contact) if contact else "a caller without a record"
        self._say(e, "popped", f"{who}, for the desk of {e['agent']}")

    def _seen(self, e: Entry) -> None:
        self._say(e, "shown", f"{e['agent']} has it on the screen", "quiet")

    def _called(self, e: Entry) -> None:
        self._say(e, "dialled", f"telephone {e['endpoint']}, for {e['seconds']:.0f} s at most", "quiet")

    def _called_outside(self, e: Entry) -> None:
        self._say(e, "dialled", f"{masked(e['number'])} through {e['trunk']}, for {e['seconds']:.0f} s at most", "quiet")

    def _transferred(self, e: Entry) -> None:
        who = "the number outside" if e["to"] == "outside" else f"agent {e['to']}"
        self._say(e, "transferred", f"the caller talks to {who}", "good")

    def _transfer_ended(self, e: Entry) -> None:
        talked = f"after {e['talked']:.1f} s of conversation" if e.get("talked") else e["outcome"].replace("_", " ")
        self._say(e, "transfer over", talked, "plain" if e.get("talked") else "bad")

    def _booked(self, e: Entry) -> None:
        begins = f", from {e['begins']} on" if e.get("begins") else ""
        self._say(e, "callback booked", f"in queue {e['queue']}, {e['attempts']} tries at most{begins}", "good")

    def _tried(self, e: Entry) -> None:
        why = "the agent hung up first" if e["outcome"] == "agent_left" else e["outcome"].replace("_", " ")
        self._say(e, "not called back", f"{why}; tries left: {e['left']}", "bad")

    def _called_back(self, e: Entry) -> None:
        self._say(e, "callback over", OUTCOMES[e["outcome"]], "good" if e["outcome"] == "called_back" else "bad")

    def _rang(self, e: Entry) -> None:
        self._say(e, "rang", "the telephone at the other end rings")

    def _connected(self, e: Entry) -> None:
        self._say(e, "answered", f"{e['agent']} talks to the caller, who waited {e['waited']:.1f} s", "good")

    def _not_taken(self, e: Entry) -> None:
        self._say(e, "not taken", f"{e['agent']} {REFUSALS.get(e['reason'], e['reason'])}", "bad")

    def _talked(self, e: Entry) -> None:
        by = {"caller": "the caller hung up", "agent": f"{e['agent']} hung up", "lost": "the connection was lost"}[e["by"]]
        self._say(e, "talked", f"{e['talked']:.1f} s, then {by}")

    def _outcome(self, e: Entry) -> None:
        if e["outcome"] in NO_QUEUE:
            self._say(e, "no agent", NO_QUEUE[e["outcome"]], "bad")

    def _wrapped_up(self, e: Entry) -> None:
        told = f": {e['disposition']}" if e["disposition"] else ""
        self._say(e, "wrapped up", f"{e['agent']} after {e['seconds']:.1f} s{told}", "quiet")

    # ---- trouble -------------------------------------------------------------------------------------------------------

    def _noticed(self, e: Entry) -> None:
        self._say(e, "noticed", ": ".join(str(v) for k, v in e.items() if k not in ("at", "kind", "type", "call") and v), "bad")

    def _step_failed(self, e: Entry) -> None:
        self._say(e, "failed", f"a step of the flow: {e['error']}", "bad")

    def _found(self, e: Entry) -> None:
        self._say(e, "taken over", "a new process found the call and goes on with it")


_TELL: dict[str, Callable[[_Reader, Entry], None]] = {
    "CallArrived": _Reader._arrived,
    "Answer": _Reader._picked_up,
    "Play": _Reader._play,
    "DigitPressed": _Reader._digit,
    "SecretKey": _Reader._digit,
    "StartMusic": _Reader._music,
    "StartAction": _Reader._asks,
    "ActionSucceeded": _Reader._answered,
    "ActionFailed": _Reader._failed,
    "SendMail": _Reader._mail,
    "MailSent": _Reader._mailed,
    "MailFailed": _Reader._not_mailed,
    "SendSms": _Reader._texting,
    "SmsSent": _Reader._texted,
    "SmsFailed": _Reader._not_texted,
    "StartRecord": _Reader._records,
    "RecordingEnded": _Reader._recorded,
    "RecordingLost": _Reader._not_kept,
    "RingOutside": _Reader._called_outside,
    "Transferred": _Reader._transferred,
    "TransferEnded": _Reader._transfer_ended,
    "StartBot": _Reader._bot,
    "BotBegan": _Reader._bot_began,
    "BotEnded": _Reader._bot_ended,
    "CallbackBooked": _Reader._booked,
    "CallbackTried": _Reader._tried,
    "CallbackEnded": _Reader._called_back,
    "SessionWritten": _Reader._written,
    "CallSteered": _Reader._steered,
    "Queued": _Reader._queued,
    "Offered": _Reader._offered,
    "Pop": _Reader._popped,
    "DeskAcknowledged": _Reader._seen,
    "RingAgent": _Reader._called,
    "LegRinging": _Reader._rang,
    "Connected": _Reader._connected,
    "OfferEnded": _Reader._not_taken,
    "TalkEnded": _Reader._talked,
    "Outcome": _Reader._outcome,
    "WrapUpEnded": _Reader._wrapped_up,
    "Noticed": _Reader._noticed,
    "StepFailed": _Reader._step_failed,
    "CallFound": _Reader._found,
    "HangUp": _Reader._hang_up,
    "Release": _Reader._release,
    "CallEnded": _Reader._ended,
}


def why(decision: Entry) -> str:
    """Why this agent, in a few words, out of the decision record that the ACD kept."""
    relaxed = [skill for skill, level in decision.get("asked", {}).items() if decision.get("relaxed", {}).get(skill, 0) < level]
    after = f", after asking less of {', '.join(relaxed)}" if relaxed else ""
    if decision.get("last_agent"):
        return f"talked to this caller before{after}"
    runner_up = decision.get("runner_up")
    if not runner_up:
        return f"the only one free who can{after}"
    other = runner_up["agent"]
    reason = {
        "last_agent": "talked to this caller before",
        "fit": f"better skills than {other}",
        "versatility": f"keeps the more versatile {other} free",
        "idle_since": f"idle for {decision.get('idle', 0.0):.0f} s, longer than {other}",
        "id": f"as good as {other}, and first in order",
    }
    return reason.get(runner_up["behind_by"], "the best") + after


def masked(number: str) -> str:
    """A number with all but its last two characters hidden."""
    return "•" * max(len(number) - 2, 0) + number[-2:]


def _person(values: Entry) -> str:
    name = " ".join(str(values[key]) for key in ("first_name", "last_name") if values.get(key)) or "somebody"
    about = [str(values["tier"])] if values.get("tier") else []
    about += ["premium"] if values.get("premium") else []
    about += ["pays late"] if values.get("late_payment") else []
    return f"{name} ({', '.join(about)})" if about else name


def _spoken(item: str) -> str:
    kind, _, words = item.partition(":")
    return f"“{words}”" if text_in(item, "") else f"[{kind} {'•' * len(words) if kind == 'digits' else words}]"


def table(told: Sequence[Line]) -> Table:
    """Lines in columns: time, what, sentence."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(justify="right", style="cyan", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for line in told:
        style = STYLES[line.mood]
        grid.add_row(f"{line.at:.2f} s", Text(line.what, style=style or "bold"), Text(line.text, style=style if style == "dim" else ""))
    return grid
