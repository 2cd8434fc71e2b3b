"""A mail server, and a gateway for text messages, that deliver nothing: every message is kept as a file and shown on a page.

`python -m app.channels.catcher --smtp 127.0.0.1:8025 --http 127.0.0.1:8082 --directory DIR`

For demos and tests, on the loopback only. `GET /` is the page, `GET /messages` the newest first as JSON
(`{"messages": [{id, to, sender, subject, message_id, received, body, attachments}], "count": n}`), `GET /messages/{id}/{n}` the n-th
attachment from 0, `GET /healthz` says that it runs. Recipients at `refused.example` get a 550, those at `busy.example` a 451.
`POST /sms` takes a text message in the form {To, From, Body}, `GET /sms` shows them (`{"messages": [{to, sender, text, key,
received}]}`); one whose `Idempotency-Key` was seen before is taken and not kept again, a number that ends in 666 gets a 422.
It ends on SIGTERM or SIGINT.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import os
import signal
import time
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from aiohttp import web
from aiosmtpd.smtp import SMTP, Envelope, Session
from jinja2 import Environment

MAX_MESSAGE: Final = 16 << 20
SHOWN: Final = 200
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
PAGE: Final = Environment(autoescape=True).from_string("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5"><title>Mail catcher</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:2rem auto;padding:0 1rem;color:#1d2733;background:#f5f7f9}
article{background:#fff;border:1px solid #d5dce3;border-radius:8px;padding:1rem 1.25rem;margin:1rem 0}
h2{font-size:1.05rem;margin:0}p{margin:.2rem 0;color:#52606d}pre{white-space:pre-wrap;font:inherit;margin:.75rem 0 0}</style>
<h1>Mail catcher</h1><p>{{ count }} message{{ "" if count == 1 else "s" }}, newest first. Nothing was delivered to anybody.</p>
{% for message in messages %}<article><h2>{{ message.subject }}</h2>
<p>to {{ message.to }} from {{ message.sender }}, {{ message.received }}</p>
<pre>{{ message.body | urlize(rel="noopener noreferrer", target="_blank") }}</pre>
{% for name in message.attachments %}<p><a href="/messages/{{ message.id }}/{{ loop.index0 }}">{{ name }}</a></p>{% endfor %}
</article>{% endfor %}
{% for text in texts %}<article><h2>Text message</h2><p>to {{ text.to }} from {{ text.sender }}, {{ text.received }}</p>
<pre>{{ text.text }}</pre></article>{% endfor %}</html>""")


class Mailbox:
    """Messages as files `<nanoseconds>-<n>.eml`, so that names sort by time. Also the handler that the SMTP server asks."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        directory.mkdir(parents=True, exist_ok=True)

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]) -> str:
        """Take every recipient but those that tests want refused."""
        domain = address.rpartition("@")[2].lower()
        if domain == "refused.example":
            return "550 5.1.1 No such mailbox here"
        if domain == "busy.example":
            return "451 4.3.0 Try again later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Keep one message."""
        content = envelope.content if isinstance(envelope.content, bytes) else str(envelope.content).encode()
        name = self.keep(content)
        return f"250 2.0.0 Kept as {name}"

    def keep(self, content: bytes) -> str:
        """Write a message so that nobody ever sees half of one; its id."""
        self._count += 1
        name = f"{time.time_ns():020d}-{self._count}"
        partial = self._directory / f".{name}.partial"
        partial.write_bytes(content)
        os.replace(partial, self._directory / f"{name}.eml")
        return name

    def attachment(self, ident: str, number: int) -> bytes | None:
        """The bytes of one attachment, if there is such a one."""
        path = next((path for path in self._files() if path.stem == ident), None)
        found = _attachments(_message(path)) if path else []
        return bytes(found[number].get_payload(decode=True)) if 0 <= number < len(found) else None

    def keep_text(self, key: str, text: Any) -> None:
        """Keep one text message, unless one with this key is here."""
        if key and any(each["key"] == key for each in self.texts()):
            return
        self._count += 1
        path = self._directory / f"{time.time_ns():020d}-{self._count}.sms"
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"to": text["To"], "sender": text.get("From", ""), "text": text["Body"], "key": key}))
        os.replace(partial, path)

    def texts(self) -> list[dict[str, str]]:
        """All text messages, the newest first."""
        found = sorted(self._directory.glob("*.sms"), reverse=True)
        return [{**json.loads(path.read_text()), "received": _received(path)} for path in found]

    def messages(self, limit: int) -> list[dict[str, Any]]:
        """The newest messages first."""
        return [_summary(path) for path in self._files()[:limit]]

    def __len__(self) -> int:
        return len(self._files())

    def _files(self) -> list[Path]:
        return sorted(self._directory.glob("*.eml"), reverse=True)


