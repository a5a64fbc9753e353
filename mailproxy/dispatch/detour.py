"""
Mail of one account on its way through another: what is handed out there, and by whose leave.

The sessions are the other account's own. Its own mail goes first: a detour has no session while
that waits for one, and gives its session back after the message at hand.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Protocol

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.dispatch.judge import Judgement
from mailproxy.dispatch.recorder import Intents
from mailproxy.errors import AccountFault, Unprepared
from mailproxy.interfaces import ICourier, IFeed
from mailproxy.model import Account, Claimed, Outcome

_log = Logger()

#: After so many messages a session goes to the next of several accounts whose mail waits for one.
TURN = 8


class Host(Protocol):
    """The stream of the account that carries."""

    @property
    def account(self) -> Account | None:
        """As it was last read."""

    def lend(self) -> bool:
        """Take a session for mail of others; false: there is none to spare."""

    def regain(self) -> None:
        """It is given back."""

    @property
    def pressed(self) -> bool:
        """Whether mail of its own waits for a session."""

    def crowded(self, detour: Detour) -> bool:
        """Whether others than *detour* have mail here that waits for a session."""

    async def at_fault(self, account: Account, phase: str, reason: str) -> None:
        """No session of *account* could be had."""

    def learn(self, account: Account, outcome: Outcome, judged: Judgement) -> None:
        """An attempt through *account* came to *outcome*: what that says about the account."""


class Owner(Protocol):
    """Whose mail it is."""

    @property
    def feed(self) -> IFeed:
        """The stream of its account; told of what is the same whoever carries a message."""

    @property
    def stopping(self) -> bool:
        """Whether nothing is to be begun any more."""

    def intents(self, account: Account) -> Intents:
        """Asks for attempts that *account* carries."""

    def refused(self, message: Claimed) -> None:
        """Its intent was refused: the lease is to be given back."""

    def arrived(self, message: Claimed, outcome: Outcome, host: Host) -> Deferred[bool]:
        """An attempt through *host* came to *outcome*; fires when that is stored."""

    def displaced(self, messages: Sequence[Claimed]) -> None:
        """These cannot go this way any more."""

    def fewer(self) -> None:
        """There may be room for more of its mail."""


@implementer(IFeed)
class Detour:
    """
    Messages of *owner* that go through *host*, the most urgent first.

    :param courier: carries them.
    """

    def __init__(self, owner: Owner, host: Host, courier: ICourier) -> None:
        self._owner = owner
        self._host = host
        self._courier = courier
        self._waiting: list[tuple[int, int, Claimed]] = []
        self._order = 0
        self._carrying = 0
        self._handed = 0
        self._out: set[int] = set()
        self._asked: tuple[Account, Intents] | None = None

    def __len__(self) -> int:
        """Messages that no session has taken."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether anything of it is here or on its way."""
        return bool(self._waiting or self._out or self._carrying)

    def put(self, message: Claimed) -> None:
        """Have *message* go this way; :meth:`start` is to follow."""
        self._order += 1
        heapq.heappush(self._waiting, (message.priority, self._order, message))

    def take_back(self) -> list[Claimed]:
        """What is not handed out: it goes this way no more."""
        taken = [message for _, _, message in self._waiting]
        self._waiting.clear()
        return taken

    def disband(self) -> None:
        """The account does not take mail now: what waits for it goes another way."""
        if self._waiting:
            self._owner.displaced(self.take_back())

    def start(self, per_session: int) -> bool:
        """
        Open sessions for what waits, as far as the account has some to spare.

        Where others wait as well, one at a time.

        :param per_session: messages waiting that are worth a session more.
        :return: whether there was one.
        """
        more = -(-len(self._waiting) // per_session)
        if more > 1 and self._host.crowded(self):
            more = 1
        served = False
        while more > 0 and not self._owner.stopping and self._host.lend():
            more, served = more - 1, True
            self._carrying += 1
            Deferred.fromCoroutine(self._carry())
        return served

    async def _carry(self) -> None:
        account = self._host.account
        try:
            if account is not None:
                await self._courier.carry(account, self)
        except AccountFault as fault:
            assert account is not None
            await self._host.at_fault(account, fault.phase, fault.reason)
        except Exception:
            assert account is not None
            _log.failure("carrying for account {id} raised", id=account.id)
            await self._host.at_fault(account, "internal", "an internal error; see the log")
        finally:
            self._carrying -= 1
            self._host.regain()
        self._owner.fewer()

    # -- IFeed -----------------------------------------------------------------------------

    def next(self) -> Claimed | None:
        if self._owner.stopping or not self._waiting or self._host.pressed:
            return None
        self._handed += 1
        if self._handed % TURN == 0 and self._host.crowded(self):
            return None
        message = heapq.heappop(self._waiting)[2]
        self._out.add(message.pk)
        self._owner.fewer()
        return message

    def begin(self, message: Claimed) -> Deferred[bool]:
        account = self._host.account
        if account is None:
            return succeed(self._begun(False, message))
        if self._asked is None or self._asked[0] is not account:
            self._asked = account, self._owner.intents(account)
        return self._asked[1].ask(message.pk, message.token).addCallback(self._begun, message)

    def _begun(self, granted: bool, message: Claimed) -> bool:
        if not granted:
            self._out.discard(message.pk)
            self._owner.refused(message)
        return granted

    def finish(self, message: Claimed, outcome: Outcome) -> Deferred[bool]:
        self._out.discard(message.pk)
        return self._owner.arrived(message, outcome, self._host)

    def put_back(self, message: Claimed) -> None:
        self._out.discard(message.pk)
        self.put(message)

    async def broken(self, message: Claimed, error: Exception) -> None:
        self._out.discard(message.pk)
        await self._owner.feed.broken(message, error)

    def aside(self, message: Claimed) -> None:
        self._out.discard(message.pk)
        self._owner.feed.aside(message)

    def ready(self, message: Claimed) -> None:
        self._owner.feed.ready(message)

    def dropped(self, message: Claimed) -> None:
        self._owner.feed.dropped(message)

    async def unprepared(self, message: Claimed, fault: Unprepared) -> object:
        return await self._owner.feed.unprepared(message, fault)
