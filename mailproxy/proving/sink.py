"""
``mailproxy sink``: an upstream that is safe to try things against, and an application that takes
reports, in one service.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IListeningPort
from twisted.internet.protocol import ServerFactory

from mailproxy.clock import SystemClock
from mailproxy.proving import certificate
from mailproxy.proving.answers import Script
from mailproxy.proving.endpoints import ScriptedFront
from mailproxy.proving.house import House, Terms
from mailproxy.proving.http import Front, site
from mailproxy.proving.ledger import JsonLines, Ledger
from mailproxy.proving.receiver import Credentials, Receiver
from mailproxy.proving.rules import Rules
from mailproxy.proving.scenario import Scenario
from mailproxy.proving.scripted import Play, ScriptedFactory
from mailproxy.proving.smtp import SinkFactory
from mailproxy.proving.tls import context, identities

#: Of a sink that was given none.
PLAIN = Scenario("the sink behaves")


@attrs.frozen(kw_only=True)
class SinkOptions:
    """
    How a sink is set up. Ports: 0 takes a free one, None means not at all.

    :param host: the address to listen on.
    :param tls_port: for implicit TLS.
    :param report_port: for reports, besides the HTTP port, which takes them too.
    :param https_port: as the HTTP port, in TLS.
    :param terms: of the SMTP server; its ``tls`` is filled in.
    :param starttls: whether STARTTLS is offered.
    :param seed: of delays, lost replies and dice; None: the scenario's, or one that is drawn.
    :param delay: least and most seconds before the reply to a message's end.
    :param drop_rate: how often, 0 to 1, a kept message gets no reply but a closed connection.
    :param slow: seconds ``slow@`` waits.
    :param keep: messages kept in memory at most.
    :param keep_bytes: bytes of them at most.
    :param ledger: a file to which a line is appended for every accepted copy.
    :param report_ledger: a file to which a line is appended for every report.
    :param certificate: a file into which the certificate is written.
    :param credentials: what callers of the report receiver must show.
    :param scenario: how the sink behaves; what it says of the server takes the place of *terms*
        and *starttls*; its seed counts where *seed* is None.
    """

    host: str = "127.0.0.1"
    smtp_port: int = 2525
    tls_port: int | None = None
    http_port: int = 8025
    report_port: int | None = None
    https_port: int | None = None
    terms: Terms = attrs.field(factory=Terms)
    starttls: bool = True
    seed: int | None = None
    delay: tuple[float, float] = (0.0, 0.0)
    drop_rate: float = 0.0
    slow: float = 5.0
    keep: int = 1000
    keep_bytes: int = 256 << 20
    ledger: str | None = None
    report_ledger: str | None = None
    certificate: str | None = None
    credentials: Credentials = attrs.field(factory=Credentials)
    scenario: Scenario | None = None


class Sink(Service):
    """
    The whole sink. Between ``startService`` and ``stopService`` it listens, and the ports are in
    ``smtp_port``, ``tls_port``, ``http_port``, ``report_port`` and ``https_port`` (None: not asked
    for).

    :param reactor: listens and keeps time.
    :param say: is given each line meant for a person.
    """

    smtp_port: int | None = None
    tls_port: int | None = None
    http_port: int | None = None
    report_port: int | None = None
    https_port: int | None = None

    def __init__(
        self,
        reactor: Any,
        options: SinkOptions,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.setName("sink")
        self._reactor = reactor
        self._options = options
        self._say = say
        self._clock = SystemClock(reactor)
        self._ports: list[IListeningPort] = []
        self._files = ExitStack()
        self.seed = _seed(options)
        self.identity = certificate.make(self._clock.now())

    def startService(self) -> None:
        """:raises OSError, CannotListenError: a file or port is not to be had; nothing is left."""
        try:
            self._assemble()
            self._listen()
        except BaseException:
            for port in self._ports:
                port.stopListening()
            self._ports.clear()
            self._files.close()
            raise
        super().startService()

    def stopService(self) -> Any:
        """Stop listening and close every connection; fires when the ports are free."""
        super().stopService()
        self.house.close_all()
        self._front.close_all()
        stopped = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports.clear()

        def close(_: object) -> None:
            self._files.close()

        return DeferredList(stopped).addCallback(close)

    def _assemble(self) -> None:
        options = self._options
        if options.certificate:
            Path(options.certificate).write_text(self.identity.certificate)
        scenario = options.scenario or PLAIN
        server = scenario.server
        contexts = {
            name: context(identity, server.tls)
            for name, identity in identities(self.identity, self._clock.now()).items()
        }
        self._tls, self._good = contexts[server.certificate], contexts["good"]
        rng = random.Random(self.seed)
        script = Script(rng.random, options.delay, options.drop_rate, options.slow)
        self.ledger = Ledger(options.keep, options.keep_bytes, self._lines(options.ledger))
        starttls = options.starttls if server.starttls is None else server.starttls
        terms = attrs.evolve(server.over(options.terms), tls=self._tls if starttls else None)
        self.house = House(script, self.ledger, self._clock, terms)
        self._play = Play(
            Rules(scenario.rules, self._clock.seconds),
            self.seed,
            tuple(each.encode() for each in server.auth),
            contexts,
            narrow=any("body" in rule.when.at for rule in scenario.rules),
        )
        self.receiver = Receiver(
            self._clock.now,
            self._say,
            options.credentials,
            lines=self._lines(options.report_ledger),
        )

    def _lines(self, path: str | None) -> JsonLines | None:
        if path is None:
            return None
        lines = JsonLines(path)
        self._files.callback(lines.close)
        return lines

    def _listen(self) -> None:
        options = self._options
        front = self._front = self._made_front()
        smtp = self._smtp()
        listen = self._reactor.listenTCP
        refused = options.scenario.server.refuse_for if options.scenario is not None else 0.0
        if refused:
            self.smtp_port = self._refuse(options.smtp_port, refused, smtp)
        else:
            self.smtp_port = self._add(listen, options.smtp_port, smtp)
        self.http_port = self._add(listen, options.http_port, site(front, self._reactor))
        if options.tls_port is not None:
            self.tls_port = self._add(self._reactor.listenSSL, options.tls_port, smtp, self._tls)
        if options.report_port is not None:
            self.report_port = self._add(listen, options.report_port, site(front, self._reactor))
        if options.https_port is not None:
            listen = self._reactor.listenSSL
            web = site(front, self._reactor)
            self.https_port = self._add(listen, options.https_port, web, self._good)

    def _made_front(self) -> Front:
        scenario, certificate = self._options.scenario, self.identity.certificate
        if scenario is None:
            return Front(self.house, self.receiver, certificate)
        rules = {
            "report": scenario.reports,
            "attachment": scenario.attachments,
            "token": scenario.tokens,
        }
        return ScriptedFront(self.house, self.receiver, certificate, rules, self.seed)

    def _smtp(self) -> ServerFactory:
        """Makes the SMTP connections; without a scenario, those that are quickest."""
        if self._options.scenario is None:
            return SinkFactory(self.house)
        return ScriptedFactory(self.house, self._play)

    def _refuse(self, port: int, seconds: float, smtp: ServerFactory) -> int:
        """Have connections to *port* refused for *seconds*, and taken from then on."""
        family = socket.AF_INET6 if ":" in self._options.host else socket.AF_INET
        place = socket.socket(family)
        self._files.callback(place.close)
        place.bind((self._options.host, port))
        number = int(place.getsockname()[1])

        def open_up() -> None:
            place.close()
            self._add(self._reactor.listenTCP, number, smtp)

        call = self._clock.callLater(seconds, open_up)
        self._files.callback(_call_off, call)
        return number

    def _add(self, listen: Callable[..., IListeningPort], port: int, *args: Any) -> int:
        listening = listen(port, *args, backlog=1024, interface=self._options.host)
        self._ports.append(listening)
        address: Any = listening.getHost()
        return int(address.port)

    def ready(self) -> str:
        """The line that says that the sink is there, where, and with which seed if one matters."""
        host = f"[{self._options.host}]" if ":" in self._options.host else self._options.host
        ports = {
            "smtp": self.smtp_port,
            "smtps": self.tls_port,
            "http": self.http_port,
            "reports": self.report_port,
            "https": self.https_port,
        }
        words = [f"{name}={host}:{port}" for name, port in ports.items() if port is not None]
        if self._options.drop_rate or self._options.delay[1]:
            words.append(f"seed={self.seed}")
        elif self._options.scenario is not None:
            words.append(f"seed={self.seed} scenario={self._options.scenario.title!r}")
        return f"sink ready {' '.join(words)}"


def _call_off(call: IDelayedCall) -> None:
    if call.active():
        call.cancel()


def _seed(options: SinkOptions) -> int:
    """The seed of the command line, else that of the scenario, else one that is drawn."""
    if options.seed is not None:
        return options.seed
    if options.scenario is not None and options.scenario.seed is not None:
        return options.scenario.seed
    return random.SystemRandom().getrandbits(32)
