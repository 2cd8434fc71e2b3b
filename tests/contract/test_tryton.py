"""The preset of Tryton against a real Tryton, through the runner that production uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.actions.credentials import Credentials
from app.actions.files import load_actions
from app.actions.guard import Origin
from app.actions.runner import Actions
from app.core.commands import StartAction
from app.core.events import ActionFailed, ActionSucceeded
from tests.contract.doors import Posted
from tests.tryton import Tryton, running_tryton

pytestmark = pytest.mark.timeout(400)
INCLUDE = """
preset: tryton
connector: crm
credentials: theirs
settings: {site: "http://127.0.0.1/#crm"}
fields: {full_name: {field: full_name}, is_robin: {field: name, equals: Robin Sample}}
"""
PARTIES = (
    {
        "name": "Robin Sample",
        "code": "REF7K41",
        "mechanisms": [["email", "robin@example.org"], ["phone", "+1 (415) 555-2671"]],
        "identifiers": ["K-77"],
    },
    {"name": "Kim Shared", "code": "REF0001", "mechanisms": [["phone", "+49 30 5550107"]]},
    {"name": "Lee Shared", "code": "REF0002", "mechanisms": [["mobile", "+49305550107"]]},
    {"name": "Only Fax", "code": "REF0004", "mechanisms": [["fax", "+49 30 5550199"]]},
)


@pytest.fixture(scope="module")
def tryton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tryton]:
    with running_tryton(tmp_path_factory.mktemp("tryton")) as server:
        server.ids = dict(zip([party["code"] for party in PARTIES], server.add(*PARTIES), strict=True))  # type: ignore[attr-defined]
        yield server


@pytest.fixture
def ask(tryton: Tryton, tmp_path: Path) -> Any:
    """Carry out one action and give the event it ends in."""
    (tmp_path / "crm.yaml").write_text(INCLUDE)
    definitions = load_actions(tmp_path)

    async def carry_out(method: str, key: str = "", **params: Any) -> Any:
        posted = Posted()
        systems = {"theirs": Credentials(base_url=tryton.base_url, token=key or tryton.key)}
        actions = Actions(definitions, systems, posted, [Origin(origin=tryton.origin, allow_private=True)])
        actions.carry_out(StartAction("c1", "c1-action1", f"crm.{method}", params, 8.0))
        event = await posted.event(10)
        await actions.close()
        return event

    return carry_out


async def test_a_caller_is_found_by_number_and_by_reference(tryton, ask):
    by_number = (await ask("find_by_number", phone="+14155552671")).values
    assert (by_number["found"], by_number["count"], by_number["name"]) == (True, 1, "Robin Sample")
    assert (by_number["reference"], by_number["email"], by_number["phone"]) == ("REF7K41", "robin@example.org", "+1 415-555-2671")
    assert (by_number["full_name"], by_number["is_robin"]) == ("Robin Sample", True)
    assert by_number["record_url"] == f"http://127.0.0.1/#crm/model/party.party/{tryton.ids['REF7K41']}"
    assert (await ask("find_by_reference", reference="REF7K41")).values == by_number
    assert (await ask("find_by_reference", reference="K-77")).values == by_number


async def test_nobody_several_and_numbers_that_are_not_for_calling(ask):
    assert (await ask("find_by_number", phone="+14155552672")).values["count"] == 0
    assert (await ask("find_by_number", phone="+49305550107")).values["count"] == 2
    assert (await ask("find_by_number", phone="+49305550199")).values["count"] == 0, "a fax does not call"
    assert (await ask("find_by_reference", reference='"]] or "')).values["count"] == 0


async def test_a_party_is_read_opened_and_changed(tryton, ask):
    party = str(tryton.ids["REF0004"])
    assert (await ask("read", id=party)).values["name"] == "Only Fax"
    assert (await ask("open_record", id=party)).values["record_url"].endswith(f"/model/party.party/{party}")
    assert isinstance(await ask("update", id=party, changes={"name": "Another Name"}), ActionSucceeded)
    read = (await ask("read", id=party)).values
    assert (read["name"], read["reference"]) == ("Another Name", "REF0004")


async def test_a_call_is_written_down_as_a_note_of_the_party(tryton, ask):
    party = tryton.ids["REF7K41"]
    made = await ask("create_activity", contact=str(party), call="5d1c", subject="Asked", text="Link sent", started="2026-01-05T10:00:00Z")
    assert isinstance(made, ActionSucceeded), made
    notes = tryton.ask("ir.note/search_read", {"domain": [["resource", "=", f"party.party,{party}"]], "fields_names": ["message"]})
    assert [note["message"] for note in notes] == ["Asked\nLink sent\n\ninbound call 5d1c, 2026-01-05T10:00:00Z, 0 s"]
    assert made.values["id"] == str(notes[0]["id"])


async def test_a_case_is_an_opportunity_with_its_number(tryton, ask):
    party = tryton.ids["REF7K41"]
    made = await ask("create_case", contact=str(party), subject="Parcel is damaged", text="Cracked", priority="high")
    assert isinstance(made, ActionSucceeded), made
    wanted = {"domain": [["party", "=", party]], "fields_names": ["number", "description", "comment"]}
    (case,) = tryton.ask("sale.opportunity/search_read", wanted)
    assert (case["number"], case["description"]) == (made.values["number"], "Parcel is damaged")
    assert case["comment"] == "Cracked\n\nPriority: high"


@pytest.mark.parametrize(
    ("method", "params", "status"),
    [
        ("read", {"id": "999999"}, 403),
        ("open_record", {"id": "999999"}, 403),
        ("update", {"id": "999999", "changes": {"name": "x"}}, 404),
    ],
)
async def test_what_is_gone_is_a_failure(ask, method, params, status):
    event = await ask(method, **params)
    assert isinstance(event, ActionFailed)
    assert (event.reason, event.detail) == ("status", f"HTTP {status}")


async def test_a_key_that_is_not_valid_is_a_failure(ask):
    event = await ask("find_by_number", key="x" * 32, phone="+14155552671")
    assert (event.reason, event.detail) == ("status", "HTTP 401")
