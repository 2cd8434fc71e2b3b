"""New connections, as their callers meet them."""

from __future__ import annotations

import pytest

KNOWN, STRANGER = "+493012345678", "+4930000000"
PHONE, LINE, SWITCH_ON = "crm.contact_by_phone", "network.line_by_phone", "network.switch_on"


def ordered(centre, **more):
    """The caller's line waits for a technician."""
    centre.action(LINE).answers(sample="ordered", **more)
    return centre.dial(KNOWN)


def switching_on(centre):
    """The caller has asked for the line to be switched on."""
    return centre.dial(KNOWN).hears("Hello Ada Sample").hears("confirm").presses("1").hears("We are switching your connection on")


def test_both_systems_are_asked_at_once(centre):
    centre.action(PHONE).slow(1.0)
    centre.action(LINE).slow(1.0)
    call = centre.dial(KNOWN).hears("hello").hangs_up()
    assert centre.action(PHONE).asked == centre.action(LINE).asked == [{"phone": KNOWN}]
    assert call.played[-1].at - call.core.arrived < 5.0, "the prompt that was begun is finished, and nothing else is waited for"


def test_a_line_is_switched_on_and_the_network_says_when_it_is_done(centre):
    call = switching_on(centre).waits(90)
    assert call.step == "switching_on"
    assert [asked["call"] for asked in centre.action(SWITCH_ON).asked] == [call.id]
    call.session_gets({"ivr.line_state": "up"}, by="network").hears("is_up").ends()
    assert call.outcome == "self_service"


@pytest.mark.parametrize("said", ["failed", "up but broken"])
def test_the_network_says_that_it_did_not_work(centre, said):
    alice = centre.agent("Alice").ready()
    call = switching_on(centre).waits(5).session_gets({"ivr.line_state": said}, by="network").hears("not_up")
    alice.answers()
    assert (call.queue, alice.card["attached"]["line"]) == ("provisioning", "1a1c6a0f9b0e4c7d8a2b3c4d5e6f7a8b")
    call.waits(30)
    alice.hangs_up()
    assert ("line", "talked") in call.ends().path


def test_the_network_says_nothing_for_three_minutes(centre):
    call = switching_on(centre).hears("not_up", within=240).ends()
    assert ("switching_on", "too_long") in call.path
    assert ("line", "no_agents") in call.path


def test_a_process_that_dies_meanwhile_goes_on_waiting(centre):
    call = switching_on(centre).waits(20)
    assert centre.crash() == []
    call.waits(20).session_gets({"ivr.line_state": "up"}, by="network").hears("is_up").ends()
    assert len(centre.action(SWITCH_ON).asked) == 1


def test_the_order_to_switch_on_cannot_be_given(centre):
    centre.action(SWITCH_ON).fails()
    call = centre.dial(KNOWN).hears("confirm").presses("1").hears("not_up").ends()
    assert ("switch_on", "failed") in call.path


def test_who_waits_for_the_technician_gets_the_appointment_by_mail(centre):
    call = ordered(centre).hears("January ninth, twenty twenty-six at nine thirty a.m.").hears("offer_mail").presses("1")
    call.hears("mail_is_sent").ends()
    assert [(mail.to, mail.body.count("http://127.0.0.1:8081/track/sample")) for mail in call.mails] == [("ada@example.com", 1)]
    assert call.outcome == "self_service"


def test_who_cannot_be_mailed_talks_to_a_person(centre):
    centre.agent("Bruno").ready().always_answers(talks=30, wraps_up=5)
    centre.mailbox.fails()
    call = ordered(centre).hears("offer_mail").presses("1").hears("to_person").ends(within=120)
    assert (call.agent, call.mails) == ("102", [])
    assert ("mail", "failed") in call.path


def test_a_line_that_works_needs_no_agent(centre):
    centre.action(LINE).answers(sample="built", state="active")
    assert centre.dial(KNOWN).hears("active").hears("goodbye").ends().outcome == "self_service"


@pytest.mark.parametrize("lacking", [PHONE, LINE])
def test_where_one_system_does_not_answer_the_other_is_not_lost(centre, lacking):
    centre.action(lacking).fails()
    call = centre.dial(KNOWN).hears("unknown").ends()
    assert call.path[:2] == [("known", "case number_known"), ("look", "some")]
    assert call.session[f"{'line' if lacking == PHONE else 'contact'}.found"] is True


def test_where_no_system_answers_a_person_does(centre):
    centre.agent("Alice").ready().not_ready()
    call = centre.dial(KNOWN, crm="failing").hears("to_person").hears("nobody_free", within=700).ends()
    assert ("look", "failed") in call.path
    assert ("line", "too_long") in call.path


def test_a_stranger_talks_to_a_person(centre):
    assert centre.dial(STRANGER).hears("unknown").ends().path[1:3] == [("look", "done"), ("customer", "otherwise")]
    assert centre.dial("anonymous").hears("unknown").ends().path[0] == ("known", "otherwise")


@pytest.mark.parametrize(
    ("keys", "exit", "heard"),
    [("2", "no", "goodbye"), ("", "no_input", "goodbye"), ("777", "no_match", "to_person"), ("0", "person", "to_person")],
)
def test_nobody_is_switched_on_who_does_not_say_yes(centre, keys, exit, heard):
    call = centre.dial(KNOWN).hears("confirm").presses(keys).hears(heard, within=90).ends()
    assert ("confirm", exit) in call.path
    assert centre.action(SWITCH_ON).asked == []


@pytest.mark.parametrize(
    ("keys", "exit", "heard"),
    [("2", "key 2", "goodbye"), ("", "no_input", "goodbye"), ("777", "no_match", "to_person"), ("0", "person", "to_person")],
)
def test_who_wants_no_mail(centre, keys, exit, heard):
    assert ("offer_mail", exit) in ordered(centre).hears("offer_mail").presses(keys).hears(heard, within=90).ends().path


def test_key_0_is_a_person_while_the_network_is_waited_for(centre):
    assert ("switching_on", "person") in switching_on(centre).waits(30).presses("0").hears("to_person").ends().path


@pytest.mark.parametrize(
    ("condition", "step"), [("number_known", "known"), ("customer", "customer"), ("is_built", "state"), ("is_up", "result")]
)
def test_a_condition_that_cannot_be_told_leads_to_a_person(centre, condition, step):
    centre.condition_fails(condition)
    call = centre.dial(KNOWN)
    if step == "result":
        call.hears("confirm").presses("1").hears("We are switching").session_gets({"ivr.line_state": "up"})
    assert (step, "failed") in call.hears("nobody_free").ends().path


def test_whatever_goes_wrong_is_told_to_the_caller(centre):
    assert centre.dial(KNOWN).hears("hello").goes_wrong().hears("trouble").ends().outcome == "released"
