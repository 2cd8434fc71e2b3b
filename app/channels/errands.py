"""What an adapter has under way: one task for each request, none twice, all dropped when it closes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class Errands:
    """The tasks of one adapter; use within a running loop."""

    def __init__(self) -> None:
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def begin(self, request: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin what is to be done for a request, unless it is under way."""
        if request in self._tasks:
            return
        task = self._tasks[request] = asyncio.get_running_loop().create_task(work())
        task.add_done_callback(lambda _: self._tasks.pop(request, None))

    async def close(self) -> None:
        """Drop what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
