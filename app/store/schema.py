"""The tables, as SQLAlchemy knows them; the migrations make them.

| table | one row for | clear | sealed |
|---|---|---|---|
| installation | the database | | a proof that the installation's key opens it |
| writer | the database | last seq and engine time written; who may write (the lease) | |
| call_keys | a call | | its data key; NULL once the call is forgotten |
| journal | a turn of a call ("" is the centre) | seq, call, at | the records |
| live | a call in progress | call | its snapshot |
| agents | an agent | agent | the snapshot |
| history | a call that ended | the facts that reports need | who it was, the remarks, the contact |
| programs | a version of a flow, or ("" for `flow`) of queues and agents | hash, flow, program (JSON), first used at | |

Times are seconds since the epoch on the engine's clock, except `writer.expires`, which is wall time.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Column, Double, ForeignKey, Index, Integer, LargeBinary, MetaData, String, Table, Text

HEAD = "0002"
"""The newest revision in `migrations/versions`."""

Id = String().with_variant(String(collation="C"), "postgresql")
"""Ids compare by their bytes, so that a prefix is a range on either database."""

metadata = MetaData()

installation = Table("installation", metadata, Column("id", Integer, primary_key=True), Column("proof", LargeBinary, nullable=False))

writer = Table(
    "writer",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("at", Double, nullable=False),
    Column("token", BigInteger, nullable=False),
    Column("holder", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", BigInteger, nullable=False),
    Column("started", BigInteger, nullable=False),
    Column("expires", Double, nullable=False),
)

call_keys = Table("call_keys", metadata, Column("call", Id, primary_key=True), Column("wrapped", LargeBinary))

journal = Table(
    "journal",
    metadata,
    Column("seq", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("call", Id, nullable=False),
    Column("at", Double, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Index("journal_call", "call", "seq"),
)

live = Table(
    "live",
    metadata,
    Column("call", Id, ForeignKey("call_keys.call"), primary_key=True),
    Column("snapshot", LargeBinary, nullable=False),
)

agents = Table("agents", metadata, Column("agent", Id, primary_key=True), Column("snapshot", LargeBinary, nullable=False))

history = Table(
    "history",
    metadata,
    Column("call", Id, primary_key=True),
    Column("flow", String),
    Column("version", String),
    Column("process", String),
    Column("queue", String),
    Column("agent", String),
    Column("outcome", String),
    Column("cause", Integer),
    Column("arrived", Double),
    Column("answered", Double),
    Column("connected", Double),
    Column("ended", Double),
    Column("waited", Double),
    Column("talked", Double),
    Column("wrap_up", Double),
    Column("disposition", String),
    Column("uniqueid", Id),
    Column("linkedid", Id),
    Column("ani_hash", LargeBinary),
    Column("personal", LargeBinary),
    Index("history_ended", "ended"),
    Index("history_process", "process", "ended"),
    Index("history_uniqueid", "uniqueid"),
    Index("history_linkedid", "linkedid"),
)

programs = Table(
    "programs",
    metadata,
    Column("hash", Id, primary_key=True),
    Column("flow", String, nullable=False),
    Column("program", Text, nullable=False),
    Column("at", Double, nullable=False),
)

PERSONAL = ("ani", "dnis", "remarks", "contact")
"""What of a call that ended is sealed under its key, in this order a JSON list in `history.personal`."""
