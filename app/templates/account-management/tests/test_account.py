"""Account management, as its callers meet it, in three languages."""

from __future__ import annotations

import pytest

GERMAN, SPANISH, STRANGER = "+493012345678", "+34912345678", "+4930000000"
PHONE, REFERENCE = "crm.contact_by_phone", "crm.contact_by_reference"


def test_who_is_known_is_spoken_to_in_the_language_of_the_record(centre):
    assert centre.dial(GERMAN).hears("Guten Tag Ada Sample").hears("Kündigung").hangs_up().session["call.language"] == "de"
    assert centre.dial(SPANISH).hears("Hola Carla Diaz").hears("darse de baja").hangs_up().session["call.language"] == "es"
    centre.action(PHONE).answers(sample="spanish_and_content", language="fr")
    call = centre.dial(SPANISH).hears("Hello Carla Diaz").hangs_up()
    assert ("speak", "unknown") in call.path


@pytest.mark.parametrize(
    ("keys", "asked"), [("1", "Please enter"), ("2", "Bitte geben Sie"), ("3", "Introduzca"), ("", "Please enter"), ("99", "Please enter")]
)
def test_a_stranger_chooses_the_language_from_a_menu_in_all_three(centre, keys, asked):
    call = centre.dial(STRANGER).hears("For English, press 1. Für Deutsch drücken Sie die Zwei. Para español, pulse tres.")
    call.presses(keys).hears(asked).hangs_up()
    assert call.steps[:2] == ["recognise", "which_language"]


def test_the_language_can_be_chosen_before_all_three_have_been_offered(centre):
    call = centre.dial(STRANGER).hears("For English").presses("2").hears("Bitte geben Sie")
    assert call.played[-1].at - call.played[-2].at < 1, "all three would take longer"
    call.presses("7332225#").hears("Guten Tag Ada Sample").hangs_up()


def test_the_menu_depends_on_the_caller(centre):
    ada = centre.dial(GERMAN).hears("Zu Ihren offenen Vorgängen, zwei , drücken Sie die Eins.")
    assert not ada.has_heard("Wenn Sie mehr möchten"), "gold is all there is"
    carla = centre.dial(SPANISH).hears("ampliar su contrato")
    assert not carla.has_heard("casos abiertos"), "she has none"
    ada.hangs_up()
    carla.hangs_up()


@pytest.mark.parametrize(
    ("record", "queue", "step"),
    [
        ({"tier": "gold"}, "priority", "priority"),
        ({"nps": 3}, "care", "care"),
        ({"product": "leased line"}, "business", "business"),
        ({}, "standard", "standard"),
    ],
)
@pytest.mark.parametrize("ends", ["talked", "no_agents", "too_long"])
def test_the_queue_depends_on_tier_score_and_product(centre, record, queue, step, ends):
    centre.action(PHONE).answers(sample="spanish_and_content", **record)
    bruno = centre.agent("Bruno")
    if ends == "talked":
        bruno.ready().always_answers(talks=30, wraps_up=5)
    elif ends == "too_long":
        bruno.ready().not_ready()
    call = centre.dial(SPANISH).hears("Para lo demás").presses("4")
    if ends != "no_agents":
        assert call.reaches(step).queue == queue
    assert (step, ends) in call.ends(within=1200).path


def test_gold_waits_for_an_agent_of_the_language_and_after_a_minute_for_less(centre):
    centre.agent("Alice").ready()
    bruno = centre.agent("Bruno").ready()
    call = centre.dial(GERMAN).hears("Für alles andere").presses("1")
    bruno.answers()
    assert (call.queue, call.agent, call.skills) == ("priority", "102", {"lang.de": 5})
    call.hangs_up()


def test_skills_that_no_agent_can_have_lead_to_the_standard_queue(centre):
    centre.action(PHONE).answers(sample="gold_and_german", skills={f"product.p{n}": 1 for n in range(6)})
    call = centre.dial(GERMAN).hears("Für alles andere").presses("4").hears("to_person").ends()
    assert ("priority", "failed") in call.path


