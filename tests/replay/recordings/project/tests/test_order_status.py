"""The order status hotline, as its callers meet it: every exit of the flow is taken by one of these calls."""

from __future__ import annotations

import pytest

KNOWN, SHARED, LATE = "+493012345678", "+4930111", "+4930555"
STRANGER = "+4930000000"
PHONE, REFERENCE, LINK = "crm.contact_by_phone", "crm.contact_by_reference", "crm.order_link"


def premium(centre, **more):
    """The caller is a premium customer whom Alice can serve."""
    skills = {"lang.en": 5, "product.printers": 3}
    return centre.action(PHONE).answers({"language": "en", "skills": skills, **more}, sample="premium_with_an_order")


def not_premium(centre, **more):
    """The caller is a customer like most, with an order and an e-mail address unless told otherwise."""
    return centre.action(PHONE).answers({"language": "en", "premium": False, **more}, sample="premium_with_an_order")


def test_a_premium_customer_is_greeted_by_name_and_talks_to_an_able_agent(centre):
    premium(centre)
    alice = centre.agent("Alice").ready()
    call = centre.dial(KNOWN)
    call.hears("Hello Ada Sample").hears("to_premium_agent")
    alice.answers()
    assert (call.queue, call.skills, call.agent) == ("premium", {"lang.en": 5, "product.printers": 3}, "101")
    assert alice.card["reference"] == "REFBAB5"
    call.waits(minutes=3)
    alice.hangs_up()
    alice.wraps_up("solved")
    assert call.ends().outcome == "answered"
    assert call.path[-2:] == [("premium_queue", "talked"), ("end", "")]


def test_a_greeting_is_cut_short_by_a_key(centre):
    premium(centre)
    centre.agent("Alice").ready()
    call = centre.dial(KNOWN).hears("hello").presses("1").reaches("premium_queue")
    assert not call.has_heard("to_premium_agent"), "a key that was typed ahead is for the next prompt too"
    call.hangs_up()
    assert call.outcome == "abandoned"


def test_a_premium_customer_waits_in_vain(centre):
    premium(centre)
    centre.agent("Bruno").ready().not_ready("lunch")
    call = centre.dial(KNOWN).hears("to_premium_agent").waits(minutes=9)
    assert (call.state, call.position) == ("queued", 1)
    call.hears("nobody_free", within=120).ends()
    assert (call.outcome, call.path[-3][1]) == ("released", "too_long")


def test_a_premium_customer_for_whom_nobody_is_there(centre):
    premium(centre)
    call = centre.dial(KNOWN).hears("nobody_free").ends()
    assert ("premium_queue", "no_agents") in call.path


def test_skills_that_no_agent_can_have_are_no_reason_to_lose_the_caller(centre):
    premium(centre).answers(sample="premium_with_an_order", skills={f"product.p{n}": 1 for n in range(6)})
    centre.agent("Chen").ready().always_answers(talks=60, wraps_up=5)
    call = centre.dial(KNOWN).ends(within=180)
    assert (call.outcome, call.queue, call.agent) == ("answered", "general", "103")
    assert ("premium_queue", "failed") in call.path


def test_a_stranger_waits_in_the_queue_that_the_reference_leads_to(centre):
    centre.action(REFERENCE).answers(sample="premium_with_an_order", language="en", skills={"lang.en": 5})
    centre.agent("Alice").ready().not_ready("lunch")
    call = centre.dial("+4930123456", crm=1.0)
    call.hears("welcome").hears("ask_reference").presses("7332215#")
    call.waits(minutes=5)
    assert (call.queue, call.position) == ("premium", 1)
    call.waits(minutes=7)
    assert call.outcome == "released", "nobody waits for more than ten minutes"


@pytest.mark.parametrize(("keys", "who"), [("7332215#", "who types the terminator"), ("7332215", "who does not")])
def test_a_stranger_is_known_by_the_reference(centre, keys, who):
    centre.action(REFERENCE).answers(sample="premium_with_an_order", language="en", skills={"lang.en": 5})
    centre.agent("Alice").ready().always_answers(talks=30, wraps_up=5)
    call = centre.dial(STRANGER).hears("ask_reference").presses(keys).ends(within=120)
    assert (call.queue, call.vars["reference"]) == ("premium", "7332215"), who
    assert centre.action(REFERENCE).asked == [{"digits": "7332215"}]
    assert not call.has_heard("hello"), "who was just asked who he is is not greeted by name"


def test_two_people_with_one_number_are_asked_for_the_reference(centre):
    call = centre.dial(SHARED).hears("ask_reference")
    assert call.path[:1] == [("recognise", "many")]
    call.hangs_up()
    assert call.outcome == "hung_up"


