"""Recordings, messages, transfers and text messages on virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.acd import AgentDef, QueueDef
from app.core.book import Book
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from app.core.session import SessionRefused
from app.core.transfer import GRACE, Rules
from app.core.wills import AGAIN, END_WITHIN
from app.pbx.reconcile import Found, Snapshot, reconcile
from tests.unit.centre import Sim

QUEUES = {"line": QueueDef("line", ring=5, wrap_up=0, max_wait=60)}
AGENTS = {name: AgentDef(name, name.title(), name, {}, ("line",)) for name in ("ann", "bob")}
RULES = Rules(("+49*", "112"), ("+49900*",), ("carrier", "other"), at_once=2)
VOICEMAIL: dict[str, Any] = {
    "do": "voicemail",
    "to": "night@example.com",
    "subject": "From {{ call.ani }}",
    "body": "Hear it.",
    "prompt": "speak",
    "seconds": "30",
    "exits": {"left": "left", "nothing": "nothing", "failed": "broken"},
}
REVIEWED = {**VOICEMAIL, "review": "review", "takes": "2"}
RECORD: dict[str, Any] = {
    "do": "record",
    "into": "name",
    "seconds": "10",
    "exits": {"recorded": "left", "nothing": "nothing", "failed": "broken"},
}
OUT: dict[str, Any] = {
    "do": "transfer",
    "to": "+49 30 555-0100",
    "exits": {"talked": "talked", "no_answer": "unanswered", "busy": "busy", "failed": "broken"},
}
SMS: dict[str, Any] = {"do": "sms", "to": "{{ call.ani }}", "text": "Hello {{ call.name }}", "exits": {"sent": "sent", "failed": "broken"}}


def flow(step: dict[str, Any], rules: Rules = RULES) -> Sim:
    """A centre with a flow that has this step, each exit leading to a prompt of its own name, and one (2) whose callers just wait."""
    ends = {name: {"do": "say", "prompt": name, "exits": {"done": "bye"}} for name in step["exits"].values() if name != "first"}
    content = {
        "flow": "test",
        "start": "first",
        "on_error": "bye",
        "entries": {"elsewhere": next(iter(ends))},
        "prompts": {"speak": "Speak.", "review": "Choose.", **{name: name for name in ends}},
        "steps": {"first": step, **ends, "bye": {"do": "hangup"}},
    }
    waits = {"do": "queue", "queue": "line", "exits": dict.fromkeys(("talked", "no_agents", "too_long", "failed"), "bye")}
    other = {"flow": "waits", "start": "wait", "on_error": "bye", "steps": {"wait": waits, "bye": {"do": "hangup"}}}
    one, two = (compile_program(Program.model_validate(each), QUEUES) for each in (content, other))
    return Sim(Book({"1": one, "2": two}, QUEUES, AGENTS, transfers=rules))


def recording(sim: Sim) -> tuple[str, str]:
    """A caller who is being recorded: the call, and the recording's id."""
    call = sim.dial(dnis="1")
    if sim.all(do.Play, call):
        sim.prompt_ends(call)
    return call, sim.last(do.StartRecord, call).recording


def ends(sim: Sim, call: str, voiced: float = 2.0) -> None:
    """The recording is over, and so much of it is no silence."""
    sim.happen(ev.RecordingEnded(call, sim.last(do.StartRecord, call).recording, "", 3))
    shelved(sim, call, voiced)


def shelved(sim: Sim, call: str, voiced: float = 2.0) -> None:
    sim.happen(ev.RecordingKept(call, sim.last(do.KeepRecording, call).request, voiced))


def dropped(sim: Sim) -> list[str]:
    return [command.recording for command in sim.all(do.DropRecording)]


# ---- recordings and messages ----------------------------------------------------------------------------------------------


