"""Run by Alembic: applies the steps on the connection that the caller opened and will commit."""

from __future__ import annotations

from alembic import context

from mailproxy.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
