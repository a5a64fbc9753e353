"""
The steps from one schema to another, by Alembic, which takes its time to be loaded.

They are in ``migrations/versions``; each ships with the program and never changes again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from mailproxy.errors import StoreRefused
from mailproxy.store.migrate import MIGRATIONS
from mailproxy.store.refusals import DATABASE_ERRORS


def bring(
    engine: Engine, first: str, location: Path | None = None, target: str | None = None
) -> str:
    """
    Bring the database of *engine* to a schema, as :func:`mailproxy.store.migrate.migrate` does.

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
    config.set_main_option("script_location", str(location or MIGRATIONS))
    return config


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