def test_what_is_recorded_is_kept_under_a_name() -> None:
    sim = flow(RECORD)
    call, name = recording(sim)
    assert name == f"{call}-rc1"
    sim.press(call, "12#")
    ends(sim, call)
    assert sim.at_step(call) == "left"
    assert sim.center.calls[call].vars["vars.name"] == name
    assert sim.center.calls[call].keys == "", "keys typed into a recording are nobody's"
    sim.hangs_up(call)
    assert dropped(sim) == []


@pytest.mark.parametrize("step", [RECORD, VOICEMAIL])
def test_nothing_said_is_no_recording(step: dict[str, Any]) -> None:
    sim = flow(step)
    call, name = recording(sim)
    ends(sim, call, voiced=0.1)
    assert sim.at_step(call) == "nothing"
    sim.hangs_up(call)
    assert dropped(sim) == [name]
    assert not sim.all(do.SendMail)
    assert call not in sim.center.calls


@pytest.mark.parametrize("step", [RECORD, VOICEMAIL])
@pytest.mark.parametrize("how", ["failed", "silent", "lost", "unanswered"])
def test_a_recording_that_fails_takes_the_failure_exit(step: dict[str, Any], how: str) -> None:
    sim = flow(step)
    call, name = recording(sim)
    if how == "failed":
        sim.happen(ev.RecordingEnded(call, name, "failed"))
    elif how == "silent":
        sim.wait(50)
        assert sim.last(do.StopRecord, call).recording == name
    else:
        sim.happen(ev.RecordingEnded(call, name, "", 3))
        if how == "lost":
            sim.happen(ev.RecordingLost(call, sim.last(do.KeepRecording, call).request, "disk"))
        else:
            sim.wait(10)
    assert "broken" in sim.steps(call)


def test_a_message_is_sent_with_its_sound_and_then_deleted() -> None:
    sim = flow(VOICEMAIL)
    call, name = recording(sim)
    ends(sim, call)
    mail = sim.last(do.SendMail, call)
    assert (mail.to, mail.subject, mail.attachment) == ("night@example.com", "From +4930555000101", name)
    assert dropped(sim) == []
    sim.happen(ev.MailSent(call, mail.request))
    assert sim.at_step(call) == "left"
    assert dropped(sim) == [name]
    sim.hangs_up(call)
    assert len(sim.all(do.SendMail)) == 1
    assert call not in sim.center.calls


@pytest.mark.parametrize("keys", ["3", ""])
def test_a_message_can_be_heard_and_spoken_again(keys: str) -> None:
    sim = flow(REVIEWED)
    call, first = recording(sim)
    ends(sim, call)
    sim.prompt_ends(call)
    sim.press(call, "1")
    assert sim.last(do.Play, call).media == (f"recording:{first}",)
    sim.prompt_ends(call)
    sim.press(call, "2")
    assert dropped(sim) == [first]
    second = sim.last(do.StartRecord, call).recording
    assert second != first
    ends(sim, call)
    sim.press(call, "2")
    assert sim.last(do.StartRecord, call).recording == second, "no third take: the choice is offered again"
    sim.press(call, keys)
    sim.prompt_ends(call) if not keys else None
    sim.wait(0 if keys else 6)
    assert sim.last(do.SendMail, call).attachment == second


@pytest.mark.parametrize("crash", ["never", "before", "after"])
@pytest.mark.parametrize("told", [True, False])
def test_a_caller_who_hangs_up_has_left_the_message(crash: str, told: bool) -> None:
    sim = flow(VOICEMAIL)
    call, name = recording(sim)
    if crash == "before":
        sim.crash()
    sim.hangs_up(call)
    assert sim.ending(call) == "self_service"
    if crash == "after":
        sim.crash()
    if told and crash != "after":
        sim.happen(ev.RecordingEnded(call, name, "", 3))
    sim.wait(END_WITHIN)
    shelved(sim, call)
    mail = sim.last(do.SendMail, call)
    assert mail.attachment == name
    assert dropped(sim) == []
    sim.happen(ev.MailSent(call, mail.request))
    assert dropped(sim) == [name]
    assert call not in sim.center.calls
    assert call not in sim.live