def application(mailbox: Mailbox) -> web.Application:
    """The page, the JSON list and the health check."""

    async def page(request: web.Request) -> web.Response:
        html = PAGE.render(messages=mailbox.messages(SHOWN), count=len(mailbox), texts=mailbox.texts()[:SHOWN])
        return web.Response(text=html, content_type="text/html", headers=SECURITY)

    async def messages(request: web.Request) -> web.Response:
        return web.json_response({"messages": mailbox.messages(SHOWN), "count": len(mailbox)}, headers=SECURITY)

    async def attachment(request: web.Request) -> web.Response:
        content = mailbox.attachment(request.match_info["id"], int(request.match_info["n"]))
        if content is None:
            raise web.HTTPNotFound
        return web.Response(body=content, content_type="audio/wav", headers=SECURITY)

    async def take_text(request: web.Request) -> web.Response:
        try:
            text = await request.json()
            refused = str(text["To"]).endswith("666")
            if not refused:
                mailbox.keep_text(request.headers.get("Idempotency-Key", ""), text)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise web.HTTPBadRequest from None
        return web.json_response({"status": "refused" if refused else "queued"}, status=422 if refused else 201, headers=SECURITY)

    async def texts(request: web.Request) -> web.Response:
        return web.json_response({"messages": mailbox.texts()}, headers=SECURITY)

    async def health(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok", "count": len(mailbox)})

    app = web.Application()
    app.add_routes([web.get("/", page), web.get("/messages", messages), web.get("/healthz", health)])
    app.add_routes([web.get(r"/messages/{id}/{n:\d{1,3}}", attachment), web.post("/sms", take_text), web.get("/sms", texts)])
    return app


async def serve(mailbox: Mailbox, smtp: tuple[str, int], http: tuple[str, int]) -> None:
    """Run both servers until SIGTERM or SIGINT."""
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    mail = await loop.create_server(
        lambda: SMTP(mailbox, hostname="catcher.example", ident="catcher", data_size_limit=MAX_MESSAGE, enable_SMTPUTF8=True, loop=loop),
        *smtp,
    )
    runner = web.AppRunner(application(mailbox), access_log=None)
    try:
        await runner.setup()
        await web.TCPSite(runner, *http).start()
        typer.echo(
            f"mail catcher: smtp on {smtp[0]}:{mail.sockets[0].getsockname()[1]}, page on http://{http[0]}:{runner.addresses[0][1]}/"
        )
        await end.wait()
    finally:
        mail.close()
        await runner.cleanup()


def address(text: str) -> tuple[str, int]:
    """`127.0.0.1:8025` as host and port; anything but a loopback address is refused."""
    host, _, port = text.rpartition(":")
    try:
        if ipaddress.ip_address(host.strip("[]")).is_loopback and 0 <= int(port) <= 65535:
            return host.strip("[]"), int(port)
    except ValueError:
        pass
    raise typer.BadParameter(f"expected a loopback address and a port such as 127.0.0.1:8025, found {text!r}")


def main(
    smtp: Annotated[str, typer.Option(help="where to take mail")] = "127.0.0.1:8025",
    http: Annotated[str, typer.Option(help="where to show it")] = "127.0.0.1:8082",
    directory: Annotated[Path, typer.Option(help="where to keep it")] = Path("build/mail"),
) -> None:
    """Keep every mail as a file and show them on a page; deliver none."""
    asyncio.run(serve(Mailbox(directory), address(smtp), address(http)))


def _message(path: Path) -> Any:
    return message_from_bytes(path.read_bytes(), _class=EmailMessage, policy=policy.default)


def _attachments(message: Any) -> list[Any]:
    return list(message.iter_attachments())


def _received(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(int(path.stem.partition("-")[0]) / 1e9))


def _summary(path: Path) -> dict[str, Any]:
    message = _message(path)
    return {
        "id": path.stem,
        "to": str(message.get("To", "")),
        "sender": str(message.get("From", "")),
        "subject": str(message.get("Subject", "")),
        "message_id": str(message.get("Message-ID", "")),
        "received": _received(path),
        "body": _text(message),
        "attachments": [str(part.get_filename() or "") for part in _attachments(message)],
    }


def _text(message: EmailMessage) -> str:
    part = message.get_body(preferencelist=("plain", "html"))
    if part is None:
        return ""
    try:
        return str(part.get_content())
    except (LookupError, UnicodeError):
        return "(this text is in an encoding that is not known)"


if __name__ == "__main__":
    typer.run(main)