def test_an_unknown_reference_goes_to_the_back_of_the_general_queue(centre):
    chen = centre.agent("Chen").ready().not_ready()
    first = centre.dial("anonymous").presses("12").waits(5).presses("12").waits(5).presses("12").reaches("general_queue")
    second = centre.dial(STRANGER).hears("ask_reference").presses("0000000#").hears("not_found").reaches("general_queue")
    assert (first.position, second.position) == (1, 2)
    assert first.path[:2] == [("recognise", "none"), ("ask_reference", "no_match")]
    assert ("look_up_reference", "none") in second.path
    chen.ready().answers()
    assert (first.state, second.position) == ("talking", 1)
    second.hangs_up()
    first.hangs_up()


def test_a_reference_that_two_people_share_is_nobodys(centre):
    centre.action(REFERENCE).answers(count=2, found=False)
    call = centre.dial(STRANGER).hears("ask_reference").presses("7332215#").hears("not_found")
    call.hears("nobody_free").ends()
    assert ("general_queue", "no_agents") in call.path


def test_a_caller_who_says_nothing_reaches_a_person(centre):
    centre.agent("Fatima").ready().always_answers(talks=30, wraps_up=5)
    call = centre.dial("anonymous").hears("ask_reference").hears("nothing_heard").hears("nothing_heard")
    call.hears("to_any_agent").ends(within=120)
    assert ("ask_reference", "no_input") in call.path
    assert centre.action(PHONE).asked == [], "an anonymous caller is not looked up"


def test_a_late_payer_reaches_billing_without_a_prompt(centre):
    emil = centre.agent("Emil").ready()
    call = centre.dial(LATE)
    emil.answers()
    assert (call.queue, call.heard, call.path[:2]) == ("billing", [], [("recognise", "found"), ("late_or_greet", "case late_payer")])
    call.hangs_up()
    emil.wraps_up("promised to pay")
    assert (call.outcome, emil.state) == ("answered", "ready")


def test_billing_hangs_up_first_and_the_flow_says_goodbye(centre):
    emil = centre.agent("Emil").ready().always_answers(after=3, talks=60, wraps_up=10)
    call = centre.dial(LATE).ends(within=120)
    assert (call.outcome, call.path[-2]) == ("answered", ("billing", "talked"))
    centre.waits(10)
    assert emil.state == "ready"


def test_a_late_payer_who_gives_the_reference_goes_to_billing_too(centre):
    centre.action(REFERENCE).answers(late_payment=True, language="en")
    call = centre.dial(STRANGER).hears("ask_reference").presses("7332215#").hears("nobody_free").ends()
    assert ("late_by_reference", "case late_payer") in call.path
    assert ("billing", "no_agents") in call.path


def test_a_late_payer_waits_in_vain(centre):
    centre.agent("Emil").ready().not_ready("lunch")
    call = centre.dial(LATE).waits(minutes=11)
    assert ("billing", "too_long") in call.path
    assert call.outcome == "released"


def test_who_is_no_premium_customer_gets_one_mail_with_the_link(centre):
    not_premium(centre)
    call = centre.dial(KNOWN).hears("hello").hears("about_tracking").hears("mail_is_sent").ends()
    assert call.outcome == "self_service"
    assert [(mail.to, mail.subject) for mail in call.mails] == [("ada@example.com", "Your order O-1001")]
    assert call.mails[0].body.count("http://127.0.0.1:8081/track/sample") == 1


@pytest.mark.parametrize(
    ("language", "greeting", "goodbye", "subject"),
    [
        ("en", "Hello Ada Sample", "We have sent you an e-mail", "Your order O-1001"),
        ("de", "Guten Tag Ada Sample", "per E-Mail geschickt", "Ihre Bestellung O-1001"),
        ("es", "Hola Ada Sample", "Le hemos enviado un correo", "Su pedido O-1001"),
        ("fr", "Hello Ada Sample", "We have sent you an e-mail", "Your order O-1001"),
    ],
)
def test_who_is_known_is_spoken_and_written_to_in_the_language_of_the_record(centre, language, greeting, goodbye, subject):
    not_premium(centre, language=language)
    call = centre.dial(KNOWN).hears(greeting).hears("about_tracking").hears(goodbye).ends()
    assert [(mail.subject, mail.body.count("http://127.0.0.1:8081/track/sample")) for mail in call.mails] == [(subject, 1)]


@pytest.mark.parametrize(("language", "heard"), [("de", "der Ihren Fall kennt"), ("es", "conoce su caso"), ("fr", "who knows your case")])
def test_who_gives_the_reference_goes_on_in_the_language_of_the_record(centre, language, heard):
    centre.action(REFERENCE).answers(sample="premium_with_an_order", language=language)
    call = centre.dial(STRANGER).hears("Please enter your seven character").presses("7332215#").hears(heard).ends()
    assert ("speak", "unknown" if language == "fr" else "done") in call.path


