"""Mail over real SMTP conversations: what the catcher keeps, and everything that a mail server can do to us."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import typer
from aiosmtpd.smtp import SMTP

from app.channels.catcher import Mailbox, address
from app.channels.mail import Mailer, MailSettings, Unsendable, compose
from app.core.commands import Answer, SendMail
from app.core.events import MailFailed, MailSent
from tests.contract.doors import Posted


def mail(
    to: str = "ada@example.com", subject: str = "Ihre Bestellung ✓", body: str = "Grüße\nhttp://127.0.0.1/track\n", **more: Any
) -> SendMail:
    return SendMail("c1", "0123abcd-mail1", to, subject, body, **more)


@asynccontextmanager
async def catching(directory: Path):
    """The catcher's mailbox behind a real SMTP server on a free port."""
    mailbox = Mailbox(directory)
    server = await asyncio.get_running_loop().create_server(lambda: SMTP(mailbox, hostname="catcher.example"), "127.0.0.1", 0)
    try:
        yield mailbox, server.sockets[0].getsockname()[1]
    finally:
        server.close()


@asynccontextmanager
async def mailing(port: int):
    posted = Posted()
    mailer = Mailer(MailSettings(port=port), posted)
    try:
        yield mailer, posted
    finally:
        await mailer.close()


async def send(port: int, command: SendMail) -> Any:
    async with mailing(port) as (mailer, posted):
        mailer.carry_out(command)
        event = await posted.event()
        assert posted.count == 1
        return event


async def test_a_message_arrives_as_it_was_written(tmp_path):
    async with catching(tmp_path) as (mailbox, port):
        assert await send(port, mail()) == MailSent("c1", "0123abcd-mail1")
        [message] = mailbox.messages(10)
    assert message["to"] == "ada@example.com"
    assert message["sender"] == "hotline@callwright.example"
    assert message["subject"] == "Ihre Bestellung ✓"
    assert message["body"].splitlines() == ["Grüße", "http://127.0.0.1/track"]
    assert message["message_id"] == "<0123abcd-mail1@callwright.example>"


async def test_the_mailer_takes_mail_and_nothing_else(tmp_path):
    async with mailing(1) as (mailer, _):
        assert mailer.handles(mail())
        assert not mailer.handles(Answer("c1"))


async def test_lines_with_a_dot_and_very_long_lines_survive(tmp_path):
    text = ".\n..\n.hidden\n" + "x" * 3000 + "\nend"
    async with catching(tmp_path) as (mailbox, port):
        assert isinstance(await send(port, mail(body=text)), MailSent)
        assert mailbox.messages(1)[0]["body"].replace("\r\n", "\n").strip() == text


@pytest.mark.parametrize(
    "to",
    [
        "ada@example.com\r\nBcc: all@example.com",
        "ada@example.com\nRCPT TO:<x@example.com>",
        "ada@example.com, eve@example.com",
        "Ada <ada@example.com>",
        "ada@example.com>",
        "ada@",
        "@example.com",
        "ada",
        "",
        "ada@exa mple.com",
        "a" * 65 + "@example.com",
        "ada@-example.com",
        "ada\x00@example.com",
        "ada@example.com\u2028",
    ],
)
async def test_an_address_that_is_not_one_address_is_refused_before_any_connection(to):
    assert await send(1, mail(to=to)) == MailFailed("c1", "0123abcd-mail1", "bad_address")


@pytest.mark.parametrize("subject", ["Hello\r\nBcc: all@example.com", "Hello\nX: y", "Hello\x00", "x" * 301])
async def test_a_subject_that_would_be_more_than_a_subject_is_refused(subject):
    assert await send(1, mail(subject=subject)) == MailFailed("c1", "0123abcd-mail1", "bad_message")


def test_a_request_id_that_would_break_the_message_id_is_refused():
    with pytest.raises(Unsendable):
        compose(SendMail("c1", "x>\r\nBcc: y", "ada@example.com", "s", "b"), MailSettings())


async def test_a_recipient_that_the_server_does_not_know(tmp_path):
    async with catching(tmp_path) as (mailbox, port):
        assert (await send(port, mail(to="ada@refused.example"))).reason == "bad_address"
        assert (await send(port, mail(to="ada@busy.example"))).reason == "refused"
        assert mailbox.messages(10) == []


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([b"554 go away\r\n"], "unreachable"),
        ([b"220 hello\r\n", b"250 hello\r\n", b"550 not you\r\n"], "refused"),
        ([b"220 hello\r\n", b"250 hello\r\n", b"250 ok\r\n", b"250 ok\r\n", b"354 go\r\n", b"552 too much\r\n"], "refused"),
        ([b"220 hello\r\n", b"250 hello\r\n", b""], "unreachable"),
        ([b"HTTP/1.1 400 Bad Request\r\n\r\n"], "refused"),
    ],
)
async def test_a_server_that_refuses_or_breaks_off(answers, reason):
    async with _scripted(answers) as port:
        assert await send(port, mail()) == MailFailed("c1", "0123abcd-mail1", reason)


async def test_a_server_that_is_silent_costs_the_budget_and_no_more():
    async with _scripted([None]) as port:
        assert await send(port, mail(budget=0.2)) == MailFailed("c1", "0123abcd-mail1", "timeout")


async def test_nobody_listens(tmp_path):
    async with catching(tmp_path) as (_, port):
        pass
    assert await send(port, mail()) == MailFailed("c1", "0123abcd-mail1", "unreachable")


async def test_the_catcher_as_a_process_keeps_shows_escapes_and_ends(tmp_path):
    command = [sys.executable, "-m", "app.channels.catcher", "--smtp", "127.0.0.1:0", "--http", "127.0.0.1:0", "--directory", str(tmp_path)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(20):
            line = (await process.stdout.readline()).decode()
        port = int(line.split("smtp on 127.0.0.1:")[1].split(",")[0])
        page = line.split("page on ")[1].strip()
        assert isinstance(await send(port, mail(subject="<b>one</b>", body="<script>x</script> http://127.0.0.1:8081/track/abc")), MailSent)
        assert isinstance(await send(port, mail(subject="two")), MailSent)
        listed = json.loads(await asyncio.to_thread(_get, page + "messages"))
        assert [message["subject"] for message in listed["messages"]] == ["two", "<b>one</b>"]
        assert json.loads(await asyncio.to_thread(_get, page + "healthz")) == {"status": "ok", "count": 2}
        html = await asyncio.to_thread(_get, page)
        assert "&lt;b&gt;one&lt;/b&gt;" in html
        assert "<script>" not in html
        assert '<a href="http://127.0.0.1:8081/track/abc"' in html
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(10):
            assert await process.wait() == 0
    assert len(list(tmp_path.glob("*.eml"))) == 2


@pytest.mark.parametrize("text", ["0.0.0.0:8025", "8025", "127.0.0.1:99999", "192.168.1.1:25", "localhost:25"])
def test_the_catcher_listens_on_the_loopback_only(text):
    with pytest.raises(typer.BadParameter, match="expected a loopback address"):
        address(text)


def _get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.read().decode()


@asynccontextmanager
async def _scripted(answers: list[bytes | None]):
    """A server that says one line for each it hears, the first one unasked; `None` is silence, `b""` the end."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        body = False
        for answer in answers:
            if answer is None:
                await reader.read()
                break
            if answer == b"":
                break
            writer.write(answer)
            await writer.drain()
            body = answer.startswith(b"354")
            if body:
                await reader.readuntil(b"\r\n.\r\n")
            elif not await reader.readline():
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
