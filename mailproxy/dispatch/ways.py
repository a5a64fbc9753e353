"""
The mail of one account that may go through others: which way each message takes, and its way back.

A message stays in its account's lane whoever carries it, so nothing has to be brought back when the
account works again: the next message is its own once more. The account's own stream claims, judges
and records; only the sessions are another's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import attrs
from twisted.internet.defer import Deferred

from mailproxy.dispatch.detour import Detour, Host
from mailproxy.dispatch.recorder import Intents, Recorder
from mailproxy.dispatch.roads import Roads
from mailproxy.dispatch.routing import (
    Through,
    Tried,
    Wait,
    choose,
    goes_on,
    order_of,
    passed_on,
)
from mailproxy.interfaces import IClock, ICourier, IFeed, IStore
from mailproxy.model import Account, Claimed, Outcome, Record
from mailproxy.routes import Routes, routes_of

#: Seconds until an account that an operator holds is looked at again: nobody says when that ends.
WHILE_HELD = 60.0


class Carrier(Host, Protocol):
    """A stream, as the one that carries the mail of others."""

    def adopt(self, account: Account) -> None:
        """This is how the account was just read."""

    def opens_at(self) -> float:
        """When it takes mail, in Unix seconds; now or earlier if it does already."""

    @property
    def works(self) -> bool:
        """Whether it takes more than a message to be tried with."""

    def welcome(self, detour: Detour) -> None:
        """There are messages in *detour*: start it whenever a session can be spared."""


class Home(Carrier, Protocol):
    """A stream, as the one whose account's mail it is."""

    @property
    def stopping(self) -> bool:
        """Whether nothing is to be begun any more."""

    def refused(self, message: Claimed) -> None:
        """Its intent was refused: the lease is to be given back."""

    def arrived(self, message: Claimed, outcome: Outcome, host: Host) -> Deferred[bool]:
        """An attempt through *host* came to *outcome*; fires when that is stored."""

    def fewer(self) -> None:
        """There may be room for more of its mail."""

    def place(self, messages: Iterable[Claimed]) -> None:
        """Have *messages* go the way they can go now."""

    def put_off(self, message: Claimed, through: str, until: float | None) -> None:
        """
        Nobody but the account *through* may carry *message*, and that cannot now.

        :param until: when it will, in Unix seconds; None if there is no such account any more.
        """


@attrs.frozen
class Surroundings:
    """
    What the ways of all accounts share.

    :param carrier: gives the stream of an account by its pk.
    """

    store: IStore
    courier: ICourier
    clock: IClock
    recorder: Recorder
    roads: Roads
    carrier: Callable[[int], Carrier]


