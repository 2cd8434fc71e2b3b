"""A real caller recognised from a real Tryton: looked up by number while the phone rings, greeted by name, and the call written down."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.e2e.hearing import has_heard
from tests.e2e.house import LiveHouse
from tests.e2e.variant import project, restarted
from tests.phones import until
from tests.tryton import Tryton, running_tryton

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(400)]
NUMBER, STRANGER = "+14155552671", "+14155552672"
ACTIONS = """
preset: tryton
settings: {site: "http://127.0.0.1/#crm"}
"""
FLOW = """
flow: from-tryton
title: Recognised from Tryton
language: en
process: test
dnis: ["1077"]
start: recognise
on_error: sorry
prompts:
  hello: "Hello {{ contact.name }}. Your customer number is {{ contact.reference }}."
  stranger: We do not know this number.
  sorry: Something went wrong.
steps:
  recognise:
    do: lookup
    into: contact
    action: tryton.find_by_number
    with: {phone: "{{ call.ani }}"}
    ring: 0.2
    exits: {found: greet, none: stranger, many: stranger, failed: sorry}
  greet:
    do: say
    prompt: hello
    exits: {done: write_down}
  write_down:
    do: action
    into: note
    action: tryton.create_activity
    with: {contact: "{{ contact.id }}", call: "{{ call.id }}", subject: Called the hotline, started: "2026-01-05T10:00:00Z"}
    exits: {done: end, failed: sorry}
  stranger:
    do: say
    prompt: stranger
    exits: {done: end}
  sorry:
    do: say
    prompt: sorry
    exits: {done: end}
  end:
    do: hangup
"""


@pytest.fixture(scope="module")
def tryton(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tryton]:
    folder = project(tmp_path_factory.mktemp("tryton"), tryton=FLOW)
    (folder / "actions" / "tryton.yaml").write_text(ACTIONS)
    with running_tryton(folder.parent / "server") as server:
        origins = [{"origin": origin, "allow_private": True} for origin in (server.origin, crm(running_house))]
        settings = {
            "CALLWRIGHT_PROJECT": str(folder),
            "CALLWRIGHT_SYSTEMS__TRYTON__BASE_URL": server.base_url,
            "CALLWRIGHT_SYSTEMS__TRYTON__TOKEN": server.key,
            "CALLWRIGHT_ORIGINS": json.dumps(origins),
        }
        with restarted(running_house, **settings):
            yield server


def crm(house: LiveHouse) -> str:
    return f"http://127.0.0.1:{house.installation.ports.crm}"


def heard(house: LiveHouse, visit: object, text: str) -> None:
    sounds = house.installation.pbx(house.say.append).sounds_dir
    until(lambda: has_heard(visit.phone.rtp, text, sounds) > 0.7, 15, f"to hear {text!r}")  # type: ignore[attr-defined]


def test_a_caller_is_greeted_by_the_name_in_tryton_and_the_call_is_written_there(tryton: Tryton, house: LiveHouse) -> None:
    (party,) = tryton.add(
        {"name": "Robin Sample", "code": "REF7K41", "mechanisms": [["phone", "+1 (415) 555-2671"], ["email", "r@example.org"]]}
    )
    with house.visit(NUMBER, dial="1077") as visit:
        heard(house, visit, "Hello Robin Sample. Your customer number is REF7K41.")
        visit.phone.wait_for("released", 20)
        assert house.over(visit.call)["outcome"] == "self_service"
    left = {entry["step"]: entry["exit"] for entry in house.timeline(visit.call) if entry["type"] == "StepLeft"}
    assert (left["recognise"], left["write_down"]) == ("found", "done")
    notes = tryton.ask("ir.note/search_read", {"domain": [["resource", "=", f"party.party,{party}"]], "fields_names": ["message"]})
    assert [note["message"].splitlines()[0] for note in notes] == ["Called the hotline"]
    assert visit.call in notes[0]["message"]
    for log in (house.installation.state / "log").iterdir():
        assert tryton.key not in log.read_text(errors="replace"), f"Tryton's key is in {log.name}"


@pytest.mark.faults
def test_a_caller_whom_tryton_does_not_know(tryton: Tryton, house: LiveHouse) -> None:
    with house.visit(STRANGER, dial="1077") as visit:
        heard(house, visit, "We do not know this number.")
        visit.phone.wait_for("released", 20)
        house.over(visit.call)
    left = {entry["step"]: entry["exit"] for entry in house.timeline(visit.call) if entry["type"] == "StepLeft"}
    assert left["recognise"] == "none"