@pytest.mark.parametrize(
    ("keys", "asked", "found"),
    [
        ("*1", "Please enter your seven", "who knows your case"),
        ("*2", "Bitte geben Sie Ihre siebenstellige", "der Ihren Fall kennt"),
        ("*3", "Introduzca su referencia", "conoce su caso"),
        ("73*2", "Bitte geben Sie Ihre siebenstellige", "der Ihren Fall kennt"),
        ("*2*3", "Introduzca su referencia", "conoce su caso"),
    ],
)
def test_a_stranger_chooses_the_language_by_a_key_that_no_reference_has(centre, keys, asked, found):
    centre.action(REFERENCE).answers(sample="premium_with_an_order", language="en")
    call = centre.dial(STRANGER).hears("the key it is on. Für Deutsch drücken Sie die Sterntaste. Para español, pulse asterisco.")
    call.presses(keys).hears(asked).presses("7332215#").hears(found).hangs_up()


@pytest.mark.parametrize(("keys", "how"), [("", "no_input"), ("99", "no_match")])
def test_who_chooses_no_language_is_asked_in_the_same_one(centre, keys, how):
    call = centre.dial(STRANGER).hears("ask_reference").presses("*").hears("For English, press 1.").hears("which_language")
    call.presses(keys).hears("Please enter your seven", within=30).hangs_up()
    assert ("which_language", how) in call.path


def test_a_language_that_was_chosen_goes_before_that_of_the_record(centre):
    centre.action(REFERENCE).answers(sample="premium_with_an_order", language="es")
    call = centre.dial(STRANGER).hears("ask_reference").presses("*2").hears("Bitte geben Sie").presses("7332215#")
    call.hears("der Ihren Fall kennt").hangs_up()


@pytest.mark.parametrize(("language", "heard"), [("de", "Im Augenblick"), ("es", "Ahora mismo"), ("fr", "No agent can take your call")])
@pytest.mark.parametrize("how", ["number", "reference"])
def test_a_late_payer_hears_nothing_but_the_own_language(centre, how, language, heard):
    centre.action(PHONE if how == "number" else REFERENCE).answers(late_payment=True, language=language)
    call = centre.dial(KNOWN if how == "number" else STRANGER)
    if how == "reference":
        call.hears("ask_reference").presses("7332215#")
    call.hears(heard).ends()
    assert call.heard[-1].startswith(("Es tut", "Lo sentimos", "We are sorry"))
    assert ("late_or_greet" if how == "number" else "late_by_reference", "case late_payer_not_english") in call.path


@pytest.mark.parametrize("trouble", ["no link", "no mail server", "a slow mail server"])
def test_who_cannot_be_mailed_is_offered_an_agent(centre, trouble):
    not_premium(centre)
    if trouble == "no link":
        centre.action(LINK).fails()
    elif trouble == "no mail server":
        centre.mailbox.fails()
    else:
        centre.mailbox.slow(60)
    centre.agent("Dolores").ready().always_answers(talks=20, wraps_up=5)
    call = centre.dial(KNOWN).hears("offer_agent").presses("1").ends(within=120)
    assert (call.outcome, call.queue) == ("answered", "general")
    assert not call.has_heard("mail_is_sent")


@pytest.mark.parametrize("lacking", ["email", "order_id"])
def test_without_an_address_or_an_order_an_agent_is_offered(centre, lacking):
    not_premium(centre, **{lacking: ""})
    call = centre.dial(KNOWN).hears("offer_agent").presses("2").hears("goodbye").ends()
    assert (call.outcome, call.mails) == ("self_service", [])


def test_the_offer_of_an_agent_is_repeated_and_then_made_without_asking(centre):
    not_premium(centre, email="")
    call = centre.dial(KNOWN).hears("offer_agent").presses("9").hears("offer_again").presses("9").hears("offer_again").presses("9")
    call.hears("to_any_agent").ends()
    assert ("offer_agent", "no_match") in call.path


def test_who_does_not_take_the_offer_is_bid_goodbye(centre):
    not_premium(centre, email="")
    call = centre.dial(KNOWN).hears("offer_agent").hears("goodbye").ends()
    assert (call.outcome, call.path[-3]) == ("self_service", ("offer_agent", "no_input"))


@pytest.mark.parametrize("crm", ["slow", "failing", "nonsense"])
def test_a_crm_in_trouble_costs_nobody_the_call(centre, crm):
    centre.agent("Chen").ready().always_answers(talks=20, wraps_up=5)
    call = centre.dial(KNOWN, crm=crm).hears("to_any_agent").ends(within=120)
    assert (call.path[0], call.outcome) == (("recognise", "failed"), "answered")


