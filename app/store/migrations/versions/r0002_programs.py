"""The programs of flows, by hash: whatever was active once can be run again."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "programs",
        sa.Column("hash", sa.String, primary_key=True),
        sa.Column("flow", sa.String, nullable=False),
        sa.Column("program", sa.String, nullable=False),
        sa.Column("at", sa.Double, nullable=False),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("programs")
