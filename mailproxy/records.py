"""
What the front doors and the store tell each other besides messages: specs, queries, records.

Pure: frozen values.
"""

from __future__ import annotations

import attrs

from mailproxy.errors import MailProxyError
from mailproxy.states import OnUncertain, TlsMode

#: The most events in one report POST.
MAX_BATCH = 500


@attrs.frozen
class AccountTest:
    """
    What trying an account came to.

    :param works: whether mail could have begun.
    :param phase: where it ended, if it does not work; "" where nothing was tried.
    :param code: the reply code that ended it, if one did.
    :param problem: why it does not work.
    :param peer: ``address:port`` of the server.
    :param tls: version and cipher; "" without TLS.
    :param offers: extensions, as the server names them after TLS and before the login.
    :param notes: what is not as it should be, though it works.
    """

    works: bool = False
    phase: str = ""
    code: int | None = None
    problem: str = ""
    peer: str = ""
    tls: str = ""
    logged_in: bool = False
    offers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class PasswordRequired(MailProxyError):
    """An account has a user but no password, and none can be kept."""


@attrs.frozen
class AccountSpec:
    """
    An account as a client declares it, checked.

    :param password: None keeps the stored one where host and user are unchanged.
    :param options: JSON object of the fields that have no column of their own.
    :param declared: whether the configuration says so: then nobody else may change it.
    """

    tenant_id: str
    id: str
    host: str
    port: int
    tls_mode: TlsMode
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    name: str = ""
    use_tls: bool | None = None
    allow_plaintext_auth: bool = False
    timeout: float = 30.0
    ttl: float = 300.0
    max_sessions: int = 8
    batch_size: int | None = None
    on_uncertain: OnUncertain = OnUncertain.RETRY
    retry_delays: tuple[float, ...] | None = None
    max_age_seconds: float | None = None
    ca_pem: str | None = None
    is_default: bool = False
    options: str = "{}"
    declared: bool = False


@attrs.frozen
class Suspension:
    """
    What is suspended for the service (``tenant_id`` None) or a tenant.

    :param batches: ``("*",)`` for all, else the suspended batch codes.
    :param pending: messages not final, in the scope asked for.
    :param in_flight: messages whose body had begun, in that scope.
    :param active: whether anything of the scope may be sent.
    """

    tenant_id: str | None
    batches: tuple[str, ...]
    pending: int
    in_flight: int
    active: bool


@attrs.frozen
class ListQuery:
    """
    Which messages to list.

    :param since: only messages that were updated at or after this instant.
    :param after: opaque cursor from the last record of the page before; None for the first.
    :param limit: the most records in this page, at least 1.
    """

    tenant_id: str | None = None
    active_only: bool = False
    state: str | None = None
    account_id: str | None = None
    batch: str | None = None
    since: float | None = None
    limit: int = 500
    after: str | None = None


@attrs.frozen
class MessageRecord:
    """
    One message as ``GET /messages`` shows it.

    :param payload: the stored :class:`mailproxy.model.Content` as JSON; its text is None once
        that was removed. None if nothing of it is there any more.
    :param cursor: what to pass as ``ListQuery.after`` to go on behind this one.
    """

    pk: int
    tenant_id: str
    id: str
    account_id: str
    priority: int
    batch: str
    not_before: float | None
    state: str
    attempts: int
    sent_ts: float | None
    error_ts: float | None
    error: str | None
    deferred_reason: str | None
    reported_ts: float | None
    accepted_at: float
    updated_at: float
    message_id: str
    not_after: float | None
    payload: bytes | None
    recipients: tuple[RecipientReport, ...]
    cursor: str


@attrs.frozen
class RecipientReport:
    address: str
    state: str
    code: int | None
    reply: str


@attrs.frozen
class ReportItem:
    """
    The newest unreported state of one message, and the events it stands for.

    :param event_pks: every unreported event of the message up to this one; an ack covers them.
    :param test: whether it tells of a test, which was never sent.
    :param through: id of the account that carried the attempt it tells of, where that is not
        *account_id*; else "".
    """

    event_pks: tuple[int, ...]
    event_id: str
    tenant_id: str
    id: str
    account_id: str
    generation: int
    priority: int
    at: float
    sent_ts: float | None
    error_ts: float | None
    error: str | None
    deferred_ts: float | None
    deferred_reason: str | None
    uncertain: bool
    message_id: str
    recipients: tuple[RecipientReport, ...]
    test: bool = False
    through: str = ""


@attrs.frozen
class ReportLease:
    """
    The right to call a tenant's report endpoint, which one node has at a time.

    :param token: drawn anew each time; what is decided by a call names it.
    :param shared: whether others may have called since this node last did.
    :param empty_in: seconds until an empty report is due by the last call that was taken, of
        whichever node; None: not known.
    """

    tenant_id: str
    token: int
    shared: bool = False
    empty_in: float | None = None


@attrs.frozen
class Said:
    """
    What a receiver's answer means for the next call, of whichever node.

    :param empty_in: seconds until an empty report is due; None: as before the call.
    :param rest: seconds for which nobody may call: it did not answer, and may still be at work.
    """

    empty_in: float | None = None
    rest: float = 0.0


@attrs.frozen
class Node:
    """
    A process of the service.

    :param started_at: Unix seconds; so is *alive_until*, when its leases end if it is not heard of.
    :param claims: messages it has leases on; None where they are not counted: on SQLite all are
        those of the one node that lives.
    """

    id: str
    host: str
    version: str
    started_at: float
    alive_until: float
    alive: bool
    claims: int | None = None


@attrs.frozen
class Counts:
    """Messages by unfinished state, and when the oldest due one became due (None: none is)."""

    by_state: dict[str, int]
    oldest_due: float | None

    @property
    def pending(self) -> int:
        """Messages that are not final."""
        return sum(self.by_state.values())
