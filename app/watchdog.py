"""The watchdog: a process of its own that lets callers go when the application is silent.

The application's loop answers `/healthz`; that answer is the heartbeat, so a process that is frozen is as silent as one that is gone.
After ten seconds of silence the watchdog speaks to Asterisk, over REST alone, and keeps at it until the heartbeat is back:

    a leg that rings                       is hung up, so that nobody answers a caller who has left
    a caller without a connected partner   is sent to the fallback (`POST /channels/{id}/continue`)
    a pair that talks                      stays; when one of the two hangs up afterwards, so does the other
    new calls                              skip the application: a global variable of the dialplan says until when

Asterisk is asked slowly and one thing at a time (twenty changes a second at most), and a channel that is gone meanwhile is no error.
Nothing is kept: whatever the watchdog knows, it reads from Asterisk again. Only the standard library and aiohttp are used, and nothing
else of ours, so that what breaks the application does not break this.

    python -m app.watchdog --config callwright.toml

reads `[ari]` (url, user, password, app) and `[api]` (host, port) of the application's own settings; the environment goes before the
file: `CALLWRIGHT_WATCHDOG_ARI_URL`, `_ARI_USER`, `_ARI_PASSWORD`, `_APP`, `_HEALTH_URL`, `_PATIENCE` (seconds), `_CONTEXT`.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import logging
import os
import re
import signal
import sys
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

LEG = re.compile(r".+-leg\d+")
AWAY = "CALLWRIGHT_AWAY_UNTIL"
AWAY_SECONDS = 10  # how long new calls skip the application without being told again
RELEASE_AGAIN = 30.0  # a release waits for the prompt that plays; after this it is asked for once more
log = logging.getLogger("callwright.watchdog")


@dataclass(frozen=True, slots=True)
class WatchdogSettings:
    """`patience` is the silence in seconds after which the application counts as gone; `rate` the changes a second at most."""

    ari_url: str = "http://127.0.0.1:8088"
    ari_user: str = "callwright"
    ari_password: str = field(default="", repr=False)
    app: str = "callwright"
    health_url: str = "http://127.0.0.1:8080/healthz"
    patience: float = 10.0
    context: str = "callwright-fallback"
    rate: float = 20.0
    poll: float = 0.5
    pause: float = 1.0
    deadline: float = 2.0


class SettingsError(ValueError):
    """The settings cannot be used; the message says which and why."""


def read_settings(file: Path | None, environment: Mapping[str, str]) -> WatchdogSettings:
    """Settings from the application's TOML file and the environment, which goes first. Raises `SettingsError`."""
    values: dict[str, Any] = {}
    if file is not None:
        try:
            values = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"{file}: {error}") from error

    def given(section: str, key: str, name: str, default: str) -> str:
        table = values.get(section, {})
        inside = str(table.get(key, default)) if isinstance(table, dict) else default
        own, shared = f"CALLWRIGHT_WATCHDOG_{name}", f"CALLWRIGHT_{section.upper()}__{key.upper()}"
        return environment.get(own) or environment.get(shared) or inside

    plain = WatchdogSettings()
    api = f"http://{given('api', 'host', 'API_HOST', '127.0.0.1')}:{given('api', 'port', 'API_PORT', '8080')}/healthz"
    patience = environment.get("CALLWRIGHT_WATCHDOG_PATIENCE", str(plain.patience))
    settings = WatchdogSettings(
        ari_url=given("ari", "url", "ARI_URL", plain.ari_url).rstrip("/"),
        ari_user=given("ari", "user", "ARI_USER", plain.ari_user),
        ari_password=given("ari", "password", "ARI_PASSWORD", ""),
        app=given("ari", "app", "APP", plain.app),
        health_url=environment.get("CALLWRIGHT_WATCHDOG_HEALTH_URL", api),
        patience=_seconds("CALLWRIGHT_WATCHDOG_PATIENCE", patience),
        context=environment.get("CALLWRIGHT_WATCHDOG_CONTEXT", plain.context),
    )
    for name, url in (("ARI's address", settings.ari_url), ("the health address", settings.health_url)):
        if not url.startswith(("http://", "https://")):
            raise SettingsError(f"{name} is {url!r}: it must begin with http:// or https://")
    if not settings.ari_password:
        raise SettingsError("no ARI password: set [ari] password in the file, or CALLWRIGHT_WATCHDOG_ARI_PASSWORD")
    return settings


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError as error:
        raise SettingsError(f"{name} is {text!r}: not a number of seconds") from error
    if not 1.0 <= value <= 3600.0:
        raise SettingsError(f"{name} is {text}: use 1 to 3600 seconds")
    return value


