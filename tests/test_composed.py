"""What was composed when it was checked is found again by exactly what it was made of."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.composed import FRESH, Composed


class ComposedTests(SynchronousTestCase):
    def test_found_once(self) -> None:
        """A body is found by all it was made of, to the second, and then is kept no longer."""
        composed = Composed()
        composed.keep(b"{}", "m1", "<1@x>", 1000.25, b"body")

        self.assertEqual(b"body", composed.take(b"{}", "m1", "<1@x>", 1000.75))
        self.assertIsNone(composed.take(b"{}", "m1", "<1@x>", 1000.75))

    def test_anything_else_is_not_it(self) -> None:
        """Another content, id, Message-ID or second is not what was composed."""
        for asked in (
            (b"[]", "m1", "<1@x>", 1000.0),
            (b"{}", "m2", "<1@x>", 1000.0),
            (b"{}", "m1", "<2@x>", 1000.0),
            (b"{}", "m1", "<1@x>", 1001.0),
        ):
            composed = Composed()
            composed.keep(b"{}", "m1", "<1@x>", 1000.0, b"body")
            self.assertIsNone(composed.take(*asked), asked)

    def test_the_last_of_two(self) -> None:
        """Of two submissions of one id the last is kept."""
        composed = Composed()
        composed.keep(b"1", "m1", "<1@x>", 1000.0, b"first")
        composed.keep(b"2", "m1", "<1@x>", 1000.0, b"second")

        self.assertEqual(b"second", composed.take(b"2", "m1", "<1@x>", 1000.0))

    def test_room(self) -> None:
        """Nothing is kept beyond the limit, until something is taken or grows old."""
        composed = Composed(limit=3000)
        for n, when in enumerate((1000.0, 1001.0, 1002.0)):
            composed.keep(b"{}", f"m{n}", "<1@x>", when, b"b" * 700)
        self.assertIsNone(composed.take(b"{}", "m2", "<1@x>", 1002.0))
        self.assertIsNotNone(composed.take(b"{}", "m1", "<1@x>", 1001.0))

        composed.keep(b"{}", "m3", "<1@x>", 1003.0, b"b" * 700)
        late = 1000.0 + FRESH
        composed.keep(b"{}", "m4", "<1@x>", late, b"b" * 700)

        self.assertIsNone(composed.take(b"{}", "m0", "<1@x>", 1000.0))
        self.assertIsNotNone(composed.take(b"{}", "m3", "<1@x>", 1003.0))
        self.assertIsNotNone(composed.take(b"{}", "m4", "<1@x>", late))
        composed.keep(b"{}", "huge", "<1@x>", late, b"b" * 3000)
        self.assertIsNone(composed.take(b"{}", "huge", "<1@x>", late))
