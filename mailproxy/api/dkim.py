"""``/v1/dkim``: the keys that sign a tenant's mail. A private key is taken, and never shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Annotated, Any

from msgspec import Meta, Struct, json

from mailproxy.address import parse_mailbox
from mailproxy.api.answers import Answer, Problem, answer, invalid, ok, refused
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Done, Iso, Yes
from mailproxy.api.times import iso
from mailproxy.api.typed import read_typed
from mailproxy.book import TenantBook
from mailproxy.dkim_keys import (
    NOT_INSTALLED,
    Algorithm,
    BadDkimKey,
    DkimKey,
    DkimKeyExists,
    KeyPair,
    TooManyDkimKeys,
    check_selector,
    generate,
    read_pem,
)
from mailproxy.errors import BadAddress
from mailproxy.interfaces import IClock, InThread
from mailproxy.interfaces_tenants import ISigningKeys

#: Bytes of the body of a request.
MAX_BYTES = 64 * 1024


class DkimKeyFields(Struct, kw_only=True):
    """A key as it is asked for."""

    domain: Annotated[str, Meta(description="Of the From of the mail to be signed, exactly.")]
    selector: Annotated[str, Meta(description="The first part of the record's name.")]
    private_key: Annotated[
        str | None,
        Meta(
            description="In PEM: RSA of 2048 to 4096 bits, or Ed25519. "
            "Without it a key is made here, which is the safer way."
        ),
    ] = None
    algorithm: Annotated[
        Algorithm | None, Meta(description="Of a key that is made here: `rsa` (as usual).")
    ] = None
    active: Annotated[
        bool, Meta(description="Whether it signs at once; publish its record before that.")
    ] = False


class DnsRecord(Struct, kw_only=True):
    """What has to be published in the DNS before the key signs."""

    name: str
    type: str = "TXT"
    value: Annotated[str, Meta(description="Published in strings of at most 255 characters each.")]


class ShownDkimKey(Struct, kw_only=True):
    """All that is shown of a key."""

    tenant_id: str
    domain: Annotated[str, Meta(description="In lower case, as A-labels.")]
    selector: str
    algorithm: Algorithm
    active: bool
    created_at: Iso
    dns: DnsRecord


class DkimKeys(Struct, kw_only=True):
    """Keys by tenant, domain and age."""

    ok: Yes = True
    keys: list[ShownDkimKey]


class DkimKeyTaken(ShownDkimKey, kw_only=True):
    """The key as it stands now."""

    ok: Yes = True


_fields = json.Decoder(DkimKeyFields)

_LIST = Doc("List DKIM keys; never the private ones.", gives=DkimKeys)
_ADD = Doc(
    "Add a DKIM key, given or made here. Once it is active, all mail of the tenant with that domain"
    " in its From is signed with it. 501 where the extra `mailproxy[dkim]` is not installed.",
    takes=DkimKeyFields,
    gives=DkimKeyTaken,
    refuses={409: None, 501: None},
    example={"domain": "example.com", "selector": "mail2026"},
)
_DROP = Doc("Remove a DKIM key. What is not yet sent goes without its signature.", gives=Done)
_ON = Doc(
    "Sign with this key from now on, and with no other key of its algorithm for the domain.",
    gives=DkimKeyTaken,
    refuses={501: None},
)
_OFF = Doc("Sign with this key no more.", gives=DkimKeyTaken)


class DkimKeyring:
    """Shows and changes the keys that sign."""

    def __init__(
        self,
        store: ISigningKeys,
        clock: IClock,
        book: TenantBook,
        in_thread: InThread,
        can_sign: Callable[[], bool],
    ) -> None:
        self._store = store
        self._clock = clock
        self._book = book
        self._in_thread = in_thread
        self._can_sign = can_sign

    def routes(self) -> Iterable[Route]:
        one = "/v1/dkim/<domain>/<selector>"
        yield Route("GET", "/v1/dkim", self.all, Need.READ, _LIST)
        yield Route("POST", "/v1/dkim", self.add, Need.CONTROL, _ADD)
        yield Route("DELETE", one, self.drop, Need.CONTROL, _DROP)
        yield Route("POST", f"{one}/activate", self.activate, Need.CONTROL, _ON)
        yield Route("POST", f"{one}/deactivate", self.deactivate, Need.CONTROL, _OFF)

    async def all(self, call: Call) -> Answer:
        tenant_id = call.scope()
        found = await self._store.dkim_keys()
        return answer(
            DkimKeys(keys=[_shown(key) for key in found if tenant_id in (None, key.tenant_id)])
        )

    async def add(self, call: Call) -> Answer:
        tenant_id, now = call.home(), self._clock.now()
        given = read_typed(call, _fields, MAX_BYTES)
        self._check_installed()
        domain, selector = _named(given.domain, given.selector, "body")
        pair = await self._pair(given)
        key = DkimKey(
            tenant_id,
            domain,
            selector,
            pair.algorithm,
            pair.private,
            pair.public,
            given.active,
            now,
        )
        try:
            await self._store.add_dkim_key(key)
        except (DkimKeyExists, TooManyDkimKeys) as error:
            raise refused(409, str(error)) from None
        except ValueError:
            raise refused(404, "tenant not found") from None
        await self._book.changed()
        return answer(_taken(key))

    async def _pair(self, given: DkimKeyFields) -> KeyPair:
        if given.private_key is None:
            return await self._in_thread(generate, given.algorithm or Algorithm.RSA)
        try:
            pair = await self._in_thread(read_pem, given.private_key)
        except BadDkimKey as problem:
            raise invalid([Problem(("body", "private_key"), str(problem))]) from None
        if given.algorithm not in (None, pair.algorithm):
            other = f"the private key is one for {pair.algorithm}"
            raise invalid([Problem(("body", "algorithm"), other)])
        return pair

    async def drop(self, call: Call) -> Answer:
        tenant_id, (domain, selector) = call.home(), _in_path(call)
        if not await self._store.drop_dkim_key(tenant_id, domain, selector):
            raise refused(404, "key not found")
        await self._book.changed()
        return ok()

    async def activate(self, call: Call) -> Answer:
        self._check_installed()
        return await self._switch(call, True)

    async def deactivate(self, call: Call) -> Answer:
        return await self._switch(call, False)

    def _check_installed(self) -> None:
        """:raises Refused: 501, nothing here could sign with a key."""
        if not self._can_sign():
            raise refused(501, NOT_INSTALLED)

    async def _switch(self, call: Call, active: bool) -> Answer:
        tenant_id, (domain, selector) = call.home(), _in_path(call)
        found = await self._store.switch_dkim_key(tenant_id, domain, selector, active)
        await self._book.changed()
        name = (tenant_id, domain, selector)
        keys = await self._store.dkim_keys() if found else []
        for key in keys:
            if (key.tenant_id, key.domain, key.selector) == name:
                return answer(_taken(key))
        raise refused(404, "key not found")


def _in_path(call: Call) -> tuple[str, str]:
    return _named(call.path["domain"], call.path["selector"], "path")


def _named(domain: str, selector: str, place: str) -> tuple[str, str]:
    """Domain and selector as they are stored. :raises Refused: 422, one of them is none."""
    try:
        found = _domain(domain)
    except BadAddress:
        raise invalid([Problem((place, "domain"), "expected a domain name")]) from None
    try:
        return found, check_selector(selector, found)
    except BadDkimKey as problem:
        raise invalid([Problem((place, "selector"), str(problem))]) from None


def _domain(text: str) -> str:
    """
    As the From of a message has it.

    :raises BadAddress: it is none, or an address literal, for which there is no record.
    """
    if any(character in text for character in ' ()<>,@"[]'):
        raise BadAddress("not a domain")
    return parse_mailbox(f"x@{text}").domain


def _shown(key: DkimKey) -> ShownDkimKey:
    return ShownDkimKey(**_values(key))


def _taken(key: DkimKey) -> DkimKeyTaken:
    return DkimKeyTaken(**_values(key))


def _values(key: DkimKey) -> dict[str, Any]:
    return {
        "tenant_id": key.tenant_id,
        "domain": key.domain,
        "selector": key.selector,
        "algorithm": key.algorithm,
        "active": key.active,
        "created_at": iso(key.created_at),
        "dns": DnsRecord(name=key.record_name, value=key.record),
    }
