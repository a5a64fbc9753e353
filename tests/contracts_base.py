"""
What every part of the store's contract suite stands on: a store, a clock, and short sentences.

A backend combines one of the contract classes with its own factory and a ``TestCase``::

    class FakeIntakeTests(FakeFactory, IntakeContract, TestCase): ...

The factory says how a store is made, made again after a kill, and given a tenant. Everything else
goes through :class:`~mailproxy.interfaces.IStore`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol

from mailproxy.interfaces import IStore
from mailproxy.model import Account, Claimed, Enqueued, NewMessage, RecipientChange
from mailproxy.records import ListQuery, MessageRecord, ReportItem
from tests.build import account_spec, deferral, new_message, record
from tests.fakes import FakeClock, FakeObserver

if TYPE_CHECKING:
    from twisted.trial.unittest import TestCase as _Base
else:
    _Base = object

#: Seconds an enqueue may wait for the writer.
DEADLINE = 5.0

#: Default periods of the wire contract, in seconds.
MAX_AGE = 86_400.0
RETENTION = 604_800.0
IDEMPOTENCY = 2_592_000.0

DAY = 86_400.0


class StoreFactory(Protocol):
    """What a backend provides."""

    async def make_store(self, clock: FakeClock) -> IStore:
        """An opened store on an empty disk; whatever it needs is cleaned up after the test."""

    async def reopen_store(self) -> IStore:
        """The store of the next process start: the one before was killed, its leases are dead."""

    async def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        """Make a tenant known to the store."""


class StoreContract(_Base):
    """:ivar acct: the only account of the tenant ``default``, made before each test."""

    store: IStore
    clock: FakeClock
    observer: FakeObserver
    acct: Account

    if TYPE_CHECKING:

        async def make_store(self, clock: FakeClock) -> IStore: ...
        async def reopen_store(self) -> IStore: ...
        async def add_tenant(self, tenant_id: str, *, active: bool = True) -> None: ...

    async def setUp(self) -> None:  # type: ignore[override]
        self.clock = FakeClock()
        self.store = await self.make_store(self.clock)
        self.acct = await self.put()
        self.watch()

    def watch(self) -> None:
        """Observe the store from here on."""
        self.observer = FakeObserver()
        self.store.subscribe(self.observer)

    # Time.

    @property
    def now(self) -> float:
        return self.clock.now()

    def later(self, seconds: float) -> None:
        self.clock.advance(seconds)

    async def killed(self) -> None:
        """The process is killed, and the next one opens the store."""
        self.store = await self.reopen_store()
        self.watch()

    # What is done to the store.

    async def put(self, **overrides: Any) -> Account:
        """Put the account ``acct``, or the one *overrides* describe."""
        return await self.store.put_account(account_spec(**overrides), self.now)

    async def submit(self, *messages: NewMessage) -> list[Enqueued]:
        return await self.store.enqueue(messages, self.now, DEADLINE)

    async def post(self, **overrides: Any) -> Enqueued:
        """Submit one message, ``m1`` unless *overrides* say otherwise; its verdict."""
        (answer,) = await self.submit(new_message(**overrides))
        return answer

    async def claim(
        self, account: Account | None = None, limit: int = 1000, **how: bool
    ) -> list[Claimed]:
        """Claim from *account*, or the tenant's first."""
        return await self.store.claim((account or self.acct).pk, limit, self.now, **how)

    async def claim_one(self, account: Account | None = None) -> Claimed:
        """Claim the only due message of the account."""
        (claimed,) = await self.claim(account)
        return claimed

    async def begin(self, *claimed: Claimed, account: str = "acct") -> list[bool]:
        return await self.store.begin([(m.pk, m.token) for m in claimed], account, self.now)

    async def finish(self, claimed: Claimed, *changes: RecipientChange, **more: Any) -> None:
        """Begin an attempt and store its outcome; no *changes*: every recipient accepted."""
        self.assertEqual([True], await self.begin(claimed))
        item = record(claimed, *changes, at=self.now, **more)
        self.assertEqual([True], await self.store.record([item]))

    async def defer(
        self, claimed: Claimed, *changes: RecipientChange, after: float = 60.0, **more: Any
    ) -> None:
        """Begin an attempt and store that it is repeated *after* seconds."""
        self.assertEqual([True], await self.begin(claimed))
        item = deferral(claimed, *changes, at=self.now, next_at=self.now + after, **more)
        self.assertEqual([True], await self.store.record([item]))

    async def deliver(self, *changes: RecipientChange, **overrides: Any) -> None:
        """Submit one message and bring it to its end in one attempt."""
        await self.post(**overrides)
        await self.finish(await self.claim_one(), *changes)

    async def report(self, tenant_id: str = "default") -> list[ReportItem]:
        """One whole report of the tenant: take what is unreported, and ack it."""
        items = await self.offered(tenant_id)
        await self.ack(items)
        return items

    async def ack(self, items: Iterable[ReportItem]) -> None:
        await self.store.acked([pk for item in items for pk in item.event_pks], self.now)

    async def upkeep(self) -> int:
        """Do the background work there is, in steps; how many rows were touched."""
        steps = [await self.store.upkeep(self.now)]
        while steps[-1]:
            steps.append(await self.store.upkeep(self.now))
            self.assertLess(len(steps), 1000, "upkeep never comes to an end")
        self.assertLessEqual(max(steps), 500)
        return sum(steps)

    async def bury(self) -> None:
        """Let everything finished be reported, and removed after its retention."""
        await self.report()
        self.later(RETENTION + 1)
        await self.upkeep()

    # What is seen of the store.

    async def offered(self, tenant_id: str = "default") -> list[ReportItem]:
        return await self.store.unreported(tenant_id, 500)

    async def listed(self, **query: Any) -> list[MessageRecord]:
        return await self.store.messages(ListQuery(**query))

    async def stored(self, message_id: str = "m1") -> MessageRecord:
        """The only stored message with that id."""
        (found,) = [each for each in await self.listed() if each.id == message_id]
        return found

    async def state(self, message_id: str = "m1") -> str:
        return (await self.stored(message_id)).state

    async def kinds(self, message_id: str = "m1") -> list[str]:
        """The kinds of the message's events, in order."""
        events = await self.store.timeline("default", message_id)
        return [str(event["kind"]) for event in events]
