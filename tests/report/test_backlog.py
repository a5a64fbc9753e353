"""A night's backlog on the SQLite store: told in pages, once each and in order."""

from __future__ import annotations

import sqlite3

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.filled import fill_ended
from mailproxy.errors import SinkUnavailable
from mailproxy.metrics import Metrics
from mailproxy.records import MAX_BATCH
from mailproxy.report.reporter import GRACE, Reporter
from tests.build import account_spec, new_message
from tests.fakes import FakeClock, result
from tests.report.fakes import FakeSink
from tests.store.opened import Opened, fresh

EVENTS = 20_000
HOUR = 3600.0


class BacklogTests(SynchronousTestCase):
    def test_a_large_backlog_on_a_file(self) -> None:
        """
        F61: what waited while the application was down arrives once each, in order, in calls of at
        most 500; a kill in the middle of it loses nothing.
        """
        clock = FakeClock()
        opened = Opened(fresh(self), clock)
        self.addCleanup(opened.close)
        account = result(opened.store.put_account(account_spec(), clock.now()))
        result(opened.store.enqueue([new_message()], clock.now(), 5.0))  # makes its lane
        connection = sqlite3.connect(opened.path, isolation_level=None)
        fill_ended(connection, "default", account.pk, EVENTS, now=clock.now() - HOUR)
        connection.close()
        sink = FakeSink(clock, [SinkUnavailable("down")] * 3)

        self.report(opened, sink, clock, calls=15)
        opened.killed()
        self.report(opened, sink, clock, calls=500)

        taken = [item for items in sink.taken for item in items]
        self.assertEqual([f"ended-{n}" for n in range(EVENTS)], [item.id for item in taken])
        self.assertEqual(EVENTS, len({item.event_id for item in taken}))
        self.assertEqual(MAX_BATCH, max(map(len, sink.offered)))
        self.assertEqual([], result(opened.store.unreported("default", 1)))

    def report(self, opened: Opened, sink: FakeSink, clock: FakeClock, calls: int) -> None:
        """Let a reporter run until there were so many calls, or nothing is left."""
        reporter = Reporter(opened.store, lambda _: sink, clock, Metrics())
        unsubscribe = opened.store.subscribe(reporter)
        reporter.startService()
        until = len(sink.offered) + calls
        while len(sink.offered) < until and result(opened.store.waiting_tenants()):
            clock.advance(0.1)
        unsubscribe()
        stopped = reporter.stopService()
        clock.advance(GRACE)
        self.successResultOf(stopped)
