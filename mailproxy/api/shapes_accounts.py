"""The JSON of accounts, as types; see :mod:`mailproxy.api.shapes`."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Iso, Unix, Yes
from mailproxy.states import OnUncertain, TlsMode

Number = int | str
Switch = bool | int | str


class Auth(Struct, kw_only=True):
    """A login with a token of an authorization server (OAuth 2.0)."""

    method: Annotated[str, Meta(description="`xoauth2`.")]
    grant: Literal["client_credentials", "refresh_token"] | None = None
    token_url: Annotated[str | None, Meta(description="https only.")] = None
    client_id: str | None = None
    client_secret: Annotated[
        str | None,
        Meta(description="Secrets left out are kept, as long as all else but `scope` stays."),
    ] = None
    refresh_token: Annotated[
        str | None, Meta(description="One that the server gives in its place is kept.")
    ] = None
    scope: str | None = None
    user: Annotated[str | None, Meta(description="The mailbox; default: the account's user.")] = (
        None
    )


class LoginShown(Struct, kw_only=True):
    """How the account logs in, without its secrets."""

    method: str
    grant: str | UnsetType = UNSET
    token_url: str | UnsetType = UNSET
    client_id: str | UnsetType = UNSET
    scope: str | UnsetType = UNSET


class AccountFields(Struct, kw_only=True):
    """An account as it is declared. Whole numbers may come as digits in a string."""

    id: Annotated[str, Meta(min_length=1, max_length=255)]
    host: Annotated[str, Meta(min_length=1, description="A host name or an IP address.")]
    tenant_id: str | None = None
    name: Annotated[str | None, Meta(description="For people.")] = None
    port: Annotated[
        Number | None, Meta(description="Default: 465, 587 or 25, as the TLS mode says.")
    ] = None
    user: str | None = None
    password: Annotated[
        str | None, Meta(description="Left out: kept, as long as host and user stay.")
    ] = None
    use_tls: Switch | None = None
    tls_mode: Annotated[TlsMode | None, Meta(description="Wins over `use_tls`.")] = None
    allow_plaintext_auth: Annotated[
        Switch | None, Meta(description="Whether credentials may go in clear; default false.")
    ] = None
    timeout: Annotated[
        float | str | None,
        Meta(description="Seconds for the connection and each reply before the body (30)."),
    ] = None
    ttl: Annotated[
        float | str | None, Meta(description="Seconds a session is kept for more mail (300).")
    ] = None
    max_sessions: Annotated[Number | None, Meta(description="Connections at once (8).")] = None
    batch_size: Annotated[Number | None, Meta(description="Messages taken up at once.")] = None
    limit_per_minute: Number | None = None
    limit_per_hour: Number | None = None
    limit_per_day: Number | None = None
    limit_behavior: Annotated[str | None, Meta(description="`defer` or `reject`.")] = None
    on_uncertain: Annotated[
        OnUncertain | None,
        Meta(description="When nobody knows whether the server took a message; default `retry`."),
    ] = None
    retry_delays: Annotated[
        list[float | str] | str | None,
        Meta(description="Seconds after the first, second, ... failed attempt."),
    ] = None
    max_age_seconds: Annotated[
        float | str | None, Meta(description="After so long a message is given up.")
    ] = None
    ca_pem: Annotated[str | None, Meta(description="Authorities for this account, PEM.")] = None
    is_default: Annotated[
        Switch | None, Meta(description="For messages that name no account; default false.")
    ] = None
    auth: Annotated[
        Auth | str | None,
        Meta(description="`plain` or `login` to insist on it; with a token, an object."),
    ] = None
    fallback: Annotated[
        list[str] | str | None,
        Meta(description="Accounts of the tenant that step in, in order, where this one cannot."),
    ] = None
    weights: Annotated[
        dict[str, Number] | str | None,
        Meta(description="Accounts that share this one's mail, and what each of them counts."),
    ] = None
    pin: Annotated[
        list[str] | str | None,
        Meta(
            description="SHA-256, in hex or base64, of certificates or of their public keys: no"
            " other is accepted. Without `ca_pem` nothing else is asked of them."
        ),
    ] = None


class AccountTaken(Struct, kw_only=True):
    """The account is stored."""

    ok: Yes
    warnings: list[str] | UnsetType = UNSET


class AccountTested(Struct, kw_only=True):
    """What trying an account came to."""

    ok: Yes = True
    works: Annotated[bool, Meta(description="Whether mail could have begun.")]
    phase: Annotated[
        str | None,
        Meta(description="Where it ended: `resolve`, `connect`, `banner`, `tls`, `ehlo`, `auth`."),
    ]
    code: Annotated[int | None, Meta(description="The reply that ended it, if one did.")]
    problem: Annotated[str, Meta(description="Why it does not work; empty if it does.")]
    peer: Annotated[str | None, Meta(description="Address and port of the server.")]
    tls: Annotated[str | None, Meta(description="Version and cipher; null in clear.")]
    logged_in: bool
    offers: Annotated[list[str], Meta(description="Extensions, as the server names them.")]
    notes: Annotated[list[str], Meta(description="What is not as it should be, though it works.")]
    seconds: float


class LimitsUsed(Struct, kw_only=True, omit_defaults=True):
    """Messages handed over in the running windows of the account's limits."""

    per_minute: int | UnsetType = UNSET
    per_hour: int | UnsetType = UNSET
    per_day: int | UnsetType = UNSET


