"""Timelines recorded from real calls, and what a person reads of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from app.show_call import Line, lines, table, why

RECORDED = Path(__file__).parent / "timelines"
NAMES = sorted(path.stem for path in RECORDED.glob("*.json"))


def recorded(name: str) -> list[dict[str, Any]]:
    return list(json.loads((RECORDED / f"{name}.json").read_text()))


def whats(told: list[Line]) -> list[str]:
    return [line.what for line in told]


def said(told: list[Line], what: str) -> str:
    return next(line.text for line in told if line.what == what)


def test_a_caller_who_types_the_reference_and_talks_to_an_agent() -> None:
    told = lines(recorded("reference"))
    assert whats(told)[:7] == ["arrived", "not known", "picked up", "played", "pressed", "recognised", "played"]
    assert whats(told)[7:13] == ["queued", "music", "offered", "popped", "dialled", "rang"]
    assert whats(told)[13:] == ["answered", "talked", "hung up", "ended", "wrapped up"]
    assert said(told, "arrived") == "••••••••••••99 calls 1000"
    assert said(told, "pressed").startswith("•••••••• (8 keys in ")
    assert said(told, "recognised").startswith("Gina Haas (gold, premium) by crm.contact_by_reference in ")
    assert said(told, "queued") == "premium, place 1; asks for lang.en 5, product.printers 3"
    assert said(told, "offered") == "to 101: the only one free who can"
    assert said(told, "popped") == "Gina Haas (gold, premium), for the desk of 101"
    assert said(told, "talked") == "1.5 s, then 101 hung up"
    assert said(told, "ended").startswith("answered: an agent talked to the caller")


def test_a_prompt_is_told_with_its_words_and_how_long_it_was_heard() -> None:
    prompts = [line.text for line in lines(recorded("reference")) if line.what == "played"]
    assert prompts[0].startswith("“Please enter your seven character customer reference.”")
    assert prompts[0].endswith("(interrupted after 1.6 s)")
    assert prompts[1].endswith("(4.9 s)")


def test_a_caller_who_gets_a_mail() -> None:
    told = lines(recorded("mail"))
    assert whats(told)[-6:] == ["mailing", "music", "mailed", "played", "hung up", "ended"]
    assert said(told, "mailing") == "“Your order 104731” to b•••@example.com"
    assert said(told, "ended").startswith("self service: ")


def test_nobody_is_signed_in() -> None:
    told = lines(recorded("fallback"))
    assert whats(told)[-4:] == ["no agent", "played", "released", "ended"]
    assert [line.mood for line in told][-1] == "bad"


@pytest.mark.parametrize("name", NAMES)
def test_times_begin_at_the_arrival_and_never_go_back(name: str) -> None:
    times = [line.at for line in lines(recorded(name))]
    assert times[0] == 0.0
    assert times == sorted(times)


@pytest.mark.parametrize("name", NAMES)
def test_no_full_number_and_no_address_is_in_any_line(name: str) -> None:
    text = "\n".join(line.text for line in lines(recorded(name)))
    assert "+4930555" not in text
    assert "4424777" not in text
    assert "ben.carter@" not in text
    assert "http" not in text


@pytest.mark.parametrize("name", NAMES)
def test_a_call_that_still_goes_on_can_be_told_at_every_moment(name: str) -> None:
    timeline = recorded(name)
    whole = lines(timeline)
    for end in range(len(timeline) + 1):
        told = lines(timeline[:end])
        assert whats(told) == whats(whole)[: len(told)]


def test_the_table_has_a_row_a_line_with_aligned_columns() -> None:
    out = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    told = lines(recorded("mail"))
    out.print(table(told))
    rows = out.export_text().splitlines()
    assert len(rows) == len(told)
    assert {row.index(line.what) for row, line in zip(rows, told, strict=True)} == {rows[0].index("arrived")}


def entry(kind: str, at: float = 10.0, **fields: Any) -> dict[str, Any]:
    return {"at": at, "kind": "event", "type": kind, "call": "c", **fields}


def test_an_agent_who_does_not_answer_and_one_who_does_not_exist() -> None:
    told = lines([entry("CallArrived"), entry("OfferEnded", 12, agent="102", offer="o", reason="no_answer"), entry("NeverHeardOf", 13)])
    assert told[1:] == [Line(2.0, "not taken", "102 did not answer", "bad")]


def test_keys_far_apart_are_told_apart() -> None:
    told = lines([entry("CallArrived"), *(entry("DigitPressed", at, digit="•") for at in (11, 12, 30))])
    assert [line.text for line in told[1:]] == ["•• (2 keys in 1.0 s)", "• (1 key)"]


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        ({}, "the only one free who can"),
        ({"last_agent": True}, "talked to this caller before"),
        ({"runner_up": {"agent": "102", "behind_by": "fit"}}, "better skills than 102"),
        ({"runner_up": {"agent": "102", "behind_by": "idle_since"}, "idle": 31.4}, "idle for 31 s, longer than 102"),
        (
            {"runner_up": {"agent": "102", "behind_by": "id"}, "asked": {"lang.en": 5}, "relaxed": {}},
            "as good as 102, and first in order, after asking less of lang.en",
        ),
    ],
)
def test_why_this_agent(decision: dict[str, Any], told: str) -> None:
    assert why(decision) == told
