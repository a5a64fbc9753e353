"""
One account's stream of messages: claimed in batches, handed out by urgency, judged, recorded.

Every account has a stream of its own with its own slots, so an account that hangs, is limited or
broken delays nobody else. What is claimed and not begun gives way to whatever is more urgent.
"""

from __future__ import annotations

import heapq
import random

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from zope.interface import implementer

from mailproxy.dispatch.activity import Activity
from mailproxy.dispatch.judge import Rules, judge
from mailproxy.dispatch.leases import Leases
from mailproxy.dispatch.recorder import Intents, Recorder
from mailproxy.dispatch.retry import probe_delay
from mailproxy.dispatch.unbegun import not_reached, quarantined, unprepared
from mailproxy.errors import AccountFault, AttachmentFault, StoreError
from mailproxy.interfaces import IClock, ICourier, IFeed, IStore
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, Outcome

_log = Logger()

#: Every so many messages one is taken by age, when claiming and when handing out.
BY_AGE = 16

#: Messages waiting per open session before another session is opened.
PER_SESSION = 4

#: Sessions a stream starts out with at most, whatever its account allows.
MOST_SLOTS = 1000

#: After this many finished attempts a stream that was refused sessions tries one more.
REGAIN = 64

#: Times a message may raise while it is handled before it is held.
TRIES = 3

#: Messages of one account that may be completed at once before nothing but priority 0 is claimed.
MOST_ASIDE = 1000


@attrs.define
class Shared:
    """What all streams of one dispatcher share."""

    store: IStore
    courier: ICourier
    clock: IClock
    rng: random.Random
    metrics: Metrics
    recorder: Recorder
    activity: Activity
    rules: Rules
    batch_size: int = 50
    stopping: bool = False
    #: In test mode, nothing that fell due after this instant is claimed; None outside of it.
    gate: float | None = None

    def horizon(self) -> float:
        """Until when a message must have fallen due to be claimed now."""
        return self.clock.now() if self.gate is None else self.gate


