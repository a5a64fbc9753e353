"""
The values every stage passes on: messages, recipients, accounts, outcomes, events.

Pure: frozen values, no behaviour beyond what follows from their own fields; the enumerations they
use are in :mod:`mailproxy.states`.
Instants are Unix seconds (``float``), durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailproxy.dsn import Dsn
from mailproxy.states import (
    EventKind,
    OnUncertain,
    Phase,
    RecipientKind,
    RecipientState,
    TlsMode,
    Verdict,
)

#: The tenant of clients that know of none.
DEFAULT_TENANT = "default"


@attrs.frozen
class Mailbox:
    """
    One parsed address: what stands in a header, and what goes into the envelope.

    :param display: the display name, unquoted and decoded; "" for none.
    :param local: the local part as it goes on the wire (quoted if it needs quotes).
    :param domain: the domain, lower case, as A-labels; or an address literal in brackets.
    """

    display: str
    local: str
    domain: str

    @property
    def addr(self) -> str:
        """``local@domain``, as RFC 5321 calls a Mailbox."""
        return f"{self.local}@{self.domain}"


@attrs.frozen
class Attachment:
    """
    One attachment of a stored message; its decoded content is *part* of the message's chunks.

    :param part: number of the part in the store, from 1; 0 while it still has to be fetched.
    :param size: decoded size in bytes; 0 while unknown.
    :param sha256: hex digest of the decoded content; "" while unknown.
    :param content_md5: the client's hint at its digest, in hex; "" for none.
    :param auth: sealed credentials for its source (:mod:`mailproxy.credentials`); "" for none.
    """

    filename: str
    mime_type: str
    part: int
    size: int = 0
    sha256: str = ""
    storage_path: str = ""
    fetch_mode: str = "base64"
    content_md5: str = ""
    auth: str = attrs.field(default="", repr=False)


@attrs.frozen
class Content:
    """
    What a client wrote, parsed: everything that composing needs beside id, date and Message-ID.

    Stored as the message's payload (JSON). Header names and values are checked when this is made.

    :param raw: the message came as RFC 5322 bytes, which are part 1, or *plain*, a character for
        each octet; the other fields only show what is in them.
    :param by_smtp: it was handed in by SMTP.
    """

    sender: Mailbox
    to: tuple[Mailbox, ...] = ()
    cc: tuple[Mailbox, ...] = ()
    bcc: tuple[Mailbox, ...] = ()
    reply_to: tuple[Mailbox, ...] = ()
    subject: str = ""
    plain: str | None = None
    html: str | None = None
    headers: tuple[tuple[str, str], ...] = ()
    attachments: tuple[Attachment, ...] = ()
    return_path: str = ""
    raw: bool = False
    #: The notifications that are asked for; None for none.
    dsn: Dsn | None = None
    by_smtp: bool = False


@attrs.frozen
class NewRecipient:
    """:param address: the envelope address, unique within its message."""

    address: str
    kind: RecipientKind


@attrs.frozen
class NewMessage:
    """
    One checked element of a submission, ready to be made durable.

    :param account_id: None for the tenant's default account.
    :param batch: campaign; "" for none.
    :param not_before: ``deferred_ts``; None or the past for at once.
    :param not_after: ``expires_at``; from then on nothing of it is begun. None for no such instant.
    :param envelope_from: the envelope sender; "" for the null sender.
    :param payload: :class:`Content` as JSON.
    :param parts: decoded attachments; ``Attachment.part`` is the 1-based index.
    :param digest: SHA-256 of the content (``CONTRACT``: without priority, deferred_ts, batch).
    :param size: bytes of the composed message.
    :param message_id: ``<...>``; the client's own, or None to have one made.
    :param notes: what the timeline should say of how it was taken in (dropped headers, ...).
    :param test: take and report it, but make no attempt. It leaves real mail of its id alone.
    """

    tenant_id: str
    id: str
    account_id: str | None
    priority: int
    batch: str
    not_before: float | None
    envelope_from: str
    recipients: tuple[NewRecipient, ...]
    payload: bytes
    digest: bytes
    size: int
    message_id: str | None = None
    parts: tuple[bytes, ...] = ()
    notes: tuple[str, ...] = ()
    test: bool = False
    not_after: float | None = None


@attrs.frozen
class Enqueued:
    """
    :param verdict: what happened to the element.
    :param reason: for *rejected* why; for *duplicate* with other content ``"differs"``.
    """

    verdict: Verdict
    reason: str = ""


@attrs.frozen
class Account:
    """
    One upstream, as stored. Equal ``(pk, version)`` means equal in every field that sessions use.

    :param pk: never reused; a deleted and re-created account has another.
    :param version: grows with every change.
    :param options: JSON object of the client's fields that have no column of their own.
    :param parked_reason: why no session is opened ("" = not parked).
    :param probe_at: when a parked account is next tried.
    :param declared: whether the configuration declares it: then nobody else may change it.
    :param held_since: since when an operator holds its mail; None: nobody does.
    """

    pk: int
    tenant_id: str
    id: str
    version: int
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
    parked_reason: str = ""
    parked_since: float | None = None
    probe_at: float | None = None
    created_at: float = 0.0
    updated_at: float = 0.0
    declared: bool = False
    held_since: float | None = None
    held_reason: str = ""


@attrs.frozen
class Recipient:
    """One recipient of a claimed message. *n* is its number within the message, from 0."""

    n: int
    address: str
    state: RecipientState


@attrs.frozen
class Claimed:
    """
    A message this process holds a lease on.

    :param token: fencing token; every later write carries it.
    :param recipients: the open ones only, but for those in paused domains.
    :param attempts: attempts begun before this one.
    :param uncertain: attempts of this generation that ended uncertain.
    :param due_since: when it became due this time.
    :param expires_at: when its age limit ends, or, if that is sooner, its own ``not_after``.
    :param payload: the payload's JSON, where it is small and there are no attachments; otherwise
        None, and ``IQueue.contents`` has it.
    :param account_version: the account's version when the message was claimed.
    :param account_parked: whether its account is parked, and this is a probe of it.
    :param fetches: attachment fetches of this generation that failed.
    :param doubted_at: where an attempt ended uncertain: id of the account it went through, and
        every attempt since; "" if none did.
    """

    pk: int
    token: int
    tenant_id: str
    id: str
    generation: int
    account_pk: int
    priority: int
    attempts: int
    uncertain: int
    accepted_at: float
    due_since: float
    expires_at: float
    message_id: str
    envelope_from: str
    size: int
    recipients: tuple[Recipient, ...]
    payload: bytes | None = attrs.field(default=None, repr=False)
    account_version: int = 0
    fetches: int = 0
    doubted_at: str = ""
    not_after: float | None = None
    account_parked: bool = False

    def patience(self, fault_max_age: float) -> float:
        """Until when it may wait for an account that is at fault, which is longer than its age."""
        limit = max(self.expires_at, self.accepted_at + fault_max_age)
        return limit if self.not_after is None else min(limit, self.not_after)


@attrs.frozen
class Stored:
    """What composing needs of a claimed message. *parts* is keyed by ``Attachment.part``."""

    content: Content
    parts: dict[int, bytes] = attrs.Factory(dict)


@attrs.frozen
class Reply:
    """
    One SMTP reply.

    :param code: 200 to 599.
    :param text: its lines without codes, joined by newlines, control characters escaped.
    """

    code: int
    text: str

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 2034) the text begins with, if it is well formed."""
        word = self.text.partition(" ")[0]
        digits = word.split(".")
        if len(digits) == 3 and all(d.isascii() and d.isdigit() and len(d) < 4 for d in digits):
            return word
        return None

    def __str__(self) -> str:
        return f"{self.code} {self.text}"