def test_a_caller_who_hangs_up_while_the_message_is_sent_sends_it_under_the_same_id() -> None:
    sim = flow(VOICEMAIL)
    call, _ = recording(sim)
    ends(sim, call)
    first = sim.last(do.SendMail, call)
    sim.hangs_up(call)
    assert {mail.request for mail in sim.all(do.SendMail)} == {first.request}
    sim.happen(ev.MailSent(call, first.request))
    sim.happen(ev.MailSent(call, first.request))
    assert call not in sim.center.calls


def test_a_message_that_no_server_takes_is_tried_again_and_kept_in_the_end() -> None:
    sim = flow(VOICEMAIL)
    call, _ = recording(sim)
    ends(sim, call)
    request = sim.last(do.SendMail, call).request
    sim.happen(ev.MailFailed(call, request, "unreachable"))
    assert sim.at_step(call) == "broken"
    sim.hangs_up(call)
    for n, seconds in enumerate(AGAIN, 2):
        assert len(sim.all(do.SendMail)) == n
        sim.happen(ev.MailFailed(call, request, "unreachable"))
        sim.wait(seconds)
    sim.happen(ev.MailFailed(call, request, "unreachable"))
    assert dropped(sim) == [], "it stays on the shelf"
    assert sim.last(facts.Noticed, call).what == "message not delivered"
    assert call not in sim.center.calls


def test_a_recording_without_a_mailbox_goes_with_its_caller() -> None:
    sim = flow(RECORD)
    call, name = recording(sim)
    sim.hangs_up(call)
    assert dropped(sim) == [name]
    assert sim.ending(call) == "hung_up"
    assert call not in sim.center.calls


def test_a_recording_goes_on_over_a_crash_and_one_that_never_began_is_begun() -> None:
    sim = flow(VOICEMAIL)
    call, name = recording(sim)
    sim.crash()
    assert sim.center.live_calls()[0].recordings == (name,)
    assert len(sim.all(do.StartRecord)) == 1, "one that is under way is not ordered again"
    sim.happen(ev.RecordingEnded(call, name, "never_was"))
    again = sim.last(do.StartRecord, call).recording
    assert again != name
    sim.crash()
    ends(sim, call)
    assert sim.last(do.SendMail, call).attachment == again


def test_a_crash_while_the_answer_is_out_asks_again() -> None:
    sim = flow(VOICEMAIL)
    call, name = recording(sim)
    sim.happen(ev.RecordingEnded(call, name, "", 3))
    sim.crash()
    assert len({command.request for command in sim.all(do.KeepRecording)}) == 1
    assert len(sim.all(do.KeepRecording)) == 2
    shelved(sim, call)
    sim.crash()
    assert len(sim.all(do.SendMail)) == 2
    sim.happen(ev.MailSent(call, sim.last(do.SendMail, call).request))
    assert sim.at_step(call) == "left"


@pytest.mark.parametrize("step", [RECORD, VOICEMAIL, OUT])
def test_a_restart_of_asterisk_closes_the_call_once_as_lost(step: dict[str, Any]) -> None:
    sim = flow(step)
    call = sim.dial(dnis="1")
    if step is VOICEMAIL:
        sim.prompt_ends(call)
    if step is OUT:
        sim.happen(ev.LegAnswered(call, sim.last(do.RingOutside, call).leg))
    sim.happen(ev.PbxBack(True))
    if step is OUT:
        sim.happen(ev.LegEnded(call, sim.last(do.RingOutside, call).leg, 41))
    sim.happen(ev.CallerLeft(call, 41))
    assert sim.ending(call) == "lost_media_server"
    if step is VOICEMAIL:
        sim.happen(ev.RecordingEnded(call, sim.last(do.StartRecord, call).recording, "never_was"))
    assert call not in sim.center.calls
    assert not sim.all(do.SendMail)