def test_a_lookup_that_takes_its_time_is_masked_by_the_welcome(centre):
    centre.agent("Emil").ready()
    call = centre.dial(LATE, crm=2.4).hears("welcome").reaches("billing")
    assert (call.path[0], call.heard) == (("recognise", "found"), ["Welcome to the order status hotline."]), "it ends at a phrase"
    call.hangs_up()


def test_the_second_lookup_fails(centre):
    centre.action(REFERENCE).slow()
    call = centre.dial(STRANGER).hears("ask_reference").presses("7332215#").hears("to_any_agent")
    assert call.path[-2:] == [("look_up_reference", "failed"), ("to_general", "")]


@pytest.mark.parametrize(
    ("condition", "step"),
    [("late_payer", "late_or_greet"), ("late_payer", "late_by_reference"), ("premium", "premium_check"), ("caller_unknown", "recognise")],
)
def test_a_condition_that_cannot_be_told_is_no_reason_to_lose_the_caller(centre, condition, step):
    centre.condition_fails(condition)
    call = centre.dial(STRANGER if step == "late_by_reference" else KNOWN)
    if step == "late_by_reference":
        call.hears("ask_reference").presses("7332215#")
    call.hears("to_any_agent")
    assert (step, "failed") in call.path


def test_an_agent_who_does_not_answer_costs_the_caller_no_place(centre):
    chen, fatima = centre.agent("Chen").ready(), centre.agent("Fatima")
    call = centre.dial("anonymous").presses("1#1#1#").reaches("general_queue")
    fatima.ready()
    first = centre.agent(call.offered_to)
    assert first is chen, "the one who can do less is asked first"
    chen.ignores()
    fatima.rejects()
    assert (call.state, chen.state, fatima.state) == ("queued", "not_ready", "ready")
    centre.waits(30)
    fatima.answers()
    assert (call.agent, call.core.waited > 15) == ("106", True)
    call.hangs_up()


def test_nobody_answers_in_ten_minutes(centre):
    centre.agent("Chen").ready()
    call = centre.dial("anonymous").presses("1#1#1#").reaches("general_queue").waits(minutes=10).hears("nobody_free").ends()
    assert ("general_queue", "too_long") in call.path


@pytest.mark.parametrize("ends", ["talked", "no_agents", "too_long"])
def test_who_comes_back_from_the_fallback_has_the_old_place(centre, ends):
    dolores = centre.agent("Dolores")
    if ends != "no_agents":
        dolores.ready()
    before = centre.dial("anonymous").presses("1#1#1#").reaches("general_queue") if ends == "talked" else None
    if ends == "talked":
        dolores.answers()
    place = {"queue": "general", "first_enqueue": centre.clock.now - 300, "priority": "normal"}
    call = centre.dial(KNOWN, up=True, returning=place)
    assert call.path[0][0] == "return_to_place"
    if before:
        centre.waits(20)
        dolores.hangs_up().wraps_up().answers()
        centre.waits(20)
        dolores.hangs_up()
    assert call.ends(within=700).path[0] == ("return_to_place", ends)


def test_whatever_goes_wrong_is_told_to_the_caller(centre):
    call = centre.dial(STRANGER).hears("ask_reference").goes_wrong().hears("trouble").ends()
    assert (call.outcome, call.path[-2]) == ("released", ("apologise", "done"))


@pytest.mark.parametrize(
    "at", ["recognise", "ask_reference", "look_up_reference", "greet", "premium_announcement", "premium_queue", "talking"]
)
def test_a_crash_is_not_noticed_by_the_caller(centre, at):
    centre.action(REFERENCE).answers(sample="premium_with_an_order", skills={"lang.en": 5}).slow(1.0)
    alice = centre.agent("Alice").ready().always_answers(after=5, talks=20, wraps_up=5)
    known = at in ("greet", "premium_announcement")
    if known:
        premium(centre)
    call = centre.dial(KNOWN if known else STRANGER)
    if at == "recognise":
        assert centre.crash() == []
    if not known:
        call.hears("ask_reference").presses("7332")
        if at == "ask_reference":
            assert centre.crash() == []
        call.presses("215#")
    if at == "talking":
        centre.until(lambda: call.state == "talking", 60)
    elif at not in ("recognise", "ask_reference"):
        call.reaches(at)
    assert centre.crash() == []
    call.ends(within=120)
    assert (call.outcome, call.agent, call.queue) == ("answered", "101", "premium")
    centre.waits(10)
    assert alice.state == "ready"
