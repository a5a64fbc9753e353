"""The reactor asks for transactions at the end of its turn, and lends the writer its time."""

from __future__ import annotations

import time
from collections.abc import Callable

from mailproxy.store.lending import CROWD
from tests.store.test_writer import WriterCase
from tests.store.writing import PATIENCE, PUT, Writing

NAMES = [f"n{n}" for n in range(2 * CROWD)]


class LendingTests(WriterCase):
    def setUp(self) -> None:
        self.ends: list[Callable[[], None]] = []
        self.crowded: list[bool] = []

    def at_end(self, function: Callable[[], None], crowded: bool = False) -> None:
        self.ends.append(function)
        self.crowded.append(crowded)

    def lending(self) -> Writing:
        return self.writing(at_end=self.at_end)

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

    def test_after_a_crowd(self) -> None:
        """The next one waits for others where many took part in the last."""
        writing = self.lending()
        for names in (NAMES[:CROWD], NAMES[CROWD : 2 * CROWD - 1], NAMES[-1:]):
            answers = [writing.writer.submit(PUT, name) for name in names]
            self.end_turn()
            writing.reactor.turn()  # what they came to
            writing.reactor.turn()  # and that it is over
            for answer in answers:
                self.successResultOf(answer)
            self.end_turn()

        asked = self.crowded[::2]  # when something waited; each end asks once more
        self.assertEqual([False, True, False], asked)