# ---- transfers ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "dialled"),
    [
        ("+49 (30) 555-0100", "+49305550100"),
        ("112", "112"),
        ("1124", ""),
        ("+499001234", ""),
        ("+1900555", ""),
        ("0049305550100", ""),
        ("+4930@evil", ""),
        ("+4930&PJSIP/x", ""),
        ("+49\r\n30", ""),
        ("+49３０５", ""),
        ("", ""),
        ("+49" + "1" * 30, ""),
    ],
)
def test_only_what_the_project_allows_is_dialled(number: str, dialled: str) -> None:
    assert RULES.dialled(number) == dialled


def test_a_pattern_for_the_country_is_none_for_abroad() -> None:
    rules = Rules(("0*",), trunks=("carrier",))
    assert rules.dialled("030 5550100") == "0305550100"
    assert rules.dialled("0011234567") == ""
    assert Rules(("00*",)).dialled("0011234567") == "0011234567"


def test_a_caller_talks_to_a_number_and_comes_back_to_the_flow() -> None:
    sim = flow(OUT)
    call = sim.dial(dnis="1")
    ring = sim.last(do.RingOutside, call)
    assert (ring.number, ring.trunk, ring.outward, ring.repeatable) == ("+49305550100", "carrier", True, False)
    assert sim.last(do.StartMusic, call)
    sim.happen(ev.LegRinging(call, ring.leg))
    sim.happen(ev.LegAnswered(call, ring.leg))
    assert sim.last(do.Talk, call).leg == ring.leg
    sim.wait(300)
    sim.happen(ev.LegEnded(call, ring.leg, 16))
    assert sim.at_step(call) == "talked"
    assert sim.last(facts.TransferEnded, call).talked == 300
    sim.hangs_up(call)
    assert sim.ending(call) == "transferred"


@pytest.mark.parametrize(
    ("cause", "exit_"), [(17, "busy"), (21, "busy"), (19, "unanswered"), (18, "unanswered"), (20, "broken"), (-1, "broken")]
)
def test_a_transfer_that_is_not_answered_says_why(cause: int, exit_: str) -> None:
    sim = flow(OUT)
    call = sim.dial(dnis="1")
    sim.happen(ev.LegEnded(call, sim.last(do.RingOutside, call).leg, cause))
    assert sim.at_step(call) == exit_
    assert len(sim.all(do.RingOutside)) == 1, "never dialled again by itself"
    assert sim.last(do.StopMusic, call)


def test_a_transfer_of_which_nothing_is_heard_is_given_up() -> None:
    sim = flow(OUT)
    call = sim.dial(dnis="1")
    sim.wait(30 + GRACE)
    assert sim.last(do.HangUpLeg, call).leg == sim.last(do.RingOutside, call).leg
    assert sim.at_step(call) == "unanswered"


@pytest.mark.parametrize("talking", [False, True])
@pytest.mark.parametrize("crash", [False, True])
def test_a_caller_who_leaves_ends_the_transfer(talking: bool, crash: bool) -> None:
    sim = flow(OUT)
    call = sim.dial(dnis="1")
    leg = sim.last(do.RingOutside, call).leg
    if talking:
        sim.happen(ev.LegAnswered(call, leg))
    if crash:
        sim.crash()
        sim.happen(ev.CallFound(call, True, legs={leg: "up" if talking else "ringing"}, bridged=(leg,)))
    sim.hangs_up(call)
    assert (sim.last(do.HangUpLeg, call).leg, sim.last(do.HangUpLeg, call).cause) == (leg, 16 if talking else 26)
    assert sim.ending(call) == ("transferred" if talking else "hung_up")
    assert call not in sim.center.calls