@implementer(IFeed)
class Stream:
    """
    The messages of the account *account_pk*.

    :param shared: the dispatcher's parts.
    """

    def __init__(self, account_pk: int, shared: Shared) -> None:
        self.account_pk = account_pk
        self._shared = shared
        self._account: Account | None = None
        self._intents: Intents | None = None
        self._ready: list[tuple[int, int, Claimed]] = []
        self._order = 0
        self._carrying = 0
        self._claiming = False
        self._more = False
        self._asked = False
        self._by_urgency = self._handed = 0
        self._failures = 0
        self._probing = False
        self._slots = MOST_SLOTS
        self._finished = 0
        self._raised: dict[int, int] = {}
        self._version = 0
        self._leases = Leases(shared.store)
        self._aside: dict[int, Claimed] = {}

    @property
    def stranded(self) -> bool:
        """Whether a failure of the store left leases here that nothing moves any more."""
        idle = not self._carrying and not self._claiming
        return self._leases.owed or bool(self._ready and idle)

    @property
    def busy(self) -> bool:
        """Whether anything of this account is claimed or on its way."""
        return bool(self._carrying or self._claiming or self._ready or self._aside)

    # -- claiming --------------------------------------------------------------------------

    def wake(self) -> None:
        """There may be something due: look."""
        self._more = self._asked = True
        self._fill()

    def _limit(self) -> int:
        if self._probing:
            return 1
        own = self._account.batch_size if self._account is not None else None
        return own or self._shared.batch_size

    def _fill(self) -> None:
        if self._claiming or self._shared.stopping or not (self._more or self._asked):
            return
        if self._probing and (self._carrying or self._ready):
            self._start()
            return
        room = len(self._ready) < self._limit() and len(self._aside) < MOST_ASIDE
        if room or self._asked:
            self._claiming = True
            Deferred.fromCoroutine(self._claim())

    async def _claim(self) -> None:
        try:
            while (self._more or self._asked) and not self._shared.stopping:
                limit = self._limit()
                full = len(self._ready) >= limit or len(self._aside) >= MOST_ASIDE
                if full and not self._asked:
                    break
                self._asked = False
                if self._leases.owed:
                    await self._leases.give()
                took = await self._claim_once(limit, urgent=full)
                if took:
                    self._version = took[-1].account_version
                if self._ready:
                    await self._refresh(self._version)
                    self._sift({message.pk for message in took})
                self._start()
                if self._probing:
                    break
        except StoreError as error:
            _log.warn("claiming for account {pk}: {error}", pk=self.account_pk, error=error)
            self._more = False
        except Exception:
            _log.failure("claiming for account {pk} raised", pk=self.account_pk)
            self._more = False
        finally:
            self._claiming = False
        if self._shared.stopping:
            await self.give_back()

    async def _claim_once(self, limit: int, urgent: bool) -> list[Claimed]:
        aged = not urgent and self._by_urgency >= BY_AGE
        if aged:
            limit = max(1, min(limit, self._by_urgency // BY_AGE))
            self._by_urgency = 0
        took = await self._shared.store.claim(
            self.account_pk, limit, self._shared.horizon(), oldest=aged, urgent=urgent
        )
        if not aged and not urgent:
            self._by_urgency += len(took)
            self._more = len(took) >= limit
        for message in took:
            self._push(message, min(message.priority, 1) if aged else message.priority)
        return took

    def _sift(self, took: set[int]) -> None:
        """Have those completed first, of the messages just taken, that are seen to need it."""
        if self._account is None:
            return
        entries, self._ready = self._ready, []
        for entry in entries:
            if entry[2].pk not in took or not self._shared.courier.completes(entry[2], self):
                heapq.heappush(self._ready, entry)

    async def _refresh(self, version: int) -> None:
        if self._account is not None and self._account.version == version:
            return
        self._account = account = await self._shared.store.account(self.account_pk)
        if account is not None:
            self._intents = Intents(
                self._shared.store, self._shared.recorder, self._shared.clock, account.id
            )
            self._probing = bool(account.parked_reason)
            self._failures = self._failures if self._probing else 0
            metrics = self._shared.metrics
            metrics.know(account.tenant_id, account.id)
            metrics.accounts_parked.labels(account.tenant_id, account.id).set(self._probing)

    def _push(self, message: Claimed, rank: int) -> None:
        self._order += 1
        heapq.heappush(self._ready, (rank, self._order, message))

    # -- sessions --------------------------------------------------------------------------

    def _start(self) -> None:
        """Open as many more carries as what is ready, and taken by none so far, is worth."""
        account = self._account
        if account is None or self._shared.stopping:
            return
        more = -(-len(self._ready) // PER_SESSION)
        wanted = 1 if self._probing else self._carrying + more
        most = min(wanted, account.max_sessions, self._slots)
        while self._ready and self._carrying < most:
            self._carrying += 1
            Deferred.fromCoroutine(self._carry(account))

    async def _carry(self, account: Account) -> None:
        try:
            await self._shared.courier.carry(account, self)
        except AccountFault as fault:
            await self._fault(account, fault.phase, fault.reason)
        except Exception:
            _log.failure("carrying for account {id} raised", id=account.id)
            await self._fault(account, "internal", "an internal error; see the log")
        finally:
            self._carrying -= 1
        if self._shared.stopping:
            await self.give_back()
            return
        self._fill()
        self._start()

    async def _fault(self, account: Account, phase: str, reason: str) -> None:
        """The account cannot be reached: park it, and tell those that were about to leave."""
        shared, now = self._shared, self._shared.clock.now()
        if self._carrying > 1 and not self._probing and phase != "auth":
            # Others of this account still have sessions: let them take what is ready.
            self._slots = self._carrying - 1
            return
        self._failures += 1
        delays = account.retry_delays or shared.rules.delays
        probe_at = now + probe_delay(self._failures, delays[0])
        self._probing = True
        text = f"{phase}: {reason}"
        if self._failures == 1:
            _log.error(
                "account {tenant}/{id} is parked: {reason}",
                tenant=account.tenant_id,
                id=account.id,
                reason=text,
            )
        shared.metrics.accounts_parked.labels(account.tenant_id, account.id).set(1)
        taken = [message for _, _, message in self._ready]
        self._ready.clear()
        try:
            await shared.store.park_account(account.pk, account.version, text, probe_at, now)
        except StoreError as error:
            _log.warn("parking account {id}: {error}", id=account.id, error=error)
        for message in taken:
            record = not_reached(message, text, phase, probe_at, now, shared.rules)
            shared.metrics.deferred.labels(account.tenant_id, account.id).inc()
            shared.recorder.add(record)

    def _reached(self, account: Account) -> None:
        """A session of the account is there: it is not parked (any more)."""
        self._finished += 1
        if self._finished % REGAIN == 0 and self._slots < MOST_SLOTS:
            self._slots += 1
        if not self._failures and not self._probing:
            return
        self._failures, self._probing = 0, False
        self._slots = MOST_SLOTS
        self._shared.metrics.accounts_parked.labels(account.tenant_id, account.id).set(0)
        _log.info("account {tenant}/{id} works again", tenant=account.tenant_id, id=account.id)
        Deferred.fromCoroutine(self._unpark(account))

    async def _unpark(self, account: Account) -> None:
        try:
            await self._shared.store.unpark_account(account.pk)
        except StoreError as error:
            _log.warn("resuming account {id}: {error}", id=account.id, error=error)
        self.wake()

    # -- IFeed -----------------------------------------------------------------------------

    def next(self) -> Claimed | None:
        if self._shared.stopping or not self._ready:
            return None
        self._handed += 1
        message = self._oldest() if self._handed % BY_AGE == 0 else heapq.heappop(self._ready)[2]
        if self._more and len(self._ready) < self._limit():
            self._fill()
        return message

    def _oldest(self) -> Claimed:
        """What has been due longest of what is ready; but priority 0 is not kept waiting."""
        if self._ready[0][0] > 0:
            oldest = min(range(len(self._ready)), key=lambda at: self._ready[at][2].due_since)
            _, order, message = self._ready[oldest]
            self._ready[oldest] = (-1, order, message)
            heapq.heapify(self._ready)
        return heapq.heappop(self._ready)[2]

    def begin(self, message: Claimed) -> Deferred[bool]:
        assert self._intents is not None
        return self._intents.ask(message.pk, message.token).addCallback(self._begun, message)

    def _begun(self, granted: bool, message: Claimed) -> bool:
        if not granted:
            Deferred.fromCoroutine(self._leases.give([message]))
        return granted

    def finish(self, message: Claimed, outcome: Outcome) -> Deferred[bool]:
        account = self._account
        assert account is not None
        shared, now = self._shared, self._shared.clock.now()
        jitter = shared.rng.uniform(-1.0, 1.0)
        judged = judge(message, account, outcome, now, shared.rules, jitter)
        self._raised.pop(message.pk, None)
        stored = shared.recorder.add(judged.record)
        shared.activity.attempt(account, message, outcome, judged.record)
        if judged.account_reason:
            Deferred.fromCoroutine(self._fault(account, outcome.phase, judged.account_reason))
        elif outcome.mail is not None:
            self._reached(account)
        return stored

    def put_back(self, message: Claimed) -> None:
        self._push(message, message.priority)

    async def broken(self, message: Claimed, error: Exception) -> None:
        was_aside = self._aside.pop(message.pk, None) is not None
        tries = self._raised[message.pk] = self._raised.get(message.pk, 0) + 1
        if tries < TRIES:
            self._push(message, message.priority)
            if was_aside:
                self._start()
            return
        del self._raised[message.pk]
        self._shared.metrics.quarantined.inc()
        record = quarantined(message, error, self._shared.clock.now())
        _log.error(
            "message {tenant}/{id} is held, {reason}",
            tenant=message.tenant_id,
            id=message.id,
            reason=record.reason,
        )
        await self._shared.recorder.add(record)

    def aside(self, message: Claimed) -> None:
        self._aside[message.pk] = message

    def ready(self, message: Claimed) -> None:
        if self._aside.pop(message.pk, None) is None:
            return  # it was given back meanwhile
        if self._probing:
            # It is for the store to say when a parked account is tried.
            Deferred.fromCoroutine(self._leases.give([message]))
            return
        self._push(message, message.priority)
        self._start()
        self._fill()

    def dropped(self, message: Claimed) -> None:
        if self._aside.pop(message.pk, None) is not None:
            Deferred.fromCoroutine(self._leases.give([message]))
        self._fill()

    def unprepared(self, message: Claimed, fault: AttachmentFault) -> Deferred[bool]:
        if self._aside.pop(message.pk, None) is None:
            return succeed(False)
        account, shared = self._account, self._shared
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

    # -- ending ----------------------------------------------------------------------------

    async def give_back(self) -> None:
        """Release everything claimed and not begun."""
        taken = [message for _, _, message in self._ready] + list(self._aside.values())
        self._ready.clear()
        self._aside.clear()
        await self._leases.give(taken)
