"""Opens real stores for tests, kills them, and looks into their files."""

from __future__ import annotations

import random
import shutil
import sqlite3
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFromThreads
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.interfaces import IClock
from mailproxy.metrics import Metrics
from mailproxy.store.database import Connect, connect
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.migrate import migrate
from mailproxy.store.options import StoreOptions


@cache
def empty_database() -> bytes:
    """A file that was migrated and closed: made once, since making it takes its time."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "mail.db"
        connection = connect(str(path))
        migrate(connection)
        connection.close()
        return path.read_bytes()


def fresh(case: SynchronousTestCase) -> Path:
    """A path that does not exist yet, in a folder that is removed after the test."""
    folder = mkdtemp(prefix="mailproxy-store-")
    case.addCleanup(shutil.rmtree, folder)
    return Path(folder) / "store"


class Opened:
    """
    A store on a file of its own in *folder*, opened.

    :param reactor: None runs every work at once.
    """

    def __init__(
        self,
        folder: Path,
        clock: IClock,
        rng: random.Random | None = None,
        *,
        reactor: IReactorFromThreads | None = None,
        options: StoreOptions | None = None,
        connect: Connect = connect,
    ) -> None:
        folder.mkdir(parents=True)
        self.path = folder / "mail.db"
        self.path.write_bytes(empty_database())
        self.metrics = Metrics()
        key, rng = new_key(), rng or random.Random(1)
        self.make: Callable[[Path], EmbeddedStore] = lambda path: EmbeddedStore(
            path,
            clock=clock,
            names=Names(rng),
            sealer=Sealer([key]),
            reactor=reactor,
            metrics=self.metrics,
            options=options or StoreOptions(),
            connect=connect,
        )
        self.stores: list[EmbeddedStore] = []
        self._open(self.path)

    @property
    def store(self) -> EmbeddedStore:
        return self.stores[-1]

    def _open(self, path: Path) -> EmbeddedStore:
        store = self.make(path)
        store.open()
        self.stores.append(store)
        return store

    def killed(self) -> EmbeddedStore:
        """The next process's store, on what was on the disk when the one before was killed."""
        copy = self.path.with_name(f"mail-{len(self.stores)}.db")
        for suffix in ("", "-wal"):
            if (source := Path(f"{self.path}{suffix}")).exists():
                shutil.copyfile(source, f"{copy}{suffix}")
        self.path = copy
        return self._open(copy)

    def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        self.sql(
            "INSERT INTO tenants (id, active, created_at, updated_at) VALUES (?, ?, 0, 0)",
            tenant_id,
            active,
        )

    def sql(self, statement: str, *values: Any) -> list[Any]:
        """Run one statement on a connection of its own."""
        connection = sqlite3.connect(self.path, isolation_level=None)
        try:
            return connection.execute(statement, values).fetchall()
        finally:
            connection.close()

    def close(self) -> Deferred[Any]:
        return gatherResults([store.close() for store in self.stores])