def test_a_transfer_goes_on_over_a_crash_and_a_dial_without_a_trace_is_not_repeated() -> None:
    sim = flow(OUT)
    call = sim.dial(dnis="1")
    leg = sim.last(do.RingOutside, call).leg
    sim.crash()
    assert sim.center.live_calls()[0].legs == {leg: "created"}
    sim.happen(ev.CallFound(call, True, legs={leg: "ringing"}))
    sim.happen(ev.LegAnswered(call, leg))
    sim.crash()
    sim.happen(ev.CallFound(call, True, legs={leg: "up"}, bridged=()))
    assert sim.last(do.JoinBridge, call).leg == leg
    sim.happen(ev.LegEnded(call, leg, 16))
    assert sim.at_step(call) == "talked"
    lost = sim.dial(dnis="1")
    sim.crash()
    nothing_but_the_caller_is_found(sim, lost)
    assert sim.at_step(lost) == "broken"
    assert len(sim.all(do.RingOutside, lost)) == 1


def nothing_but_the_caller_is_found(sim: Sim, call: str) -> None:
    for event in reconcile(sim.center.live_calls(), Snapshot(channels={sim.center.calls[call].channel: Found("Up", True)})):
        sim.happen(event)


def test_the_next_transfer_is_not_given_up_for_the_one_that_a_gap_has_ended() -> None:
    """It is ordered while the calls that were found are told of, and cannot be among them."""
    sim = flow({**OUT, "exits": {**OUT["exits"], "failed": "first"}})
    call = sim.dial(dnis="1")
    nothing_but_the_caller_is_found(sim, call)
    assert len(sim.all(do.RingOutside, call)) == 2
    assert sim.center.live_calls()[0].legs == {sim.last(do.RingOutside, call).leg: "created"}


def test_no_more_transfers_at_once_than_are_allowed() -> None:
    sim = flow(OUT)
    calls = [sim.dial(dnis="1") for _ in range(3)]
    assert [sim.at_step(call) for call in calls] == ["first", "first", "busy"]


@pytest.mark.parametrize(("to", "through"), [("+1 900 555", None), ("{{ call.ani }}", "nobody"), ("{{ call.name }}", None)])
def test_what_must_not_be_dialled_is_not(to: str, through: str | None) -> None:
    sim = flow({**OUT, "to": to, **({"through": through} if through else {})})
    call = sim.dial(dnis="1")
    assert sim.at_step(call) == "broken"
    assert not sim.all(do.RingOutside)
    assert "+1 900" not in str(sim.last(facts.Noticed, call)), "the number itself is told to nobody"


TO_BOB = {name: value for name, value in OUT.items() if name != "to"} | {"agent": "bob"}


def test_a_transfer_to_an_agent_who_cannot_have_it_leaves_at_once() -> None:
    sim = flow(TO_BOB)
    told = []

    def tried() -> str:
        call = sim.dial(dnis="1")
        assert not sim.all(do.RingAgent, call)
        told.append(sim.last(facts.Noticed, call).detail)
        return sim.at_step(call)

    assert tried() == "unanswered"
    sim.happen(ev.AgentSignedIn("bob"))
    assert tried() == "unanswered"
    sim.happen(ev.AgentPhoneChanged("bob", True))
    assert tried() == "busy"
    sim.happen(ev.AgentBecameReady("bob"))
    sim.happen(ev.AgentPhoneChanged("bob", True, in_use=True))
    assert tried() == "busy"
    reasons = ["bob is not signed in", "the phone of agent bob cannot be reached", "bob is not ready", "bob is busy"]
    assert [reason in detail for reason, detail in zip(reasons, told, strict=True)] == [True] * 4