class Account(Struct, kw_only=True):
    """An account, without its secrets."""

    id: str
    tenant_id: str
    name: str
    host: str
    port: int
    user: str | None
    use_tls: bool | None
    tls_mode: TlsMode
    allow_plaintext_auth: bool
    timeout: float
    ttl: float
    max_sessions: int
    sessions: Annotated[int, Meta(description="That the node which answers has open now.")]
    batch_size: int | None
    is_default: bool
    on_uncertain: OnUncertain
    retry_delays: list[float] | None
    max_age_seconds: float | None
    ca_pem: str | None
    limit_per_minute: int | None
    limit_per_hour: int | None
    limit_per_day: int | None
    limit_behavior: str | None
    used: LimitsUsed
    limited_until: Annotated[
        float | None,
        Meta(description="Unix time from which on its limits and its tenant's have room again."),
    ]
    limited_reason: Annotated[str | None, Meta(description="Which limit that is.")]
    fallback: list[str] | None
    weights: dict[str, int] | None
    state: Literal["active", "parked"]
    auth: LoginShown | None
    pin: Annotated[list[str], Meta(description="SHA-256 in hex.")]
    parked_reason: Annotated[str | None, Meta(description="Why it does not work, if so.")]
    parked_since: Annotated[Unix | None, Meta(description="Since when.")]
    probe_at: Annotated[Unix | None, Meta(description="When a message tries it again.")]
    held_since: Annotated[Unix | None, Meta(description="Since when an operator holds its mail.")]
    declared: Annotated[
        bool, Meta(description="Whether the configuration declares it; then it stays as it is.")
    ]
    created_at: Iso
    updated_at: Iso


class Accounts(Struct, kw_only=True):
    """Accounts by tenant and id."""

    ok: Yes
    accounts: list[Account]


PUT_ACCOUNT = Doc(
    "Declare an account, or change it.",
    takes=AccountFields,
    gives=AccountTaken,
    refuses={409: None},
    example={
        "id": "smtp-main",
        "host": "smtp.example.com",
        "port": 587,
        "user": "shop",
        "password": "...",
        "use_tls": True,
    },
)

LIST_ACCOUNTS = Doc("List accounts with all their fields but the secrets.", gives=Accounts)

DELETE_ACCOUNT = Doc(
    "Delete an account. Its waiting mail fails with `account deleted`, and that is reported.",
    refuses={409: None},
)

TEST_ACCOUNT = Doc(
    "Connect to the account's server, and log in: greeting, EHLO, TLS, AUTH, QUIT. No mail is sent,"
    " and whether the account is parked stays as it is. It is one connection more than "
    "`max_sessions`.",
    gives=AccountTested,
)
