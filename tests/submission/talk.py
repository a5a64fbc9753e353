"""One conversation with the SMTP door in memory: bytes in, replies out, on a clock we move."""

from __future__ import annotations

import random
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

import attrs
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import ITLSTransport
from zope.interface import directlyProvides, providedBy

from mailproxy.book import TenantBook
from mailproxy.clock import Names
from mailproxy.crypto import hash_password
from mailproxy.metrics import Metrics
from mailproxy.submission.desk import Desk, Handed, Reply, Terms
from mailproxy.submission.gate import Gate, GateRules
from mailproxy.submission.intake import Rules, StoreIntake
from mailproxy.submission.protocol import Submission, SubmissionFactory
from mailproxy.submitter_book import SubmitterBook
from mailproxy.submitters import Submitter
from mailproxy.threads import inline
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, FakeControl, result
from tests.proving.talk import Transport

#: Where clients come from, and a network that needs no login.
PEER, TRUSTED = "192.0.2.7", "192.0.2.0/24"

PASSWORD = "correct horse"
HASH = hash_password(PASSWORD)

MAIL = b"From: a@x.org\r\nTo: b@y.org\r\nSubject: x\r\n\r\nHello.\r\n"


class Taking:
    """An intake that keeps what it is handed, and answers when and what the test says."""

    def __init__(self) -> None:
        self.handed: list[Handed] = []
        self.answers: list[Reply | Exception | Deferred[Reply]] = []
        self.stopping = False

    async def take(self, handed: Handed) -> Reply:
        self.handed.append(handed)
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, Deferred):
            return await answer
        return answer or Reply(250, b"2.0.0 queued as %d" % len(self.handed))

    def draining(self) -> bool:
        return self.stopping


class House:
    """
    The door with everything around it faked.

    :param rules: of the gate; the peer needs no login unless they say otherwise.
    :param terms: of the desk, as keywords.
    """

    def __init__(self, rules: GateRules | None = None, **terms: Any) -> None:
        self.clock = FakeClock()
        self.names = Names(random.Random(5))
        self.store = FakeStore(self.clock, self.names)
        self.control = FakeControl()
        self.metrics = Metrics()
        self.tenants = TenantBook(self.store, self.clock)
        self.book = SubmitterBook(self.store, self.clock)
        result(self.tenants.refresh())
        result(self.book.refresh())
        self.intake = Taking()
        self.gate = Gate(
            rules if rules is not None else GateRules(trusted=(TRUSTED,)),
            self.book,
            self.tenants.exists,
            self.clock,
            inline,
            self.metrics,
        )
        self.terms = Terms(**{"host": "mx.example.net", **terms})
        self.desk = Desk(self.terms, self.gate, self.intake, self.clock)
        self.factory = SubmissionFactory(self.desk)

    def storing(self, **rules: Any) -> None:
        """From now on what is handed in goes to the store."""
        intake = StoreIntake(
            self.store,
            self.control,
            self.clock,
            self.names,
            self.metrics,
            inline,
            Rules(**{"host": "mx.example.net", **rules}),
        )
        self.desk = attrs.evolve(self.desk, intake=intake)
        self.factory = SubmissionFactory(self.desk)

    def credential(self, user: str = "erp", tenant_id: str = "default", **fields: Any) -> Submitter:
        """Make a credential whose password is :data:`PASSWORD`."""
        submitter = Submitter(user, tenant_id, **{"hash": HASH, **fields})
        stored = result(self.store.put_submitter(submitter, self.clock.now()))
        result(self.book.refresh())
        return stored

    def connect(self, peer: str = PEER, *, tls: bool = False) -> Talk:
        """A connection from *peer*; *tls*: over a transport that could be encrypted."""
        return Talk(self, peer, tls)


class Talk:
    """One connection, the banner taken."""

    def __init__(self, house: House, peer: str = PEER, tls: bool = False) -> None:
        self.house = house
        self.protocol: Submission = house.factory.buildProtocol(None)
        self.transport = Transport(peerAddress=IPv4Address("TCP", peer, 40000))
        self.transport.protocol = self.protocol
        if tls:
            directlyProvides(self.transport, ITLSTransport, providedBy(self.transport))
        self.protocol.makeConnection(self.transport)
        self.banner = self.replies()

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

    def hello(self) -> list[str]:
        return self.send(b"EHLO client.example\r\n")

    def envelope(
        self, to: Iterable[bytes] = (b"b@y.org",), sender: bytes = b"a@x.org"
    ) -> list[str]:
        """MAIL and RCPT; the codes that came back."""
        lines = [b"MAIL FROM:<%b>\r\n" % sender, *(b"RCPT TO:<%b>\r\n" % each for each in to)]
        return self.codes(b"".join(lines))

    def mail(self, body: bytes = MAIL, **envelope: Any) -> list[str]:
        """Send one whole message; the codes that came back."""
        codes = self.envelope(**envelope)
        return codes + self.codes(b"DATA\r\n") + self.codes(body + b".\r\n")

    def login(self, user: str = "erp", password: str = PASSWORD) -> list[str]:
        said = b64encode(f"\0{user}\0{password}".encode())
        return self.send(b"AUTH PLAIN " + said + b"\r\n")

    @property
    def closed(self) -> bool:
        return not self.transport.connected
