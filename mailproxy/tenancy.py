"""
Tenants, the keys that open their doors, and what the operator may say of them.

Pure: frozen values, and the few things that follow from their own fields.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import attrs

from mailproxy.errors import MailProxyError
from mailproxy.model import Enqueued

#: The most keys of a tenant that are good at the same time.
MAX_KEYS = 10

#: Paths below ``client_base_url`` where a tenant says nothing else.
SYNC_PATH = "/mail-proxy/sync"
ATTACHMENT_PATH = "/mail-proxy/attachments"


class Scope(StrEnum):
    """What a tenant's key is good for."""

    SEND = "send"
    READ = "read"
    CONTROL = "control"


ALL_SCOPES = frozenset(Scope)


@attrs.frozen
class ClientAuth:
    """
    How we show the application who is calling.

    :param method: ``none``, ``bearer`` (then *token*) or ``basic`` (then *user*, *password*).
    """

    method: str = "none"
    token: str | None = attrs.field(default=None, repr=False)
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)


@attrs.frozen
class RateLimits:
    """Messages a tenant may hand over in an hour, in a day; None: no limit."""

    hourly: int | None = None
    daily: int | None = None


@attrs.frozen
class LargeFiles:
    """
    What is done with an attachment that is larger than ``max_size_mb`` (MiB).

    :param action: ``warn`` (noted in the timeline), ``reject`` (the message fails) or ``rewrite``
        (uploaded to *storage_url*, a link takes its place).
    :param storage_url: an fsspec URL; for ``file://`` the service itself serves the download.
    :param public_base_url: what links begin with.
    :param file_ttl_days: how long a link is good, and an uploaded file is kept.
    """

    enabled: bool = False
    max_size_mb: float = 10.0
    action: str = "warn"
    storage_url: str = ""
    public_base_url: str = ""
    file_ttl_days: int = 30


@attrs.frozen
class Bounces:
    """
    Whether the sender of a message that came by SMTP gets a bounce when it fails or expires.

    :param account_id: that bounces go through; None for the one the message belongs to.
    :param from_address: of their From; None for ``MAILER-DAEMON`` at the service's own name.
    """

    enabled: bool = False
    account_id: str | None = None
    from_address: str | None = None


@attrs.frozen
class LargeFile:
    """
    A large attachment that was put away, and a link to it sent instead.

    :param pk: in the link, if the service itself gives the file out; not to be guessed.
    :param url: where it is, as fsspec has it.
    :param name: as its sender called it.
    :param expires_at: when it is removed, Unix seconds.
    """

    pk: int
    tenant_id: str
    url: str
    name: str
    size: int
    expires_at: float


@attrs.frozen
class Tenant:
    """
    One application that hands mail over. Secrets are in the clear here and sealed in the store.

    :param active: if not, its mail is neither taken nor sent; reports go on.
    :param client_sync_url: a full URL that wins over base URL and path; likewise
        *client_attachment_url*.
    :param retention_seconds: None for the service's own.
    :param signing_secret: of Standard Webhooks, ``whsec_...``; None: reports are not signed.
    :param suppress_refused: whether a recipient that was refused for good with 5.1.x enters the
        suppression list by itself.
    :param version: grows with every change.
    :param deleted_at: since when it is being deleted; its reports are still tried for a while.
    """

    id: str
    name: str = ""
    active: bool = True
    client_base_url: str | None = None
    client_sync_path: str | None = None
    client_sync_url: str | None = None
    client_attachment_path: str | None = None
    client_attachment_url: str | None = None
    client_auth: ClientAuth = ClientAuth()
    rate_limits: RateLimits = RateLimits()
    large_file_config: LargeFiles | None = None
    retention_seconds: int | None = None
    signing_secret: str | None = attrs.field(default=None, repr=False)
    suppress_refused: bool = False
    bounces: Bounces = Bounces()
    version: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0
    deleted_at: float | None = None

    @property
    def sync_url(self) -> str | None:
        """Where its reports go; None if it did not say."""
        return _url(self.client_sync_url, self.client_base_url, self.client_sync_path, SYNC_PATH)

    @property
    def attachment_url(self) -> str | None:
        """Where its attachments are asked for; None if it did not say."""
        path = self.client_attachment_path
        return _url(self.client_attachment_url, self.client_base_url, path, ATTACHMENT_PATH)


