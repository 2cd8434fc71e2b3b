"""Approvals, as those who call meet them."""

from __future__ import annotations

import pytest

KNOWN, STRANGER = "+493012345678", "+4930000000"
PHONE, REQUEST, DECIDE, NOTE = "crm.contact_by_phone", "workflow.request_by_number", "workflow.decide", "crm.note_call"


def decides(centre, **more):
    """The approver has heard the request and is asked to decide."""
    centre.action(REQUEST).answers(sample="pending", **more)
    return centre.dial(KNOWN).hears("Hello Ada").hears("ask_number").presses("4711#").hears("Two headsets, for Ben Carter.").hears("decide")


@pytest.mark.parametrize(("key", "decision"), [("1", "approved"), ("2", "rejected")])
def test_a_request_is_decided_and_confirmed_and_written(centre, key, decision):
    call = decides(centre).presses(key).hears(f"{decision} this request").presses("1").hears("written").hears("more").presses("2").ends()
    assert [(asked["decision"], asked["call"]) for asked in centre.action(DECIDE).asked] == [(decision, call.id)]
    assert call.outcome == "self_service"


def test_the_amount_is_read_as_money(centre):
    call = decides(centre).hangs_up()
    assert call.has_heard("one hundred seventy-nine euros")


def test_a_decision_can_be_taken_back_before_it_is_written(centre):
    call = decides(centre).presses("1").hears("confirm").presses("2").hears("decide").presses("2").hears("confirm").presses("1")
    call.hears("written").hears("more").presses("1").hears("ask_number").hears("goodbye", within=60).ends()
    assert [asked["decision"] for asked in centre.action(DECIDE).asked] == ["rejected"]


def test_a_request_may_be_left_undecided(centre):
    call = decides(centre).presses("3").hears("more").hears("goodbye").ends()
    assert ("more", "no_input") in call.path
    assert centre.action(DECIDE).asked == []


def test_however_a_call_ends_it_is_noted_once(centre):
    first, second = centre.dial(KNOWN).hears("ask_number").hangs_up(), centre.dial(STRANGER).hears("nobody_free").ends()
    centre.waits(5)
    assert [(asked["call"], asked["outcome"]) for asked in centre.action(NOTE).asked] == [(first.id, "hung_up"), (second.id, "released")]


def test_a_decision_that_cannot_be_written_is_told_to_an_agent(centre):
    centre.action(DECIDE).fails()
    alice = centre.agent("Alice").ready()
    call = decides(centre).presses("1").hears("confirm").presses("1").hears("not_written")
    alice.answers()
    assert alice.card["attached"] == {"reference": "4711", "decision": "approved"}
    call.waits(30)
    alice.hangs_up()
    assert ("line", "talked") in call.ends().path


def test_a_process_that_dies_while_it_writes_is_followed_by_one_that_writes(centre):
    centre.action(DECIDE).slow(1.0)
    call = decides(centre).presses("1").hears("confirm").presses("1").reaches("write")
    assert centre.crash() == []
    call.hears("written").hangs_up()
    assert len(centre.action(DECIDE).asked) == 2, "which is harmless: decide has an idempotency key"


def test_what_has_been_decided_already_is_not_decided_again(centre):
    centre.action(REQUEST).answers(sample="pending", state="approved")
    call = centre.dial(KNOWN).hears("ask_number").presses("4711#").hears("decided").hears("more").presses("77").hears("goodbye").ends()
    assert ("more", "no_match") in call.path


@pytest.mark.parametrize(("how", "heard"), [("none", "not_found"), ("many", "to_person"), ("failed", "to_person")])
def test_a_request_that_cannot_be_found(centre, how, heard):
    if how == "failed":
        centre.action(REQUEST).fails()
    elif how == "many":
        centre.action(REQUEST).answers(count=2)
    call = centre.dial(KNOWN).hears("ask_number").presses("9999#").hears(heard).hears("more" if how == "none" else "nobody_free").ends()
    assert ("find", how) in call.path


@pytest.mark.parametrize(
    ("keys", "exit", "heard"), [("", "no_input", "goodbye"), ("0123#12#12#", "no_match", "to_person"), ("0#", "person", "to_person")]
)
def test_what_is_no_number(centre, keys, exit, heard):
    assert ("ask_number", exit) in centre.dial(KNOWN).hears("ask_number").presses(keys).hears(heard).ends().path


@pytest.mark.parametrize("step", ["decide", "confirm"])
@pytest.mark.parametrize(
    ("keys", "exit", "heard"), [("", "no_input", "goodbye"), ("777", "no_match", "to_person"), ("0", "person", "to_person")]
)
def test_nothing_is_written_that_was_not_confirmed(centre, step, keys, exit, heard):
    call = decides(centre)
    if step == "confirm":
        call.presses("1").hears("confirm")
    assert (step, exit) in call.presses(keys).hears(heard, within=90).ends().path
    assert centre.action(DECIDE).asked == []


@pytest.mark.parametrize(("how", "heard"), [("none", "unknown"), ("many", "unknown"), ("failed", "to_person")])
def test_who_is_not_known_decides_nothing(centre, how, heard):
    centre.agent("Alice").ready().not_ready()
    if how == "many":
        centre.action(PHONE).answers(count=2)
    elif how == "failed":
        centre.action(PHONE).slow()
    call = centre.dial(STRANGER).hears(heard).hears("nobody_free", within=700).ends()
    assert call.path[0] == ("recognise", how)
    assert ("line", "too_long") in call.path


def test_an_anonymous_caller_is_not_looked_up(centre):
    call = centre.dial("anonymous").hears("unknown").ends()
    assert ("line", "no_agents") in call.path
    assert centre.action(PHONE).asked == []


def test_a_condition_that_cannot_be_told_leads_to_a_person(centre):
    centre.condition_fails("is_pending")
    call = centre.dial(KNOWN).hears("ask_number").presses("4711#").hears("to_person").ends()
    assert ("state", "failed") in call.path


def test_whatever_goes_wrong_is_told_to_the_caller(centre):
    assert centre.dial(KNOWN).hears("hello").goes_wrong().hears("trouble").ends().outcome == "released"
