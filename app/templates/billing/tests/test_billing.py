"""Billing, as its callers meet it."""

from __future__ import annotations

import pytest

KNOWN, LATE, STRANGER = "+493012345678", "+4930555", "+4930000000"
PHONE, REFERENCE, BILLS, CASE = "crm.contact_by_phone", "crm.contact_by_reference", "crm.open_bills", "crm.open_case"


def test_who_pays_late_reaches_the_team_for_it_without_a_prompt(centre):
    emil = centre.agent("Emil").ready()
    call = centre.dial(LATE)
    emil.answers()
    assert (call.queue, call.heard) == ("late-payments", [])
    call.waits(60)
    emil.hangs_up()
    assert call.ends().path[-2] == ("late_payments", "talked")


def test_who_pays_late_passes_everybody_who_waits(centre):
    centre.agent("Emil").ready().not_ready()
    waiting = centre.dial(KNOWN).hears("main").presses("0").reaches("line")
    late = centre.dial(LATE).reaches("late_payments")
    assert centre.agent("Emil").ready().rings is False
    centre.agent("Emil").answers()
    assert (late.state, waiting.state) == ("talking", "queued")
    late.hangs_up()
    waiting.hangs_up()


@pytest.mark.parametrize("why", ["no_agents", "too_long"])
def test_nobody_is_there_for_who_pays_late(centre, why):
    if why == "too_long":
        centre.agent("Emil").ready().not_ready()
    assert ("late_payments", why) in centre.dial(LATE).hears("nobody_free", within=1000).ends().path


@pytest.mark.parametrize(
    ("sample", "said"),
    [
        ("one", "You owe us fifty nine euros and ninety cents It is due on January fifteenth"),
        ("two", "You have two open bills of together one hundred euros The first is due on January fifteenth"),
        ("none", "You owe us nothing"),
    ],
)
def test_the_balance_is_read_as_money(centre, sample, said):
    centre.action(BILLS).answers(sample=sample)
    call = centre.dial(KNOWN).hears("Hello Ada Sample").hears("main").presses("1").hears(said.split(" fifty")[0])
    call.hears("main").presses("9").hears("goodbye").ends()
    assert any(text.replace("-", " ").startswith(said) for text in call.heard), call.heard
    assert call.outcome == "self_service"


def test_a_dispute_becomes_a_case_once(centre):
    call = (
        centre.dial(KNOWN)
        .hears("main")
        .presses("2")
        .hears("confirm")
        .presses("1")
        .hears("C dash one zero four two")
        .hears("goodbye")
        .ends()
    )
    assert call.outcome == "self_service"
    assert [asked["contact"] for asked in centre.action(CASE).asked] == ["5d1c6a0f9b0e4c7d8a2b3c4d5e6f7a8b"]


def test_who_takes_it_back_opens_no_case(centre):
    call = centre.dial(KNOWN).hears("main").presses("2").hears("confirm").presses("2").hears("main").presses("9").ends()
    assert centre.action(CASE).asked == []
    assert ("confirm", "no") in call.path


@pytest.mark.parametrize("action", [BILLS, CASE])
def test_a_system_in_trouble_leads_to_a_person(centre, action):
    centre.action(action).fails()
    fatima = centre.agent("Fatima").ready().always_answers(talks=30, wraps_up=5)
    call = centre.dial(KNOWN).hears("main").presses("1" if action == BILLS else "2")
    if action == CASE:
        call.hears("confirm").presses("1")
    assert call.hears("to_person").ends(within=120).agent == fatima.id
    assert ("line", "talked") in call.path


@pytest.mark.parametrize("how", ["found", "none", "many", "failed"])
def test_a_stranger_gives_the_reference(centre, how):
    if how == "many":
        centre.action(REFERENCE).answers(count=2)
    elif how == "failed":
        centre.action(REFERENCE).slow()
    call = centre.dial(STRANGER).hears("ask_reference").presses("7332225#" if how == "found" else "0000000#")
    call.hears("hello" if how == "found" else "to_person").hangs_up()
    assert ("look_up", how) in call.path


@pytest.mark.parametrize(("how", "heard"), [("many", "ask_reference"), ("failed", "to_person")])
def test_who_cannot_be_told_by_number(centre, how, heard):
    centre.action(PHONE).answers(count=2) if how == "many" else centre.action(PHONE).fails()
    assert centre.dial(KNOWN).hears(heard).hangs_up().path[0] == ("recognise", how)


@pytest.mark.parametrize(("keys", "exit"), [("", "no_input"), ("1#1#1#", "no_match"), ("0#", "person")])
def test_who_gives_no_reference_reaches_a_person(centre, keys, exit):
    call = centre.dial("anonymous").hears("ask_reference").presses(keys).hears("to_person").hears("nobody_free").ends()
    assert ("ask_reference", exit) in call.path
    assert ("line", "no_agents") in call.path


@pytest.mark.parametrize("step", ["main", "confirm"])
@pytest.mark.parametrize(
    ("keys", "exit", "heard"), [("", "no_input", "goodbye"), ("777", "no_match", "to_person"), ("0", "person", "to_person")]
)
def test_who_chooses_nothing_is_bid_goodbye_and_key_0_is_a_person(centre, step, keys, exit, heard):
    call = centre.dial(KNOWN).hears("main")
    if step == "confirm":
        call.presses("2").hears("confirm")
    assert (step, exit) in call.presses(keys).hears(heard, within=90).ends().path


def test_everybody_is_busy_for_too_long(centre):
    centre.agent("Fatima").ready().not_ready()
    assert ("line", "too_long") in centre.dial(KNOWN).hears("main").presses("0").hears("nobody_free", within=700).ends().path


@pytest.mark.parametrize(("condition", "step"), [("late", "late"), ("owes", "owes")])
def test_a_condition_that_cannot_be_told_leads_to_a_person(centre, condition, step):
    centre.condition_fails(condition)
    centre.action(BILLS).answers(sample="one")
    call = centre.dial(KNOWN)
    if step == "owes":
        call.hears("main").presses("1")
    assert (step, "failed") in call.hears("to_person").ends().path


def test_whatever_goes_wrong_is_told_to_the_caller(centre):
    assert centre.dial(KNOWN).hears("hello").goes_wrong().hears("trouble").ends().outcome == "released"
