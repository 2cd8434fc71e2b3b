"""The first schema: installation, writer, keys, journal, live rows, agents, history."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")
_SEQ = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Make every table, and the one row of `writer`."""
    op.create_table("installation", sa.Column("id", sa.Integer, primary_key=True), sa.Column("proof", sa.LargeBinary, nullable=False))
    writer = op.create_table(
        "writer",
        sa.Column("id", sa.Integer, primary_key=True),
        sa.Column("seq", sa.BigInteger, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("token", sa.BigInteger, nullable=False),
        sa.Column("holder", sa.String, nullable=False),
        sa.Column("host", sa.String, nullable=False),
        sa.Column("pid", sa.BigInteger, nullable=False),
        sa.Column("started", sa.BigInteger, nullable=False),
        sa.Column("expires", sa.Double, nullable=False),
    )
    nobody = {"id": 1, "seq": 0, "at": 0.0, "token": 0, "holder": "", "host": "", "pid": 0, "started": 0, "expires": 0.0}
    op.bulk_insert(writer, [nobody])
    op.create_table("call_keys", sa.Column("call", _ID, primary_key=True), sa.Column("wrapped", sa.LargeBinary))
    op.create_table(
        "journal",
        sa.Column("seq", _SEQ, primary_key=True, autoincrement=False),
        sa.Column("call", _ID, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("payload", sa.LargeBinary, nullable=False),
    )
    op.create_index("journal_call", "journal", ["call", "seq"])
    op.create_table(
        "live",
        sa.Column("call", _ID, sa.ForeignKey("call_keys.call"), primary_key=True),
        sa.Column("snapshot", sa.LargeBinary, nullable=False),
    )
    op.create_table("agents", sa.Column("agent", _ID, primary_key=True), sa.Column("snapshot", sa.LargeBinary, nullable=False))
    _history()


def _history() -> None:
    texts = ["flow", "version", "process", "queue", "agent", "outcome"]
    seconds = ["arrived", "answered", "connected", "ended", "waited", "talked", "wrap_up"]
    op.create_table(
        "history",
        sa.Column("call", _ID, primary_key=True),
        *(sa.Column(name, sa.String) for name in texts),
        sa.Column("cause", sa.Integer),
        *(sa.Column(name, sa.Double) for name in seconds),
        sa.Column("disposition", sa.String),
        sa.Column("uniqueid", _ID),
        sa.Column("linkedid", _ID),
        sa.Column("ani_hash", sa.LargeBinary),
        sa.Column("personal", sa.LargeBinary),
    )
    op.create_index("history_ended", "history", ["ended"])
    op.create_index("history_process", "history", ["process", "ended"])
    op.create_index("history_uniqueid", "history", ["uniqueid"])
    op.create_index("history_linkedid", "history", ["linkedid"])


def downgrade() -> None:
    """There is nothing before."""
    raise NotImplementedError("there is no schema before the first")
