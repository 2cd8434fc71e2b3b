"""The versions of flows: number, content, state, and whom they are for."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "flow_versions",
        sa.Column("flow", sa.String, primary_key=True),
        sa.Column("number", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("hash", sa.String, nullable=False),
        sa.Column("published_at", sa.Double, nullable=False),
        sa.Column("by", sa.String, nullable=False),
        sa.Column("note", sa.String, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("share", sa.Double, nullable=False),
        sa.Column("numbers", sa.LargeBinary, nullable=False),
        sa.Column("guard", sa.String, nullable=False),
        sa.Column("figures", sa.String, nullable=False),
        sa.Column("seen", sa.Double, nullable=False),
        sa.Column("why", sa.String, nullable=False),
    )


def downgrade() -> None:
    """Drop the table."""
    op.drop_table("flow_versions")
