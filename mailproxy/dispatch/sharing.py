"""
What an account's stream does for the mail of others, and with mail of its own that others carry.

``Sharing`` is the part of :class:`~mailproxy.dispatch.stream.Stream` that other streams see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from twisted.internet.defer import Deferred

from mailproxy.dispatch.claims import Claims
from mailproxy.dispatch.detour import Detour
from mailproxy.dispatch.hosting import Guests
from mailproxy.dispatch.judge import Judgement
from mailproxy.dispatch.leases import Leases
from mailproxy.dispatch.reach import Reach
from mailproxy.dispatch.ready import Ready
from mailproxy.dispatch.shared import Shared
from mailproxy.dispatch.unbegun import kept_for
from mailproxy.dispatch.ways import Home, Ways
from mailproxy.interfaces import IFeed
from mailproxy.model import Account, Claimed, Outcome
from mailproxy.routes import routes_of


class Sharing:
    """
    :ivar account: as it was last read; None if it was not, or is deleted.
    """

    _shared: Shared
    _ready: Ready
    _reach: Reach
    _claims: Claims
    _leases: Leases
    _carrying: int
    wake: Callable[[], None]
    _fill: Callable[[], None]
    _start: Callable[[], None]

    def __init__(self) -> None:
        self.account: Account | None = None
        self._guests = Guests()
        self._limited_until = 0.0
        self._ways: Ways | None = None

    # -- the account -----------------------------------------------------------------------

    def adopt(self, account: Account) -> None:
        """See :class:`mailproxy.dispatch.ways.Carrier`, as for the others here."""
        if self.account is None or self.account.version < account.version:
            self.take_up(account)

    def take_up(self, account: Account) -> None:
        """The account is like this from now on."""
        raise NotImplementedError(type(self).__name__)

    def _find_ways(self, account: Account, home: Home, feed: IFeed) -> None:
        """Which others may carry its mail; *home* and *feed* are the whole of this stream."""
        if self._ways is not None:
            self._ways.read(account)
        elif not routes_of(account).alone and self._shared.surroundings is not None:
            self._ways = Ways(home, feed, account, self._shared.surroundings)

    # -- its mail, carried by others -------------------------------------------------------

    @property
    def _held(self) -> int:
        """Messages claimed and on no session, here and on other ways."""
        return len(self._ready) + (0 if self._ways is None else len(self._ways))

    @property
    def _replaced(self) -> bool:
        """Whether others carry the mail of this account while it does not work."""
        return self._ways is not None and self._ways.work

    def place(self, messages: Iterable[Claimed]) -> None:
        ways, reach = self._ways, self._reach
        left: list[Claimed] = []
        for message in messages:
            if ways is not None and ways.take(message):
                continue
            if self.opens_at() > self._shared.clock.now() and not self._tried_now:
                left.append(message)
            else:
                self._ready.push(message, message.priority)
        if ways is not None:
            ways.start()
        if left and reach.probing and self.account is not None:
            Deferred.fromCoroutine(reach.close(self.account, left, ways))
        elif left:
            Deferred.fromCoroutine(self._leases.give(left))
        self._start()

    def limited(self, until: float) -> None:
        """
        A limit is reached: what is ready waits in the store, or goes other ways, but not here.

        :param until: when there is room again, in Unix seconds.
        """
        self._limited_until = until
        ready = self._ready.clear()
        if self._ways is not None:
            self.place(ready)
        elif ready:
            Deferred.fromCoroutine(self._leases.give(ready))
        self._guests.disband()
        if self.spills():
            self.wake()  # the last claim took no more than there was room for

    def spills(self) -> bool:
        """See :class:`mailproxy.dispatch.claims.Taker`."""
        return self._ways is not None and self._ways.opens_at <= self._shared.clock.now()

    @property
    def _tried_now(self) -> bool:
        """Whether a message is about to tell whether a parked account works."""
        return bool(self._carrying or self._ready or self._guests.busy)

    def put_off(self, message: Claimed, through: str, until: float | None) -> None:
        now = self._shared.clock.now()
        self._shared.recorder.add(kept_for(message, through, until, now, self._shared.rules))

    def refused(self, message: Claimed) -> None:
        Deferred.fromCoroutine(self._leases.give([message]))

    def fewer(self) -> None:
        if self._claims.more:
            self._fill()

    @property
    def stopping(self) -> bool:
        return self._shared.stopping

    def reopen(self) -> None:
        """Another account works again: this one may have waited for it."""
        if self._limited_until > self._shared.clock.now() and self._replaced:
            self.wake()
        if self._reach.shut and self._replaced and self.account is not None:
            opened = Deferred.fromCoroutine(self._reach.open(self.account))
            opened.addCallback(lambda _: self.wake())

    def _all(self) -> Sequence[Claimed]:
        """Everything claimed that is on no session, taken out."""
        elsewhere = [] if self._ways is None else self._ways.take_back()
        return [*self._ready.clear(), *elsewhere]

    # -- the mail of others ----------------------------------------------------------------

    @property
    def works(self) -> bool:
        """See :class:`mailproxy.dispatch.ways.Carrier`."""
        limited = self._limited_until > self._shared.clock.now()
        return self.account is not None and not self._reach.probing and not limited

    def opens_at(self) -> float:
        if self.account is None:
            return math.inf
        if not self._reach.probing:
            return self._limited_until
        return math.inf if self._tried_now else max(self._reach.probe_at, self._limited_until)

    @property
    def most(self) -> int:
        """Sessions the account may have now, for its own mail and that of others."""
        if self.account is None:
            return 0
        return 1 if self._reach.probing else min(self.account.max_sessions, self._reach.slots)

    @property
    def pressed(self) -> bool:
        return bool(self._ready) and self._carrying >= self.most

    def lend(self) -> bool:
        most, reach = self.most, self._reach
        if self._ready or self._carrying >= most or not self._guests.may_have_one(most):
            return False
        if reach.probing and reach.probe_at > self._shared.clock.now():
            return False
        self._guests.carrying += 1
        self._carrying += 1
        return True

    def regain(self) -> None:
        self._guests.carrying -= 1
        self._carrying -= 1
        self._fill()
        self._start()
        self._guests.serve()

    def crowded(self, detour: Detour) -> bool:
        return self._guests.crowded(detour)

    def welcome(self, detour: Detour) -> None:
        self._guests.welcome(detour)

    async def at_fault(self, account: Account, phase: str, reason: str) -> None:
        raise NotImplementedError(type(self).__name__)

    def learn(self, account: Account, outcome: Outcome, judged: Judgement) -> None:
        raise NotImplementedError(type(self).__name__)
