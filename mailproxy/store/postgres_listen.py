"""
What other nodes have stored, heard at once: LISTEN on a connection that the reactor watches.

It is a hint: what is missed, while the connection is away for instance, is found by those who look
for work from time to time anyhow.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import msgspec
import psycopg
from twisted.internet.interfaces import IDelayedCall, IReactorFDSet, IReadDescriptor
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy.interfaces import IClock
from mailproxy.store.postgres_server import FIRST_PAUSE, Server
from mailproxy.store.postgres_writer import CHANNEL, Notice
from mailproxy.threads import Threads

#: Seconds for which notices are gathered: nodes that store much would wake each other all the time,
#: and who stored it is at work on it already.
GATHER = 0.05

#: Seconds between two tries to listen, at most.
LONGEST_PAUSE = 15.0

_notice = msgspec.json.Decoder(Notice).decode
_log = Logger()


@implementer(IReadDescriptor)
class Ear:
    """The reactor's view of a connection that listens."""

    def __init__(
        self,
        raw: psycopg.Connection[Any],
        heard: Callable[[bytes], None],
        lost: Callable[[Ear], None],
    ) -> None:
        self._raw = raw
        self._heard = heard
        self._lost = lost
        # The library closes its own when the server goes away, while the reactor still watches it.
        self._fileno = os.dup(raw.pgconn.socket)

    def fileno(self) -> int:
        return self._fileno

    def logPrefix(self) -> str:
        return "store-listen"

    def doRead(self) -> None:
        try:
            self._raw.pgconn.consume_input()
            while (found := self._raw.pgconn.notifies()) is not None:
                self._heard(found.extra)
        except psycopg.Error:
            self._lost(self)

    def connectionLost(self, reason: Failure) -> None:
        self._lost(self)

    def close(self) -> None:
        """Once the reactor does not watch it any more."""
        os.close(self._fileno)
        self._raw.close()


class Listener:
    """
    All of it in the reactor's thread, but for connecting.

    :param told: called with what gathered notices say.
    :param node_id: whose own notices are not told.
    """

    def __init__(
        self,
        server: Server,
        reactor: Any,
        clock: IClock,
        node_id: str,
        told: Callable[[Notice], None],
    ) -> None:
        self._server = server
        self._reactor: IReactorFDSet = reactor
        self._clock = clock
        self._node_id = node_id
        self._told = told
        self._threads = Threads(reactor, "store-listen", 1)
        self._ear: Ear | None = None
        self._again: IDelayedCall | None = None
        self._gathering: IDelayedCall | None = None
        self._pause = FIRST_PAUSE
        self._due: set[int] = set()
        self._reportable: set[str] = set()
        self._copied = False
        self._running = False

    @property
    def listening(self) -> bool:
        return self._ear is not None

    def start(self) -> None:
        self._running = True
        self._threads.startService()
        self._dial()

    def stop(self) -> None:
        self._running = False
        for timer in (self._again, self._gathering):
            if timer is not None and timer.active():
                timer.cancel()
        self._leave()
        self._threads.stopService()

    def _dial(self) -> None:
        if self._running:
            self._threads(self._connected).addCallbacks(self._listen, self._failed)

    def _connected(self) -> psycopg.Connection[Any]:
        raw = self._server.connect()
        try:
            raw.execute(f"LISTEN {CHANNEL}")
        except psycopg.Error:
            raw.close()
            raise
        return raw

    def _listen(self, raw: psycopg.Connection[Any]) -> None:
        if not self._running:
            raw.close()
            return
        self._pause = FIRST_PAUSE
        self._ear = Ear(raw, self._heard, self._lost)
        self._reactor.addReader(self._ear)
        self._copied = True  # nobody knows what was missed
        self._gather()

    def _failed(self, reason: Failure) -> None:
        _log.debug("cannot listen to other nodes: {reason}", reason=reason.getErrorMessage())
        if self._running:
            self._again = self._clock.callLater(self._pause, self._dial)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _lost(self, ear: Ear) -> None:
        if ear is self._ear:
            self._leave()
            self._dial()

    def _leave(self) -> None:
        ear, self._ear = self._ear, None
        if ear is not None:
            self._reactor.removeReader(ear)
            ear.close()

    def _heard(self, said: bytes) -> None:
        try:
            notice = _notice(said)
        except msgspec.MsgspecError:  # of another program, or of a node of another release
            return
        if notice.node == self._node_id:
            return
        self._due.update(notice.due)
        self._reportable.update(notice.reportable)
        self._copied = self._copied or notice.copied
        self._gather()

    def _gather(self) -> None:
        if self._gathering is None:
            self._gathering = self._clock.callLater(GATHER, self._tell)

    def _tell(self) -> None:
        self._gathering = None
        notice = Notice("", list(self._due), list(self._reportable), self._copied)
        self._due.clear()
        self._reportable.clear()
        self._copied = False
        self._told(notice)
