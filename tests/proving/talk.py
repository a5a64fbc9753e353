"""One conversation with the sink in memory: bytes in, replies out, on a clock the test moves."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.testing import StringTransportWithDisconnection

from mailproxy.proving.answers import Script
from mailproxy.proving.house import House, Terms
from mailproxy.proving.ledger import JsonLines, Ledger
from mailproxy.proving.rules import Rules
from mailproxy.proving.scenario import Scenario
from mailproxy.proving.scripted import Play, ScriptedFactory
from mailproxy.proving.smtp import SinkFactory, SinkProtocol
from tests.fakes import FakeClock


class Transport(StringTransportWithDisconnection):
    """Remembers whether it was asked to wait, to break off, and what to encrypt."""

    paused = False
    aborted = False
    tls: Any = None

    def abortConnection(self) -> None:
        self.aborted = True
        self.loseConnection()

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


class Talk:
    """
    :param scenario: TOML without a title; None: the sink behaves.
    :param terms: of the sink, as keywords.
    """

    def __init__(
        self,
        *,
        delay: tuple[float, float] = (0.0, 0.0),
        drop_rate: float = 0.0,
        seed: int = 0,
        lines: JsonLines | None = None,
        scenario: str | None = None,
        **terms: Any,
    ) -> None:
        self.clock = FakeClock()
        self.ledger = Ledger(lines=lines)
        script = Script(random.Random(seed).random, delay, drop_rate)
        self.house = House(script, self.ledger, self.clock, Terms(**terms))
        self.play = None if scenario is None else self.plays(scenario, seed)
        self.connect()

    def plays(self, text: str, seed: int) -> Play:
        """What *text*, the TOML of a scenario without its title, has the sink play."""
        made = Scenario.parse(f"title = 'x'\n{text}")
        self.house.terms = made.server.over(self.house.terms)
        rules = Rules(made.rules, self.clock.seconds)
        return Play(rules, seed, tuple(each.encode() for each in made.server.auth))

    def connect(self) -> list[str]:
        """Open a new connection; returns the banner."""
        if self.play is None:
            self.protocol: SinkProtocol = SinkFactory(self.house).buildProtocol(None)
        else:
            self.protocol = ScriptedFactory(self.house, self.play).buildProtocol(None)
        self.transport = Transport()
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)
        return self.replies()

    def send(self, data: bytes) -> list[str]:
        """Deliver *data* and return the lines that came back."""
        self.protocol.dataReceived(data)
        return self.replies()

    def replies(self) -> list[str]:
        """The lines that came since the last look."""
        lines: list[str] = self.transport.value().decode().split("\r\n")
        self.transport.clear()
        assert lines.pop() == "", "a reply without its line end"
        return lines

    def codes(self, data: bytes) -> list[str]:
        """As :meth:`send`, with only the first three characters of each line."""
        return [line[:3] for line in self.send(data)]

    def hello(self) -> None:
        self.send(b"EHLO client.example\r\n")

    def mail(self, to: str = "b@y.org", body: bytes = b"Subject: x\r\n\r\nx\r\n") -> list[str]:
        """Send one whole message, pipelined; the codes that came back."""
        return self.codes(
            b"MAIL FROM:<a@x.org>\r\nRCPT TO:<%b>\r\nDATA\r\n%b.\r\n" % (to.encode(), body)
        )

    @property
    def closed(self) -> bool:
        return not self.transport.connected

    def end(self) -> None:
        """The client goes away."""
        self.transport.loseConnection()
