"""The proofs that variables are set and how long it takes, against all runs of small flows by the interpreter itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from app.core import commands, driving, facts
from app.core import events as ev
from app.core.call import Call, call_variables
from app.core.flow.compiled import Compiled, compile_program
from app.core.flow.program import Program
from app.core.flow.script import QUIET
from app.core.flow.texts import BadText
from app.publish.graph import Graph
from app.publish.meaning import Context
from app.publish.proofs.findings import Subject
from app.publish.proofs.longest import longest
from app.publish.proofs.variables import unset
from app.yamlfile import Document

OUTPUTS = {"x.get": {"count": "int", "name": "string"}, "x.do": {"number": "string"}}
TEXTS = [
    "words",
    "{{ a.name }}",
    "{{ b.number }}",
    "{{ vars.k }}{{ vars.v }}",
    "{{ a.name | default('') }}",
    "{{ vars.k | default('') }}",
    "{% if a.found %}{{ a.name }}{% endif %}",
]
CONDITIONS = {
    "found": "a.found",
    "named": "a.found && a.name == 'n'",
    "name": "a.name == 'n'",
    "keyed": "vars.k == '1'",
    "wrote": "has(ivr.x) && ivr.x == ''",
}
EXITS = {
    "say": ["done"],
    "lookup": ["found", "none", "many", "failed"],
    "action": ["done", "failed"],
    "collect": ["match", "no_match", "no_input"],
    "set": ["done"],
    "email": ["sent", "failed"],
    "switch": ["otherwise", "failed"],
}


def described(draw: Any, kind: str, later: st.SearchStrategy[str]) -> dict[str, Any]:
    """A step of a kind, without its exits."""
    texts, prompts = st.sampled_from(TEXTS), st.sampled_from([f"p{i}" for i in range(len(TEXTS))])
    conditions = st.lists(st.sampled_from([*CONDITIONS]), min_size=1, unique=True)
    made: dict[str, Callable[[], dict[str, Any]]] = {
        "say": lambda: {"prompt": draw(prompts)},
        "lookup": lambda: {"into": "a", "action": "x.get", "with": {"p": draw(texts)}},
        "action": lambda: {"into": "b", "action": "x.do", "with": {"p": draw(texts)}},
        "collect": lambda: {"into": "k", "prompt": "p0", "retry_no_match": "p0", "retry_no_input": "p0", "length": 1, "tries": 1},
        "set": lambda: {"values": {"v": draw(texts)}},
        "email": lambda: {"to": "a@b.c", "subject": "s", "body": draw(texts)},
        "switch": lambda: {"cases": {c: draw(later) for c in draw(conditions)}},
    }
    return made[kind]()


@st.composite
def programs(draw: Any, kinds: tuple[str, ...], most: int = 5) -> Compiled:
    """A small flow without ways round; its last step is the end."""
    count = draw(st.integers(1, most))
    steps: dict[str, Any] = {"away": {"do": "release"}, "end": {"do": "hangup"}}
    for i in range(count):
        later = st.sampled_from([*(f"s{j}" for j in range(i + 1, count)), "end"])
        kind = draw(st.sampled_from(kinds))
        more = described(draw, kind, later)
        steps[f"s{i}"] = {"do": kind, **more, "exits": {exit_: draw(later) for exit_ in EXITS[kind]}}
    # every name is one that some step sets, wherever that step is
    unused = {"done": "end", "failed": "end"}
    steps["u1"] = {"do": "lookup", "into": "a", "action": "x.get", "with": {}, "exits": {**dict.fromkeys(EXITS["lookup"], "end")}}
    steps["u2"] = {"do": "action", "into": "b", "action": "x.do", "with": {}, "exits": unused}
    steps["u3"] = {"do": "set", "values": {"k": "1", "v": "1"}, "exits": {"done": "end"}}
    data = {
        "flow": "drawn",
        "start": "s0",
        "on_error": "away",
        "prompts": {f"p{i}": text for i, text in enumerate(TEXTS)},
        "conditions": CONDITIONS,
        "steps": steps,
        "outputs": OUTPUTS,
    }
    return compile_program(Program.model_validate(data), {})


def answers(call: Call, out: list[Any]) -> list[ev.Event]:
    """What may happen next to a call whose flow waits, after all that came out of it."""
    request = next((thing.request for thing in reversed(out) if isinstance(thing, commands.StartAction | commands.SendMail)), "")
    do = call.flow.program.steps[call.step].do
    assert call.wait is not None
    if ev.PlaybackEnded in call.wait.kinds:
        return [ev.PlaybackEnded(call.id, call.playing)]
    if do == "lookup":
        counts = [{"count": 1, "name": "n"}, {"count": 0, "name": ""}, {"count": 2, "name": ""}]
        return [*(ev.ActionSucceeded(call.id, request, values) for values in counts), ev.ActionFailed(call.id, request, "timeout")]
    if do == "action":
        return [ev.ActionSucceeded(call.id, request, {"number": "1"}), ev.ActionFailed(call.id, request, "timeout")]
    if do == "email":
        return [ev.MailSent(call.id, request), ev.MailFailed(call.id, request, "refused")]
    assert do == "collect"
    return [ev.DigitPressed(call.id, "1"), ev.DigitPressed(call.id, "*"), ev.TimerFired(call.id, f"wait {call.waits}")]


def runs(flow: Compiled) -> Iterator[bool]:
    """Every run of a flow by the interpreter: whether it met a variable without a value."""
    open_: list[list[int]] = [[]]
    while open_:
        choices = open_.pop()
        call = Call("c", "channel", flow, ani="+4930123")
        call.vars.update(call_variables(call, False))
        try:
            out = driving.begin(call, "", 0.0)
            for choice in choices:
                out += driving.feed(call, answers(call, out)[choice], 0.0)
        except BadText:
            yield True
            continue
        if any(isinstance(thing, facts.Noticed) for thing in out):
            yield True
        elif call.leaving:
            yield False
        else:
            open_ += [[*choices, i] for i in range(len(answers(call, out)))]


def slow_runs(flow: Compiled) -> Iterator[float]:
    """The seconds that each run takes to its end where everything comes at the last moment, or not at all."""
    open_: list[list[int]] = [[]]
    while open_:
        choices = open_.pop()
        call = Call("c", "channel", flow, ani="+4930123")
        call.vars.update(call_variables(call, False))
        out = driving.begin(call, "", 0.0)
        for choice in choices:
            assert call.deadline is not None
            out += driving.feed(call, late(call, out)[choice], call.deadline)
        if call.leaving:
            yield call.now
        else:
            open_ += [[*choices, i] for i in range(len(late(call, out)))]


def late(call: Call, out: list[Any]) -> list[ev.Event]:
    """What may happen at the end of a wait; the moment before music begins always passes."""
    timer = ev.TimerFired(call.id, f"wait {call.waits}")
    assert call.deadline is not None
    quiet = call.wait is not None and ev.PlaybackEnded not in call.wait.kinds and call.deadline - call.now <= QUIET
    return [timer] if quiet else [timer, *(event for event in answers(call, out) if event != timer)]


def subject(flow: Compiled) -> Subject:
    return Subject(Graph(Context(flow, {})), Path("drawn.yaml"), Document(""), {}, {})


def proven_set(flow: Compiled) -> bool:
    return not any(unset(subject(flow)))


@settings(max_examples=80, deadline=None)
@given(programs(("say", "lookup", "action", "collect", "set", "email")))
def test_variables_are_proven_set_exactly_when_no_run_meets_one_that_is_not(flow: Compiled) -> None:
    assert proven_set(flow) == (not any(runs(flow)))


@settings(max_examples=80, deadline=None)
@given(programs(("say", "lookup", "action", "set", "switch", "switch")))
def test_with_conditions_no_run_of_a_proven_flow_meets_a_variable_that_is_not_set(flow: Compiled) -> None:
    if proven_set(flow):
        assert not any(runs(flow))


@settings(max_examples=40, deadline=None)
@given(programs(("say", "lookup", "action", "collect", "email"), 3))
def test_no_run_takes_longer_than_the_longest_time(flow: Compiled) -> None:
    if proven_set(flow):
        bound = longest(subject(flow)).seconds
        assert bound is not None
        assert max(slow_runs(flow)) <= bound + 0.06, "seconds are told to a tenth"


def test_the_longest_time_is_reached_where_all_is_late() -> None:
    said = compile_program(
        Program.model_validate(
            {
                "flow": "late",
                "start": "ask",
                "on_error": "bye",
                "prompts": {"bye": "Goodbye."},
                "steps": {
                    "ask": {
                        "do": "action",
                        "into": "b",
                        "action": "x.do",
                        "with": {},
                        "budget": 4,
                        "exits": {"done": "bye", "failed": "bye"},
                    },
                    "bye": {"do": "say", "prompt": "bye", "exits": {"done": "end"}},
                    "end": {"do": "hangup"},
                },
                "outputs": OUTPUTS,
            }
        ),
        {},
    )
    assert longest(subject(said)).seconds == round(max(slow_runs(said)), 1) == 4 + round(5 + 2 + 0.12 * len("text:Goodbye."), 1)
