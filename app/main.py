"""The composition root: builds every part, hands each what it needs, runs them together, and ends them in order.

    store -> engine (takes over what an earlier process left) -> actions, mail, speech, ARI, AMI, AGI -> API

Shutdown is a ladder: not ready any more, new calls to the fallback, live calls finish within a limit, what remains is left as it is
for the next process. A second signal skips the waiting. Exit codes: 0 done, 70 a part failed, 75 another process has taken over,
78 the configuration is wrong.
"""

from __future__ import annotations

import asyncio
import gc
import secrets
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import structlog
import uvloop

from app.actions.files import ActionFileError, load_actions
from app.actions.guard import Guard
from app.actions.method import ActionDef
from app.actions.runner import Actions
from app.actions.sensitive import Sensitive
from app.actions.webhooks import Poster
from app.api.auth import BadCredentials, Credentials
from app.api.server import make_app, serve
from app.api.settings import ApiSettings
from app.archive import Archive
from app.channels.bots import Bots
from app.channels.mail import Mailer
from app.channels.shelf import Shelf
from app.channels.sms import Sms
from app.channels.speech import Espeak, Speech, SpeechFailed
from app.core.book import Book
from app.core.events import AgentPhoneChanged, Event
from app.core.flow.program import Bot as BotStep
from app.decide import Decider
from app.engine import Engine, LeaseGone
from app.feed import Feed
from app.flows import Flows, Unspeakable
from app.hooks import Hooks
from app.house import House
from app.pbx.adapter import Line, Pbx
from app.pbx.agi import AgiServer
from app.pbx.ami import Ami
from app.pbx.ari import AriRefused, AriReplaced
from app.pbx.link import weak_password
from app.proving import Reader
from app.publish.centre import load_book
from app.publish.reading import ProjectError
from app.settings import Settings
from app.store import Holder, LeaseHeld, Store, StoreError, StoreRefused

log = structlog.get_logger()

DONE, FAILED, REPLACED, WRONG = 0, 70, 75, 78
RETURN_EVERY = 2.0
RENEW_EVERY = 1.0
PRUNE_EVERY = 6 * 3600.0
LEASE_PATIENCE = 30.0
LAST_TURN = 3.0


class Refused(Exception):
    """The application cannot start as it is configured; the text says why."""


def run(settings: Settings) -> int:
    """Serve until told to stop; the exit code."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    try:
        book, definitions = load_project(settings)
        async with AsyncExitStack() as stack:
            return await Application(settings, book, definitions).run(stack)
    except (Refused, ProjectError, ActionFileError, StoreRefused, BadCredentials, SpeechFailed, Unspeakable, AriRefused) as error:
        print(f"callwright: cannot run: {error}", file=sys.stderr, flush=True)
        return WRONG
    except (LeaseGone, AriReplaced) as error:
        log.error("another process has taken over; stopping without a word", reason=str(error))
        return REPLACED


def load_project(settings: Settings) -> tuple[Book, dict[str, ActionDef]]:
    """What the project's files say; raises `ProjectError` or `ActionFileError`."""
    book, definitions = read_project(settings.project)
    book.max_calls = settings.max_calls
    return book, definitions


def read_project(project: Path) -> tuple[Book, dict[str, ActionDef]]:
    """A project's flows, queues, agents and actions, checked; raises `ProjectError` or `ActionFileError`."""
    definitions = load_actions(project / "actions")
    return load_book(project, {name: definition.outputs for name, definition in definitions.items()}), definitions


