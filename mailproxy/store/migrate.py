"""
Brings a database to the schema of this program, in one transaction, or refuses.

The steps are in ``migrations/versions``; each ships with the program and never changes again.
"""

from __future__ import annotations

import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import StaticPool

from mailproxy.errors import StoreRefused
from mailproxy.store.refusals import DATABASE_ERRORS


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
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    # The driver would begin only before the first INSERT, and leave the tables outside.
    return bring(engine, "BEGIN IMMEDIATE", location, target)


def bring(
    engine: Engine, first: str, location: Path | None = None, target: str | None = None
) -> str:
    """
    Bring the database of *engine* to a schema, as :func:`migrate` does.

    :param first: what the transaction begins with, so that nobody else changes the database.
    """

    @event.listens_for(engine, "begin")
    def _begin(opened: Connection) -> None:
        opened.exec_driver_sql(first)

    config = _config(location)
    directory = ScriptDirectory.from_config(config)
    try:
        with engine.begin() as opened:
            config.attributes["connection"] = opened
            _refuse_newer(directory, opened)
            _go(config, directory, target)
    except (SQLAlchemyError, *DATABASE_ERRORS) as error:
        cause = getattr(error, "orig", None) or error
        raise StoreRefused(
            f"the database could not be migrated and is unchanged: {cause}"
        ) from None
    head = target or directory.get_current_head()
    assert head is not None, "there is a first migration"
    return head


def _config(location: Path | None) -> Config:
    config = Config()
    config.set_main_option(
        "script_location", str(location or Path(__file__).with_name("migrations"))
    )
    return config


@cache
def newest() -> str:
    """The revision of the program's own schema."""
    head = ScriptDirectory.from_config(_config(None)).get_current_head()
    assert head is not None, "there is a first migration"
    return head


def _refuse_newer(directory: ScriptDirectory, opened: Connection) -> None:
    ours = {script.revision for script in directory.walk_revisions()}
    for revision in MigrationContext.configure(opened).get_current_heads():
        if revision not in ours:
            raise StoreRefused(
                f"the database has schema {revision!r}, which this program does not know: "
                "it was made by a newer one"
            )


def _go(config: Config, directory: ScriptDirectory, target: str | None) -> None:
    known = [script.revision for script in directory.walk_revisions()]  # the newest first
    if target is not None and target not in known:
        raise StoreRefused(f"there is no schema {target!r}; there are {', '.join(sorted(known))}")

    def steps(revision: Any, _context: MigrationContext) -> Any:
        current = revision if isinstance(revision, str) else next(iter(revision or ()), None)
        if target is not None and current in known[: known.index(target)]:
            return directory._downgrade_revs(target, revision)
        return directory._upgrade_revs(target or "head", revision)

    with EnvironmentContext(config, directory, fn=steps, destination_rev=target or "head"):
        directory.run_env()
