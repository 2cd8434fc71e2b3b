"""Text messages over a real HTTP gateway, good and bad."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import ValidationError
from structlog.testing import capture_logs

from app.channels.catcher import Mailbox, application
from app.channels.sms import Sms, SmsSettings
from app.core.commands import SendSms
from app.core.events import SmsFailed, SmsSent
from tests.contract.doors import Doors, Posted, reply

REQUEST = "0123abcd-sm1"


def text(to: str = "030 5550100", words: str = "Grüße {to}", **more: Any) -> SendSms:
    return SendSms("c1", REQUEST, to, words, **more)


@asynccontextmanager
async def catching(directory: Path) -> AsyncIterator[tuple[Mailbox, str]]:
    """The catcher's gateway on a free port."""
    mailbox = Mailbox(directory)
    runner = web.AppRunner(application(mailbox), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield mailbox, f"http://127.0.0.1:{runner.addresses[0][1]}/sms"
    finally:
        await runner.cleanup()


async def send(settings: SmsSettings, command: SendSms) -> Any:
    posted = Posted()
    sms = Sms(settings, posted)
    sms.carry_out(command)
    sms.carry_out(command)
    event = await posted.event()
    await sms.close()
    assert posted.count == 1
    return event


async def test_a_message_arrives_once_with_its_number_in_full(tmp_path: Path) -> None:
    async with catching(tmp_path) as (mailbox, url):
        for _ in range(2):
            assert await send(SmsSettings(url=url), text()) == SmsSent("c1", REQUEST)
        (found,) = mailbox.texts()
        assert (found["to"], found["sender"], found["key"]) == ("+49305550100", "Callwright", REQUEST)
        assert found["text"] == "Grüße {to}", "a value is never read as a template"


@pytest.mark.parametrize("number", ["", "12", "anonymous", "+49", "+4930555\r\nX: y", "+49 30 5550100 ext. 9", "+999123456789"])
async def test_a_number_that_nobody_can_have_is_not_asked_for(tmp_path: Path, number: str) -> None:
    async with catching(tmp_path) as (mailbox, url):
        assert await send(SmsSettings(url=url), text(number)) == SmsFailed("c1", REQUEST, "bad_number")
        assert mailbox.texts() == []


@pytest.mark.parametrize("words", ["", "  ", "a\x00b", "a\rb", "x" * 1601])
async def test_a_text_that_is_none_is_not_sent(tmp_path: Path, words: str) -> None:
    async with catching(tmp_path) as (mailbox, url):
        assert await send(SmsSettings(url=url), text(words=words)) == SmsFailed("c1", REQUEST, "bad_text")
        assert mailbox.texts() == []


async def test_the_body_and_the_secret_are_as_the_gateway_wants_them() -> None:
    async with Doors() as doors:
        doors.open("send", _good)
        settings = SmsSettings(
            url=f"{doors.origin}/send",
            auth="header",
            header="X-Key",
            secret="a-secret",  # type: ignore[arg-type]
            body={"messages": [{"destination": "{to}", "content": "{sender}: {text}", "ref": "{id}", "flash": False}]},
        )
        assert await send(settings, text()) == SmsSent("c1", REQUEST)
        head = doors.heads[0].lower()
        assert b"x-key: a-secret" in head
        assert f"idempotency-key: {REQUEST}".encode() in head


@pytest.mark.parametrize(
    ("auth", "expected"), [("basic", b"authorization: basic dTpz"), ("bearer", b"authorization: bearer s"), ("none", b"idempotency-key")]
)
async def test_each_way_to_be_known(auth: Any, expected: bytes) -> None:
    async with Doors() as doors:
        doors.open("send", _good)
        secret: Any = "" if auth == "none" else "s"
        assert isinstance(await send(SmsSettings(url=f"{doors.origin}/send", auth=auth, user="u", secret=secret), text()), SmsSent)
        assert expected.lower() in doors.heads[0].lower()


async def _good(doors: Doors, reader: Any, writer: Any) -> None:
    writer.write(reply(json.dumps({"ok": True}).encode()))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("422 Unprocessable", "refused"),
        ("429 Too Many Requests", "refused"),
        ("500 Broken", "refused"),
        ("302 Found", "refused"),
    ],
)
async def test_a_gateway_that_does_not_take_it(answer: str, reason: str) -> None:
    async with Doors() as doors:

        async def refuse(doors: Doors, reader: Any, writer: Any) -> None:
            writer.write(reply(b"{}", answer, "Location: http://127.0.0.1:1/"))

        doors.open("send", refuse)
        assert await send(SmsSettings(url=f"{doors.origin}/send"), text()) == SmsFailed("c1", REQUEST, reason)


async def test_a_gateway_that_is_slow_or_away_and_one_that_is_not_there() -> None:
    async with Doors() as doors:

        async def silent(doors: Doors, reader: Any, writer: Any) -> None:
            await reader.read()

        doors.open("send", silent)
        with capture_logs() as logs:
            assert await send(SmsSettings(url=f"{doors.origin}/send"), text(budget=0.2)) == SmsFailed("c1", REQUEST, "timeout")
    assert await send(SmsSettings(url=f"{doors.origin}/send"), text()) == SmsFailed("c1", REQUEST, "unreachable")
    assert await send(SmsSettings(), text()) == SmsFailed("c1", REQUEST, "not_set_up")
    assert logs
    assert "5550100" not in str(logs)
    assert "Grüße" not in str(logs)


@pytest.mark.parametrize("bad", [{"url": "ftp://x"}, {"auth": "bearer"}, {"region": "de"}, {"header": "a b"}, {"wrong": 1}])
def test_settings_that_cannot_be_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as found:
        SmsSettings(**bad)
    assert next(iter(bad)) in str(found.value) or "secret" in str(found.value)
