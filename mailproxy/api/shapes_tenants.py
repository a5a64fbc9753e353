"""The JSON of tenants and their keys, as types; see :mod:`mailproxy.api.shapes`."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType

from mailproxy.api.doc import Doc, Param
from mailproxy.api.shapes import Done, Iso, Unix, Yes
from mailproxy.tenancy import Scope

Number = int | str
Switch = bool | int | str

#: A tenant's id stands in paths and in the command log.
TENANT_ID = r"^[A-Za-z0-9_][A-Za-z0-9._$@+~-]{0,63}$"

Url = Annotated[
    str | None,
    Meta(description="http or https, with a host; no user or password in it."),
]


class ClientAuthFields(Struct, kw_only=True):
    """How we show the application who is calling. A secret that is the mask stays as it is."""

    method: Annotated[
        str | None, Meta(description="`none`, `bearer` (with `token`) or `basic`.")
    ] = None
    token: str | None = None
    user: str | None = None
    password: str | None = None


class RateLimitFields(Struct, kw_only=True):
    """Messages in an hour, in a day; null, or not above 0: no limit."""

    hourly: Number | None = None
    daily: Number | None = None


class LargeFileFields(Struct, kw_only=True):
    """What is done with large attachments."""

    enabled: Switch | None = None
    max_size_mb: Annotated[float | str | None, Meta(description="MiB (10).")] = None
    action: Annotated[str | None, Meta(description="`warn`, `reject` or `rewrite`.")] = None
    storage_url: Annotated[str | None, Meta(description="An fsspec URL, for `rewrite`.")] = None
    public_base_url: Annotated[Url, Meta(description="What links begin with.")] = None
    file_ttl_days: Annotated[Number | None, Meta(description="Days a link is good (30).")] = None


class BounceFields(Struct, kw_only=True):
    """What the sender of a message that came by SMTP is told when it fails or expires."""

    enabled: Annotated[Switch | None, Meta(description="Whether they get a bounce (false).")] = None
    account_id: Annotated[
        str | None, Meta(description="What bounces go through; null: the message's account.")
    ] = None
    from_address: Annotated[
        str | None, Meta(description="Of their From; null: MAILER-DAEMON at the service's name.")
    ] = None


class TenantChange(Struct, kw_only=True):
    """The fields of a tenant. What is left out stays; null clears."""

    name: Annotated[str | None, Meta(description="For people.")] = None
    active: Annotated[
        Switch | None, Meta(description="If not, its mail is neither taken nor sent.")
    ] = None
    client_base_url: Url = None
    client_sync_path: Annotated[
        str | None, Meta(description="Where reports go, below the base URL (/mail-proxy/sync).")
    ] = None
    client_sync_url: Annotated[Url, Meta(description="A full URL, which wins.")] = None
    client_attachment_path: Annotated[
        str | None, Meta(description="Where attachments are asked for (/mail-proxy/attachments).")
    ] = None
    client_attachment_url: Annotated[Url, Meta(description="A full URL, which wins.")] = None
    client_auth: ClientAuthFields | None = None
    rate_limits: RateLimitFields | None = None
    large_file_config: LargeFileFields | None = None
    retention_seconds: Annotated[
        Number | None, Meta(description="How long reported messages are kept; null: as usual.")
    ] = None
    signing_secret: Annotated[
        str | None, Meta(description="Of Standard Webhooks: `whsec_` and 24 to 64 bytes in base64.")
    ] = None
    suppress_refused: Annotated[
        Switch | None,
        Meta(description="Whether addresses refused for good enter the suppression list."),
    ] = None
    bounces: BounceFields | None = None


class TenantFields(TenantChange, kw_only=True):
    """A tenant as it is registered. What is left out stays; null clears."""

    id: Annotated[str, Meta(pattern=TENANT_ID)]


class ShownClientAuth(Struct, kw_only=True):
    """A secret that is there is shown as a mask."""

    method: str
    token: str | None
    user: str | None
    password: str | None


class ShownRateLimits(Struct, kw_only=True):
    hourly: int | None
    daily: int | None


class ShownLargeFiles(Struct, kw_only=True):
    enabled: bool
    max_size_mb: float
    action: str
    storage_url: str
    public_base_url: str
    file_ttl_days: int


class ShownBounces(Struct, kw_only=True):
    enabled: bool
    account_id: str | None
    from_address: str | None


class ShownTenant(Struct, kw_only=True):
    """A tenant, its secrets masked."""

    id: str
    name: str
    active: bool
    client_base_url: str | None
    client_sync_path: str | None
    client_sync_url: str | None
    client_attachment_path: str | None
    client_attachment_url: str | None
    client_auth: ShownClientAuth
    rate_limits: ShownRateLimits
    large_file_config: ShownLargeFiles | None
    retention_seconds: int | None
    signing_secret: str | None
    suppress_refused: bool
    bounces: ShownBounces
    created_at: Iso
    updated_at: Iso


class OneTenant(ShownTenant, kw_only=True):
    """One tenant."""

    ok: Yes = True


class Tenants(Struct, kw_only=True):
    """Tenants by id."""

    ok: Yes = True
    tenants: list[ShownTenant]


class TenantTaken(Struct, kw_only=True):
    """The tenant is stored."""

    ok: Yes = True


class Registered(TenantTaken, kw_only=True):
    """The tenant is stored, and has one more key."""

    api_key: Annotated[str, Meta(description="Shown this once.")]


class NewKey(Struct, kw_only=True):
    """The tenant's key."""

    ok: Yes = True
    api_key: Annotated[str, Meta(description="Shown this once.")]


