"""
The fields of a tenant as they come in and go out: every check, and the mask over every secret.

A secret is shown as :data:`MASK`; a client that sends the mask back leaves the secret as it is, so
that what was read can be changed and written.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs

from mailproxy.account_fields import Wrong, flag, limit, text, whole, word
from mailproxy.address import parse_mailbox
from mailproxy.api.answers import Problem, invalid
from mailproxy.api.bodies import Fields, mapping
from mailproxy.api.shapes_tenants import (
    TENANT_ID,
    ShownBounces,
    ShownClientAuth,
    ShownLargeFiles,
    ShownRateLimits,
    ShownTenant,
)
from mailproxy.api.times import iso
from mailproxy.errors import BadAddress
from mailproxy.tenancy import Bounces, ClientAuth, LargeFiles, RateLimits, Tenant
from mailproxy.urls import parse

#: What stands for a secret that is there.
MASK = "********"

Change = Callable[[Tenant | None], Tenant]

_id = re.compile(TENANT_ID).fullmatch
_scheme = re.compile(r"[A-Za-z][A-Za-z0-9+.:-]*\Z").match
_blank = re.compile(r"\s").search


def tenant_id(value: Any) -> str:
    """An id that can stand in a path."""
    if not isinstance(value, str) or not _id(value):
        raise Wrong(
            "expected 1 to 64 letters, digits and . _ - $ @ + ~, the first a letter, digit or _"
        )
    return value


def url(value: Any) -> str | None:
    """Where we may call; "" is none."""
    if value == "":
        return None
    found = str(text(1, 2000, strip=True)(value))
    try:
        parse(found)
    except ValueError as error:
        raise Wrong(str(error)) from None
    if "#" in found:
        raise Wrong("a fragment")
    return found


def base_url(value: Any) -> str | None:
    found = url(value)
    if found is not None and "?" in found:
        raise Wrong("a query: paths are appended to it")
    return found


def path(value: Any) -> str | None:
    if value == "":
        return None
    found = str(text(1, 1000)(value))
    if _blank(found) or "#" in found:
        raise Wrong("a blank or a fragment")
    return found


def storage_url(value: Any) -> str:
    """Where large files go, as fsspec writes it; what opens the door is not in it."""
    found = str(text(0, 2000, strip=True)(value))
    scheme, mark, rest = found.partition("://")
    if found and (not mark or not _scheme(scheme)):
        raise Wrong("expected a URL with a scheme")
    if "@" in rest.partition("/")[0]:
        raise Wrong("user and password do not belong into a URL")
    return found


def token(value: Any) -> str:
    """A bearer's token: what can stand in a header field."""
    found = str(text(0, 4096)(value))
    if not found.isascii() or _blank(found):
        raise Wrong("expected ASCII without blanks")
    return found


def size(value: Any) -> float:
    try:
        number = float(value) if isinstance(value, str) else value
    except ValueError:
        raise Wrong("expected a number") from None
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise Wrong("expected a number")
    if not math.isfinite(number) or not 0 < number <= 100_000:
        raise Wrong("expected more than 0, up to 100000")
    return float(number)


def signing_secret(value: Any) -> str | None:
    """``whsec_`` and 24 to 64 bytes in base64, as Standard Webhooks writes it."""
    if value in ("", MASK):
        return value or None
    problem = "expected whsec_ and 24 to 64 bytes in base64"
    if not isinstance(value, str) or not value.startswith("whsec_"):
        raise Wrong(problem)
    try:
        key = base64.b64decode(value.removeprefix("whsec_").encode("ascii"), validate=True)
    except (ValueError, UnicodeEncodeError):
        raise Wrong(problem) from None
    if not 24 <= len(key) <= 64:
        raise Wrong(problem)
    return value


def address(value: Any) -> str:
    """One address, in ASCII, without a name."""
    try:
        found = parse_mailbox(str(text(1, 320)(value)))
    except BadAddress as error:
        raise Wrong(str(error)) from None
    if found.display or not found.local.isascii():
        raise Wrong("expected an address alone, in ASCII")
    return found.addr


_FIELDS = {
    "name": text(0, 255),
    "active": flag,
    "client_base_url": base_url,
    "client_sync_path": path,
    "client_sync_url": url,
    "client_attachment_path": path,
    "client_attachment_url": url,
    "client_auth": mapping,
    "rate_limits": mapping,
    "large_file_config": mapping,
    "retention_seconds": whole(0, 100 * 366 * 86_400),
    "signing_secret": signing_secret,
    "suppress_refused": flag,
    "bounces": mapping,
}
_AUTH = {
    "method": word("none", "bearer", "basic"),
    "token": token,
    "user": text(0, 255),
    "password": text(0, 4096),
}
_LIMITS = {"hourly": limit, "daily": limit}
_FILES = {
    "enabled": flag,
    "max_size_mb": size,
    "action": word("warn", "reject", "rewrite"),
    "storage_url": storage_url,
    "public_base_url": lambda value: base_url(value) or "",
    "file_ttl_days": whole(1, 3650),
}

