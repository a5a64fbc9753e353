"""
The rows of the fake store: what a :class:`Disk` keeps, and what follows from one row alone.

Written to be read beside the data model of the design: a plain Python object per row, a dict per
table, and every rule spelled out once. Nothing here is fast.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from mailproxy.acts import in_doubt
from mailproxy.clock import Names
from mailproxy.dkim_keys import DkimKey
from mailproxy.model import Account
from mailproxy.records import RecipientReport, ReportItem
from mailproxy.states import EventKind, MessageState, RecipientKind, RecipientState, message_state
from mailproxy.submitters import Submitter
from mailproxy.tenancy import ApiKey, CommandEntry, LargeFile, Suppression, Tenant

#: Stands for all batches of a tenant, or all of the service.
ALL = "*"


def domain_of(address: str) -> str:
    return address.rpartition("@")[2]


@attrs.define
class RecipientRow:
    address: str
    kind: RecipientKind
    state: RecipientState = RecipientState.WAITING
    code: int | None = None
    reply: str = ""
    enhanced: str | None = None

    def report(self) -> RecipientReport:
        return RecipientReport(self.address, self.state.value, self.code, self.reply)


@attrs.define
class EventRow:
    """
    :param item: what the application is to be told; None for an event that is not reported.
    :param attempt: what the timeline says of the attempt it belongs to.
    :param parked: why it is not offered any more, "" while it is.
    """

    pk: int
    event_id: str
    kind: EventKind
    at: float
    generation: int
    final: bool
    data: Any
    item: ReportItem | None = None
    attempt: dict[str, Any] | None = None
    reported_at: float | None = None
    parked: str = ""

    @property
    def unreported(self) -> bool:
        return self.item is not None and self.reported_at is None and not self.parked


@attrs.frozen
class Lease:
    owner: str
    token: int


@attrs.define
class AccountRow:
    """
    :param closed: whether its mail waits for its probe while it is parked.
    :param tried_at: when it was parked, or probed in vain.
    """

    value: Account
    deleted_at: float | None = None
    closed: bool = True
    tried_at: float = 0.0


@attrs.define
class MessageRow:
    """
    :param open_attempt: number of the attempt whose intent has no outcome yet; 0 for none.
    :param begun: what the timeline says of the last attempt, and *begun_at* when its intent was.
    :param intent_token: of the lease under which the last intent was stored.
    :param doubted_before: addresses that may have accepted before the message was removed.
    :param accepted_by: addresses that some attempt of some generation reached.
    :param reason_key: of the last deferral that was reported.
    :param carriers: ids of the accounts that its attempts went through, in order.
    :param through: what the record that is being told of says of that.
    :param left_out: recipients that the last claim left out, their domain being paused.
    :param remembered: what it was when it was removed, if it was; *before* likewise, while it is
        only told of again.
    """

    pk: int
    tenant_id: str
    id: str
    account_pk: int
    account_id: str
    priority: int
    batch: str
    not_before: float | None
    next_at: float | None
    accepted_at: float
    expires_at: float
    not_after: float | None
    message_id: str
    envelope_from: str
    digest: bytes
    size: int
    payload: bytes | None
    parts: dict[int, bytes]
    recipients: list[RecipientRow]
    generation: int = 1
    attempts: int = 0
    uncertain: int = 0
    open_attempt: int = 0
    begun: dict[str, Any] = attrs.Factory(dict)
    begun_at: float = 0.0
    intent_token: int = 0
    hold: str = ""
    lease: Lease | None = None
    reason: str = ""
    reason_key: str = ""
    updated_at: float = 0.0
    finished_at: float | None = None
    test: bool = False
    quiet: bool = False
    fetches: int = 0
    through: str = ""
    carriers: list[str] = attrs.Factory(list)
    left_out: set[int] = attrs.Factory(set)
    accepted_by: set[str] = attrs.Factory(set)
    doubted_before: set[str] = attrs.Factory(set)
    events: list[EventRow] = attrs.Factory(list)
    before: Tombstone | None = None
    remembered: Tombstone | None = None

    @property
    def state(self) -> MessageState:
        if self.before is not None:
            return self.before.state
        return message_state(
            (rcpt.state for rcpt in self.recipients),
            in_flight=self.open_attempt > 0,
            held=bool(self.hold),
            attempts=self.attempts,
        )

    @property
    def doubted(self) -> set[str]:
        """Addresses of which nobody knows whether they accepted."""
        return {r.address for r in self.recipients if in_doubt(r.state, r.code, r.reply)}

    @property
    def open(self) -> bool:
        """Whether some recipient may still be sent to."""
        return any(rcpt.state.open for rcpt in self.recipients)

    @property
    def final_event(self) -> EventRow | None:
        """The event that ended the newest generation, if it ended."""
        for event in reversed(self.events):
            if event.final:
                return event if event.generation == self.generation else None
        return None

    def error(self) -> str | None:
        """
        Why not every recipient has it: the reason, each refusal with its reply, who accepted.

        None unless the message ended, and ended otherwise than sent.
        """
        if self.before is not None:
            return self.before.error
        if not self.state.final or self.state is MessageState.SENT:
            return None
        taken = [rcpt.address for rcpt in self.recipients if rcpt.state is RecipientState.SENT]
        refused = [rcpt for rcpt in self.recipients if rcpt.state is not RecipientState.SENT]
        said = [
            f"{rcpt.address}: {f'{rcpt.code or str()} {rcpt.reply}'.strip() or rcpt.state.value}"
            for rcpt in refused
        ]
        lines = [self.reason, *said, f"accepted by {', '.join(taken)}" if taken else ""]
        return "; ".join(line for line in lines if line)

    def item(self, event_id: str, at: float, deferred_ts: float | None) -> ReportItem:
        """What a report says of the message as it stands now."""
        state = self.state
        ended = state.final
        return ReportItem(
            event_pks=(),
            event_id=event_id,
            tenant_id=self.tenant_id,
            id=self.id,
            account_id=self.account_id,
            generation=self.generation,
            priority=self.priority,
            at=at,
            sent_ts=at if state is MessageState.SENT else None,
            error_ts=at if ended and state is not MessageState.SENT else None,
            error=self.error(),
            deferred_ts=None if ended else deferred_ts,
            deferred_reason=None if ended else self.reason or None,
            uncertain=any(rcpt.state is RecipientState.UNCERTAIN for rcpt in self.recipients),
            message_id=self.message_id,
            recipients=tuple(rcpt.report() for rcpt in self.recipients),
            test=self.test,
            through=self.through,
        )

    def tell(
        self,
        names: Names,
        kind: EventKind,
        at: float,
        data: Any = None,
        report: bool = False,
        final: bool = False,
        deferred_ts: float | None = None,
    ) -> EventRow:
        """
        Append an event; *report* or *final* has it reported.

        :param deferred_ts: what the report says of the next attempt.
        """
        event = EventRow(names.pk(at), names.uuid(), kind, at, self.generation, final, data or {})
        if self.quiet:
            event.reported_at = at if final else None
        elif report or final:
            event.item = self.item(event.event_id, at, deferred_ts)
        self.events.append(event)
        self.updated_at = at
        return event


@attrs.define
class Tombstone:
    """What is remembered of a message that was removed."""

    tenant_id: str
    id: str
    digest: bytes
    generation: int
    message_id: str
    accepted_by: set[str]
    doubted: set[str]
    accepted_at: float
    state: MessageState
    error: str | None
    final_event: EventRow
    removed_at: float


@attrs.define
class LeaseRow:
    """
    Who may call a tenant, in seconds of the clock that all have.

    :param node: "" for nobody, before ``until``.
    """

    node: str = ""
    token: int = 0
    until: float = 0.0
    empty_at: float | None = None


@attrs.define
class Disk:
    """
    Everything that outlives a process.

    :param suspended: (tenant or None, batch or ``*``) pairs.
    :param held_batches: since when and why, by tenant and batch.
    :param paused: since when, by tenant and domain.
    :param answers: digest, answer and time, by tenant and idempotency key.
    :param handed_over: instants by the limit they count for: tenant, account (0 for the tenant's
        own), and the seconds of its window.
    :param notes: of senders to be told: event id, message, generation and tenant, by the event.
    :param settled_at: until when suspended time has been added to the age limits.
    """

    tenants: dict[str, Tenant] = attrs.Factory(lambda: {"default": Tenant("default")})
    keys: list[ApiKey] = attrs.Factory(list)
    submitters: dict[str, Submitter] = attrs.Factory(dict)
    dkim: dict[tuple[str, str, str], DkimKey] = attrs.Factory(dict)
    commands: list[CommandEntry] = attrs.Factory(list)
    instance_name: str = ""
    accounts: dict[int, AccountRow] = attrs.Factory(dict)
    messages: dict[int, MessageRow] = attrs.Factory(dict)
    tombstones: dict[tuple[str, str], Tombstone] = attrs.Factory(dict)
    suspended: set[tuple[str | None, str]] = attrs.Factory(set)
    held_batches: dict[tuple[str, str], tuple[float, str]] = attrs.Factory(dict)
    settled_at: float = 0.0
    paused: dict[tuple[str, str], float] = attrs.Factory(dict)
    handed_over: dict[tuple[str, int, int], list[float]] = attrs.Factory(dict)
    suppressed: dict[tuple[str, str], Suppression] = attrs.Factory(dict)
    answers: dict[tuple[str, str], tuple[bytes, bytes, float]] = attrs.Factory(dict)
    files: dict[int, LargeFile] = attrs.Factory(dict)
    notes: dict[int, tuple[str, int, int, str]] = attrs.Factory(dict)
    nodes: dict[str, float] = attrs.Factory(dict)  # by id: when it started
    report_leases: dict[str, LeaseRow] = attrs.Factory(dict)

    def find(self, tenant_id: str, message_id: str) -> MessageRow | None:
        """The message (*tenant_id*, *message_id*), unless it was removed."""
        for row in self.messages.values():
            if (row.tenant_id, row.id) == (tenant_id, message_id):
                return row
        return None

    def tenant(self, tenant_id: str) -> Tenant | None:
        """The tenant, unless there is none or it is being deleted."""
        found = self.tenants.get(tenant_id)
        return None if found is None or found.deleted_at is not None else found

    def live_account(self, pk: int) -> Account | None:
        row = self.accounts.get(pk)
        return row.value if row is not None and row.deleted_at is None else None

    def live_accounts(self) -> Iterator[Account]:
        return (row.value for row in self.accounts.values() if row.deleted_at is None)

    def is_suspended(self, row: MessageRow) -> bool:
        if not self.suspended:
            return False
        scopes = ((None, ALL), (row.tenant_id, ALL), (row.tenant_id, row.batch))
        return any(scope in self.suspended for scope in scopes)

    def is_stopped(self, row: MessageRow) -> bool:
        """Whether somebody wants it not to be sent for now: its age does not run."""
        tenant = self.tenant(row.tenant_id)
        if tenant is None or not tenant.active or self.is_suspended(row):
            return True
        account = self.live_account(row.account_pk)
        held = account is not None and account.held_since is not None
        return held or (row.tenant_id, row.batch) in self.held_batches

    def may_be_sent(self, row: MessageRow, now: float) -> bool:
        """Whether neither hold, suspension, tenant nor account stands against an attempt now."""
        account = self.live_account(row.account_pk)
        if account is None or row.hold or not row.open or row.open_attempt:
            return False
        closed = self.accounts[row.account_pk].closed
        parked = closed and bool(account.parked_reason) and (account.probe_at or 0.0) > now
        return not parked and not self.is_stopped(row)

    def is_paused(self, row: MessageRow, n: int) -> bool:
        """Whether the domain of recipient *n* is paused."""
        return (row.tenant_id, domain_of(row.recipients[n].address)) in self.paused

    def servable(self, row: MessageRow) -> list[int]:
        """The open recipients whose domain is not paused."""
        opened = (n for n, rcpt in enumerate(row.recipients) if rcpt.state.open)
        return [n for n in opened if not self.is_paused(row, n)]

    def all_events(self) -> Iterator[tuple[tuple[str, str], EventRow]]:
        """Every event with the (tenant, id) it belongs to, oldest first for each message."""
        for row in self.messages.values():
            for event in row.events:
                yield (row.tenant_id, row.id), event
        for key, tombstone in self.tombstones.items():
            yield key, tombstone.final_event

    def unreported(self) -> list[tuple[tuple[str, str], EventRow]]:
        """Of all events those that are not reported, in the same order."""
        found = []
        for row in self.messages.values():
            for event in row.events:
                if event.unreported:
                    found.append(((row.tenant_id, row.id), event))
        for key, tombstone in self.tombstones.items():
            if tombstone.final_event.unreported:
                found.append((key, tombstone.final_event))
        return found