# -- deciding: pure ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan:
    """What to do about the channels found: legs to hang up first, callers to hang up, callers to release; and the pairs that talk."""

    hang_up: tuple[str, ...]
    release: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...]


def plan(
    app: str, channels: Iterable[Mapping[str, Any]], bridges: Iterable[Mapping[str, Any]], talked: Iterable[tuple[str, str]] = ()
) -> Plan:
    """Decide from ARI's own lists. `talked` are the pairs seen talking before: who is left of one is hung up, not released."""
    state = {str(channel.get("id")): str(channel.get("state")) for channel in channels}
    listed = {str(channel.get("id")): channel for channel in channels}
    legs = {id_ for id_ in listed if LEG.fullmatch(id_)}
    callers = {id_ for id_, channel in listed.items() if id_ not in legs and _is_in(app, channel)}
    pairs: list[tuple[str, str]] = []
    for bridge in bridges:
        up = [str(member) for member in bridge.get("channels", []) if state.get(str(member)) == "Up"]
        with_others = [member for member in up if member in callers and len(up) > 1]
        pairs += [(member, other) for member in with_others for other in up if other != member]
    talking = {member for pair in pairs for member in pair}
    widowed = {member for pair in talked for member in pair if member in listed and member not in talking}
    hang_up = sorted((legs - talking) | (callers & widowed))
    return Plan(tuple(hang_up), tuple(sorted(callers - talking - widowed)), tuple(pairs))


def _is_in(app: str, channel: Mapping[str, Any]) -> bool:
    """Whether a channel sits in `Stasis(app,...)` of the dialplan."""
    dialplan = channel.get("dialplan") or {}
    return dialplan.get("app_name") == "Stasis" and str(dialplan.get("app_data", "")).split(",")[0] == app


# -- doing ------------------------------------------------------------------------------------------------------------------------


