"""The routing decision for a PBX of one's own: the shipped flow, driven without a caller, its lookups answered by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from app.actions.files import load_actions
from app.core import commands as do
from app.core import events as ev
from app.decide import RESERVE, Decider
from app.publish.centre import load_book
from tests.unit.centre import ANNA, BEN, CARLA, PROJECT

KNOWN = "+4930555000101"
NOBODY = {"CW_CONTACT": "", "CW_REFERENCE": "", "CW_TIER": ""}
DEFINITIONS = load_actions(PROJECT / "actions")
OUTPUTS = {name: definition.outputs for name, definition in DEFINITIONS.items()}

FLOW = """
flow: other
title: Another
dnis: ["3000"]
start: begin
on_error: away
prompts: {hello: Hello, again: Again}
conditions: {dialled_three: call.dnis == "3000"}
steps:
  begin: {do: switch, cases: {dialled_three: BEGIN}, exits: {otherwise: away, failed: away}}
  ask:
    do: menu
    prompt: hello
    choices: {"1": bye, "2": away}
    retry_no_match: again
    retry_no_input: again
    exits: {no_match: away, no_input: bye}
  round: {do: say, prompt: hello, exits: {done: begin}}
  bye: {do: hangup}
  away: {do: release, context: callwright-fallback}
