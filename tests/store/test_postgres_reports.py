"""The right to call a tenant is one node's at a time, by the clock of the server."""

from __future__ import annotations

from mailproxy.records import ReportLease, Said
from mailproxy.store import postgres_reports as leases
from mailproxy.store.postgres import PostgresStore
from tests.build import record
from tests.fakes import result
from tests.store.test_postgres_nodes import NodesCase


class ReportLeaseTests(NodesCase):
    def hold(self, store: PostgresStore, seconds: float = 330.0) -> ReportLease | None:
        return result(store.hold_reports("default", seconds))

    def held(self, store: PostgresStore, seconds: float = 330.0) -> ReportLease:
        lease = self.hold(store, seconds)
        assert lease is not None
        return lease

    def release(self, store: PostgresStore, lease: ReportLease, said: Said = Said()) -> None:  # noqa: B008 - frozen
        result(store.release_reports(lease, said))

    def passes(self, seconds: float) -> None:
        """As if the right had been taken, or the rest begun, that much earlier."""
        self.opened.sql(
            f"UPDATE report_leases SET until = until - {seconds}, empty_at = empty_at - {seconds}"
        )

    def test_one_at_a_time(self) -> None:
        """The other gets it when it was given back, and the tenants are apart."""
        mine = self.held(self.first)
        self.assertIsNone(self.hold(self.second))
        self.assertIsNotNone(result(self.second.hold_reports("other", 330.0)))
        self.release(self.first, mine)
        self.held(self.second)
        self.assertIsNone(self.hold(self.first))

    def test_refused_where_the_look_was_too_early(self) -> None:
        """The write decides, not the look before it."""
        mine = self.held(self.first)
        lost = result(self.second._write(leases.HOLD, leases.Hold("default", 330.0)))
        self.assertIsNone(lost)
        self.release(self.first, mine)

    def test_time_over(self) -> None:
        """It moves when its time is over; giving back the lost one changes nothing."""
        mine = self.held(self.first)
        self.passes(329.0)
        self.assertIsNone(self.hold(self.second))
        self.passes(1.0)
        self.held(self.second)
        self.release(self.first, mine)
        self.assertIsNone(self.hold(self.first))

    def test_owner_dies(self) -> None:
        """It moves when its owner is not heard of any more."""
        self.held(self.first)
        self.dead(self.first)
        self.held(self.second)

    def test_owner_ends(self) -> None:
        """It moves when its owner ends in good order."""
        self.held(self.second)
        result(self.second.close())
        self.held(self.first)

    def test_cut_off(self) -> None:
        """A node that could not renew for 45 seconds does not take it, and says so."""
        self.clock.advance(45.5)
        self.assertTrue(self.first.cut_off())
        self.assertIsNone(self.hold(self.first))
        result(self.first.heartbeat(self.clock.now()))
        self.assertFalse(self.first.cut_off())
        self.held(self.first)

    def test_clocks(self) -> None:
        """F49: a node whose clock jumps takes from nobody, and loses nothing by it."""
        self.held(self.first)
        for hour in (3600.0, -7200.0):
            self.clock.advance(hour)
            for store in (self.first, self.second):
                result(store.heartbeat(self.clock.now()))
            self.assertIsNone(self.hold(self.second))
            self.held(self.first)

    def test_rest(self) -> None:
        """A receiver that did not answer is left alone by all."""
        self.release(self.first, self.held(self.first), Said(rest=60.0))
        for seconds in (0.0, 58.0):
            self.passes(seconds)
            self.assertIsNone(self.hold(self.second))
            self.assertIsNone(self.hold(self.first))
        self.passes(2.0)
        self.held(self.second)

    def test_empty_reports(self) -> None:
        """When an empty report is due is known to all nodes, and kept by calls that failed."""
        lease = self.held(self.first)
        self.assertIsNone(lease.empty_in)
        self.release(self.first, lease, Said(empty_in=300.0))
        self.passes(100.0)
        lease = self.held(self.second)
        assert lease.empty_in is not None
        self.assertApproximates(200.0, lease.empty_in, 10.0)
        self.release(self.second, lease, Said(rest=0.0))
        lease = self.held(self.first)
        assert lease.empty_in is not None
        self.assertApproximates(200.0, lease.empty_in, 10.0)

    def test_parked(self) -> None:
        """A node that lost it parks nothing, while the other may be telling it; it may ack."""
        self.post("m1")
        (claimed,) = self.claim(self.first)
        self.begin(self.first, claimed)
        result(self.first.record([record(claimed, at=self.clock.now())]))
        (item,) = result(self.first.unreported("default", 10))
        lost = self.held(self.first)
        self.dead(self.first)
        self.held(self.second)

        now = self.clock.now()
        self.assertFalse(result(self.first.park_event(item.event_pks, "no", now, lost)))
        self.assertEqual([item], result(self.second.unreported("default", 10)))
        result(self.first.acked(item.event_pks, now))
        self.assertEqual([], result(self.second.unreported("default", 10)))
