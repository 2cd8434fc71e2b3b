"""What the store asks of a database: carry out a plan of writes in one transaction, answer reads, and really delete.

SQLite and PostgreSQL each have a module of their own; both raise nothing but the errors of `app.store.errors`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from sqlalchemy import Select

from app.store.statements import Plan


class Backend(Protocol):
    """One open database."""

    def can_run_now(self) -> bool:
        """Whether an ordinary transaction takes no time worth mentioning just now. To be asked before a plan is made for `run_now`."""

    def run_now(self, plan: Plan) -> bool:
        """Carry out `plan` in one ordinary transaction before this returns.

        False when it was not done: then `run` is the way, and says what is wrong if anything is. Raises LeaseLost as it does.
        """

    async def run(self, plan: Plan, full: bool) -> None:
        """Carry out `plan` in one transaction; `full` makes it outlive a power cut.

        Raises LeaseLost when a step that must hit a row hits none, StoreClash when a row is there already, StoreBusy,
        StoreFull or StoreError; nothing was written then, unless the connection broke while it committed.
        """

    async def rows(self, query: Select[Any]) -> Sequence[Any]:
        """All rows of a query, beside the writer: neither waits for the other."""

    async def scrub(self) -> None:
        """Return when deleted values are gone from the files as well."""

    async def close(self) -> None:
        """Close every connection."""
