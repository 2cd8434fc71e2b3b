"""What an action calls sensitive is used by the flow and shown nowhere: live, in the timeline, on a desk, in a feed or by the CLI."""

from __future__ import annotations

import asyncio
import io
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from rich.console import Console

from app.actions.files import load_actions
from app.actions.sensitive import MASK, SHORTEST, Sensitive, veiled
from app.core import commands as do
from app.core import events as ev
from app.core.flow.program import Program
from app.house import House
from app.installation import DEMO
from app.show_call import lines, table
from tests.contract.api_house import served
from tests.contract.test_api import bearer
from tests.contract.test_engine import Hall, until
from tests.contract.test_engine import hall as hall_of
from tests.unit.centre import ANNA

SECRETS = {"email": "canary@secret.example", "customer_value": 41_111.5, "reference": "7KANARIE", "id": "c-canary-4711", "tier": "Q"}
CANARIES = [str(secret) for secret in SECRETS.values() if len(str(secret)) >= SHORTEST]


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
        (row,) = house.calls()
        (card,) = [message["card"] for message in heard if message["type"] == "offer"]
    for secret in CANARIES:
        assert secret not in told
    assert [row["tier"], row["contact"], row["reference"], card["tier"], card["contact"]["id"]] == [MASK] * 5
    assert {values[name] for name in SECRETS} == {"•••"}
    assert values["first_name"] == ANNA["first_name"]
    assert params == {"phone": "•••"}


async def test_the_same_values_are_shown_where_nothing_is_sensitive(tmp_path):
    async with queued(tmp_path, None) as (hall, house, heard):
        told = await _everything(hall, house, heard)
    for secret in CANARIES:
        assert secret in told


@pytest.mark.parametrize("hidden", [True, False])
async def test_nor_is_it_shown_when_the_call_is_over(tmp_path, capsys, hidden):
    """History, timeline, the feed read from its beginning (so webhooks as well), the API, the log, and every byte of the database."""
    async with queued(tmp_path, sensitive() if hidden else None) as (hall, house, _):
        hall.engine.post(ev.StepFailed("c1", f"it could not be said to {SECRETS['email']}"))
        hall.engine.post(ev.CallerLeft("c1"))
        await until(lambda: "c1" not in hall.engine.center.calls and not hall.engine.ended)
        async with served(house) as base, aiohttp.ClientSession(base, headers=bearer("supervisor")) as session:
            answers = [
                await (await session.get(path)).text()
                for path in ("/v1/calls?state=all", "/v1/calls/c1", "/v1/calls/c1/timeline", "/metrics")
            ]
            async with session.ws_connect("/v1/events?after=0-0") as events:
                while "CallEnded" not in answers[-1]:
                    answers.append(await events.receive_str(timeout=5))
    told = "".join([*answers, *capsys.readouterr()])
    assert [canary for canary in CANARIES if canary in told] == ([] if hidden else CANARIES)
    assert json.loads(answers[1])["contact"] == (MASK if hidden else SECRETS["id"])
    files = b"".join(file.read_bytes() for file in tmp_path.iterdir() if file.name.startswith("callwright.db"))
    assert files
    assert not [canary for canary in CANARIES if canary.encode() in files]


def program(**steps):
    """A flow's program with these steps, and the automation that looks the caller up."""
    end = {"end": {"do": "hangup"}}
    automation = {"on": "arrival", "action": "crm.contact_by_phone", "with": {}, "into": "early"}
    return Program.model_validate({"flow": "f", "start": "end", "on_error": "end", "automations": (automation,), "steps": {**steps, **end}})


def test_it_is_known_wherever_a_flow_keeps_it():
    asks = {"action": "crm.contact_by_phone", "with": {}}
    flow = program(
        one={"do": "lookup", "into": "contact", **asks, "exits": dict.fromkeys(("found", "none", "many", "failed"), "two")},
        two={"do": "gather", "ask": {"other": asks}, "exits": dict.fromkeys(("done", "some", "failed"), "three")},
        three={"do": "set", "values": {"copy": "x{{ other.email }}", "plain": "{{ other.first_name }}"}, "exits": {"done": "four"}},
        four={"do": "set", "values": {"copied": "{{ vars.copy }}"}, "exits": {"done": "end"}},
    )
    kept = {name.partition(".") for name in sensitive().variables(flow)}
    assert {space for space, _, name in kept if name == "email"} == {"contact", "other", "early"}
    assert {name for space, _, name in kept if space == "vars"} == {"copy", "copied"}
    variables = {"vars.copy": "x1", "vars.plain": "y", "early.email": 1, "contact.first_name": "Anna"}
    assert sensitive().known(flow, variables) == {**variables, "vars.copy": MASK, "early.email": MASK}


def test_values_are_hidden_by_name_and_by_value_and_short_ones_by_name_alone():
    thing = {"type": "4711", "text": "the PIN is 4711", "n": 471100, "ok": True, "vars": {"pin": "4711", "level": "1"}, "list": ["4711 1"]}
    assert veiled(thing, {"pin", "level"}, ["4711", 471100, "1", True, None]) == {
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


def test_a_short_number_without_the_name_is_one_of_many_that_mean_something_else():
    assert veiled({"queue": {"wrap_up": 120}, "vars": {"pin": 120}, "text": "120"}, {"pin"}, [120]) == {
        "queue": {"wrap_up": 120},
        "vars": {"pin": "•••"},
        "text": "•••",
    }
