from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.report.batch import Batch


class BatchTests(SynchronousTestCase):
    def test_500_at_most(self) -> None:
        """A report carries 500 events at most, however many were taken before."""
        batch = Batch()
        batch.taken(500)
        self.assertEqual(500, batch.size)

    def test_too_large_halves(self) -> None:
        """A report that was too large is followed by one of half its events."""
        batch = Batch()
        self.assertFalse(batch.too_large(500))
        self.assertEqual(250, batch.size)
        self.assertFalse(batch.too_large(101))
        self.assertEqual(50, batch.size)

    def test_grows_back(self) -> None:
        """Reports that are taken whole let the next one grow, a little at a time."""
        batch = Batch()
        batch.too_large(16)
        sizes = []
        for _ in range(4):
            sizes.append(batch.size)
            batch.taken(batch.size)
        self.assertEqual([8, 9, 10, 11], sizes)
        for _ in range(100):
            batch.taken(batch.size)
        self.assertEqual(500, batch.size)

    def test_does_not_grow_untested(self) -> None:
        """A report with fewer events than it might have had proves nothing about larger ones."""
        batch = Batch()
        batch.too_large(16)
        batch.taken(7)
        self.assertEqual(8, batch.size)

    def test_one_event_too_large_is_hopeless(self) -> None:
        """One event that is too large alone will never be taken."""
        batch = Batch()
        self.assertTrue(batch.too_large(1))
        self.assertEqual(1, Batch(most=1).size)

    def test_time_outs_halve(self) -> None:
        """A receiver that needs too long gets less at once."""
        batch = Batch()
        batch.failed(500, timed_out=True)
        self.assertEqual(250, batch.size)

    def test_failures_in_a_row_halve(self) -> None:
        """Two failures change nothing; from the third on reports become smaller, to one event."""
        batch = Batch()
        for _ in range(2):
            batch.failed(batch.size, timed_out=False)
        self.assertEqual(500, batch.size)
        for _ in range(20):
            batch.failed(batch.size, timed_out=False)
        self.assertEqual(1, batch.size)

    @given(st.data(), st.integers(1, 500), st.integers(1, 700))
    @settings(deadline=None)
    def test_bisection(self, data: st.DataObject, most: int, waiting: int) -> None:
        """Refused events end up alone, each within a bounded number of reports."""
        poison = data.draw(st.sets(st.integers(0, waiting - 1), max_size=4))
        batch, queue, parked, calls = Batch(most), list(range(waiting)), set(), 0
        while queue:
            offered = queue[: batch.size]
            calls += 1
            if poison.isdisjoint(offered):
                batch.taken(len(offered))
            elif not batch.refused(len(offered)):
                continue
            else:
                parked.add(offered[0])
            del queue[: len(offered)]
        self.assertEqual(poison, parked)
        self.assertLessEqual(calls, waiting // most + 1 + len(poison) * 24)
