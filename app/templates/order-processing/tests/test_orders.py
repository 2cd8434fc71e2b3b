"""The order hotline, as its callers meet it."""

from __future__ import annotations

import pytest

VALUED, KNOWN, STRANGER = "+493012345678", "+493012345679", "+4930000000"


def test_a_customer_of_high_value_goes_to_the_front_of_the_queue(centre):
    alice = centre.agent("Alice").ready().not_ready()
    waiting = centre.dial(KNOWN).hears("To reach a person").presses("0").reaches("line")
    valued = centre.dial(VALUED).hears("to_the_front").reaches("front")
    assert (valued.position, waiting.position) == (1, 2)
    alice.ready().answers()
    assert (valued.agent, alice.card["attached"]["order"]) == ("101", "104725")
    valued.waits(60)
    alice.hangs_up()
    assert valued.ends().outcome == "answered"
    waiting.hangs_up()


def test_everybody_else_is_told_the_status_of_the_last_order_first(centre):
    call = (
        centre.dial(KNOWN)
        .hears("For your last order")
        .presses("1")
        .hears("leaves us soon")
        .hears("more")
        .presses("2")
        .hears("goodbye")
        .ends()
    )
    assert (call.outcome, call.queue) == ("self_service", "")
    assert not call.has_heard("arrives"), "there is no day to tell"


def test_a_stranger_is_told_of_one_order_after_another(centre):
    call = centre.dial(STRANGER).hears("ask_order").presses("104725#").hears("is on its way").hears("January seventh")
    call.hears("more").presses("1").hears("ask_order").presses("104731").hears("leaves us soon").hears("more").ends()
    assert call.path[-3] == ("more", "no_input")


def test_another_order_than_the_last_one(centre):
    call = centre.dial(KNOWN).hears("To reach a person").presses("2").hears("ask_order").presses("104725#").hears("is on its way")
    call.hears("more").presses("777").hears("goodbye").ends()
    assert ("more", "no_match") in call.path


def test_who_has_no_order_is_not_offered_the_last_one(centre):
    centre.action("crm.contact_by_phone").answers(sample="somebody", order_number="")
    call = centre.dial(KNOWN).hears("For another order")
    assert not call.has_heard("your last order")
    call.presses("1").hears("one of the keys").presses("1").hears("one of the keys").presses("1").hears("to_person").ends()
    assert ("which_order", "no_match") in call.path


@pytest.mark.parametrize("how", ["none", "many", "failed"])
def test_where_self_service_fails_the_caller_waits_at_the_back(centre, how):
    centre.agent("Alice").ready().not_ready()
    if how == "failed":
        centre.action("crm.order_by_number").fails()
    elif how == "many":
        centre.action("crm.order_by_number").answers(sample="packed", count=2)
    call = centre.dial(STRANGER).hears("ask_order").presses("999999#").hears("cannot_say").reaches("back")
    later = centre.dial(KNOWN).hears("To reach a person").presses("0").reaches("line")
    assert (later.position, call.position) == (1, 2), "who comes later and normally is served before"
    assert ("find", how) in call.path
    call.hears("nobody_free", within=700).ends()


@pytest.mark.parametrize("step", ["front", "back", "line"])
def test_an_agent_talks(centre, step):
    centre.agent("Bruno").ready().always_answers(talks=30, wraps_up=5)
    if step == "front":
        call = centre.dial(VALUED)
    elif step == "back":
        call = centre.dial(STRANGER).hears("ask_order").presses("999999#")
    else:
        call = centre.dial(STRANGER).hears("ask_order").presses("0#")
    assert call.ends(within=120).path[-2] == (step, "talked")


@pytest.mark.parametrize("step", ["front", "back", "line"])
@pytest.mark.parametrize("why", ["no_agents", "too_long"])
def test_nobody_is_free(centre, step, why):
    if why == "too_long":
        centre.agent("Bruno").ready().not_ready()
    if step == "front":
        call = centre.dial(VALUED)
    elif step == "back":
        call = centre.dial(STRANGER).hears("ask_order").presses("999999#")
    else:
        call = centre.dial(STRANGER).hears("ask_order").presses("0#")
    call.hears("nobody_free", within=700).ends()
    assert (step, why) in call.path


@pytest.mark.parametrize(("key", "exit"), [("", "no_input"), ("1#", "no_match")])
def test_who_enters_no_number_reaches_a_person(centre, key, exit):
    call = centre.dial(STRANGER).hears("ask_order").presses(key * 3).hears("to_person").ends()
    assert ("ask_order", exit) in call.path


def test_who_chooses_nothing_reaches_a_person(centre):
    assert ("which_order", "no_input") in centre.dial(KNOWN).hears("To reach a person").hears("to_person").ends().path


@pytest.mark.parametrize("count", [2, None])
def test_who_cannot_be_told_apart_enters_the_number(centre, count):
    contact = centre.action("crm.contact_by_phone")
    contact.answers(sample="somebody", count=2) if count else contact.fails()
    assert centre.dial(KNOWN).hears("ask_order").hangs_up().path[0] == ("recognise", "many" if count else "failed")


@pytest.mark.parametrize(("condition", "step"), [("high_value", "worth"), ("has_order", "which_order"), ("has_day", "day")])
def test_a_condition_that_cannot_be_told_costs_nobody_the_call(centre, condition, step):
    centre.condition_fails(condition)
    call = centre.dial(KNOWN)
    if step == "day":
        call.hears("For your last order").presses("1").hears("more")
    call.ends()
    assert (step, "failed") in call.path


def test_whatever_goes_wrong_is_told_to_the_caller(centre):
    assert centre.dial(STRANGER).hears("ask_order").goes_wrong().hears("trouble").ends().outcome == "released"
