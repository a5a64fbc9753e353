"""The sessions of one version of one account: how many there are, and which are idle."""

from __future__ import annotations

from collections import deque

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall

from mailproxy.delivery.session import Session
from mailproxy.model import Account


@attrs.define(eq=False)
class Shelf:
    """
    :ivar open: sessions that exist or are being opened.
    :ivar idle: those nobody uses, the last used last; with when they became so.
    :ivar waiting: those who wait for a session, in order.
    :ivar draining: the account has changed: what is here goes as soon as it is idle.
    :ivar careful_until: until when nothing is pipelined, since a server broke the protocol.
    :ivar sweep: the timer that ends idle sessions.
    """

    account: Account
    draining: bool = False
    open: int = 0
    idle: list[tuple[float, Session]] = attrs.Factory(list)
    waiting: deque[Deferred[None]] = attrs.Factory(deque)
    born: dict[Session, float] = attrs.Factory(dict)
    careful_until: float = 0.0
    sweep: IDelayedCall | None = None

    @property
    def full(self) -> bool:
        return self.open >= self.account.max_sessions

    def wake(self) -> None:
        """A session or a place for one has become free."""
        if self.waiting:
            self.waiting.popleft().callback(None)

    def take_out(self, keep_since: float, born_since: float) -> list[Session]:
        """Remove and return the idle sessions that became so or were born before these times."""
        stale = [
            session
            for since, session in self.idle
            if since <= keep_since or self.born[session] <= born_since
        ]
        self.idle = [pair for pair in self.idle if pair[1] not in stale]
        return stale

    def forget(self, session: Session) -> None:
        """*session* is gone."""
        self.open -= 1
        del self.born[session]
        self.idle = [pair for pair in self.idle if pair[1] is not session]
        self.wake()