class Watchdog:
    """Watches one application and one Asterisk."""

    def __init__(self, settings: WatchdogSettings) -> None:
        self.settings = settings
        self.heard = time.monotonic()
        self._talked: set[tuple[str, str]] = set()
        self._released: dict[str, float] = {}
        self._next_change = 0.0
        self._told_away = False

    @property
    def silent(self) -> bool:
        """Whether the application has been silent for longer than it may."""
        return time.monotonic() - self.heard >= self.settings.patience

    async def run(self) -> None:
        """Watch until cancelled. No failure of the application or of Asterisk ends it."""
        token = base64.b64encode(f"{self.settings.ari_user}:{self.settings.ari_password}".encode()).decode()
        timeout = aiohttp.ClientTimeout(total=self.settings.deadline)
        async with (
            aiohttp.ClientSession(timeout=timeout) as health,
            aiohttp.ClientSession(timeout=timeout, headers={"Authorization": f"Basic {token}"}) as ari,
        ):
            listening = asyncio.create_task(self._listen(health))
            try:
                while True:
                    await self._turn(ari, health)
            finally:
                listening.cancel()
                await asyncio.gather(listening, return_exceptions=True)

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        """Keep `heard` at the time of the last sign of life."""
        while True:
            await self._hear(session)
            await asyncio.sleep(self.settings.poll)

    async def _hear(self, session: aiohttp.ClientSession) -> None:
        asked = time.monotonic()
        with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError, ValueError):
            async with session.get(self.settings.health_url, timeout=aiohttp.ClientTimeout(total=1.0)) as answer:
                if answer.status == 200:
                    self.heard = asked

    async def _turn(self, ari: aiohttp.ClientSession, health: aiohttp.ClientSession) -> None:
        """Act once when it is time to, then wait a little."""
        try:
            if self.silent:
                await self._act(ari, health)
            elif self._told_away:
                await self._ask(ari, "POST", "asterisk/variable", variable=AWAY, value="0")
                self._told_away = False
                self._talked.clear()
                self._released.clear()
                log.warning("the application is back")
        except Exception as error:  # whatever it is, the next turn tries again
            log.error("Asterisk: %s", str(error) or type(error).__name__)
        left = self.settings.patience - (time.monotonic() - self.heard)
        await asyncio.sleep(min(max(left, 0.05), self.settings.pause) if left > 0 else self.settings.pause)

    async def _act(self, ari: aiohttp.ClientSession, health: aiohttp.ClientSession) -> None:
        """Let those go who are found, unless the application is heard after they were: they may be its own, since it came back."""
        await self._tell_dialplan(ari)
        channels, bridges = await self._list(ari, "channels"), await self._list(ari, "bridges")
        await self._hear(health)
        if not self.silent:
            return
        found = plan(self.settings.app, channels, bridges, self._talked)
        new_pairs = set(found.pairs) - self._talked
        self._talked |= new_pairs
        now = time.monotonic()
        release = [id_ for id_ in found.release if now - self._released.get(id_, -RELEASE_AGAIN) >= RELEASE_AGAIN]
        hung_up = sum([await self._hang_up(ari, id_) for id_ in found.hang_up if self.silent])
        for id_ in release:
            if not self.silent:
                return
            await self._change(ari, "POST", f"channels/{id_}/continue", context=self.settings.context, extension="s", priority="1")
            self._released[id_] = time.monotonic()
        if hung_up or release or new_pairs:
            log.warning("released %d callers, hung up %d channels, left %d in conversation", len(release), hung_up, len(found.pairs))

    async def _hang_up(self, ari: aiohttp.ClientSession, id_: str) -> bool:
        """Hang one channel up, unless it has been answered and joined since it was listed."""
        if LEG.fullmatch(id_) and any(id_ in pair for pair in await self._pairs_now(ari)):
            return False
        await self._change(ari, "DELETE", f"channels/{id_}")
        return True

    async def _pairs_now(self, ari: aiohttp.ClientSession) -> tuple[tuple[str, str], ...]:
        return plan(self.settings.app, await self._list(ari, "channels"), await self._list(ari, "bridges")).pairs

    async def _tell_dialplan(self, ari: aiohttp.ClientSession) -> None:
        """Let new calls skip the application for the next seconds, by the PBX's own clock."""
        if not self._told_away:
            log.warning("no sign of life for %.0f s: letting callers go", time.monotonic() - self.heard)
        _, answer = await self._ask(ari, "GET", "asterisk/variable", variable="EPOCH")
        await self._ask(ari, "POST", "asterisk/variable", variable=AWAY, value=str(int(answer["value"]) + AWAY_SECONDS))
        self._told_away = True

    async def _list(self, ari: aiohttp.ClientSession, what: str) -> list[dict[str, Any]]:
        _, answer = await self._ask(ari, "GET", what)
        if not isinstance(answer, list):
            raise ValueError(f"{what}: not a list")
        return answer

    async def _change(self, ari: aiohttp.ClientSession, method: str, path: str, **query: str) -> None:
        """One change, not sooner than the rate allows; a channel that is gone or elsewhere is as good as changed."""
        await asyncio.sleep(max(0.0, self._next_change - time.monotonic()))
        self._next_change = time.monotonic() + 1.0 / self.settings.rate
        status, answer = await self._ask(ari, method, path, **query)
        if status not in (200, 204, 404, 409):
            log.error("%s %s: %s %s", method, path, status, answer)

    async def _ask(self, ari: aiohttp.ClientSession, method: str, path: str, **query: str) -> tuple[int, Any]:
        async with ari.request(method, f"{self.settings.ari_url}/ari/{path}", params=query) as answer:
            text = await answer.text(errors="replace")
            if answer.status in (401, 403):
                raise ValueError(f"it refuses our user ({answer.status})")
            return answer.status, json.loads(text) if text and answer.status < 300 else text


async def _watch(settings: WatchdogSettings) -> None:
    loop = asyncio.get_running_loop()
    watching = asyncio.create_task(Watchdog(settings).run())
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, watching.cancel)
    log.warning("watching %s, ready to act on %s", settings.health_url, settings.ari_url)
    with contextlib.suppress(asyncio.CancelledError):
        await watching


def main(argv: list[str] | None = None) -> int:
    """Run until SIGTERM. Returns 78 when the settings cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m app.watchdog", description="Lets callers go when the application is silent.")
    parser.add_argument("--config", type=Path, help="the application's settings (TOML)")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    try:
        settings = read_settings(arguments.config, os.environ)
    except SettingsError as error:
        print(f"watchdog: {error}", file=sys.stderr)
        return 78
    asyncio.run(_watch(settings))
    return 0


if __name__ == "__main__":
    sys.exit(main())
