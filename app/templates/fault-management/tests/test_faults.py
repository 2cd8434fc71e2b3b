"""The fault service, as its callers meet it."""

from __future__ import annotations

import pytest

KNOWN, STRANGER = "+493012345678", "+4930000000"
LINE, OUTAGE, TICKET, CASE = "network.line_by_phone", "network.outage_in_area", "network.open_ticket", "crm.open_case"


def faulty(centre):
    """A customer in whose area no outage is known."""
    centre.action(LINE).answers(sample="somebodys", area="80331")
    return centre.dial(KNOWN).hears("which")


def test_a_known_outage_is_told_before_anything_is_asked(centre):
    call = centre.dial(KNOWN).hears("A cable has been cut").hears("four thirty p.m.").hears("To be called back").presses("2")
    call.hears("goodbye").ends()
    assert (call.outcome, call.queue) == ("self_service", "")
    assert centre.action(TICKET).asked == []


def test_a_wish_to_be_called_back_becomes_a_case(centre):
    call = centre.dial(KNOWN).hears("To be called back").presses("1").hears("noted").ends()
    assert centre.action(CASE).asked == [
        {"contact": "5d1c6a0f9b0e4c7d8a2b3c4d5e6f7a8b", "subject": f"Call back {KNOWN} once the outage in 10115 is over"}
    ]
    assert call.outcome == "self_service"


def test_a_wish_that_cannot_be_noted_is_told_to_a_person(centre):
    centre.action(CASE).fails()
    centre.agent("Alice").ready().always_answers(talks=30, wraps_up=5)
    call = centre.dial(KNOWN).hears("To be called back").presses("1").hears("to_person").ends(within=120)
    assert [taken for taken in call.path if taken[0] in ("wish", "queue")] == [("wish", "failed"), ("queue", "talked")]


def test_a_stranger_gives_the_area_and_is_offered_no_call_back(centre):
    call = centre.dial(STRANGER).hears("ask_area").presses("10115").hears("outage").hears("To end the call")
    assert not call.has_heard("To be called back")
    call.presses("1").hears("Please choose").presses("11").hears("to_person").ends()
    assert ("offer_end", "no_match") in call.path


@pytest.mark.parametrize(
    ("keys", "exit", "heard"),
    [("2", "key 2", "goodbye"), ("3", "key 3", "which"), ("", "no_input", "goodbye"), ("0", "person", "to_person")],
)
def test_a_stranger_may_have_another_fault(centre, keys, exit, heard):
    call = centre.dial(STRANGER).hears("ask_area").presses("10115").hears("To end the call").presses(keys).hears(heard).hangs_up()
    assert ("offer_end", exit) in call.path


def test_a_customer_who_chooses_nothing_there_is_reaches_a_person(centre):
    call = centre.dial(KNOWN).hears("To be called back").presses("777").hears("to_person").hangs_up()
    assert ("offer_callback", "no_match") in call.path


def test_where_no_outage_is_known_a_ticket_is_opened_before_anybody_waits(centre):
    bruno = centre.agent("Bruno").ready()
    call = faulty(centre).presses("2").hears("opened")
    bruno.answers()
    assert [(asked["fault"], asked["area"], asked["call"]) for asked in centre.action(TICKET).asked] == [("slow", "80331", call.id)]
    assert bruno.card["attached"] == {"reference": "7a1c6a0f9b0e4c7d8a2b3c4d5e6f7a8b", "fault": "slow", "area": "80331"}
    call.waits(60)
    bruno.hangs_up()
    assert ("with_fault", "talked") in call.ends().path


def test_an_anonymous_callers_ticket_is_opened_too(centre):
    centre.dial().hears("ask_area").presses("80331").hears("which").presses("2").hears("opened").hangs_up()
    assert [asked["area"] for asked in centre.action(TICKET).asked] == ["80331"]


@pytest.mark.parametrize(("key", "fault"), [("1", "nothing works"), ("3", "telephony")])
def test_the_ticket_says_what_does_not_work(centre, key, fault):
    call = faulty(centre).presses(key).hears("opened").hears("nobody_free").ends()
    assert centre.action(TICKET).asked[0]["fault"] == fault
    assert ("with_fault", "no_agents") in call.path


def test_without_a_ticket_the_caller_waits_for_an_agent_all_the_same(centre):
    centre.action(TICKET).slow()
    centre.agent("Alice").ready().not_ready()
    call = faulty(centre).presses("1").hears("not_opened").hears("nobody_free", within=1000).ends()
    assert [taken for taken in call.path if taken[0] in ("ticket", "with_fault")] == [("ticket", "failed"), ("with_fault", "too_long")]


@pytest.mark.parametrize("how", ["several", "no end", "another fault"])
def test_what_else_can_be_known_of_an_outage(centre, how):
    if how == "several":
        centre.action(OUTAGE).answers(count=2)
    elif how == "no end":
        centre.action(OUTAGE).answers(sample="known", until="")
    call = centre.dial(KNOWN).hears("several_outages" if how == "several" else "outage").hears("To be called back")
    assert call.has_heard("It should be over at") is (how == "another fault")
    if how == "another fault":
        call.presses("3").hears("which").hangs_up()
    else:
        assert ("offer_callback", "no_input") in call.hears("goodbye", within=60).ends().path


def test_a_system_that_does_not_know_of_outages_costs_nobody_the_call(centre):
    centre.action(OUTAGE).fails()
    assert ("outage", "failed") in centre.dial(KNOWN).hears("which").hangs_up().path


@pytest.mark.parametrize("how", ["none", "many", "failed", "no area"])
def test_whose_line_is_not_known_is_asked_for_the_area(centre, how):
    if how == "many":
        centre.action(LINE).answers(count=2)
    elif how == "failed":
        centre.action(LINE).talks_nonsense()
    elif how == "no area":
        centre.action(LINE).answers(sample="somebodys", area="")
    call = centre.dial("anonymous" if how == "none" else KNOWN).hears("ask_area").hangs_up()
    assert ("area", "otherwise") in call.path if how == "no area" else call.path[0] == ("line", how)


@pytest.mark.parametrize(("keys", "exit"), [("", "no_input"), ("1#1#1#", "no_match"), ("0#", "person")])
def test_who_gives_no_area_reaches_a_person(centre, keys, exit):
    call = centre.dial(STRANGER).hears("ask_area").presses(keys).hears("to_person").hears("nobody_free").ends()
    assert ("ask_area", exit) in call.path
    assert ("queue", "no_agents") in call.path


@pytest.mark.parametrize(("keys", "exit"), [("", "no_input"), ("777", "no_match"), ("0", "person")])
def test_who_does_not_say_what_is_faulty_reaches_a_person(centre, keys, exit):
    centre.agent("Alice").ready().not_ready()
    call = faulty(centre).presses(keys).hears("to_person", within=90).hears("nobody_free", within=1000).ends()
    assert ("which", exit) in call.path
    assert ("queue", "too_long") in call.path


@pytest.mark.parametrize(("condition", "step"), [("area_known", "area"), ("has_end", "end_known"), ("customer", "offer")])
def test_a_condition_that_cannot_be_told_costs_nobody_the_call(centre, condition, step):
    centre.condition_fails(condition)
    assert (step, "failed") in centre.dial(KNOWN).ends(within=200).path


def test_whatever_goes_wrong_is_told_to_the_caller(centre):
    assert centre.dial(STRANGER).hears("ask_area").goes_wrong().hears("trouble").ends().outcome == "released"
