"""F16: the server itself crashes in the middle of a commit, and goes on with others' work."""

from __future__ import annotations

import random
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.model import Enqueued
from mailproxy.records import ListQuery
from mailproxy.states import Verdict
from mailproxy.store import postgres_driver as driver
from mailproxy.store.postgres import PostgresStore
from mailproxy.store.postgres_driver import Cursor
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.postgres import Server

ROWS = ("F16",)


class CrashTests(SynchronousTestCase):
    """A server of its own, with two nodes."""

    def setUp(self) -> None:
        folder = Path(mkdtemp(prefix="mailproxy-postgres-"))
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        self.server = Server(folder)
        self.server.create()
        self.server.start()
        self.addCleanup(self.server.stop)
        self.clock = FakeClock()
        self.url, self.key = self.server.url(self.server.database()), new_key()
        self.first, self.second = self.node(), self.node()
        result(self.first.put_account(account_spec(), self.clock.now()))

    def node(self) -> PostgresStore:
        store = PostgresStore(
            self.url,
            clock=self.clock,
            names=Names(random.Random()),
            sealer=Sealer([self.key]),
            reactor=None,
        )
        store.open()
        self.addCleanup(store.close)
        return store

    def enqueue(self, store: PostgresStore, message_id: str) -> list[Enqueued]:
        message = new_message(id=message_id)
        return result(store.enqueue([message], self.clock.now(), 5.0))

    def test_its_number_is_given_to_another(self) -> None:
        """What was lost is not taken for stored because another has the number it had."""
        numbers: list[int] = []
        plain = driver._CONTROL["COMMIT"]

        def crash(cursor: Cursor) -> None:
            driver._CONTROL["COMMIT"] = plain
            numbers.append(cursor.connection.number)
            self.server.stop()
            self.server.start()
            for n in range(3):
                self.enqueue(self.second, f"other{n}")
                connection: Any = self.second._connection
                numbers.append(connection.number)
            plain(cursor)

        self.patch(driver, "_CONTROL", {**driver._CONTROL, "COMMIT": crash})

        self.assertEqual([Enqueued(Verdict.QUEUED)], self.enqueue(self.first, "m1"))

        lost, *others = numbers
        self.assertIn(lost, others, "the server did not give it away again: nothing was tried")
        stored = sorted(each.id for each in result(self.second.messages(ListQuery())))
        self.assertEqual(["m1", "other0", "other1", "other2"], stored)
