"""
The seams: what one part of the program may ask of another.

Time, randomness, threads, names and transports are constructor arguments everywhere, so that a
simulation can replay the whole service from one seed. Every method declared ``async`` here may be
implemented by any callable that returns an awaitable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from twisted.internet.interfaces import IReactorTime
from zope.interface import Attribute, Interface

from mailproxy.errors import Unprepared
from mailproxy.interfaces_accounts import IAccounts as IAccounts
from mailproxy.interfaces_acts import IActs as IActs
from mailproxy.interfaces_intake import IIntake as IIntake
from mailproxy.interfaces_reports import IReports as IReports
from mailproxy.interfaces_reports import IStatus as IStatus
from mailproxy.interfaces_tenants import IBounces, IEventLog, ILargeFiles, IRemoval, ITenants
from mailproxy.model import (
    Account,
    Claimed,
    Content,
    Envelope,
    Outcome,
    Record,
    Stored,
)
from mailproxy.records import (
    AccountTest,
    ReportItem,
)
from mailproxy.tenancy import SyncState, SyncTest

T = TypeVar("T")


class InThread(Protocol):
    """Runs a blocking call elsewhere: ``await in_thread(function, *args, **kwargs)``."""

    def __call__(
        self, function: Callable[..., T], *args: Any, **kwargs: Any
    ) -> Awaitable[T]: ...  # pragma: no cover - a type


#: Called after each step that a crash must not be able to spoil; see :func:`crashpoint`.
CRASHPOINTS = (
    "enqueue-commit",
    "claim",
    "intent",
    "body-written",
    "reply-read",
    "outcome-commit",
    "report-post",
    "ack-commit",
)

_observers: list[Callable[[str], None]] = []


def crashpoint(name: str) -> None:
    """
    Mark a place where killing the process must lose nothing. Does nothing by itself.

    :param name: one of :data:`CRASHPOINTS`.
    """
    for observer in _observers:
        observer(name)


def observe_crashpoints(observer: Callable[[str], None]) -> Callable[[], None]:
    """Have *observer* called with every crash point passed; returns what ends that."""
    _observers.append(observer)
    return lambda: _observers.remove(observer)


class IClock(IReactorTime):
    """Timers that are monotonic, and the one wall clock of the program."""

    def now() -> float:
        """The wall clock in Unix seconds: advanced monotonically, never stepping backwards."""

    def follow(instant: float) -> None:
        """
        Go by another clock than the system's, one that all nodes have: it says *instant* now.

        The first time this clock is set at once, and may step backwards: to be done before
        anything goes by it. Told again, it follows gently.
        """


class IStoreObserver(Interface):
    """Told after a commit, in the reactor, that there may be something to do."""

    def due(account_pks: Iterable[int]) -> None:
        """Mail of these accounts was accepted, released or resumed; look for due messages."""

    def reportable(tenant_ids: Iterable[str]) -> None:
        """Events of these tenants wait to be reported."""

    def limited(account_pk: int, until: float) -> None:
        """
        A rate limit stands against the mail of this account; there is room again at *until*.

        What was claimed of it and not begun had better be given back.
        """


class IQueue(Interface):
    """What the dispatcher asks of the store."""

    async def due_accounts(now: float) -> tuple[list[int], float | None]:
        """
        Accounts with claimable mail that is due, and when the next mail falls due (None: never).

        Costs the same whatever lies in suspended, parked or future lanes.
        """

    async def claim(
        account_pk: int,
        limit: int,
        now: float,
        *,
        oldest: bool = False,
        urgent: bool = False,
        spill: bool = False,
    ) -> list[Claimed]:
        """
        Lease up to *limit* due messages of an account, most urgent lane first.

        :param oldest: take what has been due longest instead, whatever its priority.
        :param urgent: take priority 0 only.
        :param spill: others carry what the account's own limits leave no room for: of those, only
            the tenant's stand against the claim.
        No more are leased than the limits of account and tenant leave room for. Without any room,
        and something due, what is due waits until there is, or fails if the account says so.

        :return: most urgent first; empty if none is due, or the account is parked or suspended, or
            a limit is reached.
        """

    async def contents(pks: Sequence[int]) -> dict[int, Stored]:
        """Payloads and parts of claimed messages; a damaged one is missing from the answer."""

    async def prepared(
        pk: int, token: int, payload: bytes, parts: Mapping[int, bytes], size: int
    ) -> bool:
        """
        Give a claimed message, of which no attempt is under way, its content as it will be sent.

        :param payload: the new :class:`~mailproxy.model.Content` as JSON.
        :param parts: contents that are new, by ``Attachment.part``; of the stored ones those that
            *payload* still names stay.
        :param size: of the composed message, in bytes.
        :return: false: the lease is lost, nothing was changed.
        """

    async def refetch(tenant_id: str, now: float) -> int:
        """
        Make messages of the tenant that wait because an attachment could not be fetched due now.

        Done in transactions of at most 500 messages. :return: how many.
        """

    async def begin(
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        """
        Store an intent for each (pk, token): the point of no return.

        Fenced: false where the lease is lost, the message was cancelled, held or replaced, its
        lane or the service is suspended, parked or deleted, the domain of one of the claimed
        recipients was paused since, or a limit of the account that carries it, or of the tenant,
        leaves no room. What is begun counts there, whatever becomes of it.
        Fires **after the commit**.

        :param account: account id, for the attempt's row.
        :param through: pk and version of the account that carries them, where that is not their
            own: false for all if it was deleted, changed or closed since.
        :raises StoreError: no intent was stored.
        """

    async def record(records: Sequence[Record]) -> list[bool]:
        """
        Store what attempts led to and give the leases back; fires after the commit.

        Where the lease was lost, the outcome is kept as a ``late`` event, and turns recipients
        from uncertain to sent if it proves that and no resend has begun.

        :return: for each whether it took effect.
        :raises StoreError: nothing was stored; offer it again.
        """

    async def release(leases: Sequence[tuple[int, int]]) -> None:
        """Give (pk, token) leases back unused; no event, no attempt burned."""

    async def abandoned(now: float) -> list[Claimed]:
        """
        Take over messages with an intent but no outcome whose node is dead, with fresh leases.

        Leases of dead nodes without intent are simply voided. ``attempts`` counts the open one.
        """

    async def heartbeat(now: float) -> None:
        """Renew this node's leases (all of them, in one statement)."""