class KeyFields(Struct, kw_only=True):
    """A key as it is asked for."""

    label: Annotated[str | None, Meta(description="For people.")] = None
    scopes: Annotated[
        list[Scope] | None, Meta(description="What it is good for; null: everything.")
    ] = None
    networks: Annotated[
        list[str] | None, Meta(description="CIDR blocks it may be used from; null: anywhere.")
    ] = None
    expires_at: Annotated[float | str | None, Meta(description="Unix seconds, ahead.")] = None
    ttl: Annotated[Number | None, Meta(description="Or: seconds from now.")] = None
    test: Annotated[
        Switch | None, Meta(description="Whether its mail is taken and reported, but never sent.")
    ] = None


class ShownKey(Struct, kw_only=True):
    """All that is known of a key."""

    prefix: Annotated[str, Meta(description="Its first characters.")]
    label: str
    scopes: list[Scope]
    networks: list[str]
    test: bool
    created_at: Iso
    used_at: Iso | None
    expires_at: Unix | None


class Keys(Struct, kw_only=True):
    """Keys that are good now, oldest first."""

    ok: Yes = True
    keys: list[ShownKey]


class MadeKey(ShownKey, kw_only=True):
    """The new key, and what it is good for."""

    ok: Yes = True
    api_key: Annotated[str, Meta(description="Shown this once.")]


class TenantSync(Struct, kw_only=True):
    """How reporting to a tenant stands."""

    id: str
    active: bool
    last_sync_ts: Annotated[Unix | None, Meta(description="When it last took a report.")]
    next_sync_due: Annotated[Unix | None, Meta(description="When it is called at the latest.")]
    in_dnd: Annotated[bool, Meta(description="Whether it asked not to be called now.")]
    report_lag_seconds: Annotated[
        float, Meta(description="Age of its oldest event that was not told yet; 0: there is none.")
    ]
    last_error: str | UnsetType = UNSET


class SyncStatus(Struct, kw_only=True):
    """How reporting stands, tenant by tenant."""

    ok: Yes = True
    sync_interval_seconds: int
    tenants: list[TenantSync]


class SyncTested(Struct, kw_only=True):
    """What a test call came to."""

    ok: Yes = True
    acknowledged: Annotated[bool, Meta(description="Whether the answer would count as an ack.")]
    problem: Annotated[str, Meta(description="Why not; empty if it would.")]
    seconds: float


_EXAMPLE: dict[str, Any] = {
    "client_base_url": "https://shop.example.com",
    "client_auth": {"method": "bearer", "token": "..."},
}

REGISTER = Doc(
    "Register a tenant, or change it. A new key comes with the answer; earlier ones stay good.",
    takes=TenantFields,
    gives=Registered,
    example={"id": "shop", **_EXAMPLE},
)
GET_TENANT = Doc("Show a tenant.", gives=OneTenant)
PUT_TENANT = Doc("Change a tenant.", takes=TenantChange, gives=TenantTaken, example=_EXAMPLE)
DELETE_TENANT = Doc(
    "Delete a tenant. Its keys end at once; its reports are tried for 24 more hours.",
    gives=Done,
    refuses={409: None},
)
LIST_TENANTS = Doc(
    "List tenants.", gives=Tenants, query=(Param("active_only", bool, "Only those that send."),)
)
ROTATE = Doc("Make a new key, and end all others.", gives=NewKey)
REVOKE_ALL = Doc("End all keys of a tenant.", gives=Done)
SYNC_STATUS = Doc("Show how reporting to each tenant stands.", gives=SyncStatus)
TEST_SYNC = Doc(
    "Post an empty report to the tenant, and say whether the answer would count as an ack.",
    gives=SyncTested,
)
LIST_KEYS = Doc("List a tenant's keys; never the keys themselves.", gives=Keys)
MAKE_KEY = Doc(
    "Make a key for a tenant.",
    takes=KeyFields,
    gives=MadeKey,
    bodiless=True,
    example={"label": "web shop", "scopes": ["send"], "ttl": 86_400},
)
REVOKE_KEY = Doc("End one key of a tenant.", gives=Done)
