"""What is asked for at the end of a turn."""

from __future__ import annotations

import select
import socket
import threading
from types import SimpleNamespace

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.turns import CROWDED_LONGEST, CROWDED_PAUSE, LONGEST, Ready, Turns, nothing, ready


class Loop(Clock):
    """Does what is asked for during a turn in the next one, as reactors do."""

    def turn(self, seconds: float) -> None:
        self.rightNow += seconds
        calls, self.calls = self.calls, []
        for call in calls:
            call.called = 1
            call.func(*call.args, **call.kw)


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

    def test_sockets_are_heard_first(self) -> None:
        """What is to be sent waits while sockets are ready; what they lead to goes with it."""
        clock, seen, busy = Loop(), list[str](), [True]
        turns = Turns(clock, lambda _seconds: busy[0])
        turns.send(lambda: seen.append("sent"))
        clock.turn(0)
        turns.gather(lambda: seen.append("gathered"))
        turns.send(lambda: seen.append("sent too"))
        clock.turn(LONGEST / 2)
        self.assertEqual(["gathered"], seen)

        busy[0] = False
        clock.turn(0)

        self.assertEqual(["gathered", "sent", "sent too"], seen)
        self.assertEqual([], clock.getDelayedCalls())

    def test_sockets_that_never_cease(self) -> None:
        """However much they have to tell, what is to be sent waits for the longest time at most."""
        clock, seen = Loop(), list[float]()
        turns = Turns(clock, lambda _seconds: True)
        for _ in range(3):
            asked = clock.seconds()
            turns.send(lambda: seen.append(clock.seconds()))
            for _ in range(6):
                clock.turn(LONGEST / 4)
            self.assertAlmostEqual(LONGEST * 1.25, seen[-1] - asked)
        self.assertEqual(3, len(seen))

    def test_a_crowd_is_waited_for(self) -> None:
        """Where many take part, sockets that are ready soon are heard too, until none is."""
        clock, seen, asked = Loop(), list[str](), list[float]()
        answers = iter([True, True, False, False])

        def comes(seconds: float) -> bool:
            asked.append(seconds)
            return next(answers)

        turns = Turns(clock, comes)
        turns.send(lambda: seen.append("sent"), True)
        turns.send(lambda: seen.append("sent too"))
        for _ in range(2):
            clock.turn(LONGEST)
            self.assertEqual([], seen)
        clock.turn(0)
        self.assertEqual(["sent", "sent too"], seen)
        turns.send(lambda: seen.append("alone"))
        clock.turn(0)
        self.assertEqual("alone", seen[-1])
        self.assertEqual([CROWDED_PAUSE] * 3 + [0.0], asked)

    def test_a_crowd_without_end(self) -> None:
        """A crowd is not waited for longer than is said."""
        clock, seen = Loop(), list[float]()
        turns = Turns(clock, lambda _seconds: True)
        turns.send(lambda: seen.append(clock.seconds()), True)
        for _ in range(10):
            clock.turn(CROWDED_LONGEST / 4)
        self.assertAlmostEqual(CROWDED_LONGEST * 1.25, seen[0])


class ReadyTests(SynchronousTestCase):
    def polled(self) -> tuple[Ready, socket.socket, select.epoll]:
        """What looks at an epoll that waits for one socket, that socket's other end, and it."""
        ours, theirs = socket.socketpair()
        poller = select.epoll()
        self.addCleanup(poller.close)
        self.addCleanup(ours.close)
        self.addCleanup(theirs.close)
        poller.register(ours, select.EPOLLIN)
        return ready(SimpleNamespace(_poller=poller)), theirs, poller

    def test_epoll(self) -> None:
        """A socket that epoll would tell of is seen, and not taken from it."""
        look, theirs, poller = self.polled()
        self.assertFalse(look(0.0))
        theirs.send(b"x")
        self.assertTrue(look(0.0))
        self.assertTrue(look(CROWDED_PAUSE))
        self.assertEqual(1, len(poller.poll(0)))

    def test_soon(self) -> None:
        """What comes within the time is waited for, and no longer than until it has come."""
        look, theirs, _ = self.polled()
        self.assertFalse(look(0.0001))
        later = threading.Timer(0.05, theirs.send, (b"x",))
        later.start()
        self.addCleanup(later.join)
        self.assertTrue(look(60.0))

    def test_another_reactor(self) -> None:
        """Of a reactor that asks otherwise it is not known: nothing waits."""
        self.assertIs(nothing, ready(Clock()))
