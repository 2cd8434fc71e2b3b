"""The proofs: each finds what it is for in a flow made to be wrong, with a path that shows it, and nothing in a flow that is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.cli import app
from app.proving import prove_files
from app.publish.guards import Guards, mentioned
from app.publish.kinds import MEANINGS
from app.publish.proofs import Report
from app.publish.reading import KINDS
from tests.unit.centre import PROJECT

WRONG = Path(__file__).parent / "proofs"
TO_ORDER = "arrival -> look (found) -> code (match) -> order (done) -> note"
TO_BOTH = "arrival -> hello (done) -> french (no_agents) -> expert (no_agents) -> both"

# flow: line, proof, place, a part of what is said, the path
FOUND: dict[str, list[tuple[int, str, str, str, str]]] = {
    "unreachable": [(7, "unreachable", "steps.left_over", "no call can come to this step", "")],
    "silent_loop": [
        (7, "endless", "steps.choose", "choose (no_input) -> again (done) -> choose (a caller who presses", "arrival -> choose")
    ],
    "retry_loop": [(7, "endless", "steps.look", "look (failed) -> look (a system that does not answer", "arrival -> look")],
    "unset_prompt": [(13, "unset", "steps.hello.prompt", "the prompt says customer.name", "arrival -> look (none) -> hello")],
    "unset_condition": [
        (12, "unset", "steps.ask.cases.is_red", "the condition asks ivr.colour", "arrival -> ask"),
        (24, "unset", "steps.use_key.values.copy", "vars.key", "arrival -> ask (otherwise) -> key (no_input) -> use_key"),
        (30, "unset", "steps.look.with.phone", "this very step forgets", "arrival -> ask (otherwise) -> key (match) -> look"),
        (34, "unset", "steps.ada.cases.is_ada", "customer.name", "arrival -> ask (otherwise) -> key (match) -> look (none) -> ada"),
        (39, "unset", "steps.line.skills_from", "the skills come from customer.skills", "(none) -> ada (otherwise) -> line"),
        (40, "unset", "steps.line.attach.number", "order.number goes to the agent, which no path has set", "-> line"),
        (45, "repeated", "steps.order.action", "asked again when this process dies", "-> line (talked) -> order"),
    ],
    "forsaken": [
        (4, "forsaken", "on_error", "after an error in the flow", "an error in the flow -> end"),
        (
            13,
            "forsaken",
            "steps.look.exits.failed",
            "shop.customer ends in failed",
            "hello (done) -> look (failed) -> line (no_agents) -> end",
        ),
        (14, "forsaken", "steps.line.exits.no_agents", "queue sales ends in no_agents", "look (failed) -> line (no_agents) -> end"),
    ],
    "silence": [
        (12, "silent", "steps.look.ring", "not answered yet and may hear nothing for 2 s", "arrival -> look"),
        (17, "silent", "steps.choose.prompt", "may have no sound", "arrival -> look (found) -> check (case known) -> choose"),
        (19, "silent", "steps.choose.retry_no_match", "may have no sound", "-> choose"),
        (23, "silent", "steps.end", "has not heard a word", "arrival -> look (found) -> check (otherwise) -> end"),
    ],
    "repeated": [
        (16, "repeated", "steps.order.action", "comes to it twice", "-> order (done) -> ordered (done) -> choose (key 1) -> order")
    ],
    "unstaffed": [
        (7, "unstaffed", "steps.french.skills", "201 lacks lang.fr; 202 lacks lang.fr", "arrival -> hello (done) -> french"),
        (12, "unstaffed", "steps.both.skills", "201 lacks lang.de; 202 lacks lang.en", TO_BOTH),
        (14, "unstaffed", "steps.nobody.queue", "no agent serves the queue 'nobody'", f"{TO_BOTH} (no_agents) -> nobody"),
    ],
    "leaked": [
        (25, "repeated", "steps.order.action", "shop.order may take effect twice", "-> order"),
        (29, "leaked", "steps.route.cases.visa", "customer.card is sensitive, and this step decides by it", f"{TO_ORDER} (done) -> route"),
        (
            34,
            "leaked",
            "steps.mail.body",
            "vars.code is sensitive, and this step sends it",
            f"{TO_ORDER} (done) -> route (case visa) -> mail",
        ),
        (36, "leaked", "steps.bye.prompt", "vars.note is made of customer.card, which is sensitive, and", "-> mail (sent) -> bye"),
        (41, "leaked", "steps.line.attach.note", "shows it to the agent", f"{TO_ORDER} (done) -> route (failed) -> line"),
        (43, "unset", "steps.trouble.prompt", "something of vars.*", "an error in the flow -> trouble"),
        (43, "leaked", "steps.trouble.prompt", "speaks it", f"{TO_ORDER} (done) -> route (an error) -> trouble"),
    ],
}


@pytest.fixture(scope="module")
def reports() -> dict[str, Report]:
    proven = prove_files(WRONG)
    assert proven.problems == ()
    return {Path(report.file).stem: report for report in proven.reports}


@pytest.mark.parametrize("name", FOUND)
def test_a_wrong_flow_is_found_out_and_shown_by_a_path(name: str, reports: dict[str, Report]) -> None:
    found = reports[name].findings
    assert [(f.line, f.proof, f.where) for f in found] == [(line, proof, where) for line, proof, where, _, _ in FOUND[name]]
    for finding, (_, proof, _, what, path) in zip(found, FOUND[name], strict=True):
        assert what in finding.what
        assert finding.path.endswith(path)
        assert finding.level == ("warning" if proof == "repeated" else "error")


def test_every_wrong_flow_is_expected_to_be_wrong(reports: dict[str, Report]) -> None:
    assert set(reports) == set(FOUND)


def test_every_kind_of_step_has_a_meaning() -> None:
    assert set(KINDS) <= set(MEANINGS)


def test_ways_round_that_somebody_bounds_are_allowed_and_told(reports: dict[str, Report]) -> None:
    told = {loop.path: loop.why for loop in reports["silent_loop"].loops}
    assert told["choose (key 2) -> choose"] == "each round needs a key of the caller, at choose (key 2)"
    assert told["sales (too_long) -> sales"] == "each round waits for a person, at sales (too_long)"


def test_the_longest_time_is_that_of_the_slowest_path(reports: dict[str, Report]) -> None:
    # the prompt of the menu three times with six seconds each, the order's 2.5 s, and the apology: what the interpreter waits at most
    menu = 3 * (5 + 2 + 0.12 * len("text:Press 1 to order.") + 6)
    apology = 5 + 2 + 0.12 * len("text:Sorry.")
    longest = reports["repeated"].longest
    assert longest.path == "arrival -> choose (key 1) -> order (failed) -> sorry (done) -> end"
    assert longest.seconds == pytest.approx(menu + 2.5 + apology, abs=0.1)
    assert reports["retry_loop"].longest.seconds is None


def test_the_demo_passes_every_proof() -> None:
    proven = prove_files(PROJECT)
    assert proven.right
    assert [str(finding) for report in proven.reports for finding in report.findings] == []
    assert proven.reports[0].longest.path.endswith("-> general_queue (no_agents) -> nobody_free (done) -> away")


def test_a_sixth_skill_is_refused_with_file_and_line(tmp_path: Path) -> None:
    project = copied(tmp_path)
    flow = project / "flows" / "unstaffed.yaml"
    six = ", ".join(f"s{i}: 1" for i in range(6))
    flow.write_text(flow.read_text().replace("skills: {lang.fr: 1}", f"skills: {{{six}}}"))
    proven = prove_files(project, [flow])
    assert proven.problems == (f"{flow}:7: steps.french.skills: at most 5 can be given (found 6)",)
    five = ", ".join(f"s{i}: 1" for i in range(5))
    flow.write_text(
        flow.read_text().replace(six, five).replace("queue: sales, skills: {s0", "queue: sales, skills_from: x.skills, skills: {s0")
    )
    assert "there is no variable 'x.skills'" in prove_files(project, [flow]).problems[0]


def test_five_fixed_skills_and_a_record_of_more_is_unwise(tmp_path: Path) -> None:
    project = copied(tmp_path)
    flow = project / "flows" / "unset_condition.yaml"
    five = ", ".join(f"s{i}: 1" for i in range(5))
    flow.write_text(flow.read_text().replace("    skills_from:", f"    skills: {{{five}}}\n    skills_from:"))
    found = [f for f in prove_files(project, [flow]).reports[0].findings if f.proof == "sixth skill"]
    assert [(f.line, f.level) for f in found] == [(40, "warning")]


def copied(folder: Path) -> Path:
    for file in WRONG.rglob("*.yaml"):
        target = folder / file.relative_to(WRONG)
        target.parent.mkdir(exist_ok=True)
        target.write_text(file.read_text())
    return folder


def test_a_sensitive_attribute_that_is_none_is_refused(tmp_path: Path) -> None:
    project = copied(tmp_path)
    actions = project / "actions" / "shop.yaml"
    actions.write_text(actions.read_text().replace("sensitive: [card]", "sensitive: [cart]"))
    assert "'cart'" in prove_files(project).problems[0]


# ---- the command ------------------------------------------------------------------------------------------------------------


def test_the_command_fails_for_mistakes_and_not_for_warnings() -> None:
    wrong = CliRunner().invoke(app, ["flow", "check", str(WRONG / "flows" / "unset_prompt.yaml")])
    assert wrong.exit_code == 1
    assert "unset_prompt.yaml:13: steps.hello.prompt: the prompt says customer.name" in wrong.output
    unwise = CliRunner().invoke(app, ["flow", "check", "-v", str(WRONG / "flows" / "repeated.yaml")])
    assert unwise.exit_code == 0, unwise.output
    assert "no mistakes, 1 warning; longest time to a person or a goodbye: 57.7 s" in unwise.output
    assert "allowed way round: choose (key 1)" in unwise.output


def test_programs_get_what_was_found_as_json() -> None:
    done = CliRunner().invoke(app, ["flow", "check", "--json", "--project", str(WRONG)])
    assert done.exit_code == 1
    (flow,) = [flow for flow in json.loads(done.output)["flows"] if flow["flow"] == "unset-prompt"]
    (finding,) = flow["findings"]
    assert (finding["proof"], finding["level"], finding["line"]) == ("unset", "error", 13)
    assert finding["path"] == "arrival -> look (none) -> hello"
    assert flow["longest"]["seconds"] == 15.7


def test_a_project_without_flows_proves_nothing(tmp_path: Path) -> None:
    project = copied(tmp_path)
    for flow in (project / "flows").iterdir():
        flow.unlink()
    assert prove_files(project).problems == (f"{project / 'flows'}: there is no flow file",)
    assert not prove_files(project).right


def test_a_file_outside_of_a_project_is_told(tmp_path: Path) -> None:
    lost = tmp_path / "lost.yaml"
    lost.write_text("flow: lost\n")
    done = CliRunner().invoke(app, ["flow", "check", str(lost)])
    assert done.exit_code == 2
    assert "in no project's folder" in done.output


def test_the_project_check_fails_where_a_proof_does() -> None:
    assert CliRunner().invoke(app, ["check", str(PROJECT)]).exit_code == 0
    wrong = CliRunner().invoke(app, ["check", str(WRONG)])
    assert wrong.exit_code == 1
    assert "retry_loop.yaml:7: steps.look: a call can go round here for ever" in wrong.output


# ---- conditions and texts ---------------------------------------------------------------------------------------------------

GUARDS = Guards({"contact": frozenset({"contact.premium", "contact.name"})})


@pytest.mark.parametrize(
    ("condition", "needed"),
    [
        ("contact.found", {"contact.found"}),
        ("contact.found && contact.premium", {"contact.found"}),
        ("contact.premium && contact.found", {"contact.found"}),
        ("!contact.found || contact.premium", {"contact.found"}),
        ("contact.found || contact.premium", {"contact.found", "contact.premium"}),
        ("!(contact.found && contact.premium)", {"contact.found"}),
        ("contact.found ? contact.premium : call.returned", {"contact.found", "call.returned"}),
        ("contact.count == 1 && contact.name.startsWith('call.x && (')", {"contact.count"}),
        ("has(ivr.a) && ivr.a == 'b'", set()),
        ("'a' in ivr && ivr['a'] == 'b'", set()),
        ("has(ivr.a) && ivr.b == 'b'", {"ivr.b"}),
        ("has(contact.name) && contact.name == 'b'", set()),
        ("contact.found != contact.premium", {"contact.found", "contact.premium"}),
        ("!contact.found == contact.premium", {"contact.found", "contact.premium"}),
        ("(contact.found) && ((contact.premium || call.returned))", {"contact.found", "call.returned"}),
    ],
)
def test_a_condition_needs_what_its_own_guards_do_not_make_certain(condition: str, needed: set[str]) -> None:
    assert GUARDS.condition(condition).needed == needed
    assert GUARDS.condition(condition).all == mentioned(condition)


@pytest.mark.parametrize(
    ("text", "needed"),
    [
        ("{{ contact.name }}", {"contact.name"}),
        ("{{ contact.name | default('you') }}", {"contact."}),
        ("{% if contact.name is defined %}{{ contact.name }}{% endif %}", {"contact."}),
        ("{% if contact.found %}{{ contact.name }}{% else %}{{ vars.name }}{% endif %}", {"contact.found", "vars.name"}),
        ("{{ contact.name if contact.found else 'you' }}", {"contact.found"}),
        ("{{ contact['name'] ~ vars.x }}", {"contact.name", "vars.x"}),
    ],
)
def test_a_text_needs_what_it_does_not_ask_for_first(text: str, needed: set[str]) -> None:
    assert GUARDS.text(text).needed == needed