class Ways:
    """
    :param home: the stream of *account*, which also is the feed that is told what does not depend
        on who carries a message.
    """

    def __init__(self, home: Home, feed: IFeed, account: Account, parts: Surroundings) -> None:
        self.feed = feed
        self._home = home
        self._parts = parts
        self._tried = Tried()
        self._detours: dict[int, Detour] = {}
        self._account = account
        self._routes = Routes(account.id)
        self._names: Sequence[str] = ()
        self.read(account)

    def read(self, account: Account) -> None:
        """The account is like this now."""
        self._account = account
        self._routes = routes_of(account)
        self._names = self._routes.order("")

    async def look(self) -> None:
        """
        See how the other accounts are.

        :raises StoreError: they cannot be read.
        """
        parts, tenant = self._parts, self._account.tenant_id
        await parts.roads.look(tenant)
        for name in self._names:
            account = parts.roads.account(tenant, name)
            if account is not None and name != self._account.id:
                parts.carrier(account.pk).adopt(account)

    # -- which way -------------------------------------------------------------------------

    def take(self, message: Claimed) -> bool:
        """
        Take *message* on where it is not the own account's turn; false: it is.

        It is the own account's, too, where none can carry it. :meth:`start` is to follow.
        """
        order = order_of(message, self._routes)
        choice = choose(order, self._opens, self._parts.clock.now(), self._tried.of(message.pk))
        own = self._account.id
        if isinstance(choice, Through) and choice.account_id == own:
            return False
        if isinstance(choice, Through):
            account = self._parts.roads.account(self._account.tenant_id, choice.account_id)
            assert account is not None
            self._detour(account).put(message)
            return True
        self._tried.forget(message.pk)
        if not message.doubted_at:
            return False
        until = choice.until if isinstance(choice, Wait) else None
        self._home.put_off(message, message.doubted_at, until)
        return True

    def _opens(self, name: str) -> float | None:
        if name == self._account.id:
            return self._home.opens_at()
        account = self._parts.roads.account(self._account.tenant_id, name)
        if account is None:
            return None
        opens = self._parts.carrier(account.pk).opens_at()
        if account.held_since is not None:
            return max(opens, self._parts.clock.now() + WHILE_HELD)
        return opens

    def _detour(self, account: Account) -> Detour:
        detour = self._detours.get(account.pk)
        if detour is None:
            host = self._parts.carrier(account.pk)
            detour = self._detours[account.pk] = Detour(self, host, self._parts.courier)
        return detour

    def start(self) -> None:
        """Set going what was taken."""
        for pk, detour in tuple(self._detours.items()):
            if len(detour):
                self._parts.carrier(pk).welcome(detour)
            elif not detour.busy:
                self._detours.pop(pk, None)  # welcoming another may have come here, too

    @property
    def opens_at(self) -> float:
        """When the first of the other accounts takes mail, in Unix seconds; inf: none ever."""
        others = (self._opens(name) for name in self._names if name != self._account.id)
        return min((when for when in others if when is not None), default=float("inf"))

    @property
    def work(self) -> bool:
        """Whether one of the other accounts works."""
        roads, tenant = self._parts.roads, self._account.tenant_id
        others = (roads.account(tenant, name) for name in self._names if name != self._account.id)
        return any(
            each is not None and each.held_since is None and self._parts.carrier(each.pk).works
            for each in others
        )

    def __len__(self) -> int:
        """Messages that are on other ways."""
        return sum(map(len, self._detours.values()))

    @property
    def busy(self) -> bool:
        return any(detour.busy for detour in self._detours.values())

    def take_back(self) -> list[Claimed]:
        """What is on no session yet: it goes other ways no more."""
        return [message for each in self._detours.values() for message in each.take_back()]

    # -- what became of it -----------------------------------------------------------------

    def after(
        self, message: Claimed, outcome: Outcome, record: Record, carrier: str
    ) -> tuple[Record, bool]:
        """
        *record*, as an attempt through the account *carrier* led to it, or what is done instead.

        Where it was that account's fault and nobody has the message, the next one has its turn.

        :return: the second is whether that is so.
        """
        if carrier != self._account.id:
            record = attrs.evolve(record, through=carrier)
        now = self._parts.clock.now()
        if goes_on(outcome) and now < message.expires_at:
            self._tried.add(message.pk, carrier)
            order, tried = order_of(message, self._routes), self._tried.of(message.pk)
            if isinstance(choose(order, self._opens, now, tried), Through):
                return passed_on(record, outcome, now), True
        self._tried.forget(message.pk)
        return record, False

    # -- Owner -----------------------------------------------------------------------------

    @property
    def stopping(self) -> bool:
        return self._home.stopping

    def intents(self, account: Account) -> Intents:
        parts = self._parts
        through = account.pk, account.version
        return Intents(parts.store, parts.recorder, parts.clock, account.id, through)

    def refused(self, message: Claimed) -> None:
        """Perhaps since the account is not as it was read."""
        self._parts.roads.forget(self._account.tenant_id)
        self._home.refused(message)

    def arrived(self, message: Claimed, outcome: Outcome, host: Host) -> Deferred[bool]:
        return self._home.arrived(message, outcome, host)

    def displaced(self, messages: Sequence[Claimed]) -> None:
        self._home.place(messages)

    def fewer(self) -> None:
        self._home.fewer()
