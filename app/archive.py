"""What is kept of people beyond their calls, and how it is forgotten: `app.api.backend.Archive` over the store and the shelf.

A person is known by the number they called from. To forget them is to delete the keys of all their calls, with which the journal, the
history and the recordings are sealed; the recordings' files, here and in Asterisk, and what was spoken to nobody else, go as well. Files
go first: who is interrupted asks again, and the same calls are found.
"""

from __future__ import annotations

import re
from typing import Any

import structlog

from app.api.backend import StorageBusy
from app.channels.shelf import NotThere, Shelf
from app.channels.speech import Speech
from app.core.call import Call
from app.core.commands import Play
from app.core.record import unpack
from app.engine import Engine
from app.house import masked
from app.store import Forgotten, StoreError

log = structlog.get_logger()


class Archive:
    """One installation's."""

    def __init__(self, engine: Engine, shelf: Shelf, speech: Speech) -> None:
        self._engine, self._shelf, self._speech = engine, shelf, speech

    async def recording(self, name: str) -> bytes | None:
        """A recording's WAV file."""
        try:
            return await self._shelf.read(name)
        except NotThere as error:
            if str(error) == "missing":
                return None
            raise StorageBusy from None

    async def forget(self, number: str, by: str) -> dict[str, Any]:
        """Forget whoever called from a number, and say what there was (the shape of `app.api.people.Forgotten`)."""
        store, numbers = self._engine.store, spellings(number)
        kept = [(call.id, _why(call)) for call in self._engine.center.calls.values() if {call.ani, call.booking.get("number")} & numbers]
        up = {call for call, _ in kept}
        try:
            calls = {call: arrived for call, arrived in await store.history.calls_of(sorted(numbers)) if call not in up}
            prompts = [self._speech.drop(*text) for text in sorted(await self._spoken(list(calls)))]
            recordings, sure = await self._shelf.drop_calls(calls)
            clean = await (store.forget(*calls) if calls else store.scrub())
            again = [call for call, _ in await store.history.calls_of(sorted(numbers)) if call not in up]
        except StoreError as error:
            log.warning("a person could not be forgotten", reason=str(error))
            raise StorageBusy from None
        left = [] if sure else ["recordings in Asterisk could not be looked for; they are deleted as soon as it answers"]
        left += [] if clean else ["old pages of the database are kept alive by somebody who reads it; ask again"]
        left += [f"call {call} ended meanwhile; ask again" for call in again]
        log.info("a person was forgotten", calls=len(calls), recordings=recordings, kept=len(kept), left=len(left), by=by)
        return {
            "number": masked(number),
            "calls": [{"call": call, "arrived": arrived} for call, arrived in calls.items()],
            "recordings": recordings,
            "prompts": sum(prompts),
            "kept": [{"call": call, "why": why} for call, why in kept],
            "left": left,
        }

    async def _spoken(self, calls: list[str]) -> set[tuple[str, str]]:
        """The (text, language) that these calls heard, without those that every caller of a flow hears."""
        heard: set[tuple[str, str]] = set()
        for call in calls:
            try:
                records = await self._engine.store.history.timeline(call) or []
            except Forgotten:
                continue
            for play in [unpack(record[1:3]) for _, record in records if record[:2] == ["c", Play.__name__]]:
                heard |= {(item.partition(":")[2], play.language) for item in play.media if item.startswith("text:")}
        for flow in self._engine.center.book.versions() if heard else ():
            heard -= set(flow.known_texts())
        return heard


def spellings(number: str) -> set[str]:
    """How lines may tell a number: as it is given, without what is there for people alone, with and without its international prefix."""
    plain = re.sub(r"[\s()./-]", "", number)
    bare = plain.removeprefix("+") if plain.startswith("+") else plain.removeprefix("00")
    return {number, plain, bare, f"+{bare}", f"00{bare}"} if bare.isdigit() else {number, plain}


def _why(call: Call) -> str:
    if call.caller:
        return "the call is up"
    return "the caller is to be called back" if call.booking else "a message is on its way" if call.will else "an agent works on it"