class IStore(
    IAccounts,
    IIntake,
    IQueue,
    IReports,
    IStatus,
    ITenants,
    IRemoval,
    IEventLog,
    ILargeFiles,
    IBounces,
    IActs,
):
    """The durable queue. Opened and closed as a service by whoever assembled it."""

    node_id = Attribute("UUID of this process start, in hex.")

    def subscribe(observer: IStoreObserver) -> Callable[[], None]:
        """Have *observer* told of new work; returns what ends that."""


class IFeed(Interface):
    """One account's stream of messages to be sent, given to the courier by the dispatcher."""

    def next() -> Claimed | None:
        """The most urgent claimed message, or None for *nothing more now*."""

    def begin(message: Claimed) -> Awaitable[bool]:
        """Commit the intent; false: the message was taken back, do not send its body."""

    def finish(message: Claimed, outcome: Outcome) -> Awaitable[object]:
        """The attempt came to *outcome*; returns when that is stored."""

    def put_back(message: Claimed) -> None:
        """Nothing of *message* was sent and no intent stands: it is tried again at once."""

    async def broken(message: Claimed, error: Exception) -> None:
        """Preparing *message* raised: it is quarantined after three times."""

    def aside(message: Claimed) -> None:
        """*message* has to be completed first; others go on. One of the next three follows."""

    def ready(message: Claimed) -> None:
        """*message* was completed, or may be tried again: it is handed out again."""

    def dropped(message: Claimed) -> None:
        """The lease on *message* was lost while it was completed."""

    def unprepared(message: Claimed, fault: Unprepared) -> Awaitable[object]:
        """
        *message* cannot be completed, for now or for good; returns when that is stored.

        For good: every open recipient fails with the fault's text. For now: it is deferred on its
        retry schedule by the fetches that failed, up to its age limit, then ends with that text.
        """


class IAttachments(Interface):
    """Completes messages: fetches what is missing, and sees to attachments that are large."""

    def lacks(message: Claimed, content: Content) -> bool:
        """Whether *message* has to be completed before it can be sent."""

    def complete(message: Claimed, feed: IFeed) -> None:
        """
        Begin to complete *message*, and tell *feed* what it came to.

        Takes no session and keeps nobody waiting. What was completed is stored, and not done again.
        """

    def notes(message: Claimed, content: Content) -> Sequence[str]:
        """What the timeline should say of the attachments of a message that is sent."""

    async def close() -> None:
        """Break off what is under way; the feeds are told nothing more."""


class ICourier(Interface):
    """Carries messages of one account to its upstream."""

    def completes(message: Claimed, feed: IFeed) -> bool:
        """
        Whether *message* is seen to lack something: then completing it has begun.

        What cannot be seen of a message yet shows when it is carried, and is begun then.
        """

    async def carry(account: Account, feed: IFeed) -> None:
        """
        Take one session and send what *feed* gives until it gives no more.

        :raises AccountFault: no session could be had; what had been taken from the feed was put
            back.
        """

    async def close(deadline: float) -> None:
        """End idle sessions with QUIT; cut what is not done after *deadline* seconds."""


class ITransaction(Interface):
    """One message on its way through a session."""

    envelope: Envelope = Attribute("What to send.")

    def begin() -> Awaitable[bool]:
        """Asked when the envelope goes out; the body waits for it."""


class IReportSink(Interface):
    """Where outcomes are told to the application that submitted the messages."""

    async def send(items: Sequence[ReportItem]) -> ReportAnswer:
        """
        Offer *items*; returning means that all of them were taken.

        The same item may be offered twice, for instance when the answer to the first offer was
        lost: its ``event_id`` is the same both times.

        :param items: 0 to :data:`mailproxy.records.MAX_BATCH`, at most one per message.
        :raises ReportTooLarge: offer fewer.
        :raises ReportRefused: repetition will not help.
        :raises SinkUnavailable: nothing was taken.
        """


class ReportAnswer(Protocol):
    """What the receiver said besides *taken*."""

    @property
    def queued(self) -> int:
        """Messages the application still wants to submit; 0 if it did not say."""

    @property
    def next_sync_after(self) -> float | None:
        """No empty report before this Unix time."""


class IControl(Interface):
    """What the front doors may ask of the running machinery."""

    def run_now(tenant_id: str | None) -> None:
        """Let what is due go now and call the tenant's report endpoint; returns at once."""

    def draining() -> bool:
        """Whether the service is stopping."""

    def sync_status(tenant_id: str) -> SyncState | None:
        """How reporting to a tenant stands; None if it was not called yet."""

    async def test_account(account: Account) -> AccountTest:
        """Connect to the account's server and log in, on a connection that carries no mail."""

    async def test_sync(tenant_id: str) -> SyncTest:
        """
        Call the tenant's report endpoint with an empty report, and judge its answer.

        Waits for a call that is open, but not for long: two are never open at once.
        """

    def tenant_registered(tenant_id: str) -> None:
        """The tenant said again who it is: what waits for its endpoints is tried now."""
