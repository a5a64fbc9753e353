"""What is asked for at the end of a turn."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.turns import Turns


class TurnsTests(SynchronousTestCase):
    def test_gathered_before_sent(self) -> None:
        """All that gathers is called before anything is sent, whatever was asked for first."""
        clock, seen = Clock(), list[str]()
        turns = Turns(clock)
        turns.send(lambda: seen.append("sent"))
        turns.gather(lambda: turns.send(lambda: seen.append("sent too")))
        turns.gather(lambda: seen.append("gathered"))
        self.assertEqual([], seen)

        clock.advance(0)

        self.assertEqual(["gathered", "sent", "sent too"], seen)
        self.assertEqual([], clock.getDelayedCalls())

    def test_each_turn_has_an_end(self) -> None:
        """What is asked for while things are sent is called at the end of the next turn."""
        clock, seen = Clock(), list[str]()
        turns = Turns(clock)
        turns.send(lambda: turns.send(lambda: seen.append("later")))

        clock.advance(0)

        self.assertEqual(["later"], seen)

    def test_one_that_raises(self) -> None:
        """One that raises keeps no other from being sent, nor the next turn from its end."""
        clock, seen = Clock(), list[str]()
        turns = Turns(clock)
        turns.gather(lambda: [][0])
        turns.send(lambda: seen.append("sent"))
        self.assertRaises(IndexError, clock.advance, 0)

        turns.send(lambda: seen.append("next"))
        clock.advance(0)

        self.assertEqual(["sent", "next"], seen)
