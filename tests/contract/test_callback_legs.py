"""Legs without a caller, between a misbehaving ARI server and the adapter: a customer is called back."""

from __future__ import annotations

from app.core import commands as do
from app.core import events as ev
from app.core.view import LiveCall
from tests.contract.fake_ari import FakeAri
from tests.contract.test_ari import CHANNEL, House, fake, house, until

__all__ = ["fake"]
CALL = "b" * 32
AGENT, FAR, BRIDGE = f"{CALL}-leg1", f"{CALL}-leg2", f"{CALL}-br1"


async def agent_up(h: House, fake: FakeAri, call: str = CALL) -> None:
    h.pbx.carry_out(do.RingAgent(call, AGENT, BRIDGE, "101", 20.0, "+49301234567", alone=True))
    await until(lambda: fake.asked("POST", f"channels/{AGENT}/dial"))
    await fake.ring_leg(AGENT)
    await fake.answer_leg(AGENT)
    await h.next(ev.LegAnswered)


async def test_the_agent_waits_in_the_bridge_and_the_customer_is_dialled_into_it(fake: FakeAri) -> None:
    async with house(fake) as h:
        await agent_up(h, fake)
        h.pbx.carry_out(do.RingOutside(CALL, FAR, BRIDGE, "carrier", "+49301234567", 30.0, alone=True))
        await until(lambda: fake.asked("POST", f"channels/{FAR}/dial"))
        assert fake.bridges[BRIDGE]["channels"] == [AGENT, FAR]
        agent, far = fake.asked("POST", "channels/create")
        assert (agent.query["endpoint"], far.query["endpoint"]) == ("PJSIP/101", "PJSIP/+49301234567@carrier")
        assert not any("originator" in asked.query for asked in (agent, far))
        assert agent.body["variables"]["CONNECTEDLINE(num,i)"] == "+49301234567"
        assert far.body["variables"] == {}, "the agent hears that it rings"
        await fake.answer_leg(FAR)
        await h.next(ev.LegAnswered, 2)
        h.pbx.carry_out(do.Talk(CALL, BRIDGE, AGENT))
        await fake.end(FAR)
        h.pbx.carry_out(do.HangUpLeg(CALL, AGENT))
        await h.next(ev.LegEnded, 2)
        await until(lambda: not fake.bridges)
        assert not h.pbx.book.calls
        assert not h.pbx.book.channels
        assert not h.of(ev.CommandRefused) + h.of(ev.CallerLeft)


async def test_a_caller_who_has_just_hung_up_is_in_nobodys_way(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        leg, bridge = f"{call}-leg1", f"{call}-br1"
        await fake.inject("ChannelHangupRequest", channel={"id": CHANNEL}, cause=16)
        await h.next(ev.CallerLeft)
        h.pbx.carry_out(do.RingAgent(call, leg, bridge, "101", 20.0, alone=True))
        await fake.end(CHANNEL)
        await until(lambda: fake.asked("POST", f"channels/{leg}/dial"))
        await fake.answer_leg(leg)
        await h.next(ev.LegAnswered)
        assert fake.bridges[bridge]["channels"] == [leg]
        assert len(h.of(ev.CallerLeft)) == 1


async def test_legs_without_a_caller_are_found_after_a_change_of_process(fake: FakeAri) -> None:
    async with house(fake) as h:
        await agent_up(h, fake)
        h.pbx.carry_out(do.RingOutside(CALL, FAR, BRIDGE, "carrier", "+49301234567", 30.0, alone=True))
        await until(lambda: fake.asked("POST", f"channels/{FAR}/dial"))
    await fake.answer_leg(FAR)
    view = LiveCall(CALL, "", False, False, BRIDGE, {AGENT: "up", FAR: "created"}, alone=True)
    async with house(fake, view) as h:
        assert (await h.next(ev.LegAnswered)).leg == FAR
        assert not h.of(ev.LegEnded)
        assert fake.bridges[BRIDGE]["channels"] == [AGENT, FAR]


async def test_a_dial_of_which_there_is_no_trace_is_told_as_one_that_never_was(fake: FakeAri) -> None:
    async with house(fake) as h:
        await agent_up(h, fake)
    view = LiveCall(CALL, "", False, False, BRIDGE, {AGENT: "up", FAR: "created"}, alone=True)
    async with house(fake, view) as h:
        ended = await h.next(ev.LegEnded)
        assert (ended.leg, ended.cause) == (FAR, -1)
        assert AGENT in fake.channels, "the agent is still there; the core lets the agent go"
        assert not [asked for asked in fake.asked("POST", "channels/create") if asked.query["channelId"] == FAR]