@pytest.mark.parametrize("crash", [False, True])
def test_an_agent_to_whom_a_call_is_transferred_is_offered_nothing_else(crash: bool) -> None:
    sim = flow(TO_BOB)
    sim.agent_is_ready("bob")
    call = sim.dial(dnis="1")
    leg = sim.last(do.RingAgent, call).leg
    waiting = sim.dial(dnis="2")
    if crash:
        sim.crash()
        sim.happen(ev.CallFound(call, True, legs={leg: "ringing"}))
        sim.happen(ev.CallFound(waiting, True))
    assert [work["state"] for work in sim.center.acd.state("bob")["work"]] == ["offered"]
    sim.happen(ev.LegAnswered(call, leg))
    assert sim.last(facts.Transferred, call).to == "bob"
    assert [work["state"] for work in sim.center.acd.state("bob")["work"]] == ["talking"]
    assert not sim.all(facts.Offered)
    assert sim.at_step(sim.dial(dnis="1")) == "busy"
    sim.happen(ev.LegEnded(call, leg, 16))
    assert sim.at_step(call) == "talked"
    assert sim.last(facts.Offered, waiting).agent == "bob", "free at once, since no wrap-up follows"


@pytest.mark.parametrize(
    ("cause", "exit_", "presence"),
    [(19, "unanswered", "not_ready"), (17, "busy", "not_ready"), (21, "busy", "ready"), (26, "broken", "ready")],
)
def test_who_does_not_answer_a_transfer_is_not_ready_and_who_declines_stays_so(cause: int, exit_: str, presence: str) -> None:
    sim = flow(TO_BOB)
    sim.agent_is_ready("bob")
    call = sim.dial(dnis="1")
    sim.happen(ev.LegEnded(call, sim.last(do.RingAgent, call).leg, cause))
    assert sim.at_step(call) == exit_
    state = sim.center.acd.state("bob")
    assert (state["presence"], state["reason"], state["work"]) == (presence, "" if presence == "ready" else "no_answer", [])


@pytest.mark.parametrize("how", ["hangs up", "is sent elsewhere"])
def test_a_caller_who_leaves_a_ringing_agent_is_no_fault_of_the_agents(how: str) -> None:
    sim = flow(TO_BOB)
    sim.agent_is_ready("bob")
    call = sim.dial(dnis="1")
    leg = sim.last(do.RingAgent, call).leg
    sim.happen(ev.CallerLeft(call) if how == "hangs up" else ev.CallSteered(call, "elsewhere", by="test"))
    assert sim.last(do.HangUpLeg, call).leg == leg
    sim.happen(ev.LegEnded(call, leg, 26))
    state = sim.center.acd.state("bob")
    assert (state["presence"], state["work"]) == ("ready", [])
    if how != "hangs up":
        assert sim.at_step(call) == "talked"
        sim.wait(60)
        assert len(sim.all(facts.TransferEnded, call)) == 1


def test_a_caller_who_is_put_through_is_not_sent_elsewhere() -> None:
    sim = flow(TO_BOB)
    sim.agent_is_ready("bob")
    call = sim.dial(dnis="1")
    sim.happen(ev.LegAnswered(call, sim.last(do.RingAgent, call).leg))
    with pytest.raises(SessionRefused, match="put through"):
        sim.happen(ev.CallSteered(call, "elsewhere", by="test"))


# ---- text messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [True, False])
def test_a_text_message_is_sent_or_not(sent: bool) -> None:
    sim = flow(SMS)
    call = sim.dial(dnis="1", name="Ada")
    command = sim.last(do.SendSms, call)
    assert (command.to, command.text, command.outward, command.repeatable) == ("+4930555000101", "Hello Ada", True, False)
    sim.crash()
    assert {each.request for each in sim.all(do.SendSms)} == {command.request}, "asked again under the same id"
    sim.happen(ev.SmsSent(call, command.request) if sent else ev.SmsFailed(call, command.request, "refused"))
    assert sim.at_step(call) == ("sent" if sent else "broken")


def test_a_text_message_that_is_not_answered_has_failed() -> None:
    sim = flow(SMS)
    call = sim.dial(dnis="1")
    sim.wait(20)
    assert "broken" in sim.steps(call)
