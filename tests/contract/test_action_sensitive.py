"""What an action calls sensitive is used by the flow and shown nowhere: live, in the timeline, on a desk, in a feed or by the CLI."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager

from rich.console import Console

from app.actions.files import load_actions
from app.actions.sensitive import Sensitive, veiled
from app.core import commands as do
from app.core import events as ev
from app.house import House
from app.installation import DEMO
from app.show_call import lines, table
from tests.contract.test_engine import Hall, until
from tests.contract.test_engine import hall as hall_of
from tests.unit.centre import ANNA

SECRETS = {"email": "canary@secret.example", "customer_value": 41_111.5, "reference": "7KANARIE"}


def sensitive() -> Sensitive:
    definitions = load_actions(DEMO / "actions")
    marked = definitions["crm.contact_by_phone"]
    run = marked.run.model_copy(update={"sensitive": (*SECRETS, "phone")})
    return Sensitive({**definitions, marked.name: marked.model_copy(update={"run": run})})


@asynccontextmanager
async def queued(tmp_path, hidden: Sensitive | None):
    """A premium caller with secrets in the record waits and is offered; what a reader of the feed has heard."""
    async with hall_of(f"sqlite+aiosqlite:///{tmp_path}/callwright.db", tmp_path / "callwright.key") as hall:
        house = House(hall.engine, {}, hidden)
        hall.engine.adapters.insert(0, house)
        heard: list[dict] = []
        feeds = [asyncio.create_task(_listen(house, agent, heard)) for agent in (None, "101")]
        await hall.sign_in("101")
        hall.dial("c1")
        asked = await hall.given(do.StartAction, "c1")
        hall.engine.post(ev.ActionSucceeded("c1", asked.request, {**ANNA, **SECRETS}))
        for n in (1, 2):
            hall.engine.post(ev.PlaybackEnded("c1", (await hall.given(do.Play, "c1", n)).playback))
        await until(lambda: any(message["type"] == "offer" for message in heard))
        yield hall, house, heard
        for feed in feeds:
            feed.cancel()


async def _listen(house: House, agent: str | None, heard: list[dict]) -> None:
    async for message in house.messages(agent):
        heard.append(message)


async def _everything(hall: Hall, house: House, heard: list[dict]) -> str:
    timeline = await house.timeline("c1")
    assert timeline is not None
    assert {"StartAction", "ActionSucceeded", "Pop"} <= {entry["type"] for entry in timeline}
    out = io.StringIO()
    Console(file=out, width=200).print(table(lines(timeline)))
    return json.dumps([timeline, house.calls(), house.agents(), house.queues(), heard], ensure_ascii=False) + out.getvalue()


async def test_a_sensitive_value_is_shown_nowhere_and_used_all_the_same(tmp_path, capsys):
    async with queued(tmp_path, sensitive()) as (hall, house, heard):
        told = await _everything(hall, house, heard) + "".join(capsys.readouterr())
        assert hall.engine.center.calls["c1"].vars["contact.email"] == SECRETS["email"]
        values = next(entry for entry in await house.timeline("c1") or [] if entry["type"] == "ActionSucceeded")["values"]
        params = next(entry for entry in await house.timeline("c1") or [] if entry["type"] == "StartAction")["params"]
    for secret in map(str, SECRETS.values()):
        assert secret not in told
    assert {values[name] for name in SECRETS} == {"•••"}
    assert values["first_name"] == ANNA["first_name"]
    assert params == {"phone": "•••"}


async def test_the_same_values_are_shown_where_nothing_is_sensitive(tmp_path):
    async with queued(tmp_path, None) as (hall, house, heard):
        told = await _everything(hall, house, heard)
    for secret in map(str, SECRETS.values()):
        assert secret in told


def test_values_are_hidden_by_name_and_by_value_and_short_ones_by_name_alone():
    thing = {"type": "4711", "text": "the PIN is 4711", "n": 4711, "ok": True, "vars": {"pin": "4711", "level": "1"}, "list": ["4711 1"]}
    assert veiled(thing, {"pin", "level"}, ["4711", "1", True, None]) == {
        "type": "4711",
        "text": "the PIN is •••",
        "n": "•••",
        "ok": True,
        "vars": {"pin": "•••", "level": "•••"},
        "list": ["••• 1"],
    }
    assert veiled({"type": "VariableSet", "name": "contact.pin", "value": 1}, {"pin"}, []) == {
        "type": "VariableSet",
        "name": "contact.pin",
        "value": "•••",
    }