"""


class Crm:
    """Actions: keeps what was asked, and answers as it is told; a callable is called with the order, None is never an answer."""

    def __init__(self, answers: Mapping[str, Any] | None = None) -> None:
        self.answers = dict(answers or {})
        self.asked: list[do.StartAction] = []
        self.decider: Decider | None = None

    def handles(self, command: do.Command) -> bool:
        return isinstance(command, do.StartAction)

    def carry_out(self, command: do.Command) -> None:
        assert isinstance(command, do.StartAction)
        assert self.decider is not None
        self.asked.append(command)
        answer = self.answers.get(command.action, {"found": False, "count": 0})
        if isinstance(answer, ev.ActionFailed):
            self.decider.post(ev.ActionFailed(command.call, command.request, answer.reason))
        elif answer is not None:
            event = ev.ActionSucceeded(command.call, command.request, answer)
            asyncio.get_running_loop().call_soon(self.decider.post, event)


def decider(crm: Crm, project: Path = PROJECT, budget: float = 2.5) -> Decider:
    made = Decider(load_book(project, OUTPUTS), DEFINITIONS, budget)
    made.actions, crm.decider = crm, made
    return made


async def decide(crm: Crm, *, ani: str = KNOWN, dnis: str = "2000", keys: str = "", number: str = "1000", **more: Any) -> dict[str, Any]:
    request = {"ani": ani, "name": "", "dnis": dnis, "channel": "PJSIP/trunk-1", "arg_1": keys, "arg_2": number}
    return await decider(crm, **more).decide(request)


async def test_known_premium_caller_is_queued_with_skills_and_record() -> None:
    crm = Crm({"crm.contact_by_phone": ANNA})
    assert await decide(crm) == {
        "CW_STATUS": "QUEUE",
        "CW_QUEUE": "premium",
        "CW_SKILLS": "lang.en:5,product.printers:3",
        "CW_PRIORITY": 0,
        "CW_CONTACT": "c-anna",
        "CW_REFERENCE": "ASC2K41",
        "CW_TIER": "gold",
    }
    assert [(order.action, order.params) for order in crm.asked] == [("crm.contact_by_phone", {"phone": KNOWN})]


async def test_late_payer_goes_to_the_front_of_billing() -> None:
    decided = await decide(Crm({"crm.contact_by_phone": CARLA}))
    assert (decided["CW_STATUS"], decided["CW_QUEUE"], decided["CW_PRIORITY"]) == ("QUEUE", "billing", 3600)


async def test_unknown_caller_has_a_place_and_no_record() -> None:
    decided = await decide(Crm())
    assert decided == {"CW_STATUS": "QUEUE", "CW_QUEUE": "general", "CW_SKILLS": "", "CW_PRIORITY": -3600, **NOBODY}


async def test_reference_collected_by_the_dialplan_is_looked_up() -> None:
    crm = Crm({"crm.contact_by_reference": ANNA})
    decided = await decide(crm, keys="2722541")
    assert (decided["CW_QUEUE"], decided["CW_CONTACT"]) == ("premium", "c-anna")
    assert [order.action for order in crm.asked] == ["crm.contact_by_phone", "crm.contact_by_reference"]
    assert crm.asked[1].params == {"digits": "2722541"}


async def test_reference_that_nobody_has_goes_along_to_the_general_queue() -> None:
    decided = await decide(Crm(), keys="1111111#")
    assert (decided["CW_QUEUE"], decided["CW_CONTACT"], decided["CW_REFERENCE"]) == ("general", "", "1111111")


async def test_what_is_no_key_never_reaches_the_flow() -> None:
    crm = Crm()
    await decide(crm, keys="2$72{2}5\n41")
    assert crm.asked[1].params == {"digits": "2722541"}


async def test_anonymous_caller_is_not_looked_up() -> None:
    crm = Crm()
    assert (await decide(crm, ani="anonymous"))["CW_QUEUE"] == "general"
    assert crm.asked == []


@pytest.mark.parametrize("reason", ["refused", "breaker_open", "timeout", "malformed"])
async def test_lookup_that_fails_is_told_apart_and_has_the_flows_own_place(reason: str) -> None:
    decided = await decide(Crm({"crm.contact_by_phone": ev.ActionFailed("", "", reason)}))
    assert decided == {"CW_STATUS": "LOOKUP_FAILED", "CW_QUEUE": "general", "CW_SKILLS": "", "CW_PRIORITY": -3600, **NOBODY}


async def test_answer_that_counts_nothing_is_a_failed_lookup() -> None:
    assert (await decide(Crm({"crm.contact_by_phone": {"count": None}})))["CW_STATUS"] == "LOOKUP_FAILED"


async def test_second_lookup_that_succeeds_makes_good_for_the_first() -> None:
    crm = Crm({"crm.contact_by_phone": {"count": 2, "found": False}, "crm.contact_by_reference": ANNA})
    assert (await decide(crm, keys="2722541"))["CW_STATUS"] == "QUEUE"


async def test_lookups_share_one_budget_and_leave_time_for_the_answer() -> None:
    crm = Crm()
    await decide(crm, keys="2722541", budget=1.0)
    assert [0 < order.budget <= 1.0 - RESERVE for order in crm.asked] == [True, True]
    assert crm.asked[1].budget <= crm.asked[0].budget
    spent = Crm()
    assert (await decide(spent, budget=RESERVE / 2))["CW_STATUS"] == "LOOKUP_FAILED"
    assert spent.asked == []


async def test_nothing_is_written_or_mailed() -> None:
    crm = Crm({"crm.contact_by_phone": BEN})
    decided = await decide(crm)
    assert (decided["CW_STATUS"], decided["CW_QUEUE"], decided["CW_CONTACT"]) == ("SELF_SERVICE", "", "c-ben")
    assert [order.action for order in crm.asked] == ["crm.contact_by_phone"], "the link of the order would have been made"


@pytest.mark.parametrize(("number", "dnis"), [("", "2000"), ("9999", "1000")])
async def test_number_without_a_flow_is_said(number: str, dnis: str) -> None:
    crm = Crm()
    decided = await decide(crm, number=number, dnis=dnis)
    assert decided == {"CW_STATUS": "NO_FLOW", "CW_QUEUE": "", "CW_SKILLS": "", "CW_PRIORITY": "", **NOBODY}
    assert crm.asked == []


async def test_without_an_argument_the_number_dialled_decides() -> None:
    assert (await decide(Crm({"crm.contact_by_phone": ANNA}), number="", dnis="1000"))["CW_QUEUE"] == "premium"


@pytest.mark.parametrize(
    ("begin", "keys", "status"),
    [("bye", "", "SELF_SERVICE"), ("away", "", "RELEASE"), ("ask", "2", "RELEASE"), ("ask", "", "SELF_SERVICE"), ("round", "", "FAILED")],
)
async def test_every_other_end_of_a_flow_is_an_answer(project: Callable[[str], Path], begin: str, keys: str, status: str) -> None:
    flow = project(FLOW.replace("BEGIN", begin))
    assert (await decide(Crm(), number="3000", keys=keys, project=flow))["CW_STATUS"] == status


async def test_caller_who_hangs_up_during_a_lookup_leaves_nothing_behind() -> None:
    crm = Crm({"crm.contact_by_phone": None})
    made = decider(crm)
    asking = asyncio.create_task(made.decide({"ani": KNOWN, "arg_2": "1000"}))
    async with asyncio.timeout(5):
        while not crm.asked:  # noqa: ASYNC110
            await asyncio.sleep(0)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert made._answers == {}
    made.post(ev.ActionSucceeded("", crm.asked[0].request, ANNA))
    made.post(ev.PbxLost("late"))


async def test_many_calls_at_once_do_not_mix() -> None:
    crm = Crm({"crm.contact_by_phone": ANNA})
    made = decider(crm)
    asks = [made.decide({"ani": KNOWN if n % 2 else "anonymous", "arg_2": "1000"}) for n in range(40)]
    queues = [decided["CW_QUEUE"] for decided in await asyncio.gather(*asks)]
    assert queues == ["general", "premium"] * 20


@pytest.fixture
def project(tmp_path: Path) -> Callable[[str], Path]:
    """A project with the demo's queues and actions, and one flow."""

    def made(flow: str) -> Path:
        (tmp_path / "flows").mkdir()
        (tmp_path / "flows" / "other.yaml").write_text(flow)
        (tmp_path / "centre.yaml").write_text((PROJECT / "centre.yaml").read_text())
        return tmp_path

    return made


