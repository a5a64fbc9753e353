"""The connections that read, when the store is closed."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from mailproxy.errors import StoreUnavailable
from mailproxy.store import readers as module
from mailproxy.store.database import Database
from mailproxy.store.options import StoreOptions
from mailproxy.store.readers import Readers
from tests.store.opened import empty_database, fresh


class ClosingTests(TestCase):
    timeout = 30

    def setUp(self) -> None:
        path = fresh(self)
        path.write_bytes(empty_database())
        database = Database(path, StoreOptions().cache_bytes)
        self.readers = Readers(database, reactor, 1)  # type: ignore[arg-type]
        self.readers.start()
        self.begun, self.gate = threading.Event(), threading.Event()
        self.addCleanup(self.gate.set)

    def slowly(self, cursor: sqlite3.Cursor) -> list[Any]:
        """A read that is under way until the gate is opened."""
        self.begun.set()
        self.gate.wait(20)
        return cursor.execute("SELECT count(*) FROM messages").fetchall()

    def read(self, function: Any) -> Deferred[Any]:
        async def read() -> Any:
            return await self.readers.read(function)

        return Deferred.fromCoroutine(read())

    async def test_a_read_comes_to_its_end(self) -> None:
        """Connections are closed when the read that runs is done; none begins any more."""
        running = self.read(self.slowly)
        waiting = self.read(self.slowly)
        self.assertTrue(self.begun.wait(20))
        stopped = self.readers.stop()
        again = self.readers.stop()
        with self.assertRaises(StoreUnavailable):
            await self.readers.read(self.slowly)
        self.assertFalse(stopped.called)
        self.gate.set()
        await stopped
        await again
        self.assertEqual([(0,)], await running)
        with self.assertRaises(StoreUnavailable):
            await waiting
        self.assertEqual([], [t for t in threading.enumerate() if "store-read" in t.name])

    async def test_a_read_that_does_not_end(self) -> None:
        """It is left alone after some seconds, with the connection that it has."""
        self.patch(module, "LAST_READS", 0.05)
        running = self.read(self.slowly)
        self.assertTrue(self.begun.wait(20))
        await self.readers.stop()
        self.readers.start()
        await self.readers.stop()
        self.gate.set()
        self.assertEqual([(0,)], await running)
