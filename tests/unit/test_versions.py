"""Versions of flows: which one a call runs, which one it ends on, and when one that some callers got first is taken back."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.book import Book
from app.core.center import Center
from app.core.flow.compiled import Compiled
from app.core.record import pack, unpack
from app.core.versions import WINDOW, Guard, NotPublished, Version, Versions, Wish
from app.publish.flowfile import load_flow
from app.publish.reading import ProjectError
from app.publish.release import as_document, check_again
from tests.unit.centre import OUTPUTS, Sim, book

FLOW = """
flow: greeting
dnis: ["{dnis}"]
start: hello
on_error: end
prompts: {{hello: {says}, ask: Press one.}}
conditions: {{broken: "int(call.ani) > 1"}}
steps:
  hello: {{do: say, prompt: hello, exits: {{done: ask}}}}
  ask: {{do: menu, prompt: ask, choices: {{"1": {then}}}, retry_no_match: ask, retry_no_input: ask, tries: 1,
        exits: {{no_match: end, no_input: end}}}}
  check: {{do: switch, cases: {{broken: end}}, exits: {{otherwise: end, failed: end}}}}
  end: {{do: hangup}}
"""


def compiled_text(name: str, text: str, outputs: Any, queues: Any) -> Compiled:
    return load_flow(Path(name), outputs, queues, as_document(name, text))


def program(says: str, *, then: str = "end", dnis: str = "2000", flow: str = "greeting") -> Compiled:
    return compiled_text("a.yaml", FLOW.format(says=says, then=then, dnis=dnis).replace("flow: greeting", f"flow: {flow}"), {}, {})


ONE, TWO, THREE = program("This is one."), program("This is two."), program("This is three.", then="check")


class Shop(Sim):
    """A centre whose flows come and go."""

    def __init__(self) -> None:
        super().__init__(Book({}, {}, {}))
        self.read(ONE)

    def read(self, *flows: Compiled) -> list[Any]:
        self.shelve(*flows)
        rows = tuple(v.row() for line in self.versions.lines.values() for v in line.versions.values())
        return self.happen(ev.FlowsRead({flow.name: flow.version for flow in flows}, rows))

    def shelve(self, *flows: Compiled) -> None:
        self.versions.shelf.update({flow.version: flow for flow in flows})

    @property
    def versions(self) -> Versions:
        return self.center.book.published

    def publish(self, flow: Compiled, **wish: Any) -> list[Any]:
        self.shelve(flow)
        return self.happen(ev.FlowPublished(flow.name, flow.version, "somebody", **wish))

    def states(self, flow: str = "greeting") -> dict[int, str]:
        return {number: version.state for number, version in self.versions.lines[flow].versions.items()}

    def caller(self, ani: str = "+4930111", dnis: str = "2000") -> str:
        return self.dial(ani, dnis)

    def runs(self, call: str) -> str:
        return self.center.calls[call].flow.version

    def hears(self, call: str) -> str:
        return str(self.last(do.Play, call).media[0])

    def goes_well(self, call: str) -> None:
        self.prompt_ends(call)
        self.press(call, "1")
        self.hangs_up(call)

    def gives_up(self, call: str) -> None:
        self.hangs_up(call)

    def says_nothing(self, call: str) -> None:
        self.prompt_ends(call)
        self.prompt_ends(call)
        self.wait(60)
        self.hangs_up(call)


@pytest.fixture
def shop() -> Shop:
    return Shop()


# ---- who gets what ------------------------------------------------------------------------------------------------------


def test_a_live_call_ends_on_its_version_and_the_next_call_runs_the_new_one(shop: Shop) -> None:
    before = shop.caller()
    shop.publish(TWO)
    after = shop.caller()
    assert (shop.hears(before), shop.hears(after)) == ("text:This is one.", "text:This is two.")
    shop.prompt_ends(before)
    assert shop.at_step(before) == "ask"
    assert (shop.runs(before), shop.runs(after)) == (ONE.version, TWO.version)
    assert shop.states() == {1: "retired", 2: "active"}


def test_rolling_back_is_publishing_an_older_one_and_keeps_its_number(shop: Shop) -> None:
    shop.publish(TWO)
    shop.publish(ONE)
    assert shop.states() == {1: "active", 2: "retired"}
    assert shop.runs(shop.caller()) == ONE.version


def test_publishing_what_is_active_changes_nothing(shop: Shop) -> None:
    assert shop.publish(ONE) == []
    assert shop.states() == {1: "active"}


def test_named_numbers_get_a_version_first_however_they_are_written(shop: Shop) -> None:
    shop.publish(TWO, numbers=("+49 30 / 222",))
    assert shop.runs(shop.caller("+4930222")) == TWO.version
    assert shop.runs(shop.caller("4930222")) == TWO.version
    assert shop.runs(shop.caller("+4930223")) == ONE.version
    assert shop.runs(shop.caller("")) == ONE.version


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (25.0, 60, 140), (100.0, 400, 400)])
def test_a_share_of_calls_gets_a_version_first_and_the_same_call_always_the_same(shop: Shop, share: float, least: int, most: int) -> None:
    shop.publish(TWO, share=share, numbers=() if share else ("+49111999",))
    book = shop.center.book
    drawn = [book.flow_for("2000", f"call{n}", "+4930111").version for n in range(400)]
    assert least <= drawn.count(TWO.version) <= most
    assert drawn == [book.flow_for("2000", f"call{n}", "+4930111").version for n in range(400)]


def test_a_canary_that_is_activated_is_for_everybody(shop: Shop) -> None:
    shop.publish(TWO, share=10.0)
    assert shop.states() == {1: "active", 2: "canary"}
    shop.publish(TWO)
    assert shop.states() == {1: "retired", 2: "active"}
    assert {shop.center.book.flow_for("2000", f"c{n}", "").version for n in range(50)} == {TWO.version}


def test_another_canary_or_the_active_version_again_ends_the_first_one(shop: Shop) -> None:
    shop.publish(TWO, share=10.0)
    shop.publish(THREE, share=10.0)
    assert shop.states() == {1: "active", 2: "retired", 3: "canary"}
    shop.publish(ONE)
    assert shop.states() == {1: "active", 2: "retired", 3: "retired"}


# ---- what is refused ----------------------------------------------------------------------------------------------------


def _stale(shop: Shop) -> None:
    tag = shop.versions.lines["greeting"].tag
    shop.publish(TWO)
    shop.publish(THREE, tag=tag)


def _number_of_another(shop: Shop) -> None:
    shop.publish(program("Another.", flow="another"))


@pytest.mark.parametrize(
    ("kind", "act"),
    [
        ("version-conflict", _stale),
        ("number-taken", _number_of_another),
        ("unknown-version", lambda shop: shop.happen(ev.FlowPublished("greeting", "nothing", "x"))),
        ("unknown-version", lambda shop: shop.happen(ev.FlowPublished("other", ONE.version, "x"))),
        ("no-active-version", lambda shop: shop.publish(program("New.", flow="new", dnis="3"), share=5.0)),
        ("active-already", lambda shop: shop.publish(ONE, share=5.0)),
        ("other-numbers", lambda shop: shop.publish(program("More.", dnis="2001"), share=5.0)),
    ],
)
def test_what_cannot_be_published_is_refused_and_changes_nothing(shop: Shop, kind: str, act: Callable[[Shop], Any]) -> None:
    with pytest.raises(NotPublished) as refused:
        act(shop)
    assert refused.value.kind == kind
    line = shop.versions.lines["greeting"]
    assert line.active is not None
    assert line.canary is None
    assert set(shop.versions.lines) == {"greeting"}
    assert shop.runs(shop.caller()) == line.active.hash


def _without(action: str, *names: str) -> dict[str, dict[str, str]]:
    return {**OUTPUTS, action: {name: kind for name, kind in OUTPUTS[action].items() if name not in names}}


@pytest.mark.parametrize(
    ("outputs", "told"),
    [
        (OUTPUTS, []),
        ({**OUTPUTS, "crm.order_link": {**OUTPUTS["crm.order_link"], "more": "string"}}, []),
        (_without("crm.order_link", "url"), ["order-status: action 'crm.order_link' does not give url as it did"]),
        (
            {name: kinds for name, kinds in OUTPUTS.items() if name != "crm.order_link"},
            ["order-status: there is no action 'crm.order_link' any more"],
        ),
    ],
)
def test_an_older_program_is_checked_against_the_actions_of_today(outputs: dict[str, dict[str, str]], told: list[str]) -> None:
    demo = book()
    older = demo.flows["1000"].program
    try:
        assert check_again(older, outputs, demo.queues).version == older.version
        problems = []
    except ProjectError as error:
        problems = error.problems
    assert problems == told


# ---- the guard ----------------------------------------------------------------------------------------------------------


BAD: dict[str, Callable[[Shop, str], None]] = {"abandons": Shop.gives_up, "defaults": Shop.says_nothing}


@pytest.mark.parametrize("figure", BAD)
def test_a_canary_that_does_worse_is_taken_back_by_itself_and_its_live_calls_stay_on_it(shop: Shop, figure: str) -> None:
    for _ in range(10):
        shop.goes_well(shop.caller())
    shop.publish(TWO, numbers=("+49666",), guard={"calls": 5, "margin": 0.5})
    stays = shop.caller("+49666")
    for n in range(5):
        call = shop.caller("+49666")
        assert shop.runs(call) == TWO.version
        (BAD[figure] if n >= 2 else Shop.goes_well)(shop, call)
        assert shop.states()[2] == ("canary" if n < 4 else "taken_back")
    changed = shop.last(facts.VersionChanged)
    assert (changed.number, changed.state) == (2, "taken_back")
    assert changed.why == f"{figure}: 60% of the last 5 calls, 0% under version 1, margin 50%"
    assert shop.runs(shop.caller("+49666")) == ONE.version
    assert shop.runs(stays) == TWO.version
    shop.goes_well(stays)
    assert shop.ending(stays) == "self_service"


def test_failures_are_counted_by_the_exit_and_by_the_error_exit(shop: Shop) -> None:
    shop.publish(THREE, numbers=("anonymous 1",), guard={"calls": 1, "margin": 0.1})
    call = shop.caller("anonymous 1")
    shop.goes_well(call)
    assert "failed" in [fact.exit for fact in shop.all(facts.StepLeft, call)]
    assert shop.states()[2] == "taken_back"
    assert shop.last(facts.VersionChanged).why.startswith("failures: 100%")
    shop.publish(TWO, numbers=("+49666",), guard={"calls": 1, "margin": 0.1})
    call = shop.caller("+49666")
    shop.happen(ev.StepFailed(call, "a mistake"))
    shop.hangs_up(call)
    assert shop.states()[3] == "taken_back"


def test_a_canary_no_worse_than_the_active_version_stays(shop: Shop) -> None:
    for n in range(20):
        (Shop.gives_up if n % 2 else Shop.goes_well)(shop, shop.caller())
    shop.publish(TWO, numbers=("+49666",), guard={"calls": 4, "margin": 0.1})
    for n in range(20):
        (Shop.gives_up if n % 2 else Shop.goes_well)(shop, shop.caller("+49666"))
    assert shop.states() == {1: "active", 2: "canary"}


def test_a_call_lost_with_the_pbx_says_nothing_of_its_version(shop: Shop) -> None:
    shop.publish(TWO, numbers=("+49666",), guard={"calls": 1, "margin": 0.0})
    call = shop.caller("+49666")
    shop.happen(ev.PbxBack(True))
    shop.hangs_up(call)
    assert shop.states()[2] == "canary"


def test_figures_look_back_on_so_many_calls_and_no_more() -> None:
    versions = Versions({ONE.version: ONE})
    versions.publish(Wish("greeting", ONE.version, "x"), 1.0)
    for _ in range(WINDOW):
        versions.count("greeting", ONE.version, 1)
    for _ in range(WINDOW // 2):
        versions.count("greeting", ONE.version, 0)
    active = versions.lines["greeting"].active
    assert active is not None
    assert len(active.figures) == WINDOW
    assert active.share_of("abandons") == 0.5
    assert active.share_of("abandons", 10) == 0.0


# ---- files at a start ---------------------------------------------------------------------------------------------------


def test_a_file_that_has_changed_is_published_at_the_start_and_one_that_has_not_changes_nothing(shop: Shop) -> None:
    shop.read(ONE)
    assert shop.states() == {1: "active"}
    shop.read(TWO)
    assert shop.states() == {1: "retired", 2: "active"}


def test_a_file_that_was_brought_back_to_older_content_rolls_back(shop: Shop) -> None:
    shop.wait(1)
    shop.read(TWO)
    shop.wait(1)
    shop.read(ONE)
    assert shop.states() == {1: "active", 2: "retired"}


def test_what_was_published_meanwhile_outlives_a_start_with_the_old_file(shop: Shop) -> None:
    shop.wait(1)
    shop.publish(TWO)
    shop.wait(1)
    shop.read(ONE)
    assert shop.states() == {1: "retired", 2: "active"}


def test_a_roll_back_outlives_starts_with_the_file_that_was_published_before_it(shop: Shop) -> None:
    shop.wait(1)
    shop.publish(TWO)
    shop.publish(ONE)
    for _ in range(2):
        shop.wait(1)
        shop.read(TWO)
        assert shop.states() == {1: "active", 2: "retired"}


def test_a_flow_whose_file_is_gone_is_retired_and_comes_back_with_its_file(shop: Shop) -> None:
    shop.wait(1)
    shop.read()
    assert shop.states() == {1: "retired"}
    call = shop.caller()
    assert shop.last(facts.FlowBegan, call).flow == "fallback"
    shop.wait(1)
    shop.read(ONE)
    assert shop.states() == {1: "active"}


def test_a_flow_that_never_had_a_file_stays_and_keeps_its_number(shop: Shop) -> None:
    other = program("Other.", flow="other", dnis="3000")
    shop.publish(other)
    out = shop.read(ONE, program("Mine.", flow="mine", dnis="3000"))
    assert shop.runs(shop.caller(dnis="3000")) == other.version
    assert [fact.detail for fact in out if isinstance(fact, facts.Noticed)] == ["mine: the number 3000 belongs to flow 'other' already"]


def test_the_number_of_a_flow_whose_file_was_renamed_goes_to_the_new_flow(shop: Shop) -> None:
    renamed = program("This is one.", flow="welcome")
    shop.read(renamed)
    assert shop.runs(shop.caller()) == renamed.version


def test_files_may_exchange_their_numbers(shop: Shop) -> None:
    shop.read(ONE, program("Other.", flow="other", dnis="3000"))
    shop.wait(1)
    mine, others = program("This is one.", dnis="3000"), program("Other.", flow="other")
    assert not [fact for fact in shop.read(mine, others) if isinstance(fact, facts.Noticed)]
    assert (shop.runs(shop.caller()), shop.runs(shop.caller(dnis="3000"))) == (others.version, mine.version)


def test_a_file_that_cannot_be_published_keeps_the_number_that_another_wanted(shop: Shop) -> None:
    shop.publish(program("By hand.", flow="byhand", dnis="9000"))
    shop.wait(1)
    out = shop.read(program("Moves.", dnis="9000"), program("Wants.", flow="wants", dnis="2000"))
    assert sorted(fact.detail for fact in out if isinstance(fact, facts.Noticed)) == [
        "greeting: the number 9000 belongs to flow 'byhand' already",
        "wants: the number 2000 belongs to flow 'greeting' already",
    ]
    assert shop.runs(shop.caller()) == ONE.version


# ---- anything in any order ----------------------------------------------------------------------------------------------


class Anything(RuleBasedStateMachine):
    """Publishing, canaries, starts, crashes and calls in any order: whatever happens, a call keeps its version, and there is one active."""

    flows = (ONE, TWO, THREE, program("Four.", dnis="2001"), program("Other.", flow="other", dnis="3000"), program("Taken.", flow="other"))

    def __init__(self) -> None:
        super().__init__()
        self.shop = Shop()
        self.began: dict[str, str] = {}

    @rule(flow=st.sampled_from(flows), share=st.none() | st.floats(0, 100), margin=st.floats(0, 1), stale=st.booleans())
    def publish(self, flow: Compiled, share: float | None, margin: float, stale: bool) -> None:
        before = {name: [v.row() for v in line.versions.values()] for name, line in self.shop.versions.lines.items()}
        try:
            self.shop.publish(flow, share=share, guard={"calls": 2, "margin": margin}, tag="9.9.9" if stale else "")
        except NotPublished:
            assert before == {name: [v.row() for v in line.versions.values()] for name, line in self.shop.versions.lines.items()}
        else:
            assert not stale

    @rule(flows=st.lists(st.sampled_from(flows), max_size=2, unique_by=lambda flow: (flow.name, flow.program.dnis)))
    def start(self, flows: list[Compiled]) -> None:
        if len({flow.name for flow in flows}) == len(flows) == len({flow.program.dnis for flow in flows}):
            self.shop.wait(1)
            self.shop.read(*flows)

    @rule(dnis=st.sampled_from(["2000", "2001", "3000"]))
    def call(self, dnis: str) -> None:
        call = self.shop.caller(dnis=dnis)
        if call in self.shop.center.calls:
            self.began[call] = self.shop.runs(call)

    @rule(data=st.data(), well=st.booleans())
    def end(self, data: st.DataObject, well: bool) -> None:
        live = [call for call in self.began if call in self.shop.center.calls and self.shop.at_step(call) == "hello"]
        if live:
            (Shop.goes_well if well else Shop.gives_up)(self.shop, data.draw(st.sampled_from(live)))

    @rule()
    def crash(self) -> None:
        old = self.shop.versions
        rows = json.loads(json.dumps([v.row() for line in old.lines.values() for v in line.versions.values()]))
        self.shop.book = Book({}, {}, {})
        self.shop.book.published.shelf.update(old.shelf)
        self.shop.book.published.restore(rows)
        self.shop.book.renumber()
        self.shop.crash()

    @invariant()
    def a_live_call_keeps_its_version(self) -> None:
        for call, version in self.began.items():
            assert call not in self.shop.center.calls or self.shop.runs(call) == version

    @invariant()
    def one_is_active_and_numbers_are_never_given_twice(self) -> None:
        numbers: list[str] = []
        for line in self.shop.versions.lines.values():
            states = [version.state for version in line.versions.values()]
            assert states.count("active") <= 1
            assert states.count("canary") <= (1 if "active" in states else 0)
            assert sorted(line.versions) == list(range(1, len(states) + 1))
            assert len({version.hash for version in line.versions.values()}) == len(states)
            if line.active:
                numbers += self.shop.versions.shelf[line.active.hash].program.dnis
        assert len(numbers) == len(set(numbers))
        assert sorted(self.shop.center.book.flows) == sorted(numbers)


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=30)


# ---- written down -------------------------------------------------------------------------------------------------------


def test_a_version_comes_back_from_its_row_and_events_from_their_records() -> None:
    version = Version("greeting", 3, "abc", 1.5, "me", "why", "canary", 12.5, ("+49",), Guard(7, 0.2), [0, 4], 2.0, "")
    assert Version.of(json.loads(json.dumps(version.row()))) == version
    published = ev.FlowPublished("greeting", "abc", "me", share=5.0, numbers=("+49",), guard={"calls": 3, "margin": 0.1}, tag="1.0.1")
    read = ev.FlowsRead({"greeting": "abc"}, (version.row(),))
    for event in (published, read, facts.VersionChanged("", "greeting", 3, "abc", "taken_back", "why")):
        assert unpack(json.loads(json.dumps(pack(event)))) in (event, replace(event))


def test_the_next_process_goes_on_with_calls_of_two_versions_a_canary_and_its_figures(shop: Shop) -> None:
    old = shop.caller()
    shop.publish(TWO)
    new = shop.caller()
    shop.publish(THREE, numbers=("+49666",), guard={"calls": 3, "margin": 0.1})
    shop.gives_up(shop.caller("+49666"))
    rows = json.loads(json.dumps([v.row() for v in shop.versions.lines["greeting"].versions.values()]))
    first = shop.center

    shop.book = Book({}, {}, {})
    shop.book.published.shelf.update({flow.version: flow for flow in (ONE, TWO, THREE)})
    shop.book.published.restore(rows)
    shop.book.renumber()
    shop.crash()

    assert isinstance(shop.center, Center)
    assert shop.center is not first
    assert (shop.runs(old), shop.runs(new)) == (ONE.version, TWO.version)
    shop.wait(2)
    for call in (old, new):
        shop.prompt_ends(call)
        assert shop.at_step(call) == "ask"
    for _ in range(2):
        shop.gives_up(shop.caller("+49666"))
    assert shop.states() == {1: "retired", 2: "active", 3: "taken_back"}


def test_the_same_events_give_the_same_versions_and_facts() -> None:
    def story() -> tuple[list[Any], list[Any]]:
        shop = Shop()
        shop.publish(TWO, share=40.0, guard={"calls": 4, "margin": 0.2})
        for call in (shop.caller() for _ in range(40)):
            (shop.gives_up if shop.runs(call) == TWO.version else shop.goes_well)(call)
        return [pack(thing) for thing in shop.out], [v.row() for v in shop.versions.lines["greeting"].versions.values()]

    once = story()
    assert once == story()
    assert once[1][1]["state"] == "taken_back"
