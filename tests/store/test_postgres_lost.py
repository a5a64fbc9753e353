"""F16: the connection to the server is lost, at any moment; no mail is lost, none doubled."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import PartlyStored, StoreUnavailable
from mailproxy.model import Enqueued
from mailproxy.records import ListQuery
from mailproxy.states import Verdict
from mailproxy.store import postgres_driver as driver
from mailproxy.store.postgres_driver import Cursor
from mailproxy.store.refusals import ServerError, ServerObjection
from mailproxy.store.transaction import Transaction
from mailproxy.store.works import Work, alone
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.store.postgres_opened import Opened

ROWS = ("F16",)


class LostCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = FakeClock()
        self.opened = Opened(self.clock, random.Random(5))
        self.addCleanup(self.opened.close)
        self.store = self.opened.store
        result(self.store.put_account(account_spec(), self.clock.now()))

    def cut(self) -> None:
        """End the sessions of all nodes."""
        self.opened.sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE application_name LIKE 'mailproxy %' AND datname = current_database()"
        )

    def enqueue(self, message_id: str) -> Deferred[list[Enqueued]]:
        call = self.store.enqueue([new_message(id=message_id)], self.clock.now(), 5.0)
        return Deferred.fromCoroutine(call)

    def stored(self) -> list[str]:
        return sorted(each.id for each in result(self.store.messages(ListQuery())))

    def breaking(self, when: str, how: Any) -> None:
        """Do *how* once, before the store's next *when*."""
        plain = driver._CONTROL[when]

        def broken(cursor: Cursor) -> None:
            driver._CONTROL[when] = plain
            how(lambda: plain(cursor))

        self.patch(driver, "_CONTROL", {**driver._CONTROL, when: broken})


class ObjectionTests(LostCase):
    def test_late(self) -> None:
        """What the server objects to when nobody waits for it costs its own work alone."""
        suspend = "INSERT INTO suspensions (tenant_id, batch, since) VALUES (?, '', 0)"

        def told(tx: Transaction, tenant: str) -> None:
            tx.cursor.executemany(suspend, [(tenant,)])

        def asked(tx: Transaction, tenant: str) -> None:
            tx.cursor.execute("SELECT 1 FROM nodes")
            told(tx, tenant)

        kinds = {False: alone(told), True: alone(asked)}
        writer = self.store._writer
        result(writer.submit(kinds[False], "there"))
        for group in (["there"], ["a", "there", "b"], ["there", "c!"], ["d", "there!", "e!"]):
            works = [Work(kinds["!" in each], each.strip("!"), Deferred(), 0.0) for each in group]
            writer._queue.extend(works)
            writer._transact()
            for work in works:
                if work.call == "there":
                    self.failureResultOf(work.done, StoreUnavailable)
                else:
                    self.successResultOf(work.done)
        self.assertTrue(self.flushLoggedErrors(ServerObjection))
        self.assertTrue(self.store.healthy())
        found = self.opened.sql("SELECT tenant_id FROM suspensions ORDER BY 1")
        self.assertEqual([*"abcde", "there"], [row[0] for row in found])


class CutTests(LostCase):
    def test_at_rest(self) -> None:
        """Nothing was under way: the next write and the next read have new connections."""
        self.stored()
        self.cut()
        self.assertEqual([Enqueued(Verdict.QUEUED)], self.successResultOf(self.enqueue("m1")))
        self.cut()
        self.assertEqual(["m1"], self.stored())
        self.assertTrue(self.store.healthy())

    def test_within_a_transaction(self) -> None:
        """F16: it was cut off before its commit, so it is done again."""

        def how(commit: Any) -> None:
            self.cut()
            commit()

        self.breaking("COMMIT", how)
        self.assertEqual([Enqueued(Verdict.QUEUED)], self.successResultOf(self.enqueue("m1")))
        self.assertEqual(["m1"], self.stored())

    def test_answer_to_the_commit(self) -> None:
        """It was cut off after its commit: the server is asked, and it is not done again."""

        def how(commit: Any) -> None:
            commit()
            self.cut()
            raise ServerError("the connection was lost", lost=True)

        self.breaking("COMMIT", how)
        self.assertEqual([Enqueued(Verdict.QUEUED)], self.successResultOf(self.enqueue("m1")))
        self.assertEqual(["m1"], self.stored())
        self.assertEqual([(1,)], self.opened.sql("SELECT generation FROM messages"))

    def test_silence(self) -> None:
        """A store that is to close while nobody can tell says neither *stored* nor *refused*."""

        def how(commit: Any) -> None:
            commit()
            raise ServerError("the connection was lost", lost=True)

        self.breaking("COMMIT", how)
        self.patch(self.store, "_asked", lambda _number: None)
        self.patch(self.store, "_pause", lambda _seconds: None)
        self.store._stopped.set()
        self.failureResultOf(self.enqueue("m1"), PartlyStored)

    def test_refused(self) -> None:
        """What the server takes for wrong is refused, and the next work is not the worse for it."""

        def how(_commit: Any) -> None:
            raise ServerError("no space left on device")

        self.breaking("COMMIT", how)
        error = self.failureResultOf(self.enqueue("m1"), StoreUnavailable).value
        self.assertIn("no space left", str(error))
        self.assertFalse(self.store.healthy())
        self.assertEqual([], self.stored())
        self.assertEqual([Enqueued(Verdict.QUEUED)], self.successResultOf(self.enqueue("m2")))
        self.assertTrue(self.store.healthy())

    def test_away(self) -> None:
        """No server at all: refused, until it is back."""
        name = self.opened.name
        self.opened.server.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            self.cut()
            error = self.failureResultOf(self.enqueue("m1"), StoreUnavailable).value
        finally:
            self.opened.server.sql("postgres", f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
        self.assertIn("not currently accepting connections", str(error))
        self.clock.advance(1.0)
        self.assertEqual([Enqueued(Verdict.QUEUED)], self.successResultOf(self.enqueue("m1")))
        self.assertEqual(["m1"], self.stored())
