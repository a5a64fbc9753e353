"""Answers about the service, accounts and tenants; see :mod:`mailproxy.client.results`. Pure."""

from __future__ import annotations

from typing import Any

from mailproxy.client.results import Result


class Status(Result, frozen=True, kw_only=True):
    """
    How the service is, or the caller's part of it.

    :param active: whether mail is sent: nothing is suspended.
    :param suspended_batches: suspended campaigns; ``*`` is everything.
    :param queue: messages by state; for the admin only.
    """

    active: bool
    version: str
    draining: bool = False
    suspended_batches: list[str] = []
    pending_messages: int = 0
    in_flight: int = 0
    queue: dict[str, int] | None = None


class Suspension(Result, frozen=True, kw_only=True):
    """What is suspended now. :param in_flight: had begun before; nothing else is begun."""

    tenant_id: str | None
    batch_code: str | None = None
    suspended_batches: list[str]
    pending_messages: int
    in_flight: int
    active: bool


class Account(Result, frozen=True, kw_only=True):
    """An account, without its secrets. :param parked_reason: why it does not work, if so."""

    id: str
    tenant_id: str
    name: str
    host: str
    port: int
    user: str | None
    use_tls: bool | None
    tls_mode: str
    allow_plaintext_auth: bool
    timeout: float
    ttl: float
    max_sessions: int
    batch_size: int | None
    is_default: bool
    on_uncertain: str
    retry_delays: list[float] | None
    max_age_seconds: float | None
    ca_pem: str | None
    limit_per_minute: int | None
    limit_per_hour: int | None
    limit_per_day: int | None
    limit_behavior: str | None
    used: dict[str, int] = {}
    limited_until: float | None = None
    limited_reason: str | None = None
    fallback: list[str] | None = None
    weights: dict[str, int] | None = None
    state: str
    auth: dict[str, Any] | None = None
    pin: list[str] = []
    parked_reason: str | None = None
    parked_since: int | None = None
    probe_at: int | None = None
    held_since: int | None = None
    declared: bool = False
    created_at: str
    updated_at: str


class AccountTaken(Result, frozen=True, kw_only=True):
    """The account is stored. :param warnings: what may be meant otherwise."""

    warnings: list[str] = []


class AccountTest(Result, frozen=True, kw_only=True):
    """
    What trying an account came to.

    :param works: whether mail could have begun; if not, *problem* says why.
    :param phase: where it ended: ``resolve``, ``connect``, ``banner``, ``tls``, ``ehlo``, ``auth``.
    :param code: the reply that ended it, if one did.
    """

    works: bool
    phase: str | None
    code: int | None
    problem: str
    peer: str | None
    tls: str | None
    logged_in: bool
    offers: list[str]
    notes: list[str]
    seconds: float


class Tenant(Result, frozen=True, kw_only=True):
    """A tenant, its secrets masked."""

    id: str
    name: str
    active: bool
    client_base_url: str | None
    client_sync_path: str | None
    client_sync_url: str | None
    client_attachment_path: str | None
    client_attachment_url: str | None
    client_auth: dict[str, Any]
    rate_limits: dict[str, Any]
    large_file_config: dict[str, Any] | None = None
    retention_seconds: int | None = None
    signing_secret: str | None = None
    suppress_refused: bool = False
    bounces: dict[str, Any] = {}
    created_at: str
    updated_at: str


class TenantSync(Result, frozen=True, kw_only=True):
    """How reporting to a tenant stands. :param in_dnd: whether it asked not to be called now."""

    id: str
    active: bool
    last_sync_ts: int | None
    next_sync_due: int | None
    in_dnd: bool
    last_error: str | None = None


class SyncStatus(Result, frozen=True, kw_only=True):
    """How reporting stands, tenant by tenant."""

    sync_interval_seconds: int
    tenants: list[TenantSync]


class SyncTest(Result, frozen=True, kw_only=True):
    """What a test call came to. :param problem: why the answer would be no ack; empty if it is."""

    acknowledged: bool
    problem: str
    seconds: float


class Key(Result, frozen=True, kw_only=True):
    """All that is known of a key. :param prefix: its first characters."""

    prefix: str
    label: str
    scopes: list[str]
    networks: list[str]
    test: bool
    created_at: str
    used_at: str | None
    expires_at: int | None


class Credential(Result, frozen=True, kw_only=True):
    """A credential for SMTP."""

    user: str
    tenant_id: str
    has_password: bool
    account_id: str | None
    senders: list[str]
    networks: list[str]
    label: str
    active: bool
    created_at: str
    updated_at: str


class DnsRecord(Result, frozen=True, kw_only=True):
    """What has to be published in the DNS."""

    name: str
    type: str
    value: str


class DkimKey(Result, frozen=True, kw_only=True):
    """A key that signs mail."""

    tenant_id: str
    domain: str
    selector: str
    algorithm: str
    active: bool
    created_at: str
    dns: DnsRecord


class Node(Result, frozen=True, kw_only=True):
    """A process of the service. :param claims: messages it has at hand; None: not counted."""

    id: str
    host: str
    version: str
    started_at: str
    alive: bool
    alive_until: str
    claims: int | None


class Instance(Result, frozen=True, kw_only=True):
    """This service."""

    id: int
    name: str
    version: str
    active: bool


class Command(Result, frozen=True, kw_only=True):
    """One line of the command log. :param command: the verb and the pattern of the path."""

    id: int
    at: str
    command_ts: int
    tenant_id: str | None
    command: str
    who: str
    detail: dict[str, Any]
