"""Publishing a flow while calls go on: read and check it, speak what it says, write the program down, and only then tell the centre.

What callers get is decided by one event (`FlowPublished`), so two who publish at once cannot mix: whoever comes second has decided
upon versions that are not those any more, and is refused. Whatever takes long is done in a thread: callers wait for none of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Protocol

import structlog

from app.api.backend import BadFlow, Refused, StorageBusy
from app.core import facts
from app.core.defined import plain_program, read_program, to_keep
from app.core.events import CallerLeft, Event, FlowPublished, FlowsRead
from app.core.flow.compiled import Compiled
from app.core.flow.program import Program
from app.core.versions import FIGURES, Line, Version
from app.engine import Engine
from app.proving import Reader
from app.publish.diff import differences
from app.publish.drawing import svg
from app.publish.reading import ProjectError
from app.store import StoreError

log = structlog.get_logger()
PICTURES = 64
"""Pictures of versions that are kept; a large one has some 100 kB."""


class Unspeakable(Exception):
    """A text cannot be made into a recording; says why."""


Speak = Callable[[Iterable[tuple[str, str]]], Awaitable[object]]
"""Makes the recordings of (text, language) pairs; raises `Unspeakable`."""


class Submit(Protocol):
    """Hands an event to the centre; returns when it is durable; raises `Refused` or `StorageBusy`."""

    async def __call__(self, event: Event) -> None: ...


class Flows:
    """`app.api.backend.Flows` over an engine."""

    def __init__(self, engine: Engine, reader: Reader, speak: Speak, submit: Submit) -> None:
        self._engine, self._reader, self._speak, self._submit = engine, reader, speak, submit
        self._published = engine.center.book.published
        self._pictures: dict[str, str] = {}
        self._drawing = asyncio.Lock()
        engine.listeners.append(_tell_the_log)

    # ---- at the start --------------------------------------------------------------------------------------------------

    async def read_files(self, files: Iterable[Compiled]) -> None:
        """Write down the programs of the project's files, speak what callers will hear, and tell the centre what there is."""
        found = {flow.name: self._as_known(flow) for flow in files}
        await self._engine.store.keep_programs(to_keep(found.values()), self._engine.clock.now())
        self._published.shelf.update({flow.version: flow for flow in found.values()})
        running = [*found.values(), *(self._published.shelf[v.hash] for v in self._running() if v.hash in self._published.shelf)]
        await self._speak(text for flow in running for text in flow.known_texts())
        rows = tuple(version.row() for line in self._published.lines.values() for version in line.versions.values())
        self._engine.post(FlowsRead({flow.name: flow.version for flow in found.values()}, rows))

    def _as_known(self, flow: Compiled) -> Compiled:
        """The flow, or the active version where that is the same program (another release may have hashed it otherwise)."""
        line = self._published.lines.get(flow.name)
        known = self._published.shelf.get(line.active.hash) if line and line.active else None
        if known is flow:
            return flow
        return known if known is not None and known.program.model_dump() == flow.program.model_dump() else flow

    def _running(self) -> list[Version]:
        return [version for line in self._published.lines.values() for version in line.versions.values() if version.runs()]

    # ---- reading -------------------------------------------------------------------------------------------------------

    def flows(self) -> list[dict[str, Any]]:
        """Every flow, by name."""
        return [self._flow(line) for _, line in sorted(self._published.lines.items())]

    def _flow(self, line: Line) -> dict[str, Any]:
        active = line.active
        program = self._published.shelf[active.hash].program if active and active.hash in self._published.shelf else None
        return {
            "name": line.flow,
            "title": program.title if program else "",
            "numbers": list(program.dnis) if program else [],
            "active": active.number if active else None,
            "canary": line.canary.number if line.canary else None,
            "versions": len(line.versions),
        }

    def tag(self, flow: str) -> str:
        """Changes whenever it changes what new callers get."""
        return self._line(flow).tag

    def versions(self, flow: str) -> list[dict[str, Any]]:
        """All versions of a flow, the newest first."""
        return [self._told(version) for _, version in sorted(self._line(flow).versions.items(), reverse=True)]

    def _told(self, version: Version) -> dict[str, Any]:
        live = [call for call in self._engine.center.calls.values() if call.caller]
        return {
            **version.row(),
            "calls": sum(call.flow.name == version.flow and call.flow.version == version.hash for call in live),
            "ended": len(version.figures),
            "figures": {figure: round(version.share_of(figure), 4) for figure in FIGURES},
        }

    async def program(self, flow: str, number: int) -> dict[str, Any]:
        """One version's program, as JSON values, without what is filled in from other files."""
        return (await self._program(flow, number)).model_dump(mode="json", by_alias=True, exclude={"outputs", "tables"})

    async def diff(self, flow: str, before: int, after: int) -> list[dict[str, Any]]:
        """What changes for callers from one version to another."""
        both = await self._program(flow, before), await self._program(flow, after)
        return [change.told() for change in await asyncio.to_thread(differences, *both)]

    async def picture(self, flow: str, number: int | None) -> tuple[str, str]:
        """A version as SVG, the active one unless it is said which, and the version's hash. Each is drawn once, in a thread."""
        version = self._line(flow).active if number is None else self._version(flow, number)
        if version is None:
            raise Refused("unknown-version", f"flow {flow} has no version that callers get")
        program = await self._program(flow, version.number)
        async with self._drawing:
            if version.hash not in self._pictures:
                while len(self._pictures) >= PICTURES:
                    del self._pictures[next(iter(self._pictures))]
                self._pictures[version.hash] = await asyncio.to_thread(self._draw, program, version.hash)
            return self._pictures[version.hash], version.hash

    def _draw(self, program: Program, hash_: str) -> str:
        return svg(self._reader.context(self._published.shelf.get(hash_) or read_program(plain_program(program), hash_)))

    def _line(self, flow: str) -> Line:
        line = self._published.lines.get(flow)
        if line is None:
            raise Refused("unknown-flow", f"there is no flow {flow}")
        return line

    def _version(self, flow: str, number: int) -> Version:
        version = self._line(flow).versions.get(number)
        if version is None:
            raise Refused("unknown-version", f"flow {flow} has no version {number}")
        return version

    async def _program(self, flow: str, number: int) -> Program:
        version = self._version(flow, number)
        on_shelf = self._published.shelf.get(version.hash)
        if on_shelf is not None:
            return on_shelf.program
        try:
            content = (await self._engine.store.programs([version.hash])).get(version.hash)
        except StoreError:
            raise StorageBusy from None
        if content is None:
            raise Refused("unknown-version", f"the program of version {number} of flow {flow} is not there any more")
        return Program.model_validate(content).of_version(version.hash)

    # ---- publishing ----------------------------------------------------------------------------------------------------

    async def publish(self, flow: str, content: str | Mapping[str, Any], name: str, by: str, **wish: Any) -> dict[str, Any]:
        """Publish what somebody sent (YAML text or JSON values), called `name`; the version it is now. `wish`: as `FlowPublished`.

        Raises `BadFlow`, `Refused` or `StorageBusy`.
        """
        tag = wish.pop("tag", "") or self._tag(flow)
        try:
            compiled = await asyncio.to_thread(self._reader.read, name, content)
        except ProjectError as error:
            raise BadFlow(error.problems) from None
        if compiled.name != flow:
            raise BadFlow([f"{name}: flow: this is flow {compiled.name!r}, published as {flow!r}"])
        return await self._release(compiled, by, tag, wish)

    async def activate(self, flow: str, number: int, by: str, **wish: Any) -> dict[str, Any]:
        """Publish a version again, as `publish` does: it is checked against the actions and queues of today."""
        tag = wish.pop("tag", "") or self._line(flow).tag
        try:
            program = await self._program(flow, number)
            compiled = await asyncio.to_thread(self._reader.again, program)
        except ProjectError as error:
            raise BadFlow(error.problems) from None
        return await self._release(compiled, by, tag, wish)

    def _tag(self, flow: str) -> str:
        return self._published.lines[flow].tag if flow in self._published.lines else Line(flow).tag

    async def _release(self, flow: Compiled, by: str, tag: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        try:
            await self._speak(flow.known_texts())
        except Unspeakable as error:
            raise BadFlow([f"{flow.name}: a prompt cannot be spoken: {error}"]) from None
        try:
            await self._engine.store.keep_programs(to_keep([flow]), self._engine.clock.now())
        except StoreError:
            raise StorageBusy from None
        self._published.shelf.setdefault(flow.version, flow)
        await self._submit(FlowPublished(flow.name, flow.version, by, tag=tag, **wish))
        version = self._line(flow.name).of(flow.version)
        assert version is not None
        return self._told(version)


def _tell_the_log(happened: list[tuple[float, Event, list[Any]]], agents: list[str]) -> None:
    for _, event, out in happened:
        if not isinstance(event, FlowPublished | FlowsRead | CallerLeft):
            continue
        for thing in out:
            if isinstance(thing, facts.VersionChanged):
                say = log.warning if thing.why else log.info
                by = getattr(event, "by", "")
                say("a flow's version changed", flow=thing.flow, number=thing.number, state=thing.state, why=thing.why, by=by)
            elif isinstance(event, FlowsRead) and isinstance(thing, facts.Noticed):
                log.error("a flow of the project's files is not published", reason=thing.detail)
