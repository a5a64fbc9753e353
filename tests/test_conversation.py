"""One command, one reply, in order, whatever the commands are and however late the replies."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.conversation import LINGER, MAX_HELD, Conversation
from tests.fakes import FakeClock
from tests.proving.talk import Transport


class Echo(Conversation):
    """Answers every command with itself: at once, or when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.callLater = self.clock.callLater  # type: ignore[method-assign,assignment]
        self.begun: list[bytes] = []

    def command(self, line: bytes) -> None:
        self.begun.append(line)
        if line.startswith(b"now"):
            self.answer()

    def answer(self) -> None:
        self.reply(self.begun[-1] + b"\r\n")


class ConversationTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.echo = Echo()
        self.transport = Transport()
        self.transport.protocol = self.echo
        self.echo.makeConnection(self.transport)
        self.transport.clear()

    def test_next_command_waits(self) -> None:
        """While a reply is late, the next command is not even looked at."""
        self.echo.dataReceived(b"late 1\r\nnow 2\r\n")
        self.echo.dataReceived(b"now 3\r\nlate 4\r\n")
        self.assertEqual(([b"late 1"], b""), (self.echo.begun, self.transport.value()))

        self.echo.answer()

        self.assertEqual([b"late 1", b"now 2", b"now 3", b"late 4"], self.echo.begun)
        self.assertEqual(b"late 1\r\nnow 2\r\nnow 3\r\n", self.transport.value())

    def test_one_write(self) -> None:
        """The replies to commands that came together leave together."""
        writes: list[bytes] = []
        self.transport.write = writes.append  # type: ignore[method-assign]

        self.echo.dataReceived(b"now 1\r\nnow 2\r\nnow 3\r\nno")

        self.assertEqual([b"now 1\r\nnow 2\r\nnow 3\r\n"], writes)

    def test_closed_is_closed(self) -> None:
        """After the last word nothing is carried out and nothing sent, also if it was late."""
        self.echo.dataReceived(b"late 1\r\nnow 2\r\n")

        self.echo.close(b"bye\r\n")
        self.echo.close(b"bye\r\n")
        self.echo.dataReceived(b"now 3\r\n")

        self.assertEqual((b"bye\r\n", [b"late 1"]), (self.transport.value(), self.echo.begun))

    def test_a_client_that_does_not_let_go_is_cut(self) -> None:
        """F52: who takes no last word, ends no TLS, or goes on talking, is cut in the end."""
        self.transport.loseConnection = lambda: None  # type: ignore[method-assign]
        cut: list[float] = []
        self.transport.abortConnection = lambda: cut.append(  # type: ignore[method-assign]
            self.echo.clock.seconds()
        )
        self.echo.close(b"bye\r\n")
        end = self.echo.clock.seconds() + LINGER
        for _ in range(4):
            self.echo.clock.advance(LINGER / 3)
            self.echo.dataReceived(b"now 1\r\n")
        self.assertEqual([end], cut)

    def test_f52_closing_searches_no_timers(self) -> None:
        """F52: closing sets a new timer, since a reactor looks for one that is to come sooner."""
        self.transport.loseConnection = lambda: None  # type: ignore[method-assign]
        (before,) = self.echo.clock.getDelayedCalls()
        self.echo.close(b"bye\r\n")
        (after,) = self.echo.clock.getDelayedCalls()
        self.assertIsNot(before, after)

    def test_waiting_client_is_made_to_wait(self) -> None:
        """What is held while a reply is late is bounded: the transport is paused, and resumed."""
        self.echo.dataReceived(b"late 1\r\n")
        self.echo.dataReceived(b"now\r\n" * (MAX_HELD // 5))
        self.assertFalse(self.transport.paused)
        self.echo.dataReceived(b"now\r\n" * 2)
        self.assertTrue(self.transport.paused)

        self.echo.answer()

        self.assertFalse(self.transport.paused)

    def test_stays_paused(self) -> None:
        """A reply that only lets another late command begin does not resume the transport."""
        self.echo.dataReceived(b"late 1\r\nlate 2\r\n" + b"now\r\n")
        self.echo.dataReceived(b"now\r\n" * MAX_HELD)

        self.echo.answer()
        self.assertTrue(self.transport.paused)
        self.echo.answer()

        self.assertFalse(self.transport.paused)

    @settings(deadline=None, max_examples=150)
    @given(st.lists(st.sampled_from([b"now", b"late"]), max_size=12), st.integers(0, 2**32))
    def test_order(self, words: list[bytes], seed: int) -> None:
        """Over any cuts and delays the replies are the commands, in order, each once."""
        self.setUp()
        rng = random.Random(seed)
        wire = b"".join(b"%b %d\r\n" % (word, n) for n, word in enumerate(words))
        rest = wire
        while rest or self.transport.value() != wire:
            if rest and rng.random() < 0.5:
                cut = rng.randint(1, 20)
                self.echo.dataReceived(rest[:cut])
                rest = rest[cut:]
            elif len(self.echo.begun) > self.transport.value().count(b"\n"):
                self.echo.answer()
            self.assertTrue(wire.startswith(self.transport.value()))