BESIDE = """\
flow: beside
dnis: ["3000"]
start: known
on_error: away
conditions: {premium: contact.found && record.found && !other.found}
automations:
  - {on: arrival, action: crm.contact_by_phone, with: {phone: "{{ call.ani }}"}, into: contact}
  - {on: arrival, action: crm.order_link, with: {order: "1"}, into: link}
  - {on: answered, action: crm.contact_by_phone, with: {phone: "2"}, into: late}
  - {on: entered, at: then, action: crm.contact_by_phone, with: {phone: "5"}, into: last}
  - {on: entered, at: then, action: crm.contact_by_phone, with: {phone: "nobody keeps it"}}
  - {on: left, at: check, action: crm.order_link, with: {order: "2"}, into: written}
steps:
  known: {do: wait_for, variable: contact.answered, max_wait: 5, exits: {set: both, too_long: away}}
  both:
    do: gather
    ask:
      record: {action: crm.contact_by_phone, with: {phone: "3"}}
      other: {action: crm.contact_by_reference, with: {digits: "4"}}
    exits: {done: check, some: away, failed: away}
  check: {do: switch, cases: {premium: then}, exits: {otherwise: away, failed: away}}
  then: {do: wait_for, variable: last.answered, max_wait: 5, exits: {set: line, too_long: away}}
  line: {do: queue, queue: premium, exits: {talked: away, no_agents: away, too_long: away, failed: away}}
  away: {do: release}
"""


async def test_what_a_flow_asks_beside_its_steps_and_all_at_once_is_asked_where_it_only_reads(project: Callable[[str], Path]) -> None:
    crm = Crm({"crm.contact_by_phone": ANNA})
    decided = await decide(crm, number="3000", project=project(BESIDE))
    assert (decided["CW_STATUS"], decided["CW_QUEUE"], decided["CW_CONTACT"]) == ("QUEUE", "premium", "c-anna")
    assert [list(order.params.values()) for order in crm.asked] == [[KNOWN], ["3"], ["4"], ["5"]]
