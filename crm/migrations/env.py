"""Runs the migrations on the connection that `crm.database` hands over; there is no offline mode."""

from __future__ import annotations

from alembic import context

from crm.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transactional_ddl=True,
)
context.run_migrations()
