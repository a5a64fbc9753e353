"""Which store the settings name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mailproxy.clock import Names
from mailproxy.config import Settings
from mailproxy.config_database import DatabaseUrl
from mailproxy.crypto import Sealer
from mailproxy.errors import ConfigurationError
from mailproxy.interfaces import IClock
from mailproxy.metrics import Metrics
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.options import StoreOptions
from mailproxy.turns import AtEnd

if TYPE_CHECKING:
    from mailproxy.store.postgres import PostgresStore


def open_store(
    reactor: Any,
    settings: Settings,
    clock: IClock,
    names: Names,
    sealer: Sealer,
    metrics: Metrics,
    at_end: AtEnd,
) -> EmbeddedStore | PostgresStore:
    """
    The store of this process, not yet started.

    :raises ConfigurationError: what is needed to speak to a database server is not installed.
    """
    options = StoreOptions(
        max_age_seconds=settings.max_age_seconds,
        fault_max_age_seconds=settings.account_fault_max_age_seconds,
        retention_seconds=settings.delivery_report_retention_seconds,
        idempotency_seconds=settings.idempotency_seconds,
        report_max_age_seconds=settings.report_max_age_seconds,
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
    try:
        # The driver comes with an extra, and is loaded where it is needed.
        from mailproxy.store.postgres import PostgresStore
    except ImportError as error:
        raise ConfigurationError(
            "GMP_DB_PATH",
            f"cannot speak to a PostgreSQL server ({error}); install mailproxy[postgresql]",
        ) from None
    return PostgresStore(settings.db_path.text, **common)
