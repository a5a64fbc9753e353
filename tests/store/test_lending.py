"""The reactor asks for transactions at the end of its turn, and lends the writer its time."""

from __future__ import annotations

import time
from collections.abc import Callable

from tests.store.test_writer import WriterCase
from tests.store.writing import PATIENCE, PUT, Writing


class LendingTests(WriterCase):
    def setUp(self) -> None:
        self.ends: list[Callable[[], None]] = []

    def lending(self) -> Writing:
        return self.writing(at_end=self.ends.append)

    def end_turn(self) -> None:
        ends, self.ends[:] = list(self.ends), []
        for each in ends:
            each()

    def test_what_a_turn_asked_for_goes_together(self) -> None:
        """Nothing is begun within a turn; at its end all that it asked for is one transaction."""
        writing = self.lending()
        answers = [writing.writer.submit(PUT, name) for name in "ab"]
        self.assertEqual(1, len(self.ends))

        self.end_turn()
        writing.reactor.turn()

        self.assertEqual(["A", "B"], [self.successResultOf(each) for each in answers])
        self.assertEqual([2], [len(committed.works) for committed in writing.told])

    def test_the_reactor_waits_only_so_long(self) -> None:
        """A transaction whose statements take long does not keep the reactor."""
        writing = self.lending()
        gate = writing.gate()
        before = time.monotonic()

        self.end_turn()

        self.assertTrue(gate.reached.wait(PATIENCE))
        self.assertLess(time.monotonic() - before, PATIENCE)
        self.assertEqual([], writing.told)
        gate.open()
        writing.reactor.turn()
        self.successResultOf(gate.answer)

    def test_a_turn_that_ends_meanwhile(self) -> None:
        """What is asked for while a transaction is out begins when that was told, unasked."""
        writing = self.lending()
        gate = writing.gate()
        self.end_turn()
        answer = writing.writer.submit(PUT, "a")
        self.end_turn()
        self.assertEqual([], self.ends)

        gate.open()
        writing.reactor.turn()  # what the first came to
        writing.reactor.turn()  # and that it is over
        self.end_turn()
        writing.reactor.turn()

        self.assertEqual("A", self.successResultOf(answer))

    def test_closing_waits_for_no_turn(self) -> None:
        """What waits is done when the store closes, though the turn has not ended."""
        writing = self.lending()
        answer = writing.writer.submit(PUT, "a")

        stopped = writing.writer.stop()
        while not stopped.called:
            writing.reactor.turn()

        self.assertEqual("A", self.successResultOf(answer))