@attrs.frozen
class Envelope:
    """
    One transaction to be sent: what MAIL, RCPT and DATA carry.

    :param recipients: envelope addresses, in the order of the outcome's ``rcpts``.
    :param body: RFC 5322 bytes, CRLF-canonical, *not* dot-stuffed, ending in CRLF or not.
    """

    sender: str
    recipients: tuple[str, ...]
    body: bytes = attrs.field(repr=False)
    dsn: Dsn | None = None


@attrs.frozen
class Outcome:
    """
    What the upstream said in one transaction; raw, to be judged by the dispatcher.

    :param phase: how far it came. ``FINAL`` without a ``final`` reply is *uncertain*.
    :param rcpts: one reply per envelope recipient, None where none came.
    :param error: what ended the session, if something did before all replies were in.
    :param timings: seconds from the envelope's first byte to each reply, by phase.
    :param tls: protocol and cipher, "" in clear; *peer* is ``host:port`` as connected.
    :param stale: a reused session was found dead before it answered anything of this
        transaction; nothing was accepted, and no attempt need be counted.
    """

    phase: Phase
    mail: Reply | None = None
    rcpts: tuple[Reply | None, ...] = ()
    data: Reply | None = None
    final: Reply | None = None
    error: str = ""
    timings: tuple[tuple[str, float], ...] = ()
    tls: str = ""
    peer: str = ""
    stale: bool = False
    notes: tuple[str, ...] = ()

    @property
    def uncertain(self) -> bool:
        """Whether the final dot was handed over and no reply to it came."""
        return self.phase is Phase.FINAL and self.final is None


@attrs.frozen
class RecipientChange:
    """The new state of recipient *n*, with what the upstream said."""

    n: int
    state: RecipientState
    code: int | None = None
    enhanced: str | None = None
    reply: str = ""


@attrs.frozen
class Record:
    """
    What one attempt led to, decided by the dispatcher, to be stored in one transaction.

    :param attempt: number of the attempt an intent was stored for; 0 if none was.
    :param kind: the event to append; *data* is its JSON.
    :param next_at: when the message is due again; None if it is not.
    :param hold: the reason to hold it, "" for none.
    :param report: whether the event is to be reported though the message is not final
        (final events always are).
    :param reason_key: what makes one deferral different from the next; the store reports a
        deferral only when this changed.
    :param fetched_in_vain: an attachment could not be fetched; no attempt was begun.
    :param through: id of the account that carried the attempt, where that is not the message's
        own; reports name it.
    """

    pk: int
    token: int
    attempt: int
    kind: EventKind
    changes: tuple[RecipientChange, ...]
    next_at: float | None
    at: float
    hold: str = ""
    report: bool = False
    reason_key: str = ""
    reason: str = ""
    data: bytes = b"{}"
    outcome: bytes | None = None
    fetched_in_vain: bool = False
    through: str = ""


def summarise(replies: Sequence[Reply | None]) -> str:
    """One line naming the distinct replies, for logs."""
    return "; ".join(dict.fromkeys(str(reply) for reply in replies if reply is not None))
