"""The menu by voice, as its callers meet it. What the bot makes of what they say is decided here; it has tests of its own."""

from __future__ import annotations

import pytest

KNOWN, STRANGER = "+493012345678", "+4930000000"
CONTACT = "crm.contact_by_phone"


@pytest.fixture
def bot(centre):
    """Say what the bot makes of each time that it listens: a choice, or how the step is left."""
    bot = centre.bot("voice-menu")

    def hears(*what):
        for each in what:
            if each == "hung":
                bot.hangs()
            elif each in ("no_match", "no_input", "failed"):
                bot.leaves(each)
            else:
                bot.leaves(writes={"ivr.choice": each})

    return hears


LEADS = [("order", "to_orders", "orders"), ("invoice", "to_billing", "billing"), ("complaint", "to_complaints", "complaints")]
LEADS += [("agent", "to_agent", "line")]


@pytest.mark.parametrize(("choice", "told", "step"), LEADS)
def test_what_is_said_leads_to_its_queue(centre, bot, choice, told, step):
    for agent in ("Alice", "Bruno", "Chen"):
        centre.agent(agent).ready()
    bot(choice)
    call = centre.dial(KNOWN).hears("ask").hears(told).reaches(step)
    centre.agent({"orders": "Alice", "billing": "Bruno", "complaints": "Chen", "line": "Alice"}[step]).answers()
    call.waits(30)
    centre.agent(call.agent).hangs_up()
    assert call.ends().outcome == "answered"
    assert not call.has_heard("keys")


@pytest.mark.parametrize(("first", "second"), [("no_match", "again"), ("no_input", "nothing_said")])
def test_who_is_not_understood_is_asked_once_more(centre, bot, first, second):
    bot(first, "invoice")
    call = centre.dial(STRANGER).hears("ask").hears(second).hears("to_billing").hears("nobody_free").ends()
    assert [step for step in call.steps if step in ("ask", second, "keys")] == ["ask", second]


@pytest.mark.parametrize("first", ["no_match", "no_input"])
@pytest.mark.parametrize("then", ["no_match", "no_input", "failed", "hung"])
def test_and_then_goes_on_by_keys(centre, bot, first, then):
    bot(first, then)
    call = centre.dial(KNOWN).hears("ask").hears("keys", within=60).presses("1").hears("to_orders").hears("nobody_free").ends()
    assert call.path[2][1] == then


@pytest.mark.parametrize("how", ["failed", "hung"])
def test_without_the_bot_there_are_keys(centre, bot, how):
    bot(how)
    call = centre.dial(KNOWN).hears("ask").hears("keys", within=60).presses("2").hears("to_billing").hears("nobody_free").ends()
    assert call.outcome == "released"


@pytest.mark.parametrize(("keys", "told"), [("3", "to_complaints"), ("0", "to_agent"), ("777", "to_agent"), ("", "to_agent")])
def test_keys_lead_where_words_do(centre, bot, keys, told):
    bot("failed")
    call = centre.dial(KNOWN).hears("ask").hears("keys")
    for key in keys:
        call.presses(key).waits(2)
    call.hears(told, within=60).hears("nobody_free").ends()


@pytest.mark.parametrize("how", ["many", "failed"])
def test_a_contact_that_cannot_be_found_is_asked_all_the_same(centre, bot, how):
    bot("agent")
    if how == "failed":
        centre.action(CONTACT).fails()
    else:
        centre.action(CONTACT).answers(count=2, found=False)
    call = centre.dial(KNOWN).hears("ask").hears("nobody_free").ends()
    assert call.path[0] == ("recognise", how)


def test_a_choice_that_cannot_be_told_leads_to_a_person(centre, bot):
    bot("invoice")
    centre.condition_fails("invoice")
    centre.dial(KNOWN).hears("to_agent").hangs_up()


@pytest.mark.parametrize("queue", ["order", "invoice", "complaint", "agent"])
def test_a_wait_that_is_too_long_is_passed_on(centre, bot, queue):
    bot(queue)
    centre.agent("Alice").ready().not_ready()
    for agent in ("Bruno", "Chen"):
        centre.agent(agent).ready().not_ready()
    assert centre.dial(KNOWN).hears("nobody_free", within=700).ends().outcome == "released"


def test_whatever_goes_wrong_is_told(centre, bot):
    bot("agent")
    centre.dial(KNOWN).reaches("ask").goes_wrong().hears("trouble").ends()
