"""Processes that commit calls and deliver webhooks, each until it is killed: `python -m tests.contract.hook_lives URL KEY ORIGIN LIVES`.

A life is a fork of this program, which has everything imported, so that many can be lived. Each writes calls to the real store and
tells a receiver of them by the real feed and hooks. The last one writes nothing, and ends by itself when everything is told.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

import structlog
from pydantic import SecretStr

from app.actions.guard import Origin
from app.actions.webhooks import Poster, Webhook
from app.feed import Feed
from app.hooks import Hooks
from app.store import Batch, Holder, Store

SECRET = "whsec_aG9va3MgdGhhdCBhcmUga2lsbGVkIGF0IGFueSBtb21lbnQ="
TARGETS = ("first", "second")
PAUSE = 0.02


def batch(n: int) -> Batch:
    """Call n of two rows, and something on call n - 1."""
    call, before = f"{n:032x}", f"{n - 1:032x}"
    at = time.time()
    rows = [(before, "CallEnded"), (call, "CallArrived"), (call, "Queued")]
    journal = [(whose, [["e", kind, {"call": whose, "n": n}, at]]) for whose, kind in rows]
    return Batch(at=at, journal=journal, live={call: {"n": n}, before: None}, agents={"anna": {"n": n}})


async def live(url: str, key_file: str, origin: str, begun: int, writes: bool) -> None:
    """Deliver, say so, and write calls until killed; or only deliver until every target has been told everything."""
    store = await Store.open(url, Path(key_file))
    await store.acquire_lease(Holder.current())
    n = (await store.recover()).agents.get("anna", {"n": 0})["n"]
    feed, poster = Feed(store), Poster([Origin(origin=origin, allow_private=True)])
    targets = {name: Webhook(url=f"{origin}/{name}", secret=SecretStr(SECRET)) for name in TARGETS}
    delivering = asyncio.create_task(Hooks(targets, feed, store, poster, pause=PAUSE).run())
    await _until(0, store)
    os.write(begun, b"!")
    while writes:
        n += 1
        await store.commit(batch(n))
        feed.poke()
        await asyncio.sleep(0.005)
    await _until(store.last_seq, store)
    delivering.cancel()


async def _until(seq: int, store: Store) -> None:
    """Every target has a place in the journal, and it is this row or a later one."""
    for name in TARGETS:
        while True:
            place = await store.readers.cursor(f"webhook:{name}")
            if place is not None and place[0] >= seq:
                break
            await asyncio.sleep(0.005)


def one_life(url: str, key_file: str, origin: str, seconds: float, at_work: bool) -> None:
    """A process that is killed after so many seconds, of its work or of its life; without a number it has all the time that it needs."""
    begun, tells = os.pipe()
    child = os.fork()
    if not child:
        try:
            asyncio.run(live(url, key_file, origin, tells, writes=seconds > 0))
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    os.close(tells)
    if at_work:
        os.read(begun, 1)
    if seconds > 0:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    os.close(begun)
    if os.waitstatus_to_exitcode(status) != (-signal.SIGKILL if seconds > 0 else 0):
        raise SystemExit("a life ended by itself")


def main(url: str, key_file: str, origin: str, lives: str) -> None:
    """So many lives of random lengths, one of four as it begins, and a last one in peace."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    moments = random.Random(20)
    for n in range(int(lives)):
        one_life(url, key_file, origin, 0.001 + moments.random() * 0.15, at_work=n % 4 > 0)
    one_life(url, key_file, origin, 0.0, at_work=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