class Application:
    """All the parts of one process."""

    def __init__(self, settings: Settings, book: Book, definitions: dict[str, ActionDef]) -> None:
        self.settings, self.book, self.definitions = settings, book, definitions
        self.stopping = asyncio.Event()
        self.hurry = asyncio.Event()

    async def run(self, stack: AsyncExitStack) -> int:
        settings = self.settings
        api = self._api()
        line = self._line()
        _free(settings.api.host, settings.api.port)
        settings.state.mkdir(parents=True, exist_ok=True)
        store = await Store.open(settings.database_url, settings.state / "callwright.key")
        stack.push_async_callback(store.close)
        await _lease(store)
        files = {flow.name: flow for flow in self.book.flows.values()}
        engine = Engine(self.book, store)
        calls = await engine.take_over()
        log.info("taken over", calls=calls)

        actions = self._actions(engine.post)
        stack.push_async_callback(actions.close)
        speech = Speech(Espeak(), settings.sounds or settings.state / "sounds")
        stack.push_async_callback(speech.close)
        pbx = Pbx(line, engine.post, engine.center.live_calls, _rendered(speech), lambda: secrets.token_hex(16))
        shelf = Shelf(
            settings.state / "recordings", engine.post, pbx.recordings.fetch, pbx.recordings.drop, pbx.recordings.stray, store.vault
        )
        await shelf.begin()
        mailer, sms = Mailer(settings.mail, engine.post, shelf.read), Sms(settings.sms, engine.post)
        guard = Guard(settings.origins)
        stack.push_async_callback(guard.resolver.close)
        bots = Bots(settings.bots, engine.post, engine.submit, pbx.media, guard.admit, guard.resolver)
        for part in (shelf, mailer, sms, bots):
            stack.push_async_callback(part.close)
        ami = self._ami(engine)
        feed, poster = Feed(store), Poster(settings.origins)
        stack.push_async_callback(poster.close)
        hooks = Hooks(settings.webhooks, feed, store, poster)
        house = House(engine, self._health(pbx, ami, actions), Sensitive(self.definitions), feed, hooks)
        house.archive = Archive(engine, shelf, speech)
        house.flows = flows = Flows(engine, self._reader(), _spoken(speech), house.submit)
        await flows.read_files(files.values())
        _bots_missing(self.book, settings.bots)
        engine.adapters = [pbx, actions, mailer, sms, shelf, bots, house, *([ami] if ami else [])]
        await self._agi(stack)
        base = await stack.enter_async_context(serve(make_app(house, api)))
        log.info("the API is up", url=base)
        self._signals(house)
        _keep_what_is_loaded()
        turning = asyncio.create_task(engine.run())
        tidying = _tidying(shelf, settings.recordings.keep_days, lambda: bool(pbx.health()["up"]))
        parts = [pbx.run(), _renewing(engine), tidying, _pruning(store, shelf)] + ([ami.run(), _returning(ami, pbx, engine)] if ami else [])
        parts += [hooks.run()] if settings.webhooks else []
        return await self._together(self._closing(engine, turning, house), [turning, *map(asyncio.create_task, parts)])

    # ---- parts ---------------------------------------------------------------------------------------------------------

    def _reader(self) -> Reader:
        return Reader(self.settings.project, self.definitions, self.book.queues, self.book.agents)

    def _actions(self, post: Callable[[Event], None]) -> Actions:
        try:
            return Actions(self.definitions, self.settings.systems, post, self.settings.origins)
        except ValueError as error:
            raise Refused(f"systems: {error}; an action needs an address and a secret under [systems.<name>]") from None

    def _line(self) -> Line:
        ari = self.settings.ari
        password = ari.password.get_secret_value()
        if weak_password(ari.user, password):
            raise Refused("ari.password is weak: 16 characters or more, and no default")
        return Line(ari.url, ari.user, password, ari.app, ari.tones)

    def _ami(self, engine: Engine) -> Ami | None:
        settings = self.settings.ami
        if not settings.on:
            for agent in self.book.agents:
                engine.post(AgentPhoneChanged(agent, reachable=True))
            return None
        phones = {definition.endpoint: agent for agent, definition in self.book.agents.items()}
        return Ami(settings.host, settings.port, settings.user, settings.secret.get_secret_value(), engine.post, phones)

    async def _agi(self, stack: AsyncExitStack) -> None:
        settings = self.settings.agi
        if not settings.on:
            return
        decider = Decider(self.book, self.definitions)
        own = self._actions(decider.post)
        stack.push_async_callback(own.close)
        decider.actions = own
        server = AgiServer(settings.host, settings.port, settings.allow, decider.decide)
        try:
            await server.start()
        except OSError as error:
            raise Refused(f"FastAGI cannot listen on {settings.host}:{settings.port}: {error.strerror}") from None
        stack.push_async_callback(server.close)

    def _api(self) -> ApiSettings:
        settings = self.settings.api
        if settings.credentials is None:
            raise Refused("api.credentials is not set: a TOML file of tokens and PINs, hashed; asterisk-config/README.md shows one")
        return ApiSettings(
            host=settings.host,
            port=settings.port,
            credentials=_credentials(settings.credentials),
            session_key=settings.session_key,
            record_origins=settings.record_origins,
            inbound={name: each.secret for name, each in self.settings.inbound.items()},
        )

    def _health(self, pbx: Pbx, ami: Ami | None, actions: Actions) -> dict[str, Callable[[], Any]]:
        parts: dict[str, Callable[[], Any]] = {"asterisk": lambda: _told(pbx.health())}
        if ami is not None:
            parts["ami"] = ami.health
        for name in self.definitions:
            parts[f"action {name}"] = partial(_of_action, actions, name)
        return parts

    # ---- the end -------------------------------------------------------------------------------------------------------

    def _signals(self, house: House) -> None:
        def asked(name: str) -> None:
            if self.stopping.is_set():
                self.hurry.set()
            house.closing = f"shutting down ({name})"
            self.stopping.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, asked, number.name)

    async def _closing(self, engine: Engine, turning: asyncio.Task[None], house: House) -> None:
        """Wait for a signal, then climb down: stop taking, let callers finish, leave the rest (and wrap-up) to the next process."""
        await self.stopping.wait()
        engine.center.admitting = False
        log.info("shutting down", calls=len(engine.center.calls), seconds=self.settings.drain_seconds)
        until = asyncio.get_running_loop().time() + self.settings.drain_seconds
        while engine.center.live_calls() and asyncio.get_running_loop().time() < until and not self.hurry.is_set():
            try:
                await asyncio.wait_for(self.hurry.wait(), 0.2)
            except TimeoutError:
                pass
        engine.stop()
        await asyncio.wait({turning}, timeout=LAST_TURN)
        log.info("stopped", left_to_the_next_process=len(engine.center.calls))

    async def _together(self, closing: Coroutine[Any, Any, None], parts: list[asyncio.Task[Any]]) -> int:
        """Run the parts until we have closed; one that ends before is a failure, and what it raised ends us."""
        end = asyncio.create_task(closing)
        tasks = {end, *parts}
        try:
            while True:
                done, tasks = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    task.result()
                if end in done:
                    return DONE
                if not self.stopping.is_set():
                    return FAILED
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


