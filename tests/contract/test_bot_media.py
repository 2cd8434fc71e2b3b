"""A bot's sound between the adapter and an ARI server that misbehaves: channel, bridge, and what is left of them."""

from __future__ import annotations

import asyncio

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core.view import LiveCall
from app.pbx.book import MEDIA
from tests.contract.fake_ari import FakeAri, Rule
from tests.contract.test_ari import CHANNEL, House, fake, house, until

__all__ = ["fake"]
CALL = "a" * 32


async def opened(h: House, call: str) -> str:
    """A channel whose websocket somebody is connected to."""
    media, url = await h.pbx.media.open_media(call)
    assert MEDIA.fullmatch(media)
    assert url == f"{h.fake.url.replace('http', 'ws')}/media/of-{media[-9:]}"
    return media


async def test_caller_and_bot_are_joined_and_parted(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        media = await opened(h, call)
        joining = asyncio.create_task(h.pbx.media.join_media(call, media))
        await until(lambda: fake.asked("POST", "bridges/.*/addChannel"))
        await fake.connect_media(media)
        await joining
        bridge = media.replace("-leg", "-br")
        assert fake.bridges[bridge]["channels"] == [media, CHANNEL], "the channel is joined as soon as it can be"
        h.pbx.media.close_media(call, media)
        await until(lambda: fake.asked("DELETE", f"channels/{media}"))
        await until(lambda: bridge not in fake.bridges)
        assert CHANNEL in fake.channels
        assert not h.of(ev.CommandRefused)


async def test_what_plays_is_stopped_before_the_caller_is_joined(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("sound:hello",)))
        await until(lambda: fake.playbacks)
        media = await opened(h, call)
        await fake.connect_media(media)
        await h.pbx.media.join_media(call, media)
        assert fake.asked("DELETE", f"playbacks/{call}-pb1")
        assert (await h.next(ev.PlaybackEnded)).playback == f"{call}-pb1"


async def test_what_asterisk_refuses_is_told_and_leaves_nothing(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        fake.rules.append(Rule("POST", "channels/externalMedia", status=400, body=b'{"message": "no such transport"}', times=1))
        with pytest.raises(ConnectionError):
            await h.pbx.media.open_media(call)
        with pytest.raises(ConnectionError, match="caller has left"):
            await h.pbx.media.open_media(CALL)
        media = await opened(h, call)
        fake.rules.append(Rule("POST", "bridges/.*/addChannel", status=404, body=b'{"message": "gone"}'))
        with pytest.raises(ConnectionError):
            await h.pbx.media.join_media(call, media)
        h.pbx.media.close_media(call, media)
        await until(lambda: fake.asked("DELETE", f"channels/{media}"))


async def test_one_that_waits_for_a_process_that_died_is_hung_up(fake: FakeAri) -> None:
    media = f"{CALL}-leg123456789"
    await fake.arrive(CHANNEL, tell=False, state="Up")
    for ident in (media, f"{CALL}-leg7"):
        await fake._on_media({"channelId": ident})
    async with house(fake, LiveCall(CALL, CHANNEL, True)):
        await until(lambda: fake.asked("DELETE", f"channels/{media}"))
        assert not fake.asked("DELETE", f"channels/{CALL}-leg7"), "of others nothing is known"


async def test_a_bot_outlives_a_line_that_breaks(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        media = await opened(h, call)
        await fake.connect_media(media)
        await h.pbx.media.join_media(call, media)
        await fake.drop("rst")
        found = await h.next(ev.CallFound)
        assert found.bridge == media.replace("-leg", "-br")
        assert found.legs == {media: "up"}
        assert not fake.asked("DELETE", f"channels/{media}")
        assert not h.of(ev.LegEnded)
        h.pbx.media.close_media(call, media)
        await until(lambda: fake.asked("DELETE", f"channels/{media}"))
