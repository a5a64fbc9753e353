"""
Brings a database to the schema of this program, in one transaction, or refuses.

A database that is there already - nearly every start - is told by its revision alone.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path

from mailproxy.store.refusals import DATABASE_ERRORS

#: The program's own steps.
MIGRATIONS = Path(__file__).with_name("migrations")


@cache
def newest() -> str:
    """The revision of the program's own schema: its steps are numbered, in their names too."""
    return max(path.name for path in (MIGRATIONS / "versions").glob("[0-9]*.py"))[:4]


def migrate(
    connection: sqlite3.Connection, location: Path | None = None, target: str | None = None
) -> str:
    """
    Bring the database behind *connection* to the newest schema.

    :param location: the folder of the migrations; the program's own if None.
    :param target: the revision to go to instead, up or down; what later ones brought is lost.
    :return: the revision it is at now.
    :raises StoreRefused: its schema is newer than this program, there is no such revision, or a
        step failed; nothing was changed.
    """
    if location is None and target is None and _revisions(connection) == [newest()]:
        return newest()
    # Loaded where there is something to do: it costs a quarter of a second, at each start.
    from sqlalchemy import create_engine
    from sqlalchemy.pool import StaticPool

    from mailproxy.store.migrating import bring

    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    # The driver would begin only before the first INSERT, and leave the tables outside.
    return bring(engine, "BEGIN IMMEDIATE", location, target)


def _revisions(connection: sqlite3.Connection) -> list[str]:
    """What the database says it is at; nothing where it cannot be asked yet."""
    try:
        return [row[0] for row in connection.execute("SELECT version_num FROM alembic_version")]
    except DATABASE_ERRORS:
        return []
