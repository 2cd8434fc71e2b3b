"""The random life of a centre whose flow uses the whole language: nothing of it is lost or wrong after a crash at any moment."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import rule, run_state_machine_as_test

from app.core import events as ev
from app.core.book import Book
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from tests.unit.centre import Sim
from tests.unit.test_center_machine import AGENTS, EXAMPLES, FLOW_FILE, QUEUES, STEPS, CentreMachine

ASK = {"action": "find", "with": {"phone": "{{ call.ani }}"}}
CHOICES = {"1": {"to": "agree", "when": "vip", "prompt": "first"}, "2": {"to": "wait", "prompt": "second"}, "3": "agree"}
RETRY = {"retry_no_match": "again", "retry_no_input": "again", "tries": "2"}
STEPS_BEFORE: dict[str, Any] = {
    "early": {
        "do": "wait_for",
        "variable": "early.answered",
        "max_wait": "20",
        "mask": "welcome",
        "exits": {"set": "speak", "too_long": "both"},
    },
    "speak": {"do": "language", "to": "{{ ivr.language }}", "exits": {"done": "both", "unknown": "both"}},
    "both": {
        "do": "gather",
        "ask": {"contact": ASK, "other": ASK},
        "ring": "0.6",
        "mask": "ask",
        "exits": {"done": "offer", "some": "offer", "failed": "wait"},
    },
    "offer": {
        "do": "menu",
        "choices": CHOICES,
        "prompt": "choose",
        **RETRY,
        "exits": {"no_match": "look", "no_input": "look", "failed": "general"},
    },
    "agree": {"do": "confirm", "prompt": "read", **RETRY, "exits": {"yes": "wait", "no": "offer", "no_match": "look", "no_input": "look"}},
    "wait": {
        "do": "wait_for",
        "variable": "ivr.colour",
        "until": "red",
        "max_wait": "30",
        "mask": "hold",
        "exits": {"set": "look", "too_long": "look"},
    },
}
TEXTS = {"first": "One.", "second": "Two.", "read": ["You said", "number:{{ call.dnis }}"], "hold": ["Hold on.", "A moment."]}
PROMPTS = {**FLOW_FILE["prompts"], **TEXTS}


def everything(start: str) -> Program:
    spoken = {name: {"en": text, "de": text} for name, text in PROMPTS.items()}
    find = {"action": "find", "with": {"phone": "{{ call.ani }}"}}
    automations = [
        {"on": "arrival", **find, "into": "early"},
        {"on": "answered", **find},
        {"on": "session_written", **find, "into": "late", "when": "red"},
        {"on": "queued", **find, "into": "late"},
        {"on": "connected", **find},
        {"on": "entered", "at": "offer", **find, "into": "late"},
        {"on": "left", "at": "both", **find, "into": "early"},
        {"on": "left", "at": "agree", **find, "when": "vip"},
        {"on": "session_written", "at": "wait", **find, "into": "late"},
    ]
    more = {
        "start": start,
        "languages": ["en", "de"],
        "reach_a_person": {"key": "0", "step": "general"},
        "conditions": {
            **FLOW_FILE["conditions"],
            "red": "has(ivr.colour) && ivr.colour == 'red'",
            "vip": "!has(contact.premium) || contact.premium",
        },
        "automations": automations,
    }
    return Program.model_validate({**FLOW_FILE, **more, "prompts": spoken, "steps": {**STEPS_BEFORE, **FLOW_FILE["steps"]}})


class LanguageMachine(CentreMachine):
    """The same truths as for any centre, from a step on."""

    start = ""

    def __init__(self) -> None:
        super().__init__()
        self.sim = Sim(Book({"1": compile_program(everything(self.start), QUEUES)}, QUEUES, AGENTS, max_calls=6))

    @rule(
        data=st.data(), values=st.sampled_from(({"ivr.colour": "red"}, {"ivr.colour": "blue"}, {"ivr.language": "de"}, {"ivr.language": 7}))
    )
    def another_system_writes(self, data: st.DataObject, values: dict[str, Any]) -> None:
        line = self.some(data, lambda line: line.alive)
        if line:
            self.happen(ev.SessionWritten(line.call, values))

    @rule(data=st.data())
    def a_person_is_wanted(self, data: st.DataObject) -> None:
        line = self.some(data, lambda line: line.up and line.alive)
        if line and data.draw(st.integers(0, 3)) == 3:
            self.happen(ev.DigitPressed(line.call, "0"))


@pytest.mark.parametrize("start", STEPS_BEFORE)
def test_a_crash_at_any_moment_changes_nothing_in_a_flow_of_the_whole_language(start: str) -> None:
    run_state_machine_as_test(
        type("FromThere", (LanguageMachine,), {"start": start}),
        settings=settings(max_examples=EXAMPLES // 4, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)),
    )
