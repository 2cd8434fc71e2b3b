"""A process that commits without end and prints the number of each batch once it is acknowledged; a test kills it.

Batch n writes three journal rows that hold n (the centre, call `steady`, a call that changes every ten batches), the live
row of `steady` and an agent's row.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import structlog

from app.store import Batch, Holder, Store


def batch(n: int) -> Batch:
    """What batch number n writes."""
    record = ["e", "DigitPressed", {"n": n, "pad": "x" * (n * 37 % 3000)}]
    passing = f"passing-{n // 10}"
    return Batch(
        at=1000.0 + n,
        journal=[("", [record]), ("steady", [record]), (passing, [record])],
        live={"steady": {"n": n}, passing: {"n": n} if n % 10 < 9 else None},
        agents={"anna": {"n": n}},
        full=n % 5 == 0,
    )


async def main(url: str, key_file: str) -> None:
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    store = await Store.open(url, Path(key_file))
    await store.acquire_lease(Holder.current())
    left = await store.recover()
    n = left.agents.get("anna", {"n": 0})["n"]
    while True:
        n += 1
        await store.commit(batch(n))
        print(n, flush=True)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
