"""
One account's stream of messages: claimed in batches, handed out by urgency, judged, recorded.

Every account has a stream of its own with its own slots, so an account that hangs, is limited or
broken delays nobody else. What is claimed and not begun gives way to whatever is more urgent.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy.dispatch.claims import Claims
from mailproxy.dispatch.detour import Host
from mailproxy.dispatch.faults import Standing
from mailproxy.dispatch.hosting import PER_SESSION
from mailproxy.dispatch.judge import Judgement, judge
from mailproxy.dispatch.leases import Leases
from mailproxy.dispatch.reach import Reach
from mailproxy.dispatch.ready import Ready
from mailproxy.dispatch.recorder import Intents
from mailproxy.dispatch.shared import Shared
from mailproxy.dispatch.sharing import Sharing
from mailproxy.dispatch.unbegun import quarantined, unprepared
from mailproxy.errors import AccountFault, StoreError, Unprepared
from mailproxy.interfaces import IFeed
from mailproxy.log import masked
from mailproxy.model import Account, Claimed, Outcome

_log = Logger()

#: Times a message may raise while it is handled before it is held.
TRIES = 3

#: Messages of one account that may be completed at once before nothing but priority 0 is claimed.
MOST_ASIDE = 1000


@implementer(IFeed)
class Stream(Sharing):
    """
    The messages of the account *account_pk*.

    :param shared: the dispatcher's parts.
    """

    def __init__(self, account_pk: int, shared: Shared) -> None:
        super().__init__()
        self.account_pk = account_pk
        self._shared = shared
        self._intents: Intents | None = None
        self._ready = Ready()
        self._carrying = 0
        self._raised: dict[int, int] = {}
        self._version = 0
        self._leases = Leases(shared.store)
        self._aside: dict[int, Claimed] = {}
        self._reach = Reach(shared)
        self._claims = Claims(account_pk, shared, self._ready, self._leases, self)

    @property
    def stranded(self) -> bool:
        """Whether a failure of the store left leases here that nothing moves any more."""
        idle = not self._carrying and not self._claims.busy
        return self._leases.owed or bool(self._ready and idle)

    @property
    def busy(self) -> bool:
        """Whether anything of this account is claimed or on its way."""
        here = self._carrying or self._claims.busy or self._ready or self._aside
        return bool(here) or (self._ways is not None and self._ways.busy)

    # -- claiming --------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be something due: look."""
        self._claims.ask()
        self._fill()

    def _fill(self) -> None:
        if self._shared.stopping or not self._claims.due:
            return
        if self._reach.probing and (self._carrying or self._ready) and not self._replaced:
            self._start()
            return
        self._claims.run()

    def limit(self) -> int:
        """See :class:`mailproxy.dispatch.claims.Taker`, as for the next four."""
        if self._reach.probing and not self._replaced:
            return 1
        own = self.account.batch_size if self.account is not None else None
        return own or self._shared.batch_size

    def full(self) -> bool:
        return self._held >= self.limit() or len(self._aside) >= MOST_ASIDE

    def single(self) -> bool:
        return self._reach.probing and not self._replaced

    async def took(self, messages: Sequence[Claimed]) -> None:
        if messages:
            self._version = messages[-1].account_version
            if self._reach.disagrees(messages[-1].account_parked):
                await self._ask_others()
        elif self._reach.probing:
            await self._read_again()
        if self._ready:
            await self._refresh(self._version)
            if self.account is not None and self._reach.probing:
                self._reach.probed(self.account)
            self._sift({message.pk for message in messages})
            if self._ways is not None:
                await self._ways.look()
                self.place(self._ready.clear())
        self._start()

    async def give_back(self) -> None:
        """Release everything claimed and not begun."""
        taken = [*self._all(), *self._aside.values()]
        self._aside.clear()
        await self._leases.give(taken)

    def _sift(self, took: set[int]) -> None:
        """Have those completed first, of the messages just taken, that are seen to need it."""
        if self.account is None:
            return
        courier = self._shared.courier
        self._ready.remove(lambda each: each.pk in took and courier.completes(each, self))

    async def _refresh(self, version: int) -> None:
        if self.account is not None and self.account.version == version:
            return
        self.account = account = await self._shared.store.account(self.account_pk)
        if account is not None:
            self.take_up(account)

    async def _read_again(self) -> None:
        """Nothing may be claimed of a parked account, yet somebody woke it: was it changed?"""
        account = await self._shared.store.account(self.account_pk)
        if account is not None:
            self.adopt(account)

    async def _ask_others(self) -> None:
        """Another node seems to have parked the account, or found that it works again."""
        account = await self._shared.store.account(self.account_pk)
        if account is not None and self._reach.disagrees(bool(account.parked_reason)):
            self.take_up(account)

    def take_up(self, account: Account) -> None:
        shared, parked = self._shared, self._reach.probing
        self.account = account
        self._limited_until = 0.0
        self._intents = Intents(shared.store, shared.recorder, shared.clock, account.id)
        self._reach.know(account)
        self._find_ways(account, self, self)
        if parked and not self._reach.probing:
            shared.reopened(self.account_pk)

    # -- sessions --------------------------------------------------------------------------

    def _start(self) -> None:
        """Open as many more carries as what is ready, and taken by none so far, is worth."""
        account = self.account
        if account is None or self._shared.stopping:
            return
        more = -(-len(self._ready) // PER_SESSION)
        wanted = 1 if self._reach.probing else self._carrying + more
        while self._ready and self._carrying < min(wanted, self.most):
            self._carrying += 1
            Deferred.fromCoroutine(self._carry(account))

    async def _carry(self, account: Account) -> None:
        try:
            await self._shared.courier.carry(account, self)
        except AccountFault as fault:
            await self.at_fault(account, fault.phase, fault.reason)
        except Exception:
            _log.failure("carrying for account {id} raised", id=account.id)
            await self.at_fault(account, "internal", "an internal error; see the log")
        finally:
            self._carrying -= 1
        if self._shared.stopping:
            await self.give_back()
            return
        self._fill()
        self._start()
        self._guests.serve()

    async def at_fault(self, account: Account, phase: str, reason: str) -> None:
        if not self._reach.shrinks(phase, self._carrying):
            await self._park(account, phase, reason)

    async def _park(
        self, account: Account, phase: str, reason: str, pause: float | None = None
    ) -> None:
        if self._ways is not None:
            try:
                await self._ways.look()  # none of its own mail may have been claimed so far
            except StoreError as error:
                _log.warn("reading the accounts beside {id}: {error}", id=account.id, error=error)
        await self._reach.park(account, phase, reason, self._ready.clear(), self._ways, pause)
        self._guests.disband()

    def learn(self, account: Account, outcome: Outcome, judged: Judgement) -> None:
        standing = judged.standing
        if standing is Standing.WORKS:
            if (resumed := self._reach.reached(account, outcome)) is not None:
                resumed.addCallback(self._resumed)
            return
        if standing is Standing.UNTOUCHED:
            return
        parks = standing is Standing.PARKED
        if parks or self._reach.struck(account, standing, judged.pause, self._carrying):
            parking = self._park(account, outcome.phase, judged.reason, judged.pause)
            Deferred.fromCoroutine(parking)

    def _resumed(self, _: None) -> None:
        self.wake()
        self._shared.reopened(self.account_pk)

    # -- IFeed -----------------------------------------------------------------------------

    def next(self) -> Claimed | None:
        if self._shared.stopping or not self._ready:
            return None
        message = self._ready.pop()
        if self._claims.more and self._held < self.limit():
            self._fill()
        return message

    def begin(self, message: Claimed) -> Deferred[bool]:
        assert self._intents is not None
        return self._intents.ask(message.pk, message.token).addCallback(self._begun, message)

    def _begun(self, granted: bool, message: Claimed) -> bool:
        if not granted:
            Deferred.fromCoroutine(self._leases.give([message]))
        return granted

    def finish(self, message: Claimed, outcome: Outcome) -> Deferred[bool]:
        return self.arrived(message, outcome, self)

    def arrived(self, message: Claimed, outcome: Outcome, host: Host) -> Deferred[bool]:
        """See :class:`mailproxy.dispatch.ways.Home`; *host* is this stream, as a rule."""
        carrier = host.account
        account = self.account or carrier
        assert account is not None
        assert carrier is not None
        shared, now = self._shared, self._shared.clock.now()
        jitter = shared.rng.uniform(-1.0, 1.0)
        judged = judge(message, account, outcome, now, shared.rules, jitter, carrier.host)
        record, onward = judged.record, False
        if self._ways is not None:
            record, onward = self._ways.after(message, outcome, record, carrier.id)
        self._raised.pop(message.pk, None)
        stored = shared.recorder.add(record)
        shared.activity.attempt(account, message, outcome, record)
        if judged.rules:
            shared.activity.ruled(carrier, judged.rules)
        host.learn(carrier, outcome, judged)
        return stored.addCallback(self._onward) if onward else stored

    def _onward(self, stored: bool) -> bool:
        """A message waits for its next account: it need not wait for the poll."""
        self.wake()
        return stored

    def put_back(self, message: Claimed) -> None:
        self._ready.push(message, message.priority)

    async def broken(self, message: Claimed, error: Exception) -> None:
        was_aside = self._aside.pop(message.pk, None) is not None
        tries = self._raised[message.pk] = self._raised.get(message.pk, 0) + 1
        if tries < TRIES:
            self._again(message, start=was_aside)
            return
        del self._raised[message.pk]
        told = masked(Failure(error).getTraceback())
        record = quarantined(
            message, masked(str(error)), type(error), told, self._shared.clock.now()
        )
        if not await self._shared.recorder.add(record):
            return  # it was taken back meanwhile, or changed: there is nothing wrong with it
        self._shared.metrics.quarantined.inc()
        _log.error(
            "message {tenant}/{id} is held, {reason}",
            tenant=message.tenant_id,
            id=message.id,
            reason=record.reason,
        )

    def aside(self, message: Claimed) -> None:
        self._aside[message.pk] = message

    def ready(self, message: Claimed) -> None:
        if self._aside.pop(message.pk, None) is None:
            return  # it was given back meanwhile
        if self._reach.probing and not self._replaced:
            # It is for the store to say when a parked account is tried.
            Deferred.fromCoroutine(self._leases.give([message]))
            return
        self._again(message, start=True)
        self._fill()

    def _again(self, message: Claimed, *, start: bool) -> None:
        """*message* can be handed out again."""
        if self._ways is not None:
            self.place([message])
            return
        self._ready.push(message, message.priority)
        if start:
            self._start()

    def dropped(self, message: Claimed) -> None:
        if self._aside.pop(message.pk, None) is not None:
            Deferred.fromCoroutine(self._leases.give([message]))
        self._fill()

    def unprepared(self, message: Claimed, fault: Unprepared) -> Deferred[bool]:
        if self._aside.pop(message.pk, None) is None:
            return succeed(False)
        account, shared = self.account, self._shared
        if account is None:  # it was deleted; so will be the message
            Deferred.fromCoroutine(self._leases.give([message]))
            return succeed(False)
        jitter = shared.rng.uniform(-1.0, 1.0)
        record = unprepared(message, account, fault, shared.clock.now(), shared.rules, jitter)
        shared.activity.unprepared(account, message, record)
        self._raised.pop(message.pk, None)
        stored = shared.recorder.add(record)
        self._fill()
        return stored
