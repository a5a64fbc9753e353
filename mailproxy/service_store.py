"""Which store the settings name, to be opened or to be brought to another schema."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mailproxy.clock import Names
from mailproxy.config import Settings
from mailproxy.config_database import DatabaseUrl
from mailproxy.crypto import Sealer
from mailproxy.errors import ConfigurationError, StoreRefused
from mailproxy.interfaces import IClock
from mailproxy.metrics import Metrics
from mailproxy.store.database import Database
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.migrate import migrate
from mailproxy.store.options import StoreOptions
from mailproxy.turns import Sends

if TYPE_CHECKING:
    from mailproxy.store.postgres import PostgresStore


def open_store(
    reactor: Any,
    settings: Settings,
    clock: IClock,
    names: Names,
    sealer: Sealer,
    metrics: Metrics,
    at_end: Sends | None,
) -> EmbeddedStore | PostgresStore:
    """
    The store of this process, not yet started.

    :param reactor: None: it does every work at once, in the caller's thread.
    :raises ConfigurationError: what is needed to speak to a database server is not installed.
    """
    options = StoreOptions(
        max_age_seconds=settings.max_age_seconds,
        fault_max_age_seconds=settings.account_fault_max_age_seconds,
        retention_seconds=settings.delivery_report_retention_seconds,
        idempotency_seconds=settings.idempotency_seconds,
        report_max_age_seconds=settings.report_max_age_seconds,
        lease_seconds=settings.node_lease_seconds,
        check_seconds=settings.db_check_seconds,
    )
    common: dict[str, Any] = {
        "clock": clock,
        "names": names,
        "sealer": sealer,
        "metrics": metrics,
        "reactor": reactor,
        "options": options,
        "at_end": at_end,
    }
    if not isinstance(settings.db_path, DatabaseUrl):
        return EmbeddedStore(settings.db_path, **common)
    need_driver()
    # Loaded where it is needed: the driver comes with an extra.
    from mailproxy.store.postgres import PostgresStore

    return PostgresStore(settings.db_path.text, **common)


def migrate_store(settings: Settings, target: str | None) -> str:
    """
    Bring the database that the settings name to a schema, while nobody has it.

    :param target: the revision; None for the newest.
    :return: the revision it is at now.
    :raises StoreRefused: somebody has it, or it cannot be done; nothing was changed.
    """
    if not isinstance(settings.db_path, DatabaseUrl):
        return _migrate_file(settings.db_path, target)
    need_driver()
    from mailproxy.store.postgres_migrate import migrate_alone

    return migrate_alone(settings.db_path.text, target)


def _migrate_file(path: Path, target: str | None) -> str:
    if not path.parent.is_dir():
        raise StoreRefused(f"there is no directory {path.parent}")
    database = Database(path, StoreOptions().cache_bytes)
    database.lock.acquire()
    try:
        connection = database.open_writer()
        try:
            return migrate(connection, target=target)
        finally:
            connection.close()
    finally:
        database.lock.release()


def need_driver() -> None:
    """:raises ConfigurationError: what speaks to a database server is not installed."""
    try:
        import_module("psycopg")
    except ImportError as error:
        raise ConfigurationError(
            "GMP_DB_PATH",
            f"cannot speak to a PostgreSQL server ({error}); install mailproxy[postgresql]",
        ) from None
