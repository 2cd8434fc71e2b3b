"""What changes for callers between two versions: told by what they notice, never by what steps are called."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.core.flow.compiled import Compiled
from app.core.flow.program import Program
from app.publish import paths as paths_module
from app.publish.diff import Change, differences
from app.publish.flowfile import load_flow
from app.publish.paths import TooManyPaths, paths
from app.publish.release import as_document
from tests.unit.centre import OUTPUTS, PROJECT, book

DEMO = (PROJECT / "flows" / "order-status.yaml").read_text()


def compiled_text(name: str, text: str, outputs: Any, queues: Any) -> Compiled:
    return load_flow(Path(name), outputs, queues, as_document(name, text))


QUEUES = book().queues


@cache
def program(text: str = DEMO) -> Program:
    return compiled_text("flow.yaml", text, OUTPUTS, QUEUES).program


def changed(*pairs: tuple[str, str]) -> list[Change]:
    text = DEMO
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return differences(program(), program(text))


def told(changes: list[Change]) -> list[str]:
    return [change.text() for change in changes]


GOODBYE = "Vielen Dank für Ihren Anruf. Auf Wiederhören. / Gracias por su llamada. Adiós."
"""How the demo says goodbye in German and Spanish."""
CONFIRM = """
  confirm:
    do: menu
    prompt: confirm
    choices: {"1": premium_queue, "2": goodbye}
    retry_no_match: confirm
    retry_no_input: confirm
    exits: {no_match: premium_queue, no_input: premium_queue}
  premium_queue:
"""


def test_a_flow_does_not_differ_from_itself() -> None:
    assert differences(program(), program()) == []


def test_other_names_for_the_same_are_no_change() -> None:
    renamed = DEMO
    for name in ("greet", "offer_agent", "premium_check", "hello", "late_payer", "recognised"):
        renamed = re.sub(rf"\b{name}\b", f"{name}_x", renamed)
    assert renamed.count("_x") > 15
    assert differences(program(), program(renamed)) == []


def test_a_step_more_is_told_for_those_whom_it_befalls() -> None:
    changes = changed(
        ("  premium_queue:\n", CONFIRM),
        ("exits: {done: premium_queue}", "exits: {done: confirm}"),
        ("prompts:\n", 'prompts:\n  confirm: {en: "Do you want to wait? Press 1 for yes, or 2 for no.", de: Warten., es: Espere.}\n'),
    )
    first = changes[0]
    assert first.text() == (
        "A caller, for whom premium holds, "
        "now also hears “Do you want to wait? Press 1 for yes, or 2 for no. / Warten. / Espere.” and is asked to press 1 or 2."
    )
    assert [(change.kind, change.who, change.after) for change in changes[1:]] == [
        ("appears", ("for whom premium holds", "who presses 2"), (f"hears “Thank you for calling. Goodbye. / {GOODBYE}”", "the call ends"))
    ]


def test_a_step_less_is_told_the_other_way_round() -> None:
    changes = changed(("exits: {otherwise: greet, failed: to_general}", "exits: {otherwise: premium_check, failed: to_general}"))
    hello = "“Welcome to the order status hotline. Hello {{ contact.first_name }} {{ contact.last_name }}. / Willkommen bei der Beste…”"
    assert told(changes) == [f"A caller, whom crm.contact_by_phone finds, no longer hears {hello}."]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "place: front",
            "place: back",
            "A caller now waits in the queue billing, at its back; before: waits in the queue billing, at its front.",
        ),
        (
            "    en: Thank you for calling. Goodbye.\n",
            "    en: Bye.\n",
            f"A caller now hears “Bye. / {GOODBYE}”; before: hears “Thank you for calling. Goodbye. / {GOODBYE}”.",
        ),
        ('dnis: ["1000"]', 'dnis: ["1000", "1001"]', "the numbers dialled: 1000 before, 1000, then 1001 now."),
        (
            "late_payer: contact.found && contact.late_payment",
            "late_payer: contact.found && contact.late_payment && contact.open_cases == 0",
            "what late_payer means: contact.found && contact.late_payment before, "
            "contact.found && contact.late_payment && contact.open_cases == 0 now.",
        ),
    ],
)
def test_one_change_is_told_once(old: str, new: str, expected: str) -> None:
    assert told(changed((old, new))) == [expected]


def test_details_that_no_words_tell_are_told_by_name() -> None:
    (change,) = changed(("max_wait: 600", "max_wait: 60"))
    assert change.before == ("waits in the queue premium [max_wait: 600.0]",)
    assert change.after == ("waits in the queue premium [max_wait: 60.0]",)


def test_ways_appear_and_vanish() -> None:
    more = ('"2": goodbye}', '"2": goodbye, "3": billing}')
    appears = [change for change in changed(more) if change.kind == "appears"]
    assert [(change.who, change.after[0]) for change in appears] == [(("who presses 3",), "waits in the queue billing, at its front")]
    text = DEMO.replace(*more)
    vanishes = [change for change in differences(program(text), program()) if change.kind == "vanishes"]
    assert [(change.who, change.before[0]) for change in vanishes] == [(("who presses 3",), "waits in the queue billing, at its front")]


def test_a_way_that_comes_round_ends_where_it_meets_itself() -> None:
    text = """
