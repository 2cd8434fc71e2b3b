"""What the flow language has beyond the basic steps, by example and on virtual time, with a crash at every wait."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.driving import REASK
from app.core.flow.compiled import BadProgram
from app.core.flow.script import QUIET
from tests.unit.centre import Sim
from tests.unit.test_steps import COLLECT, LOOKUP, MAIL, MENU, QUEUE, flow, longest_silence, playing, ring_in

PERSON = {"reach_a_person": {"key": "0", "step": "person"}}
SAY = {"do": "say", "prompt": "long", "exits": {"done": "end"}}
CONFIRM: dict[str, Any] = {
    "do": "confirm",
    "prompt": "ask",
    "retry_no_match": "wrong",
    "retry_no_input": "silent",
    "tries": "2",
    "exits": {"yes": "agreed", "no": "denied", "no_match": "not_matched", "no_input": "nothing"},
}
WAIT: dict[str, Any] = {
    "do": "wait_for",
    "variable": "ivr.colour",
    "mask": "long",
    "max_wait": "60",
    "exits": {"set": "written", "too_long": "in_vain"},
}
GATHER: dict[str, Any] = {
    "do": "gather",
    "ask": {"contact": {"action": "find", "with": {"phone": "{{ call.ani }}"}}, "other": {"action": "find", "with": {"phone": "2"}}},
    "mask": "long",
    "exits": {"done": "both", "some": "one_of_two", "failed": "none_at_all"},
}
ANNA = {"count": 1, "name": "Anna", "premium": True}


def with_person(steps: dict[str, Any], key: str = "0", **more: Any) -> Sim:
    person = {"person": {**SAY, "prompt": "sorry", "exits": {"done": "line"}}, "line": QUEUE}
    return flow({**steps, **person}, reach_a_person={"key": key, "step": "person"}, **more)


# ---- a key that reaches a person -----------------------------------------------------------------------------------------


SELF_SERVICE = {
    "say": SAY,
    "menu": MENU,
    "confirm": CONFIRM,
    "lookup": LOOKUP,
    "action": {"do": "action", "into": "contact", "action": "find", "with": {}, "exits": {"done": "end", "failed": "end"}},
    "wait_for": WAIT,
    "gather": GATHER,
    "mail": {**MAIL, "to": "ann@example.com", "subject": "Hello"},
}


@pytest.mark.parametrize("kind", SELF_SERVICE)
@pytest.mark.parametrize("after", [0.7, 4.0], ids=["in a prompt", "in music or a pause"])
@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_the_key_reaches_a_person_from_any_self_service_step(kind: str, after: float, crash: bool) -> None:
    sim = with_person({"first": {**SELF_SERVICE[kind], "budget": "8"} if "action" in SELF_SERVICE[kind] else SELF_SERVICE[kind]})
    call = ring_in(sim, up=True)
    if after > 1 and sim.all(do.Play, call):
        for _ in range(2 if kind != "say" else 0):
            sim.prompt_ends(call)
    sim.wait(0.7)
    sim.wait(after - 0.7 if kind not in ("action", "say", "lookup", "gather") else 0)
    if crash:
        sim.crash()
    assert sim.at_step(call) == "first"
    sim.press(call, "0")
    assert sim.at_step(call) == "person"
    assert sim.last(facts.StepLeft, call).exit == "person"
    music = [type(thing) for thing in sim.out if isinstance(thing, do.StartMusic | do.StopMusic)]
    assert not music or music[-1] is do.StopMusic
    assert playing(sim, call) == "Sorry."


def test_the_prompt_is_stopped_and_a_late_answer_changes_nothing() -> None:
    sim = with_person({"first": LOOKUP})
    call = ring_in(sim)
    sim.wait(0.7)
    prompt = sim.last(do.Play, call).playback
    sim.press(call, "0")
    assert sim.last(do.StopPlay, call).playback == prompt
    sim.answer_action(call, ANNA)
    assert sim.at_step(call) == "person"
    assert "contact.name" not in sim.center.calls[call].vars


def test_a_step_keeps_the_keys_that_it_uses_itself() -> None:
    sim = with_person({"first": {**MENU, "choices": {"0": "mine"}}})
    call = ring_in(sim)
    sim.press(call, "0")
    assert sim.at_step(call) == "mine"
    sim = with_person({"first": {**CONFIRM, "no": "0"}})
    call = ring_in(sim)
    sim.press(call, "0")
    assert sim.at_step(call) == "denied"


@pytest.mark.parametrize(
    ("keys", "step"), [("0#", "person"), ("0", "person"), ("012", "matched"), ("10", "first"), ("10#", "first")], ids=str
)
def test_in_an_entry_the_key_is_a_digit_unless_it_stays_alone(keys: str, step: str) -> None:
    sim = with_person({"first": COLLECT})
    call = ring_in(sim)
    sim.prompt_ends(call)
    sim.press(call, keys)
    sim.wait(4.1)
    assert sim.at_step(call) == step


@pytest.mark.parametrize(("pattern", "step"), [("[0-9]+", "matched"), ("[1-9]+", "person")])
def test_an_entry_that_may_be_the_key_alone_is_one(pattern: str, step: str) -> None:
    sim = with_person({"first": {**COLLECT, "min_length": "1", "pattern": pattern}})
    call = ring_in(sim)
    sim.press(call, "0#")
    assert sim.at_step(call) == step


def test_a_key_that_is_no_digit_leads_out_of_an_entry_at_once() -> None:
    sim = with_person({"first": COLLECT}, key="*")
    call = ring_in(sim)
    sim.press(call, "1*")
    assert sim.at_step(call) == "person"


def test_a_step_may_do_without_the_key_and_the_way_to_a_person_has_none() -> None:
    sim = with_person({"first": {**SAY, "reach_a_person": "false"}})
    call = ring_in(sim)
    sim.press(call, "0")
    assert sim.at_step(call) == "first"
    sim = with_person({"first": SAY})
    call = ring_in(sim)
    sim.press(call, "00")
    assert sim.steps(call) == ["first", "person"]


@pytest.mark.parametrize("kind", ["say", "menu"])
def test_the_key_is_used_up_with_all_that_was_typed_after_it(kind: str) -> None:
    steps = {"zero": {**SAY, "reach_a_person": "false", "exits": {"done": "first"}}, "first": SELF_SERVICE[kind]}
    sim = flow({**steps, "person": MENU}, "zero" if kind == "menu" else "first", **PERSON)
    call = ring_in(sim)
    if kind == "menu":
        sim.press(call, "01")
        sim.prompt_ends(call)
    else:
        sim.press(call, "0")
    assert sim.at_step(call) == "person"
    assert playing(sim, call) == "Three digits."


def test_keys_typed_ahead_are_not_taken_for_it() -> None:
    sim = with_person({"first": {**SAY, "exits": {"done": "second"}}, "second": COLLECT})
    call = ring_in(sim)
    sim.press(call, "10")
    assert sim.at_step(call) == "first"
    sim.prompt_ends(call)
    sim.press(call, "5")
    assert sim.center.calls[call].vars["vars.code"] == "105"


# ---- entries of several lengths -------------------------------------------------------------------------------------------

SHORT_OR_LONG = {**COLLECT, "length": "5", "min_length": "3", "pattern": "[1-4]+|5{5}"}
ENTRIES = [
    ("123#", "matched", "123"),
    ("123", "matched", "123"),
    ("12341", "matched", "12341"),
    ("55555", "matched", "55555"),
    ("12#", "first", None),
    ("12", "first", None),
    ("555#", "first", None),
    ("129#", "first", None),
    ("1*3#", "first", None),
]


@pytest.mark.parametrize(("keys", "step", "value"), ENTRIES)
@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_an_entry_may_have_several_lengths_and_must_fit_the_pattern(keys: str, step: str, value: str | None, crash: bool) -> None:
    sim = flow({"first": SHORT_OR_LONG})
    call = ring_in(sim)
    sim.prompt_ends(call)
    sim.press(call, keys)
    if crash and sim.at_step(call) == "first":
        sim.crash()
    sim.wait(4.1)
    assert sim.at_step(call) == step
    assert sim.center.calls[call].vars.get("vars.code") == value
    assert step != "first" or playing(sim, call) == "Wrong."


def test_a_prompt_that_must_be_heard_is_heard_and_keys_meanwhile_count() -> None:
    sim = flow({"first": {**COLLECT, "barge_in": "false"}})
    call = ring_in(sim)
    sim.press(call, "123")
    assert sim.all(do.StopPlay, call) == []
    assert sim.at_step(call) == "first"
    sim.prompt_ends(call)
    assert sim.at_step(call) == "matched"


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"min_length": "4"}, "min_length 4 is more than length 3"),
        ({"pattern": "[0-9"}, "is no regular expression"),
        ({"pattern": "(1)\\1"}, "is no regular expression"),
        ({"pattern": "1)|(2"}, "is no regular expression"),
    ],
)
def test_an_entry_that_cannot_be_is_a_mistake(more: dict[str, str], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        flow({"first": {**COLLECT, **more}})


def test_no_pattern_takes_long() -> None:
    sim = flow({"first": {**COLLECT, "length": "40", "pattern": "(1+)+2"}})
    call = ring_in(sim)
    sim.press(call, "1" * 40)
    assert playing(sim, call) == "Wrong."


# ---- menus by caller ------------------------------------------------------------------------------------------------------

BY_CALLER: dict[str, Any] = {
    **MENU,
    "choices": {
        "1": {"to": "orders", "when": "premium", "prompt": "for_orders"},
        "2": {"to": "bills", "prompt": "for_bills"},
        "3": "quiet",
    },
    "exits": {**MENU["exits"], "failed": "failed"},
}
OFFERS = {"for_orders": "For orders, press 1.", "for_bills": "For bills, press 2."}


def by_caller(premium: bool | None, menu: dict[str, Any] = BY_CALLER) -> tuple[Sim, str]:
    steps = {"look": {**LOOKUP, "exits": dict.fromkeys(LOOKUP["exits"], "first")}, "first": menu}
    sim = flow(steps, "look", conditions={"premium": "contact.premium"}, prompts=OFFERS)
    call = ring_in(sim)
    sim.answer_action(call, {**ANNA, "premium": premium})
    return sim, call


def test_a_menu_offers_what_is_open_to_this_caller_and_nothing_else() -> None:
    sim, call = by_caller(True)
    assert sim.heard(call) == "Three digits. For orders, press 1. For bills, press 2."
    sim.press(call, "1")
    assert sim.at_step(call) == "orders"
    sim, call = by_caller(False)
    assert sim.heard(call) == "Three digits. For bills, press 2."
    sim.press(call, "1")
    assert sim.last(do.Play, call).media == ("text:Wrong.", "text:For bills, press 2.")
    sim.crash()
    sim.press(call, "3")
    assert sim.at_step(call) == "quiet"


def test_a_choice_whose_condition_cannot_be_told_takes_the_failure_exit() -> None:
    sim, call = by_caller(None)
    assert sim.at_step(call) == "failed"


def test_a_menu_without_a_prompt_of_its_own_is_made_of_its_choices_and_may_have_none() -> None:
    choices = {"1": {"to": "orders", "when": "premium", "prompt": "for_orders"}}
    menu = {**MENU, "choices": choices, "exits": {**MENU["exits"], "failed": "failed", "none": "nothing_open"}}
    del menu["prompt"]
    sim, call = by_caller(True, menu)
    assert sim.heard(call) == "For orders, press 1."
    sim, call = by_caller(False, menu)
    assert sim.at_step(call) == "nothing_open"


# ---- confirm --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "step"), [("1", "agreed"), ("2", "denied"), ("71", "agreed"), ("77", "not_matched"), ("", "nothing")])
@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_confirm(keys: str, step: str, crash: bool) -> None:
    sim = flow({"first": CONFIRM})
    call = ring_in(sim)
    for key in keys:
        if crash:
            sim.crash()
        sim.press(call, key)
    if not keys:
        for _ in range(2):
            if crash:
                sim.crash()
            sim.wait(3)
            sim.prompt_ends(call)
            sim.wait(6.1)
    assert sim.at_step(call) == step


def test_confirm_with_keys_of_its_own() -> None:
    sim = flow({"first": {**CONFIRM, "yes": "9", "no": "#"}})
    call = ring_in(sim)
    sim.press(call, "#")
    assert sim.at_step(call) == "denied"


# ---- wait_for ---------------------------------------------------------------------------------------------------------------


def write(sim: Sim, call: str, **values: Any) -> None:
    sim.happen(ev.SessionWritten(call, {f"ivr.{name}": value for name, value in values.items()}))


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_waiting_for_a_variable_hears_the_mask_then_music_and_goes_on_once_it_is_written(crash: bool) -> None:
    sim = flow({"first": WAIT})
    call = ring_in(sim)
    assert playing(sim, call) == "One."
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    sim.wait(QUIET + 0.1)
    assert len(sim.all(do.StartMusic, call)) == 1
    sim.wait(20)
    if crash:
        sim.crash()
    write(sim, call, shape="round")
    assert sim.at_step(call) == "first"
    write(sim, call, colour="red")
    assert sim.at_step(call) == "written"
    assert len(sim.all(do.StopMusic, call)) == 1


def test_what_is_written_during_the_mask_lets_the_phrase_finish() -> None:
    sim = flow({"first": WAIT})
    call = ring_in(sim)
    write(sim, call, colour="red")
    assert sim.at_step(call) == "first"
    sim.crash()
    sim.wait(3)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "written"
    assert "Two." not in sim.heard(call)


def test_what_is_there_already_counts_at_once() -> None:
    sim = flow({"zero": {**SAY, "exits": {"done": "first"}}, "first": WAIT}, "zero")
    call = ring_in(sim)
    write(sim, call, colour="red")
    sim.prompt_ends(call)
    assert sim.at_step(call) == "written"


@pytest.mark.parametrize("away", [0.0, 100.0])
def test_waiting_ends_after_its_time_and_a_crash_leaves_a_moment_for_who_writes(away: float) -> None:
    sim = flow({"first": {**WAIT, "mask": None}})
    call = ring_in(sim)
    sim.wait(59.0)
    if away:
        sim.now += away
        sim.crash()
        sim.happen(ev.CallFound(call, True))
        assert longest_silence(sim, call, "first") <= QUIET + 0.1
        assert sim.now >= 1_000_159 + REASK
    sim.wait(1.1)
    assert sim.at_step(call) == "in_vain"


def test_waiting_until_a_condition_holds_that_could_not_be_told_before() -> None:
    sim = flow({"first": {**WAIT, "until": "bright"}}, conditions={"bright": "ivr.colour == 'red' && ivr.shade > 3"})
    call = ring_in(sim)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    write(sim, call, colour="red")
    sim.crash()
    write(sim, call, shade=2)
    assert sim.at_step(call) == "first"
    write(sim, call, shade=4)
    assert sim.at_step(call) == "written"
    call = ring_in(sim)
    write(sim, call, colour="red")
    sim.wait(80)
    assert sim.at_step(call) == "in_vain"
    assert sim.last(facts.Noticed, call).what == "waited in vain"


# ---- conditions -------------------------------------------------------------------------------------------------------------

SET = [
    ("has(ivr.email)", {"email": "a@b"}, "yes"),
    ('"email" in ivr', {"email": "a@b"}, "yes"),
    ('"email" in ivr', {}, "other"),
    ("has(ivr.premium) && ivr.premium", {"premium": True}, "yes"),
    ("has(ivr.premium) && ivr.premium", {"premium": False}, "other"),
    ("has(ivr.premium) && ivr.premium", {}, "other"),
    ("ivr.premium", {"premium": True}, "yes"),
    ("ivr.premium", {"premium": "true"}, "failed"),
    ("ivr.premium", {}, "failed"),
    ("has(contact.name)", {}, "other"),
    ("!has(contact.name) && 'has(contact.name)' != ''", {}, "yes"),
    ("has( vars.colour ) && vars.colour == 'blue'", {}, "yes"),
]


@pytest.mark.parametrize(("condition", "written", "step"), SET)
def test_whether_a_variable_is_set_and_true(condition: str, written: dict[str, Any], step: str) -> None:
    steps = {
        "zero": {**SAY, "exits": {"done": "colour"}},
        "colour": {"do": "set", "values": {"colour": "blue"}, "exits": {"done": "first"}},
        "first": {"do": "switch", "cases": {"it": "yes"}, "exits": {"otherwise": "other", "failed": "failed"}},
        "look": LOOKUP,
    }
    sim = flow(steps, "zero", conditions={"it": condition})
    call = ring_in(sim)
    write(sim, call, **written)
    sim.prompt_ends(call)
    assert sim.at_step(call) == step


def test_has_of_a_variable_that_nothing_sets_is_a_mistake() -> None:
    with pytest.raises(BadProgram, match=r"undeclared reference to 'contact\.nme'.*did you mean 'contact\.name'"):
        flow({"first": LOOKUP}, conditions={"it": "has(contact.nme)"})


# ---- languages ----------------------------------------------------------------------------------------------------------------

SPEAK = {"do": "language", "to": "{{ ivr.language }}", "exits": {"done": "second", "unknown": "second"}}
SPOKEN = {
    name: {"en": text, "de": f"{text} (deutsch)", "es": [text, "number:{{ call.dnis }}"]}
    for name, text in {"ask": "Three.", "wrong": "Wrong.", "silent": "Silent.", "long": "Hello.", "sorry": "Sorry."}.items()
}
LANGUAGES = {"language": "en", "languages": ["en", "de", "es"], "prompts": SPOKEN}


def speaking(wanted: str, *, crash: bool = False) -> do.Play:
    sim = flow(
        {"zero": {**SAY, "exits": {"done": "first"}}, "first": SPEAK, "second": {**SAY, "exits": {"done": "third"}}, "third": MENU},
        "zero",
        **LANGUAGES,
    )
    call = ring_in(sim)
    assert sim.last(do.Play, call).language == "en"
    write(sim, call, language=wanted)
    sim.prompt_ends(call)
    if crash:
        sim.crash()
        sim.wait(3)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "third"
    play: do.Play = sim.last(do.Play, call)
    return play


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
@pytest.mark.parametrize(
    ("wanted", "language", "media"),
    [
        ("de", "de", ("text:Three. (deutsch)",)),
        (" DE_at", "de", ("text:Three. (deutsch)",)),
        ("es", "es", ("text:Three.", "text:uno")),
        ("fr", "en", ("text:Three.",)),
        ("", "en", ("text:Three.",)),
    ],
)
def test_the_call_goes_on_in_the_language_it_was_put_in(wanted: str, language: str, media: tuple[str, ...], crash: bool) -> None:
    play = speaking(wanted, crash=crash)
    assert (play.language, play.media) == (language, media)


def test_the_language_can_be_asked_in_conditions_and_texts() -> None:
    steps = {"first": {"do": "switch", "cases": {"german": "yes"}, "exits": {"otherwise": "other", "failed": "failed"}}}
    sim = flow(steps, conditions={"german": "call.language == 'de'"}, language="de", languages=["de"])
    assert sim.at_step(ring_in(sim)) == "yes"


NOT_IN_ALL = [
    ({"ask": {"en": "Three.", "de": "Drei."}}, "prompts.ask: there is nothing to say in: es"),
    ({"ask": "Three."}, "prompts.ask: spoken text in a flow of several languages"),
    ({"ask": {"en": "Three.", "de": "", "es": [], "fr": "Trois."}}, "fr"),
    ({"ask": {"en": "{{ call.nme }}", "de": "Drei.", "es": "Tres."}}, r"prompts.ask.en.0: there is no variable 'call.nme'"),
]


@pytest.mark.parametrize(("prompts", "told"), NOT_IN_ALL)
def test_every_prompt_is_there_in_every_language(prompts: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        flow({"first": SAY}, **{**LANGUAGES, "prompts": {**SPOKEN, **prompts}})


def test_a_recording_is_the_same_in_all_languages_and_an_unspoken_language_is_a_mistake() -> None:
    flow({"first": SAY}, **{**LANGUAGES, "prompts": {**SPOKEN, "ask": ["sound:beep", "digits:{{ call.ani }}"]}})
    with pytest.raises(BadProgram, match="does not speak 'es'"):
        flow({"first": SAY}, prompts={"ask": {"en": "Three.", "es": "Tres."}})
    with pytest.raises(ValueError, match="begins in 'en', which is not among its languages"):
        flow({"first": SAY}, languages=["de"])


def test_everything_that_can_be_known_is_known_before_the_call() -> None:
    sim = flow({"first": SAY}, **{**LANGUAGES, "prompts": {**SPOKEN, "ask": ["sound:beep", "digits:{{ call.ani }}"]}})
    known = sim.book.flows["1"].known_texts()
    assert {("Hello.", "en"), ("Hello. (deutsch)", "de"), ("seven", "en"), ("sieben", "de"), ("Raute", "de")} <= set(known)
    assert not [text for text, _ in known if "{{" in text]


def test_values_are_read_by_their_kind_and_what_cannot_be_is_said_as_it_stands() -> None:
    long = ["You owe", "money:{{ ivr.owed }} EUR", "by", "date:{{ ivr.day }}", "sound:beep", "{{ ivr.note }}"]
    sim = flow(
        {"zero": {**WAIT, "variable": "ivr.day", "exits": {"set": "first", "too_long": "end"}, "mask": "ask"}, "first": SAY},
        "zero",
        prompts={"long": long},
    )
    call = ring_in(sim)
    write(sim, call, owed=12.5, day="soon", note="sound:secret")
    sim.prompt_ends(call)
    assert sim.last(do.Play, call).media == (
        "text:You owe",
        "text:twelve euros and fifty cents",
        "text:by",
        "text:soon",
        "sound:beep",
        "text:sound:secret",
    )
    assert [noticed.what for noticed in sim.all(facts.Noticed, call)] == ["value cannot be read"]


TRILINGUAL = ["en:For English, press 1.", "de:Für Deutsch die Zwei.", "es:Para español, {{ call.name }}"]


def test_a_phrase_may_be_in_a_language_of_its_own() -> None:
    sim = flow({"first": SAY}, **{**LANGUAGES, "prompts": {**SPOKEN, "long": TRILINGUAL}})
    call = ring_in(sim)
    assert sim.last(do.Play, call).media == (*TRILINGUAL[:2], f"es:Para español, {sim.center.calls[call].name}")
    assert sim.heard(call).startswith("For English, press 1. Für Deutsch die Zwei. Para español")
    known = sim.book.flows["1"].known_texts()
    assert {("For English, press 1.", "en"), ("Für Deutsch die Zwei.", "de")} <= set(known)
    assert not [language for text, language in known if text.startswith("Für Deutsch") and language != "de"]


def test_a_phrase_of_which_nothing_is_left_is_not_played() -> None:
    sim = flow({"first": SAY}, prompts={"long": ["de:{{ call.outcome }}", "es:Hola."]})
    assert sim.last(do.Play, ring_in(sim)).media == ("es:Hola.",)


# ---- choices beside an entry ------------------------------------------------------------------------------------------------------

STAR: dict[str, Any] = {**COLLECT, "choices": {"*": "other"}}


@pytest.mark.parametrize("keys", ["*", "1*", "12*"])
@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
@pytest.mark.parametrize("sensitive", ["false", "true"])
def test_a_key_that_is_no_digit_leads_away_from_anywhere_in_the_entry(keys: str, crash: bool, sensitive: str) -> None:
    sim = flow({"first": {**STAR, "sensitive": sensitive}})
    call = ring_in(sim)
    sim.press(call, keys[:-1])
    if crash and sensitive == "false":
        sim.crash()
    sim.press(call, "*")
    assert [(left.step, left.exit) for left in sim.all(facts.StepLeft, call)] == [("first", "key *")]
    assert sim.at_step(call) == "other"
    assert "vars.code" not in sim.center.calls[call].vars


def test_the_choice_may_be_typed_ahead_and_what_comes_after_it_is_for_the_step_that_follows() -> None:
    menu = {**MENU, "exits": {"no_match": "end", "no_input": "end"}, "choices": {"1": "one"}}
    sim = flow({"zero": {**SAY, "exits": {"done": "first"}}, "first": STAR, "other": menu}, "zero")
    call = ring_in(sim)
    sim.press(call, "*1")
    sim.prompt_ends(call)
    assert sim.steps(call) == ["zero", "first", "other", "one"]


def test_without_the_choice_the_key_is_a_mistake_as_before() -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.press(call, "*12")
    assert "Wrong." in sim.heard(call)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"choices": {"#": "other"}}, "the choice # is the terminator"),
        ({"choices": {"7": "other"}}, "String should match pattern"),
        ({"choices": {"*": "other"}, "reach_a_person": "maybe"}, "reach_a_person"),
    ],
)
def test_a_choice_beside_an_entry_is_a_key_that_the_entry_has_no_use_for(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        flow({"first": {**COLLECT, **wrong}})


# ---- gather ---------------------------------------------------------------------------------------------------------------------


def asked(sim: Sim, call: str) -> list[do.StartAction]:
    return list({order.request: order for order in sim.all(do.StartAction, call)}.values())


def gather_step(**more: Any) -> tuple[Sim, str, list[do.StartAction]]:
    sim = flow({"first": {**GATHER, **more}})
    call = ring_in(sim)
    return sim, call, asked(sim, call)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)], ids=["first", "second"])
@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_questions_leave_at_once_and_their_answers_are_merged(order: tuple[int, int], crash: bool) -> None:
    sim, call, orders = gather_step()
    assert [each.params for each in orders] == [{"phone": "+4930123456"}, {"phone": "2"}]
    names = ("Anna", "Ben")
    for n in order:
        if crash:
            sim.crash()
        assert sim.at_step(call) == "first"
        sim.happen(ev.ActionSucceeded(call, orders[n].request, {**ANNA, "name": names[n]}))
    sim.wait(3)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "both"
    known = sim.center.calls[call].vars
    assert (known["contact.name"], known["contact.found"], known["other.name"], known["other.found"]) == ("Anna", True, "Ben", True)


def test_after_a_crash_only_what_has_no_answer_is_asked_again() -> None:
    sim, call, orders = gather_step(mask=None)
    sim.happen(ev.ActionSucceeded(call, orders[0].request, ANNA))
    before = len(sim.all(do.StartAction, call))
    sim.crash()
    again = sim.all(do.StartAction, call)[before:]
    assert again == [orders[1]]
    sim.happen(ev.CallFound(call, True))
    assert longest_silence(sim, call, "first") <= QUIET + 0.1
    assert sim.at_step(call) == "one_of_two"


OUTCOMES = [
    ("answer", "silence", "one_of_two"),
    ("answer", "failure", "one_of_two"),
    ("failure", "failure", "none_at_all"),
    ("silence", "silence", "none_at_all"),
    ("none", "answer", "both"),
]


@pytest.mark.parametrize(("one", "other", "step"), OUTCOMES)
def test_gather_leaves_by_how_many_answered(one: str, other: str, step: str) -> None:
    sim, call, orders = gather_step(mask=None)
    for order, outcome in zip(orders, (one, other), strict=True):
        if outcome == "failure":
            sim.happen(ev.ActionFailed(call, order.request, "timeout"))
        elif outcome != "silence":
            sim.happen(ev.ActionSucceeded(call, order.request, {**ANNA, "count": int(outcome == "answer")}))
    sim.wait(2.6)
    assert sim.at_step(call) == step
    known = sim.center.calls[call].vars
    assert (known["contact.found"], known["other.found"]) == (one == "answer", other == "answer")
    assert (known["contact.answered"], known["other.answered"]) == (one in ("answer", "none"), other == "answer")
    assert ("contact.name" in known) == (one == "answer")


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_a_step_has_nothing_to_do_with_what_an_earlier_one_gave_up_on(crash: bool) -> None:
    sim = flow({"first": {**GATHER, "mask": None, "exits": {**GATHER["exits"], "failed": "second"}}, "second": {**LOOKUP, "mask": None}})
    call = ring_in(sim)
    sim.wait(2.6)
    assert sim.at_step(call) == "second"
    given_up, open_ = asked(sim, call)[:2], asked(sim, call)[2]
    if crash:
        before = len(sim.all(do.StartAction, call))
        sim.crash()
        assert sim.all(do.StartAction, call)[before:] == [open_]
    sim.happen(ev.ActionSucceeded(call, given_up[0].request, ANNA))
    assert sim.at_step(call) == "second"
    assert "contact.name" not in sim.center.calls[call].vars


def test_the_same_answer_twice_is_not_two() -> None:
    sim, call, orders = gather_step(mask=None)
    for _ in range(2):
        sim.happen(ev.ActionSucceeded(call, orders[0].request, ANNA))
    assert sim.at_step(call) == "first"


def test_gather_may_leave_the_phone_ringing() -> None:
    sim, call, orders = gather_step(ring="1.0")
    for order in orders:
        sim.happen(ev.ActionSucceeded(call, order.request, ANNA))
    assert sim.at_step(call) == "both"
    assert sim.all(do.Answer, call) == []