def _url(full: str | None, base: str | None, path: str | None, usual: str) -> str | None:
    if full:
        return full
    return None if not base else f"{base.rstrip('/')}/{(path or usual).lstrip('/')}"


@attrs.frozen
class ApiKey:
    """
    One key of a tenant. The key itself is shown once and kept nowhere.

    :param hash: :func:`mailproxy.crypto.hash_token` of it.
    :param prefix: its first eight characters, by which people tell keys apart.
    :param scopes: what it is good for.
    :param networks: CIDR blocks it may be used from; none: from anywhere.
    :param test: whether all it submits counts as a test: taken and reported, never sent.
    """

    hash: bytes = attrs.field(repr=False)
    prefix: str
    tenant_id: str
    label: str = ""
    scopes: frozenset[Scope] = ALL_SCOPES
    networks: tuple[str, ...] = ()
    test: bool = False
    created_at: float = 0.0
    used_at: float | None = None
    expires_at: float | None = None


@attrs.frozen
class Removed:
    """
    What a removal came to: its answer is the report.

    :param removed: how many messages were cancelled or forgotten.
    :param kept: ids that were not removed though they exist, and the state they are in.
    :param missing: ids that the tenant has no message of.
    """

    removed: int
    kept: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()


@attrs.frozen
class Remembered:
    """
    What is kept of a message that was removed.

    :param state: how it ended.
    :param message_id: what a new generation of it is called on the wire.
    :param test: whether it was a test.
    :param accepted: who of those asked about has it, or may have it, nobody knowing.
    """

    state: str
    message_id: str
    test: bool
    accepted: frozenset[str]


@attrs.frozen
class Destination:
    """Mail of a tenant to a recipient domain that is paused."""

    tenant_id: str
    domain: str
    since: float


@attrs.frozen
class Suppression:
    """
    An address that gets no mail of a tenant.

    :param source: ``manual``, ``import`` or ``refused`` (entered by itself).
    """

    tenant_id: str
    address: str
    reason: str = ""
    source: str = "manual"
    since: float = 0.0


@attrs.frozen
class CommandEntry:
    """
    One line of the command log.

    :param who: ``admin``, or ``tenant:<id>:<key prefix>``.
    :param detail: JSON; never a secret.
    """

    at: float
    tenant_id: str | None
    command: str
    who: str = "admin"
    detail: str = "{}"
    pk: int = 0


@attrs.frozen
class Once:
    """
    An ``Idempotency-Key``: the answer of the first request is kept and given again.

    :param digest: SHA-256 of the request's body.
    :param answer: makes the answer's bytes from the verdicts; called in the transaction that
        stores the messages, in any thread, at most once. Pure.
    """

    tenant_id: str
    key: str
    digest: bytes
    answer: Callable[[Sequence[Enqueued]], bytes]


class Answered(MailProxyError):
    """The idempotency key was used before, with the same body. :param answer: what was said."""

    def __init__(self, answer: bytes) -> None:
        super().__init__("answered before")
        self.answer = answer


class KeyReused(MailProxyError):
    """The idempotency key was used before, with another body."""


class Declared(MailProxyError):
    """The account is declared in the configuration and cannot be changed otherwise."""


class TooManyKeys(MailProxyError):
    """A key with this hash or prefix cannot be added."""


@attrs.frozen
class SyncState:
    """
    How reporting to a tenant stands.

    :param last_sync: when it last took a report; None: never in this process.
    :param next_due: when it is called again at the latest; None: at the next event.
    :param in_dnd: whether it asked not to be called now.
    """

    last_sync: float | None
    next_due: float | None
    in_dnd: bool
    last_error: str | None


@attrs.frozen
class SyncTest:
    """
    What a test call of the sync URL came to.

    :param acknowledged: whether the answer would count as an ack.
    :param problem: why not; "" if it would.
    """

    acknowledged: bool
    problem: str
    seconds: float
