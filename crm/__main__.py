"""`python -m crm`: the command line of the reference CRM."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import os
import re
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import phonenumbers
import structlog

from crm.database import DatabaseRefused
from crm.service import Options, serve

DESK = ("http://127.0.0.1:8080", "http://localhost:8080")
ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?", re.ASCII)
MIN_TOKEN = 16
EX_CONFIG = 78


class BadOptions(Exception):
    """The service cannot be started like that; the text says why."""


def main(arguments: list[str] | None = None) -> int:
    """Run the service; return the exit status: 0 stopped, 78 bad settings or a database that is refused."""
    try:
        options = _options(_parser().parse_args(arguments))
        _log_to_stderr()
        _run(serve(options))
    except (BadOptions, DatabaseRefused) as error:
        print(f"crm: {error}", file=sys.stderr)
        return EX_CONFIG
    except OSError as error:
        print(f"crm: cannot listen: {error.strerror or error}", file=sys.stderr)
        return EX_CONFIG
    return 0


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m crm", description="The reference CRM of Callwright.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    parser.add_argument("--port", type=int, default=8081, help="port, 0 for any free one (%(default)s)")
    parser.add_argument("--database", type=Path, required=True, help="SQLite file; made when it is not there")
    parser.add_argument("--token-file", type=Path, help="file with the API token; without it the token is taken from CRM_TOKEN")
    parser.add_argument("--public-url", help="what links to this service begin with (the address it listens on)")
    parser.add_argument("--framed-by", action="append", metavar="ORIGIN", help="origin whose pages may show records, such as the desk's")
    parser.add_argument("--region", default="DE", help="country whose national numbers are understood (%(default)s)")
    parser.add_argument("--seed", choices=["demo"], help="add the demo records that are missing")
    parser.add_argument("--faults", action="store_true", help="for tests: let POST /faults make the service misbehave")
    return parser


def _options(given: argparse.Namespace) -> Options:
    if given.region not in phonenumbers.SUPPORTED_REGIONS:
        raise BadOptions(f"--region {given.region}: not a country code like DE")
    if not 0 <= given.port <= 65535:
        raise BadOptions(f"--port {given.port}: must be 0 to 65535")
    if given.faults and not _is_loopback(given.host):
        raise BadOptions("--faults: only together with a loopback address")
    return Options(
        host=given.host,
        port=given.port,
        database=given.database,
        token=_token(given.token_file),
        region=given.region,
        public_url=given.public_url.rstrip("/") if given.public_url else None,
        framed_by=tuple(map(_origin, given.framed_by or DESK)),
        seed_demo=given.seed == "demo",
        faults=given.faults,
    )


def _origin(text: str) -> str:
    if not ORIGIN.fullmatch(text):
        raise BadOptions(f"--framed-by {text}: not an origin like http://127.0.0.1:8080")
    return text


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _token(path: Path | None) -> str:
    if path is None:
        token, source = os.environ.get("CRM_TOKEN", ""), "CRM_TOKEN"
    else:
        try:
            token, source = path.read_text(encoding="utf-8"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise BadOptions(f"--token-file {path}: cannot be read: {error}") from None
    token = token.strip()
    if not token:
        raise BadOptions(f"no API token: {source} is empty; set CRM_TOKEN or name a --token-file")
    if len(token) < MIN_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise BadOptions(f"the API token in {source} must be at least {MIN_TOKEN} visible ASCII characters")
    return token


def _run(service: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(service)
    else:
        uvloop.run(service)


if __name__ == "__main__":
    sys.exit(main())
