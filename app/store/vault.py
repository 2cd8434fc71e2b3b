"""What is kept elsewhere and sealed with a call's key, so that forgetting the call makes it unreadable too: recordings."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress

from app.store import statements as sql
from app.store.backend import Backend
from app.store.errors import Forgotten, StoreClash, StoreError
from app.store.keyring import KeyRing
from app.store.seal import Seal


class Vault:
    """Seals with keys that are in the database: what is sealed here outlives this process."""

    def __init__(self, backend: Backend, ring: KeyRing) -> None:
        self._backend, self._ring = backend, ring

    async def seal(self, call: str, place: str, plain: bytes) -> bytes:
        """The bytes as only `unseal` reads them; raises Forgotten. A call without a key (it was pruned) gets a new one."""
        kept = await self._key(call)
        if kept is None:
            _, wrapped = self._ring.keys.mint(call)
            with suppress(StoreClash):
                await self._backend.run([(sql.KEY_ADD, [(call, wrapped)])], full=True)
            await self._ring.fetch([call])
            kept = await self._key(call)
            if kept is None:
                raise StoreError(f"the key of call {call} could not be kept")
        return await asyncio.to_thread(kept.close, place, plain)

    async def unseal(self, call: str, place: str, sealed: bytes) -> bytes:
        """What `seal` was given; raises Forgotten, also of a call of which nothing is known any more."""
        kept = await self._key(call)
        if kept is None:
            raise Forgotten(call)
        return await asyncio.to_thread(kept.open, place, sealed)

    async def forgotten(self, calls: Iterable[str]) -> set[str]:
        """Which of these calls were forgotten."""
        return {call for call, kept in (await self._ring.stored(calls)).items() if kept is None}

    async def _key(self, call: str) -> Seal | None:
        """A call's key that is in the database; None where there is none. Raises Forgotten."""
        at_hand = call in self._ring.seals and call not in self._ring.unsaved
        kept = self._ring.seals if at_hand else await self._ring.stored([call])
        if call in kept and kept[call] is None:
            raise Forgotten(call)
        return kept.get(call)
