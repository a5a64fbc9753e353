"""The SMTP door as a service: it opens every endpoint, and closes when nothing is being stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.protocols.tls import TLSMemoryBIOFactory

from mailproxy.doors import described
from mailproxy.interfaces import IClock
from mailproxy.submission.desk import Desk
from mailproxy.submission.protocol import SubmissionFactory

#: Seconds that messages being stored have to be answered once the door is closed.
LAST_ANSWERS = 5.0


class Door(MultiService):
    """
    :param endpoints: descriptions, as :mod:`mailproxy.doors` reads them.
    """

    def __init__(self, reactor: Any, endpoints: Sequence[str], desk: Desk) -> None:
        super().__init__()
        self.setName("submission")
        self._clock: IClock = desk.clock
        self._factories: list[SubmissionFactory] = []
        for text in endpoints:
            door = described(text)
            factory = SubmissionFactory(desk, door.proxied)
            self._factories.append(factory)
            endpoint = serverFromString(reactor, door.endpoint)
            opened = (
                TLSMemoryBIOFactory(desk.terms.tls, False, factory) if door.implicit else factory
            )
            service = StreamServerEndpointService(endpoint, opened)
            service._raiseSynchronously = True
            service.setServiceParent(self)

    def retire(self) -> None:
        """No more mail is taken: say goodbye to everybody who is not waiting for an answer."""
        for factory in self._factories:
            for connection in tuple(factory.connections):
                connection.end()

    async def finish(self, patience: float = LAST_ANSWERS) -> None:
        """Wait until the last message being stored is answered, *patience* seconds at most."""
        waited = 0.0
        self.retire()
        while waited < patience and any(f.connections for f in self._factories):
            pause: Deferred[None] = Deferred()
            self._clock.callLater(0.02, pause.callback, None)
            await pause
            waited += 0.02
            self.retire()
        for factory in self._factories:
            for connection in tuple(factory.connections):
                connection.transport.abortConnection()
