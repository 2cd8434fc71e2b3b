"""Every write there is, compiled once for each database.

The commit path runs some ten thousand times a minute, so it hands plain SQL text and tuples to the driver. The texts are
made from the tables by SQLAlchemy, for both dialects; `names` says what a tuple holds, in order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import Table, bindparam, delete, null, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import asyncpg
from sqlalchemy.sql.base import Executable

from app.store.schema import agents, call_keys, history, installation, journal, live, programs, writer

_SQLITE = sqlite.dialect()
_POSTGRESQL = asyncpg.dialect()  # type: ignore[no-untyped-call]


class Statement:
    """One write: its text for each database, and the names of the values in a row."""

    __slots__ = ("must_hit", "names", "postgresql", "sqlite")

    def __init__(
        self, names: Sequence[str], on_sqlite: Executable, on_postgresql: Executable | None = None, must_hit: bool = False
    ) -> None:
        self.names = tuple(names)
        self.must_hit = must_hit
        self.sqlite = self._compile(on_sqlite, _SQLITE)
        self.postgresql = self._compile(on_sqlite if on_postgresql is None else on_postgresql, _POSTGRESQL)

    def _compile(self, statement: Executable, dialect: Any) -> str:
        compiled: Any = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        if tuple(compiled.positiontup) != self.names:
            raise AssertionError(f"{compiled}: values are {compiled.positiontup}, not {self.names}")
        return str(compiled)


Row: TypeAlias = tuple[Any, ...]
Step: TypeAlias = tuple[Statement, list[Row]]
Plan: TypeAlias = list[Step]


def _values(names: Sequence[str]) -> dict[str, Any]:
    return {name: bindparam(name) for name in names}


def _insert(table: Table) -> Statement:
    names = [c.name for c in table.columns]
    return Statement(names, table.insert().values(_values(names)))


def _upsert(table: Table) -> Statement:
    names = [c.name for c in table.columns]
    key = [c.name for c in table.primary_key]
    lite, post = sqlite.insert(table).values(_values(names)), postgresql.insert(table).values(_values(names))
    rest = [name for name in names if name not in key]
    return Statement(
        names,
        lite.on_conflict_do_update(index_elements=key, set_={name: lite.excluded[name] for name in rest}),
        post.on_conflict_do_update(index_elements=key, set_={name: post.excluded[name] for name in rest}),
    )


def _delete(table: Table, key: str) -> Statement:
    return Statement([key], delete(table).where(table.c[key] == bindparam(key)))


def _writer(changes: Sequence[str], where: Sequence[str] = ("its_token",)) -> Statement:
    """A change of the one row `writer`, allowed only to whoever knows what stands there."""
    change = update(writer).values(_values(changes))
    for name in where:
        change = change.where(writer.c[name.removeprefix("its_")] == bindparam(name))
    return Statement([*changes, *where], change, must_hit=True)


PROOF_ADD = _insert(installation)
KEY_ADD = _insert(call_keys)
KEY_FORGET = Statement(["its_call"], update(call_keys).values(wrapped=null()).where(call_keys.c.call == bindparam("its_call")))
KEY_DROP = _delete(call_keys, "call")
JOURNAL_ADD = _insert(journal)
JOURNAL_UNDO = Statement(["seq"], delete(journal).where(journal.c.seq > bindparam("seq")))
JOURNAL_DROP = _delete(journal, "call")
JOURNAL_DROP_CENTRE = Statement(["call", "at"], delete(journal).where(journal.c.call == bindparam("call"), journal.c.at < bindparam("at")))
LIVE_PUT = _upsert(live)
LIVE_DROP = _delete(live, "call")
AGENT_PUT = _upsert(agents)
AGENT_DROP = _delete(agents, "agent")
HISTORY_PUT = _upsert(history)
HISTORY_CLEAN = Statement(
    ["its_call"], update(history).values(ani_hash=null(), personal=null()).where(history.c.call == bindparam("its_call"))
)
HISTORY_SEAL_OFF = Statement(["its_call"], update(history).values(personal=null()).where(history.c.call == bindparam("its_call")))
HISTORY_DROP_OLD = Statement(["ended"], delete(history).where(history.c.ended < bindparam("ended")))

PROGRAM_PUT = _upsert(programs)

ADVANCE = _writer(["seq", "at"])
ADVANCE_AND_EXTEND = _writer(["seq", "at", "expires"])
LEASE_TAKE = _writer(["token", "holder", "host", "pid", "started", "expires"], ["its_token", "its_expires"])
LEASE_EXTEND = _writer(["expires"])
LEASE_END = _writer(["token", "expires"])