_BOUNCES = {"enabled": flag, "account_id": text(1, 255), "from_address": address}


def read_tenant(body: Mapping[str, Any]) -> dict[str, Any]:
    """
    The fields of *body* that are given, as those of a :class:`Tenant`; None for what is cleared.

    :raises Refused: 422 with everything that is wrong.
    """
    fields = Fields()
    found = fields.read(body, _FIELDS)
    if (auth := fields.nested(found, "client_auth", _AUTH)) is not None:
        found["client_auth"] = _auth(fields, auth)
    if (limits := fields.nested(found, "rate_limits", _LIMITS)) is not None:
        found["rate_limits"] = RateLimits(**limits)
    if (files := fields.nested(found, "large_file_config", _FILES)) is not None:
        found["large_file_config"] = _large_files(fields, files)
    if (bounces := fields.nested(found, "bounces", _BOUNCES)) is not None:
        found["bounces"] = Bounces(**{n: v for n, v in bounces.items() if v is not None})
    fields.check()
    return found


def _auth(fields: Fields, given: dict[str, Any]) -> ClientAuth:
    """What the method needs, and nothing of the others."""
    given = {name: value or None for name, value in given.items()}
    user = given.get("user")
    guess = "bearer" if given.get("token") else "basic" if user else "none"
    method = given.get("method") or guess
    needed = {"none": (), "bearer": ("token",), "basic": ("user", "password")}[method]
    for name in needed:
        if given.get(name) is None:
            fields.wrong(("body", "client_auth", name), "required", "missing")
    if method == "basic" and user is not None and ":" in user:
        fields.wrong(("body", "client_auth", "user"), "a colon, which ends the name")
    return ClientAuth(method, **{name: given.get(name) for name in needed})


def _large_files(fields: Fields, given: dict[str, Any]) -> LargeFiles:
    found = LargeFiles(**{name: value for name, value in given.items() if value is not None})
    if found.enabled and found.action == "rewrite":
        for name in ("storage_url", "public_base_url"):
            if not getattr(found, name):
                at = ("body", "large_file_config", name)
                fields.wrong(at, "required to rewrite", "missing")
    return found


def changing(tenant_id: str, fields: Mapping[str, Any]) -> Change:
    """
    What :meth:`mailproxy.interfaces_tenants.ITenants.change_tenant` is given for *fields*.

    It raises ``Refused`` for a mask where there is no secret to keep.
    """

    def change(old: Tenant | None) -> Tenant:
        base = old or Tenant(tenant_id)
        defaults = attrs.fields_dict(Tenant)
        values: dict[str, Any] = {
            name: defaults[name].default if value is None else value
            for name, value in fields.items()
        }
        if "client_auth" in values:
            values["client_auth"] = _unmasked_auth(values["client_auth"], base.client_auth)
        if values.get("signing_secret") == MASK:
            values["signing_secret"] = _kept(base.signing_secret, ("signing_secret",))
        return attrs.evolve(base, **values)

    return change


def _unmasked_auth(new: ClientAuth, old: ClientAuth) -> ClientAuth:
    kept = {
        name: _kept(cast("str | None", getattr(old, name)), ("client_auth", name))
        for name in ("token", "password")
        if getattr(new, name) == MASK
    }
    return attrs.evolve(new, **kept)


def _kept(secret: str | None, at: tuple[str, ...]) -> str:
    if secret is None:
        raise invalid([Problem(("body", *at), "the mask, but there is nothing to keep")])
    return secret


def shown(tenant: Tenant) -> ShownTenant:
    """Every field, secrets masked."""
    auth, limits, files = tenant.client_auth, tenant.rate_limits, tenant.large_file_config
    return ShownTenant(
        id=tenant.id,
        name=tenant.name,
        active=tenant.active,
        client_base_url=tenant.client_base_url,
        client_sync_path=tenant.client_sync_path,
        client_sync_url=tenant.client_sync_url,
        client_attachment_path=tenant.client_attachment_path,
        client_attachment_url=tenant.client_attachment_url,
        client_auth=ShownClientAuth(
            method=auth.method,
            token=_mask(auth.token),
            user=auth.user,
            password=_mask(auth.password),
        ),
        rate_limits=ShownRateLimits(hourly=limits.hourly, daily=limits.daily),
        large_file_config=None if files is None else ShownLargeFiles(**attrs.asdict(files)),
        retention_seconds=tenant.retention_seconds,
        signing_secret=_mask(tenant.signing_secret),
        suppress_refused=tenant.suppress_refused,
        bounces=ShownBounces(**attrs.asdict(tenant.bounces)),
        created_at=iso(tenant.created_at),
        updated_at=iso(tenant.updated_at),
    )


def _mask(secret: str | None) -> str | None:
    return None if secret is None else MASK
