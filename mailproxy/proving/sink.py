"""
``mailproxy sink``: an upstream that is safe to try things against, and an application that takes
reports, in one service.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import attrs
from twisted.application.service import Service
from twisted.internet.defer import DeferredList, maybeDeferred
from twisted.internet.interfaces import IListeningPort
from twisted.internet.ssl import PrivateCertificate

from mailproxy.clock import SystemClock
from mailproxy.proving import certificate
from mailproxy.proving.answers import Script
from mailproxy.proving.house import House, Terms
from mailproxy.proving.http import Front, site
from mailproxy.proving.ledger import JsonLines, Ledger
from mailproxy.proving.receiver import Credentials, Receiver
from mailproxy.proving.smtp import SinkFactory


@attrs.frozen(kw_only=True)
class SinkOptions:
    """
    How a sink is set up. Ports: 0 takes a free one, None means not at all.

    :param host: the address to listen on.
    :param tls_port: for implicit TLS.
    :param report_port: for reports, besides the HTTP port, which takes them too.
    :param terms: of the SMTP server; its ``tls`` is filled in.
    :param starttls: whether STARTTLS is offered.
    :param seed: of delays and lost replies; None draws one.
    :param delay: least and most seconds before the reply to a message's end.
    :param drop_rate: how often, 0 to 1, a kept message gets no reply but a closed connection.
    :param slow: seconds ``slow@`` waits.
    :param keep: messages kept in memory at most.
    :param keep_bytes: bytes of them at most.
    :param ledger: a file to which a line is appended for every accepted copy.
    :param report_ledger: a file to which a line is appended for every report.
    :param certificate: a file into which the certificate is written.
    :param credentials: what callers of the report receiver must show.
    """

    host: str = "127.0.0.1"
    smtp_port: int = 2525
    tls_port: int | None = None
    http_port: int = 8025
    report_port: int | None = None
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


class Sink(Service):
    """
    The whole sink. Between ``startService`` and ``stopService`` it listens, and the ports are in
    ``smtp_port``, ``tls_port``, ``http_port`` and ``report_port`` (None: not asked for).

    :param reactor: listens and keeps time.
    :param say: is given each line meant for a person.
    """

    smtp_port: int | None = None
    tls_port: int | None = None
    http_port: int | None = None
    report_port: int | None = None

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
        self.seed = random.SystemRandom().getrandbits(32) if options.seed is None else options.seed
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
        stopped = [maybeDeferred(port.stopListening) for port in self._ports]
        self._ports.clear()

        def close(_: object) -> None:
            self._files.close()

        return DeferredList(stopped).addCallback(close)

    def _assemble(self) -> None:
        options = self._options
        if options.certificate:
            Path(options.certificate).write_text(self.identity.certificate)
        pem = self.identity.certificate + self.identity.key
        self._tls = PrivateCertificate.loadPEM(pem.encode()).options()
        rng = random.Random(self.seed)
        script = Script(rng.random, options.delay, options.drop_rate, options.slow)
        self.ledger = Ledger(options.keep, options.keep_bytes, self._lines(options.ledger))
        terms = attrs.evolve(options.terms, tls=self._tls if options.starttls else None)
        self.house = House(script, self.ledger, self._clock, terms)
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
        front = Front(self.house, self.receiver, self.identity.certificate)
        smtp = SinkFactory(self.house)
        listen = self._reactor.listenTCP
        self.smtp_port = self._add(listen, options.smtp_port, smtp)
        self.http_port = self._add(listen, options.http_port, site(front, self._reactor))
        if options.tls_port is not None:
            self.tls_port = self._add(self._reactor.listenSSL, options.tls_port, smtp, self._tls)
        if options.report_port is not None:
            self.report_port = self._add(listen, options.report_port, site(front, self._reactor))

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
        }
        words = [f"{name}={host}:{port}" for name, port in ports.items() if port is not None]
        if self._options.drop_rate or self._options.delay[1]:
            words.append(f"seed={self.seed}")
        return f"sink ready {' '.join(words)}"
