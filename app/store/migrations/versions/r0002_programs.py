"""What processes ran, by hash: programs of flows, and queues with agents. Replays run them again after the files have changed."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_ID = sa.String().with_variant(sa.String(collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table; what ran before is not known any more."""
    op.create_table(
        "programs",
        sa.Column("hash", _ID, primary_key=True),
        sa.Column("flow", sa.String, nullable=False),
        sa.Column("program", sa.Text, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Nothing else depends on it."""
    op.drop_table("programs")