def _keep_what_is_loaded() -> None:
    """The collector of cycles leaves alone what was there before the first call: going through it once stopped all calls for 0.1 s."""
    gc.freeze()
    gc.enable()


def _bots_missing(book: Book, bots: Mapping[str, object]) -> None:
    """Say which flows name bots that the settings do not have: their steps leave by `failed`."""
    for flow in book.flows.values():
        for step, node in flow.program.steps.items():
            if isinstance(node, BotStep) and node.bot not in bots:
                log.warning("a bot is not set up", flow=flow.program.flow, step=step, bot=node.bot, setting=f"bots.{node.bot}.url")


def _credentials(file: Path) -> Credentials:
    try:
        return Credentials.load(file)
    except OSError as error:
        raise Refused(f"api.credentials: {file} cannot be read: {error.strerror}") from None


async def _lease(store: Store) -> None:
    """Become the writer; waits for another process that ends, and says so."""
    holder, waited = Holder.current(), 0.0
    while True:
        try:
            return await store.acquire_lease(holder)
        except LeaseHeld as held:
            if waited > LEASE_PATIENCE:
                raise Refused(f"another process is the writer of this database: {held}") from None
            log.warning("waiting for another process to end", seconds=round(held.seconds, 1))
            pause = max(min(held.seconds, 1.0), 0.05)
            waited += pause
            await asyncio.sleep(pause)


async def _renewing(engine: Engine) -> None:
    """Keep the lease while nothing is written; ends the process when another has it."""
    while True:
        await asyncio.sleep(RENEW_EVERY)
        await engine.keep_lease()


async def _tidying(shelf: Shelf, keep_days: float, connected: Callable[[], bool]) -> None:
    """Fetch what a crash left in Asterisk as soon as that is there, and drop recordings that are too old; again a few times a day."""
    while True:
        if not connected():
            await asyncio.sleep(RETURN_EVERY)
            continue
        try:
            log.info("dropped recordings that were too old", recordings=await shelf.tidy(keep_days))
        except (StoreError, OSError) as error:
            log.warning("recordings that are too old could not be dropped", reason=str(error))
        await asyncio.sleep(PRUNE_EVERY)


async def _pruning(store: Store, shelf: Shelf) -> None:
    """Drop what is too old to be kept, a while after the start and then a few times a day."""
    while True:
        await asyncio.sleep(PRUNE_EVERY)
        try:
            pruned = await store.prune(spared=shelf.calls())
        except StoreError as error:
            log.warning("what is too old could not be dropped", reason=str(error))
        else:
            log.info("dropped what was too old", calls=pruned)


async def _returning(ami: Ami, pbx: Pbx, engine: Engine) -> None:
    """Bring callers who went to the fallback while we were away back to their place, once we can serve them again."""
    while True:
        await asyncio.sleep(RETURN_EVERY)
        if not (pbx.health()["up"] and ami.health()["ok"] and engine.center.has_room()):
            continue
        try:
            waiting = await ami.waiting_in_fallback() if await ami.anybody_in_fallback() else []
        except Exception as error:
            log.warning("the fallback could not be looked into", reason=str(error) or type(error).__name__)
            continue
        for caller in waiting:
            if not engine.center.has_room():
                break
            try:
                await ami.return_caller(caller["channel"])
            except Exception as error:
                log.info("a caller stays in the fallback", reason=str(error) or type(error).__name__)


def _free(host: str, port: int) -> None:
    """Refuse an address that is taken before anything else is touched."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Refused(f"api: {host}:{port} cannot be used: {error.strerror}") from None


def _rendered(speech: Speech) -> Callable[[str, str], Awaitable[str]]:
    async def render(text: str, language: str) -> str:
        path: Path = await speech.render(text, language)
        return f"sound:{path.with_suffix('')}"

    return render


def _spoken(speech: Speech) -> Callable[[Iterable[tuple[str, str]]], Awaitable[object]]:
    async def speak(texts: Iterable[tuple[str, str]]) -> object:
        try:
            return await speech.warm(texts)
        except SpeechFailed as error:
            raise Unspeakable(str(error)) from None

    return speak


def _of_action(actions: Actions, name: str) -> dict[str, Any]:
    return _told(actions.health()[name])


def _told(health: dict[str, Any]) -> dict[str, Any]:
    """A part's health in the words of the API."""
    ok = health.get("ok", health.get("up", True))
    return {"ok": bool(ok), "why": str(health.get("why") or health.get("reason") or "")}
