"""Opens stores on a real PostgreSQL server for tests, and kills them."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads

from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.interfaces import IClock
from mailproxy.metrics import Metrics
from mailproxy.store.options import StoreOptions
from mailproxy.store.postgres import PostgresStore
from mailproxy.store.postgres_migrate import migrate
from mailproxy.store.postgres_server import Server as Dialled
from mailproxy.store.tables import metadata
from tests.postgres import Server, server


@cache
def migrated() -> str:
    """A database that was migrated and is left alone: others are made like it."""
    name = server().database()
    migrate(Dialled(server().url(name), 0.0, "tests"))
    server().leave(name)
    return name


@cache
def shared() -> str:
    """A database for tests one after the other: each finds it as migrations left it."""
    name = server().database(migrated())
    server().sql(name, "CREATE TABLE tenants_before AS TABLE tenants")
    return name


#: All rows go, but for those that migrations made.
EMPTY = "; ".join(
    (
        *(f"DELETE FROM {table.name}" for table in metadata.sorted_tables),
        "INSERT INTO tenants SELECT * FROM tenants_before",
    )
)


#: Tests let days pass without a heartbeat.
PATIENT = StoreOptions(lease_seconds=1e9)


class Opened:
    """
    Stores on a database of their own.

    :param reactor: None runs every work at once.
    """

    def __init__(
        self,
        clock: IClock,
        rng: random.Random | None = None,
        *,
        reactor: IReactorFromThreads | None = None,
        options: StoreOptions | None = None,
    ) -> None:
        self.server: Server = server()
        self.name = shared()
        self.sql(EMPTY)
        self.metrics = Metrics()
        self._clock, self._rng, self._reactor = clock, rng or random.Random(1), reactor
        self._options = options or PATIENT
        self._key = new_key()
        self.stores: list[PostgresStore] = []
        self.another()

    @property
    def store(self) -> PostgresStore:
        return self.stores[-1]

    def another(self, clock: IClock | None = None) -> PostgresStore:
        """The store of one more node, which has a clock of its own if one is given."""
        store = PostgresStore(
            self.server.url(self.name),
            clock=clock or self._clock,
            names=Names(self._rng),
            sealer=Sealer([self._key]),
            reactor=self._reactor,
            metrics=self.metrics,
            options=self._options,
        )
        store.open()
        self.stores.append(store)
        return store

    def killed(self) -> PostgresStore:
        """The next process's store; all others have not been heard of for too long."""
        self.sql("UPDATE nodes SET alive_until = 0")
        return self.another()

    def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        self.sql(
            "INSERT INTO tenants (id, active, created_at, updated_at) "
            f"VALUES ('{tenant_id}', {int(active)}, 0, 0)"
        )

    def sql(self, statement: str) -> list[Any]:
        """Run *statement* on a connection of its own."""
        return self.server.sql(self.name, statement)

    def close(self) -> Deferred[Any]:
        return gatherResults([store.close() for store in self.stores])