flow: round
start: ask
on_error: end
prompts: {ask: Again.}
steps:
  ask: {do: menu, prompt: ask, choices: {"1": ask, "2": end}, retry_no_match: ask, retry_no_input: ask,
        exits: {no_match: end, no_input: end}}
  end: {do: hangup}
"""
    ways = [[moment.words for moment in path] for path in paths(compiled_text("r.yaml", text, {}, {}).program)]
    asked = "hears “Again.” and is asked to press 1 or 2"
    assert [asked, "who presses 1", f"comes to this again: {asked}"] in ways
    assert [asked, "who presses 2", "the call ends"] in ways


def test_a_flow_with_too_many_ways_is_told_to_be_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths_module, "MOST", 20)
    with pytest.raises(TooManyPaths):
        paths(program())
    (change,) = differences(program(), program())
    assert change.kind == "program"
    assert "more than 20 ways" in change.text()


def test_in_a_flow_with_very_many_ways_those_that_lead_to_the_same_are_taken_together() -> None:
    def questions(count: int, last: str) -> Program:
        steps = [
            f'  q{n}: {{do: menu, prompt: ask, choices: {{"1": q{n + 1}, "2": q{n + 1}}}, retry_no_match: ask, retry_no_input: ask,'
            f" exits: {{no_match: end, no_input: end}}}}\n"
            for n in range(count)
        ]
        text = f"flow: long\nstart: q0\non_error: end\nprompts: {{ask: Which one, last: {last}}}\nsteps:\n{''.join(steps)}"
        return compiled_text(
            "long.yaml", f"{text}  q{count}: {{do: say, prompt: last, exits: {{done: end}}}}\n  end: {{do: hangup}}\n", {}, {}
        ).program

    with pytest.raises(TooManyPaths):
        paths(questions(20, "Thanks."))
    (change,) = differences(questions(20, "Thanks."), questions(20, "Bye."))
    assert change.after == ("hears “Bye.”",)
    assert change.who == ("who presses 1 or who presses 2",)


@pytest.mark.parametrize("read", [lambda changes: [change.told() for change in changes]])
def test_a_change_is_plain_json_with_its_sentence(read: Callable[[list[Change]], list[dict[str, object]]]) -> None:
    (row,) = read(changed(("    queue: premium\n", "    queue: premium\n    place: front\n")))
    assert row["kind"] == "changed"
    assert row["who"] == ["for whom premium holds"]
    assert row["before"] == ["waits in the queue premium"]
    assert row["ways"] == 63
