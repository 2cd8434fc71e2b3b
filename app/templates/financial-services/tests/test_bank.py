"""Telephone banking, as its callers meet it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

CALLER, ACCOUNT, PIN = "+442012345678", "20301234", "4711"


@pytest.fixture(autouse=True)
def a_wednesday_in_march(centre):
    """The branch is open: a Wednesday of this year, at ten."""
    day = date(date.today().year, 3, 1)
    while day.weekday() != 2:
        day += timedelta(1)
    centre.clock.goes_to(datetime(day.year, day.month, day.day, 10, tzinfo=UTC))


def identified(centre, **answers):
    """A caller who has given account and PIN."""
    if answers:
        centre.action("bank.check_pin").answers(sample="right", **answers)
    return centre.dial(CALLER).hears("ask_account").presses(ACCOUNT).hears("ask_pin").presses(PIN).hears("hello")


def test_the_balance_is_read_as_money_and_the_caller_is_identified(centre):
    call = identified(centre).hears("main").presses("1").hears("one thousand two hundred fifty pounds and fifty pence")
    call.hears("main").presses("9").hears("goodbye").ends()
    assert (call.outcome, call.queue) == ("self_service", "")
    assert centre.action("bank.check_pin").asked == [{"account": ACCOUNT, "pin": PIN}]


def test_a_caller_is_put_through_to_payments_only_after_saying_yes(centre):
    alice = centre.agent("Alice").ready()
    call = identified(centre).hears("main").presses("2").hears("confirm").presses("2").hears("main").presses("2").hears("confirm")
    assert call.queue == ""
    call.presses("1")
    alice.answers()
    assert (call.queue, call.skills) == ("payments", {"product.payments": 5})
    assert alice.card["attached"] == {"reference": ACCOUNT, "identified": "by PIN"}
    call.waits(60)
    alice.hangs_up()
    assert call.ends().path[-2] == ("payments", "talked")


def test_an_agent_who_knows_less_is_asked_after_two_minutes(centre):
    bruno = centre.agent("Bruno").ready()
    call = identified(centre).hears("main").presses("2").hears("confirm").presses("1").waits(100)
    assert call.offered_to == ""
    bruno.answers()
    assert call.agent == "102"
    call.hangs_up()


def test_a_wrong_pin_may_be_tried_again_until_the_bank_locks_the_account(centre):
    call = centre.dial(CALLER).hears("ask_account").presses(ACCOUNT).hears("ask_pin").presses("0000").hears("wrong_pin")
    call.hears("ask_account").presses("20309999").hears("ask_pin").presses("0000").hears("locked").hears("nobody_free").ends()
    assert ("identified", "case locked") in call.path


@pytest.mark.parametrize("bank", ["failing", "slow", "nonsense"])
def test_a_bank_in_trouble_leads_to_a_person(centre, bank):
    centre.agent("Alice").ready().always_answers(talks=30, wraps_up=5)
    call = centre.dial(CALLER, crm=bank).hears("ask_account").presses(ACCOUNT).hears("ask_pin").presses(PIN).hears("to_person")
    assert call.ends(within=120).path[-2] == ("line", "talked")
    assert ("check", "failed") in call.path


@pytest.mark.parametrize(
    ("when", "prompt", "exit"),
    [("T22:00:00+00:00", "closed", "closed"), ("12-24T13:00:00+00:00", "closed", "closed"), ("12-25T11:00:00+00:00", "holiday", "holiday")],
)
def test_a_lost_card_is_taken_at_any_time(centre, when, prompt, exit):
    day = centre.clock.time
    centre.clock.goes_to(f"{day:%Y-%m-%d}{when}" if when.startswith("T") else f"{day.year}-{when}")
    chen = centre.agent("Chen").ready()
    call = centre.dial(CALLER).hears(prompt).hears("lost_card").presses("1")
    chen.answers()
    assert (call.path[0], call.queue) == (("hours", exit), "lost-cards")
    call.waits(60)
    chen.hangs_up()
    assert call.ends().path[-2] == ("lost_cards", "talked")


@pytest.mark.parametrize(("keys", "exit"), [("", "no_input"), ("7", "no_match")])
def test_who_has_lost_no_card_is_bid_goodbye_while_it_is_closed(centre, keys, exit):
    centre.clock.goes_to(f"{centre.clock.time.year}-12-25T11:00:00+00:00")
    call = centre.dial(CALLER).hears("lost_card").presses(keys).hears("lost_card").presses(keys).hears("goodbye").ends()
    assert ("lost_card", exit) in call.path


@pytest.mark.parametrize("step", ["ask_account", "ask_pin"])
@pytest.mark.parametrize(("keys", "exit"), [("", "no_input"), ("12#", "no_match")])
def test_who_cannot_be_identified_reaches_a_person(centre, step, keys, exit):
    call = centre.dial(CALLER).hears("ask_account")
    if step == "ask_pin":
        call.presses(ACCOUNT).hears("ask_pin")
    call.presses(keys).waits(7).presses(keys).waits(7).presses(keys).hears("to_person").hears("nobody_free").ends()
    assert (step, exit) in call.path


@pytest.mark.parametrize("step", ["main", "confirm"])
@pytest.mark.parametrize(
    ("keys", "exit", "heard"), [("", "no_input", "goodbye"), ("777", "no_match", "to_person"), ("0", "person", "to_person")]
)
def test_who_chooses_nothing_is_bid_goodbye_and_key_0_is_a_person_everywhere(centre, step, keys, exit, heard):
    call = identified(centre).hears("main")
    if step == "confirm":
        call.presses("2").hears("confirm")
    call.presses(keys).hears(heard, within=90).ends()
    assert (step, exit) in call.path


@pytest.mark.parametrize(
    ("keys", "end"), [("13", "lost_cards"), ("3", "lost_cards"), ("12", "confirm"), ("11", "balance"), ("19", "goodbye"), ("9", "goodbye")]
)
def test_the_menu_is_there_again_after_the_balance(centre, keys, end):
    call = identified(centre)
    for key in keys:
        call.hears("main").presses(key)
    call.ends(within=120)
    assert end in call.steps


@pytest.mark.parametrize("queue", ["payments", "lost_cards", "line"])
def test_everybody_is_busy_for_too_long(centre, queue):
    centre.agent("Alice").ready().not_ready()
    call = identified(centre).hears("main").presses({"payments": "2", "lost_cards": "3", "line": "0"}[queue])
    if queue == "payments":
        call.hears("confirm").presses("1")
    assert (queue, "too_long") in call.hears("nobody_free", within=700).ends().path


@pytest.mark.parametrize("queue", ["payments", "lost_cards"])
def test_nobody_is_there(centre, queue):
    call = identified(centre).hears("main").presses({"payments": "2", "lost_cards": "3"}[queue])
    if queue == "payments":
        call.hears("confirm").presses("1")
    assert (queue, "no_agents") in call.hears("nobody_free").ends().path


def test_a_condition_that_cannot_be_told_leads_to_a_person(centre):
    centre.condition_fails("right_pin")
    call = centre.dial(CALLER).hears("ask_account").presses(ACCOUNT).hears("ask_pin").presses(PIN).hears("to_person").ends()
    assert ("identified", "failed") in call.path


def test_whatever_goes_wrong_is_told_to_the_caller(centre):
    assert centre.dial(CALLER).hears("ask_account").goes_wrong().hears("trouble").ends().outcome == "released"