def test_who_wants_to_leave_talks_to_somebody_who_can_persuade(centre):
    centre.agent("Carmen").ready()
    alice = centre.agent("Alice").ready()
    call = centre.dial(SPANISH).hears("darse de baja").presses("3")
    alice.answers()
    assert (call.queue, call.skills, alice.card["attached"]["wants"]) == ("care", {"retention": 5}, "to leave")
    call.waits(60)
    alice.hangs_up()
    assert call.ends().path[-2] == ("retention", "talked")


@pytest.mark.parametrize("why", ["no_agents", "too_long"])
def test_nobody_who_could_persuade_is_there(centre, why):
    if why == "too_long":
        centre.agent("Alice").ready().not_ready()
    call = centre.dial(SPANISH).hears("darse de baja").presses("3").hears("nobody_free", within=700).ends()
    assert ("retention", why) in call.path


def test_what_there_is_to_get_comes_by_mail_in_the_language_of_the_caller(centre):
    call = centre.dial(SPANISH).hears("ampliar su contrato").presses("2").hears("Le hemos enviado un correo").ends()
    assert [(mail.to, mail.subject) for mail in call.mails] == [("carla@example.com", "Más para usted")]
    assert call.outcome == "self_service"


def test_without_a_mail_server_an_agent_tells_it(centre):
    centre.mailbox.fails()
    assert ("upgrade", "failed") in centre.dial(SPANISH).hears("ampliar su contrato").presses("2").ends().path


@pytest.mark.parametrize("crm", ["none", "many", "failed"])
def test_who_cannot_be_told_by_reference_reaches_a_person(centre, crm):
    if crm == "failed":
        centre.action(REFERENCE).fails()
    elif crm == "many":
        centre.action(REFERENCE).answers(count=2)
    call = centre.dial("anonymous").hears("For English").presses("1").hears("ask_reference").presses("0000000#").hears("to_person").ends()
    assert ("look_up", crm) in call.path


@pytest.mark.parametrize("how", ["many", "failed"])
def test_who_cannot_be_told_by_number_chooses_the_language(centre, how):
    centre.action(PHONE).answers(count=2) if how == "many" else centre.action(PHONE).slow()
    assert centre.dial(GERMAN).hears("For English").hangs_up().path[0] == ("recognise", how)


@pytest.mark.parametrize(("keys", "exit"), [("", "no_input"), ("12#", "no_match"), ("0#", "person")])
def test_who_gives_no_reference_reaches_a_person(centre, keys, exit):
    call = centre.dial(STRANGER).hears("For English").presses("1").hears("ask_reference").presses(keys)
    call.presses(keys if exit == "no_match" else "").waits(7).presses(keys if exit == "no_match" else "").hears("to_person").ends()
    assert ("ask_reference", exit) in call.path


@pytest.mark.parametrize(("keys", "exit"), [("", "no_input"), ("777", "no_match"), ("0", "person")])
def test_who_chooses_nothing_reaches_a_person(centre, keys, exit):
    assert ("what", exit) in centre.dial(GERMAN).hears("Für alles andere").presses(keys).hears("to_person", within=90).ends().path


@pytest.mark.parametrize(("condition", "step"), [("may_upgrade", "what"), ("gold", "by_profile")])
def test_a_condition_that_cannot_be_told_leads_to_a_person(centre, condition, step):
    centre.condition_fails(condition)
    call = centre.dial(GERMAN).hears("hello")
    if step == "by_profile":
        call.hears("Für alles andere").presses("4")
    assert (step, "failed") in call.hears("to_person").ends().path


def test_whatever_goes_wrong_is_told_to_the_caller_in_the_callers_language(centre):
    assert centre.dial(GERMAN).hears("hello").goes_wrong().hears("Bei uns ist etwas schiefgegangen").ends().outcome == "released"
