"""
Fakes that tests of every stage share; a fake of a seam passes the contract of the real one.

The fake of the store has a module of its own: :mod:`tests.fake_store`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from zope.interface import implementer

from mailproxy.interfaces import IClock, IControl, IReportSink, IStoreObserver, ReportAnswer
from mailproxy.model import Account
from mailproxy.records import AccountTest, ReportItem
from mailproxy.tenancy import SyncState, SyncTest

T = TypeVar("T")

#: What the wall clock says when a test begins: 2025-06-15 15:06:40 UTC.
EPOCH = 1_750_000_000.0


@implementer(IClock)
class FakeClock(Clock):
    """A clock that moves only when the test says so; its wall clock moves along."""

    def now(self) -> float:
        return EPOCH + self.seconds()

    def follow(self, instant: float) -> None:
        """It moves only when the test says so."""


def result(awaitable: Awaitable[T]) -> T:
    """
    What *awaitable* comes to, which must be known at once.

    :raises AssertionError: it still waits for something.
    """

    async def run() -> T:
        return await awaitable

    answers: list[T] = []
    errors: list[BaseException] = []
    Deferred.fromCoroutine(run()).addCallbacks(
        answers.append, lambda failure: errors.append(failure.value)
    )
    if errors:
        raise errors[0]
    assert answers, "the call still waits for something"
    return answers[0]


@implementer(IStoreObserver)
class FakeObserver:
    """Keeps what a store tells: accounts that may have due mail, tenants with reports."""

    def __init__(self) -> None:
        self.due_accounts: list[int] = []
        self.reportable_tenants: list[str] = []
        self.limits: list[tuple[int, float]] = []

    def due(self, account_pks: Iterable[int]) -> None:
        self.due_accounts += account_pks

    def reportable(self, tenant_ids: Iterable[str]) -> None:
        self.reportable_tenants += tenant_ids

    def limited(self, account_pk: int, until: float) -> None:
        self.limits.append((account_pk, until))

    def forget(self) -> None:
        """Begin anew."""
        self.due_accounts.clear()
        self.reportable_tenants.clear()
        self.limits.clear()


@attrs.frozen
class Taken:
    """The receiver took the report; what it said besides."""

    queued: int = 0
    next_sync_after: float | None = None


@implementer(IReportSink)
class FakeSink:
    """
    A report receiver that answers as scripted, and takes everything once the script is over.

    :param answers: in order: a :class:`Taken`; an exception to raise; or a Deferred that keeps
        the call open until the test fires it with one of the two.
    """

    def __init__(self, answers: Iterable[Taken | Exception | Deferred[ReportAnswer]] = ()) -> None:
        self.answers = list(answers)
        #: The items of each call, in order; an empty list is an empty report.
        self.offered: list[list[ReportItem]] = []
        #: Calls open now, and the most that ever were.
        self.open = 0
        self.most_open = 0

    @property
    def offered_ids(self) -> list[list[str]]:
        """The message ids of each call, in order."""
        return [[item.id for item in items] for items in self.offered]

    async def send(self, items: Sequence[ReportItem]) -> ReportAnswer:
        self.offered.append(list(items))
        answer = self.answers.pop(0) if self.answers else Taken()
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        try:
            if isinstance(answer, Deferred):
                return await answer
            if isinstance(answer, Exception):
                raise answer
            return answer
        finally:
            self.open -= 1


@implementer(IControl)
class FakeControl:
    """The running machinery, as the front doors see it."""

    def __init__(self) -> None:
        #: The tenants run-now was called for, in order; None for all.
        self.runs: list[str | None] = []
        self.stopping = False
        #: What is known of reporting to a tenant, by its id.
        self.syncs: dict[str, SyncState] = {}
        #: What a test call of a tenant's endpoint comes to.
        self.sync_test: SyncTest = SyncTest(acknowledged=True, problem="", seconds=0.25)
        #: What trying an account comes to, and the ids of those that were tried.
        self.account_test = AccountTest(works=True)
        self.tried: list[str] = []
        #: The tenants whose endpoint was tested; those that were registered.
        self.tested: list[str] = []
        self.registered: list[str] = []

    def run_now(self, tenant_id: str | None) -> None:
        self.runs.append(tenant_id)

    def draining(self) -> bool:
        return self.stopping

    def sync_status(self, tenant_id: str) -> SyncState | None:
        return self.syncs.get(tenant_id)

    async def test_account(self, account: Account) -> AccountTest:
        self.tried.append(account.id)
        return self.account_test

    async def test_sync(self, tenant_id: str) -> SyncTest:
        self.tested.append(tenant_id)
        return self.sync_test

    def tenant_registered(self, tenant_id: str) -> None:
        self.registered.append(tenant_id)
