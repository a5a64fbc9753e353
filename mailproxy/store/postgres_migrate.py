"""Brings a database on a PostgreSQL server to the schema of this program, or refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg

from mailproxy.errors import StoreRefused
from mailproxy.store import postgres_nodes as nodes
from mailproxy.store.postgres_driver import WRITERS, Connection
from mailproxy.store.postgres_server import Server
from mailproxy.store.refusals import ServerError


def migrate(server: Server, location: Path | None = None, target: str | None = None) -> str:
    """
    See :func:`mailproxy.store.migrate.migrate`. Of nodes that start together one does it.

    :raises StoreRefused: also where the server cannot be reached.
    """
    # As on SQLite: loaded where there is something to do.
    from sqlalchemy import create_engine
    from sqlalchemy.dialects import registry
    from sqlalchemy.pool import NullPool

    from mailproxy.store.migrating import bring

    registry.register("mailproxy.server", f"{__package__}.postgres_sql", "ServerDialect")

    def connect() -> psycopg.Connection[Any]:
        raw = server.connect()
        raw.autocommit = False
        return raw

    engine = create_engine("mailproxy+server://", creator=connect, poolclass=NullPool)
    try:
        return bring(engine, f"SELECT pg_advisory_xact_lock({WRITERS})", location, target)
    finally:
        engine.dispose()


def revision(connection: Connection) -> str | None:
    """What the database is at; None for one that is empty, or in the middle of its migrations."""
    (table,) = connection.execute("SELECT to_regclass('alembic_version')").fetchone()
    if table is None:
        return None
    found = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    return str(found[0][0]) if len(found) == 1 else None


def migrate_alone(url: str, target: str | None) -> str:
    """
    See :func:`migrate`, for an operator who asks for it.

    :raises StoreRefused: also where it goes back, and nodes live that know only what is there.
    """
    server = Server(url, 0.0, "migrate")
    connection = server.open()
    try:
        known = revision(connection)
        if target is not None and known is not None and target < known:
            alive = sum(node.alive for node in nodes.listed(connection.cursor()))
            if alive:
                raise StoreRefused(f"{alive} nodes have the database: stop them first")
    except ServerError as error:
        raise StoreRefused(f"cannot look at the database: {error}") from None
    finally:
        connection.close()
    return migrate(server, target=target)
