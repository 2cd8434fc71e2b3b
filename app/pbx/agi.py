"""FastAGI: a PBX that keeps its own dialplan asks us for the lookup and the routing decision, and goes on by itself.

Its dialplan runs `AGI(agi://<host>:<port>/route)`; we read what Asterisk says about the call, let `decide` look up and
decide within its budget, and answer in channel variables, for its own `Queue()`:

    CW_QUEUE CW_SKILLS CW_PRIORITY CW_CONTACT CW_REFERENCE CW_TIER ...     whatever `decide` answered
    CW_STATUS     what became of it: FAILED, or what `decide` says, or OK; set last, so that all the others are there then

Nothing here ever keeps a caller: a decision that fails or takes too long is `CW_STATUS=FAILED`, a peer that may not ask, or
asks when too many do, is hung up on, and the dialplan goes on in every case. Since a broken connection can set nothing, a
dialplan sets `CW_STATUS=FAILED` itself before it asks.

Values go into a dialplan, where some applications evaluate text: quotes, backslashes, `$`, braces, backquotes and control
characters are taken out of them. Names are ours alone: `CW_` and capital letters.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, TypeAlias

import structlog

from app.pbx.hardening import FastAgi, without_controls

log = structlog.get_logger()

Network: TypeAlias = IPv4Network | IPv6Network
Decide: TypeAlias = Callable[[dict[str, str]], Awaitable[Mapping[str, Any]]]

ROUTE = "route"
"""The script path that we serve."""
BUDGET = 2.5
"""Seconds for a decision, its lookup included."""
PEER_SECONDS = 2.0
"""How long Asterisk may take for its environment, and for the answer to each command."""
VISITS = 200
"""Visits at one time; the next one is hung up on and its dialplan goes on."""
VALUE_CHARS = 200
VARIABLES = 32

_NAME = re.compile(r"CW_[A-Z0-9_]{1,40}")
_EVALUATED = re.compile(r"[\"\\$`{}]")
_UNKNOWN = ("", "unknown")


class BadDecision(ValueError):
    """A decision that cannot be said in channel variables; the text names the variable, never its value."""


class AgiFailed(Exception):
    """Asterisk did not set a variable: the caller has gone, or it refused the command."""


def variable_value(value: Any) -> str:
    """A value as a dialplan may have it: true/false for a boolean, "" for None, otherwise its text without what could be evaluated."""
    text = "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return without_controls(_EVALUATED.sub("", text), VALUE_CHARS)


def variables_of(answer: Mapping[str, Any]) -> dict[str, str]:
    """A decision as channel variables. BadDecision for a name that is not ours to set, or for more than 32 of them."""
    if len(answer) > VARIABLES:
        raise BadDecision(f"{len(answer)} variables in a decision, at most {VARIABLES} are set")
    for name in answer:
        if not _NAME.fullmatch(name):
            raise BadDecision(f"variable {name!r} in a decision: only CW_ followed by 1 to 40 of A-Z, 0-9 and _ is set")
    return {name: variable_value(value) for name, value in answer.items()}


def request_of(environment: Mapping[str, str]) -> dict[str, str]:
    """What `decide` is asked: ani, name, dnis, extension, context, channel, uniqueid, language, and arg_1... of the AGI call.

    What Asterisk does not know is "". The number dialled is the one the trunk gave, or else the extension.
    """

    def value(key: str) -> str:
        text = environment.get(f"agi_{key}", "")
        return "" if text in _UNKNOWN else text

    request = {key: value(key) for key in ("extension", "context", "channel", "uniqueid", "language")}
    request |= {"ani": value("callerid"), "name": value("calleridname"), "dnis": value("dnid") or value("extension")}
    return request | {key.removeprefix("agi_"): text for key, text in environment.items() if key.startswith("agi_arg_")}


class AgiServer:
    """The FastAGI server. `allow` holds the networks that may ask; `decide(request)` answers with variables (see `request_of`)."""

    def __init__(self, host: str, port: int, allow: tuple[Network, ...], decide: Decide, budget: float = BUDGET) -> None:
        self._host, self._port, self._allow = host, port, allow
        self._decide, self._budget = decide, budget
        self._server: asyncio.Server | None = None
        self._visits: set[asyncio.Task[Any]] = set()
        self._counts = {"answered": 0, "failed": 0, "refused": 0}

    async def start(self) -> None:
        """Listen. OSError when the address cannot be had."""
        self._agi = FastAgi(PEER_SECONDS, whole=self._budget + 3 * PEER_SECONDS)
        self._agi.add_route(ROUTE, self._visit)
        self._server = await asyncio.start_server(self._accept, self._host, self._port)

    async def close(self) -> None:
        """Stop listening and end the visits that are under way."""
        if self._server is None:
            return
        self._server.close()
        visits = tuple(self._visits)
        for visit in visits:
            visit.cancel()
        await asyncio.gather(*visits, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None

    @property
    def port(self) -> int:
        """The port that is listened on; of use when 0 was asked for."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server else self._port

    def health(self) -> dict[str, Any]:
        """`{"ok", "why", "answered", "failed", "refused", "now"}`: counts since the start, and visits at this moment."""
        up = self._server is not None and self._server.is_serving()
        return {"ok": up, "why": "" if up else "not listening", **self._counts, "now": len(self._visits)}

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = writer.get_extra_info("peername")[0]
        if len(self._visits) >= VISITS or not any(ip_address(peer) in network for network in self._allow):
            self._counts["refused"] += 1
            log.warning("agi_peer_refused", peer=peer, visits=len(self._visits))
            writer.close()
            return
        visit = asyncio.current_task()
        assert visit is not None
        self._visits.add(visit)
        try:
            await self._agi.handler(reader, writer)
        finally:
            self._visits.discard(visit)

    async def _visit(self, request: Any) -> None:
        """One call that asks: decide, then set the variables and, last, CW_STATUS."""
        try:
            variables = await self._decision(request_of(request.headers))
            for name, value in variables.items():
                await _set_variable(request, name, value)
        except (AgiFailed, OSError, EOFError, ValueError) as error:
            self._counts["failed"] += 1
            log.warning("agi_visit_broken", why=str(error) or type(error).__name__)
        else:
            self._counts["failed" if variables["CW_STATUS"] == "FAILED" else "answered"] += 1

    async def _decision(self, asked: dict[str, str]) -> dict[str, str]:
        try:
            async with asyncio.timeout(self._budget):
                variables = variables_of(await self._decide(asked))
        except TimeoutError:
            log.warning("agi_decision_late", budget=self._budget)
        except BadDecision as error:
            log.error("agi_decision_bad", why=str(error))
        except Exception as error:
            log.error("agi_decision_failed", error=type(error).__name__)  # its text may hold a caller's number
        else:
            status = variables.pop("CW_STATUS", "OK")
            return variables | {"CW_STATUS": status}
        return {"CW_STATUS": "FAILED"}


async def _set_variable(request: Any, name: str, value: str) -> None:
    """One `SET VARIABLE`, with a value of `variable_value`."""
    result = await request.send_command(f'SET VARIABLE {name} "{value}"')
    if "error" in result:
        raise AgiFailed(f"{name} was not set: {result['error']}")
