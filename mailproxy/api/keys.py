"""The keys of tenants: made, listed, ended. Only the answer that makes a key has it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Any

from mailproxy.account_fields import Wrong, flag, seconds, text, whole
from mailproxy.api import shapes_tenants as shapes
from mailproxy.api.answers import Answer, answer, ok, refused
from mailproxy.api.bodies import Fields, read_object
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.times import iso
from mailproxy.api.times import seconds as whole_seconds
from mailproxy.book import TenantBook
from mailproxy.crypto import hash_token, new_token
from mailproxy.interfaces import IClock
from mailproxy.interfaces_tenants import ITenants
from mailproxy.tenancy import ApiKey, Scope, TooManyKeys

#: How much of a key people see of it afterwards.
PREFIX = 8

#: Keys are tried until one has a prefix of its own.
TRIES = 5

_CENTURY = 100 * 366 * 86_400


class KeyMaker:
    """Makes keys, and stores what is kept of them."""

    def __init__(self, store: ITenants, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    async def make(self, tenant_id: str, *, replace: bool = False, **limits: Any) -> str:
        """
        A new key for the tenant.

        :param replace: end all others.
        :param limits: fields of :class:`ApiKey`.
        :raises Refused: 404, the tenant has gone since it was looked for.
        :raises StoreError: there is none.
        """
        tries = TRIES
        while True:
            token, now = new_token(), self._clock.now()
            key = ApiKey(hash_token(token), token[:PREFIX], tenant_id, created_at=now, **limits)
            try:
                await self._store.add_key(key, now, replace=replace)
                return token
            except TooManyKeys:
                tries -= 1
                if not tries:
                    raise
            except ValueError:
                raise refused(404, "tenant not found") from None


class Keys:
    """The endpoints about keys."""

    def __init__(self, store: ITenants, clock: IClock, book: TenantBook) -> None:
        self._store = store
        self._clock = clock
        self._book = book
        self._maker = KeyMaker(store, clock)

    def routes(self) -> Iterable[Route]:
        old, new = "/tenant/<tenant_id>/api-key", "/v1/tenants/<tenant_id>/keys"
        yield Route("POST", old, self.rotate, Need.ADMIN, shapes.ROTATE)
        yield Route("DELETE", old, self.revoke_all, Need.ADMIN, shapes.REVOKE_ALL)
        yield Route("GET", new, self.all, Need.READ, shapes.LIST_KEYS)
        yield Route("POST", new, self.make, Need.ADMIN, shapes.MAKE_KEY)
        yield Route("DELETE", f"{new}/<prefix>", self.revoke, Need.ADMIN, shapes.REVOKE_KEY)

    async def rotate(self, call: Call) -> Answer:
        token = await self._maker.make(await self._tenant(call), replace=True)
        await self._book.changed()
        return answer(shapes.NewKey(api_key=token))

    async def revoke_all(self, call: Call) -> Answer:
        await self._store.revoke_keys(await self._tenant(call), None, self._clock.now())
        await self._book.changed()
        return ok()

    async def all(self, call: Call) -> Answer:
        tenant_id = await self._tenant(call)
        keys = [_shown(key) for key in self._book.keys(tenant_id)]
        return answer(shapes.Keys(keys=keys))

    async def make(self, call: Call) -> Answer:
        tenant_id, now = await self._tenant(call), self._clock.now()
        limits = read_key(read_object(call, optional=True), now)
        token = await self._maker.make(tenant_id, **limits)
        await self._book.changed()
        key = ApiKey(b"", token[:PREFIX], tenant_id, created_at=now, **limits)
        told = _shown(key)
        return answer(
            shapes.MadeKey(
                api_key=token, **{name: getattr(told, name) for name in told.__struct_fields__}
            )
        )

    async def revoke(self, call: Call) -> Answer:
        tenant_id, prefix = await self._tenant(call), call.path["prefix"]
        if not await self._store.revoke_keys(tenant_id, prefix, self._clock.now()):
            raise refused(404, "key not found")
        await self._book.changed()
        return ok()

    async def _tenant(self, call: Call) -> str:
        """:raises Refused: 404, there is no such tenant."""
        tenant_id = call.path["tenant_id"]
        if call.caller.admin:  # it may have been made through another node just now
            await self._book.refresh()
        if not self._book.exists(tenant_id):
            raise refused(404, "tenant not found")
        return tenant_id


def _networks(value: Any) -> tuple[str, ...]:
    """Addresses and CIDR blocks; none: from anywhere."""
    if not isinstance(value, list) or len(value) > 100:
        raise Wrong("expected a list of at most 100 CIDR blocks")
    found = []
    for item in value:
        try:
            if not isinstance(item, str):
                raise ValueError
            found.append(str(ip_network(item.strip(), strict=False)))
        except ValueError:
            raise Wrong("expected CIDR blocks such as 192.0.2.0/24") from None
    return tuple(dict.fromkeys(found))


def _scopes(value: Any) -> frozenset[Scope]:
    if not isinstance(value, list) or not value or not set(map(str, value)) <= set(Scope):
        raise Wrong(f"expected a list of {', '.join(Scope)}")
    return frozenset(Scope(each) for each in value)


_FIELDS = {
    "label": text(0, 255),
    "scopes": _scopes,
    "networks": _networks,
    "expires_at": seconds(0, 10**11),
    "ttl": whole(1, _CENTURY),
    "test": flag,
}


def read_key(body: Mapping[str, Any], now: float) -> dict[str, Any]:
    """
    What a key is to be, as fields of :class:`ApiKey`.

    :raises Refused: 422 with everything that is wrong.
    """
    fields = Fields()
    found = {name: value for name, value in fields.read(body, _FIELDS).items() if value is not None}
    ttl = found.pop("ttl", None)
    if ttl is not None:
        if "expires_at" in found:
            fields.wrong(("body", "ttl"), "beside expires_at")
        found["expires_at"] = now + ttl
    elif found.get("expires_at", now + 1) <= now:
        fields.wrong(("body", "expires_at"), "not in the future")
    fields.check()
    return found


def _shown(key: ApiKey) -> shapes.ShownKey:
    return shapes.ShownKey(
        prefix=key.prefix,
        label=key.label,
        scopes=sorted(key.scopes),
        networks=list(key.networks),
        test=key.test,
        created_at=iso(key.created_at),
        used_at=None if key.used_at is None else iso(key.used_at),
        expires_at=whole_seconds(key.expires_at),
    )
