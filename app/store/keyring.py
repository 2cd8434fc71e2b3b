"""The calls' keys at hand, and those that the database keeps.

A new call's key is minted without asking the database. If the call turns out to have one already (it ended before this
process started), the insert clashes, the key is read and the commit is run once more.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlalchemy import select

from app.store.backend import Backend
from app.store.errors import StoreRefused
from app.store.schema import call_keys
from app.store.seal import Keys, Seal

CENTRE = ""
KEYS_AT_HAND = 8192
IN_ONE_QUERY = 500


class KeyRing:
    """The keys of calls, and of the centre: a key that is None says that the call was forgotten.

    `unsaved` are wrapped keys that no acknowledged commit holds yet.
    """

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self._backend = backend
        self.keys = keys
        self.seals: dict[str, Seal | None] = {CENTRE: keys.centre}
        self.unsaved: dict[str, bytes] = {}

    def close(self, call: str, place: str, plain: bytes) -> bytes | None:
        """`plain` sealed with the call's key, minted when the call is new; None when the call was forgotten."""
        if call not in self.seals:
            self.seals[call], self.unsaved[call] = self.keys.mint(call)
        seal = self.seals[call]
        return None if seal is None else seal.close(place, plain)

    def open(self, call: str, place: str, sealed: bytes) -> bytes:
        """What was sealed with the key of a live call, which is at hand."""
        seal = self.seals.get(call)
        if seal is None:
            raise StoreRefused(f"{place}: the key of a live call is missing; keep the database, and restore a backup")
        return seal.open(place, bytes(sealed))

    def add(self, call: str, wrapped: bytes) -> None:
        """Take a key to hand."""
        self.seals[call] = self.keys.unwrap(call, wrapped)

    def drop_old(self) -> None:
        """Make room: the oldest of the calls' keys are read again when they are needed."""
        for call in list(self.seals)[1 : KEYS_AT_HAND // 4]:
            del self.seals[call]

    async def stored(self, calls: Iterable[str]) -> dict[str, Seal | None]:
        """The keys that the database has of these calls."""
        wanted = [call for call in dict.fromkeys(calls) if call != CENTRE]
        found: dict[str, Seal | None] = {}
        for some in portions(wanted, IN_ONE_QUERY):
            for call, wrapped in await self._backend.rows(select(call_keys.c.call, call_keys.c.wrapped).where(call_keys.c.call.in_(some))):
                found[call] = None if wrapped is None else self.keys.unwrap(call, bytes(wrapped))
        return found

    async def fetch(self, calls: Iterable[str]) -> None:
        """Take the keys that the database has in place of those minted for the same calls."""
        for call, seal in (await self.stored(calls)).items():
            self.seals[call] = seal
            self.unsaved.pop(call, None)

    async def missing(self, calls: Iterable[str]) -> dict[str, Seal | None]:
        """The stored keys of those of these calls whose keys are not at hand."""
        wanted = {call for call in calls if call not in self.seals}
        return await self.stored(wanted) if wanted else {}


def journal_place(call: str, seq: int, at: float) -> str:
    """What a row of the journal is sealed for."""
    return f"journal:{call}:{seq}:{at!r}"


def portions(things: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    """The things in order, at most `size` at once."""
    return (things[i : i + size] for i in range(0, len(things), size))
