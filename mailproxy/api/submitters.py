"""``/v1/credentials``: who may hand mail in by SMTP. A password goes in and never comes out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import ip_network
from typing import Annotated, Any

import attrs
from msgspec import Meta, Struct

from mailproxy.account_fields import Wrong, flag, text
from mailproxy.address import parse_mailbox
from mailproxy.api.answers import Answer, answer, ok, refused
from mailproxy.api.bodies import Fields, read_object
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Done, Iso, Yes
from mailproxy.api.times import iso
from mailproxy.crypto import hash_password
from mailproxy.errors import BadAddress
from mailproxy.interfaces import IClock, InThread
from mailproxy.interfaces_tenants import ISubmitters
from mailproxy.submitter_book import SubmitterBook
from mailproxy.submitters import Submitter, TooManySubmitters, UserTaken, too_wide

#: Characters of a password at least, and at most.
SHORTEST, LONGEST = 8, 4096

#: Senders, and networks, of one credential.
MOST = 100


class CredentialFields(Struct, kw_only=True):
    """A credential as it is asked for."""

    user: Annotated[str, Meta(description="What the program logs in with.")]
    password: Annotated[
        str | None,
        Meta(description="Absent: it stays as it is. Null: none, the networks alone admit."),
    ] = None
    tenant_id: str | None = None
    account_id: Annotated[
        str | None, Meta(description="Its mail goes through this account; null: the default one.")
    ] = None
    senders: Annotated[
        list[str] | None,
        Meta(description="Addresses, and domains as `@example.com`, it may send as; null: any."),
    ] = None
    networks: Annotated[
        list[str] | None, Meta(description="CIDR blocks it is good for; null: everywhere.")
    ] = None
    label: Annotated[str | None, Meta(description="For people.")] = None
    active: Annotated[bool | None, Meta(description="Whether it is good now.")] = None


class ShownCredential(Struct, kw_only=True):
    """All that is known of a credential."""

    user: str
    tenant_id: str
    has_password: bool
    account_id: str | None
    senders: list[str]
    networks: list[str]
    label: str
    active: bool
    created_at: Iso
    updated_at: Iso


class Credentials(Struct, kw_only=True):
    """Credentials by user."""

    ok: Yes = True
    credentials: list[ShownCredential]


class StoredCredential(ShownCredential, kw_only=True):
    """The credential as it is now."""

    ok: Yes = True


_LIST = Doc("List the SMTP credentials of a tenant; the admin's list is of all.", gives=Credentials)
_PUT = Doc(
    "Create or change an SMTP credential. Fields that are absent stay as they are.",
    takes=CredentialFields,
    gives=StoredCredential,
    refuses={404: None, 409: None},
    example={
        "user": "erp",
        "password": "correct horse battery staple",
        "senders": ["@example.com"],
        "networks": ["192.0.2.0/24"],
    },
)
_DELETE = Doc("End an SMTP credential.", gives=Done)


class SmtpCredentials:
    """:param in_thread: where passwords are hashed."""

    def __init__(
        self, store: ISubmitters, clock: IClock, book: SubmitterBook, in_thread: InThread
    ) -> None:
        self._store = store
        self._clock = clock
        self._book = book
        self._in_thread = in_thread

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/v1/credentials", self.all, Need.READ, _LIST)
        yield Route("POST", "/v1/credentials", self.put, Need.CONTROL, _PUT)
        yield Route("DELETE", "/v1/credentials/<path:user>", self.delete, Need.CONTROL, _DELETE)

    async def all(self, call: Call) -> Answer:
        tenant_id = call.scope()
        found = await self._store.submitters()
        mine = [each for each in found if tenant_id in (None, each.tenant_id)]
        return answer(Credentials(credentials=[ShownCredential(**_shown(each)) for each in mine]))

    async def put(self, call: Call) -> Answer:
        body = read_object(call)
        tenant_id = self._tenant(call, body)
        given = _read(body)
        before = {each.user: each for each in await self._store.submitters()}.get(given["user"])
        if before is not None and before.tenant_id != tenant_id:
            raise refused(409, "the user name is taken")
        password = given.pop("password", before.hash if before is not None else None)
        if password is not None and "password" in body:
            password = await self._in_thread(hash_password, password)
        start = before if before is not None else Submitter("", tenant_id)
        wanted = attrs.evolve(start, **given, hash=password)
        _check(wanted)
        try:
            stored = await self._store.put_submitter(wanted, self._clock.now())
        except UserTaken as error:
            raise refused(409, str(error)) from None
        except TooManySubmitters as error:
            raise refused(409, str(error)) from None
        except ValueError:
            raise refused(404, "tenant not found") from None
        await self._book.changed()
        return answer(StoredCredential(**_shown(stored)))

    async def delete(self, call: Call) -> Answer:
        user, asked = call.path["user"], call.scope()
        found = {each.user: each for each in await self._store.submitters()}.get(user)
        mine = found is not None and asked in (None, found.tenant_id)
        if found is None or not mine:
            raise refused(404, "credential not found")
        await self._store.delete_submitter(found.tenant_id, user)
        await self._book.changed()
        return ok()

    def _tenant(self, call: Call, body: Mapping[str, Any]) -> str:
        """The tenant that token, query and body agree on."""
        named = body.get("tenant_id")
        if named is None:
            return call.home()
        fields = Fields()
        if not isinstance(named, str):
            fields.wrong(("body", "tenant_id"), "expected a string")
        elif call.asked_tenant() not in (None, named):
            fields.wrong(("body", "tenant_id"), "not the tenant of the token or the query")
        fields.check()
        if not call.tenant_exists(str(named)):
            raise refused(404, "tenant not found")
        return str(named)


def _list(value: Any) -> list[str]:
    if not isinstance(value, list) or len(value) > MOST:
        raise Wrong(f"expected a list of at most {MOST} strings")
    if not all(isinstance(item, str) for item in value):
        raise Wrong("expected strings")
    return value


def _senders(value: Any) -> tuple[str, ...]:
    found = []
    for item in _list(value):
        domain = item.startswith("@")
        try:
            mailbox = parse_mailbox(f"x{item}" if domain else item)
        except BadAddress as error:
            raise Wrong(f"expected addresses, or domains as @example.com: {error}") from None
        if mailbox.display:
            raise Wrong("expected addresses without display names")
        found.append(f"@{mailbox.domain}" if domain else mailbox.addr)
    return tuple(dict.fromkeys(found))


def _networks(value: Any) -> tuple[str, ...]:
    found = []
    for item in _list(value):
        try:
            found.append(str(ip_network(item.strip(), strict=False)))
        except ValueError:
            raise Wrong("expected CIDR blocks such as 192.0.2.0/24") from None
    return tuple(dict.fromkeys(found))


_FIELDS = {
    "user": text(1, 255, strip=True),
    "password": text(SHORTEST, LONGEST),
    "account_id": text(1, 255),
    "senders": _senders,
    "networks": _networks,
    "label": text(0, 255),
    "active": flag,
}

#: What null stands for.
_NULLS: Mapping[str, Any] = {"senders": (), "networks": (), "label": "", "active": True}


def _read(body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that are given. :raises Refused: 422, with everything that is wrong."""
    fields = Fields()
    found = fields.read(body, _FIELDS)
    if found.get("user") is None and not fields.problems:
        fields.wrong(("body", "user"), "required", "missing")
    fields.check()
    return {name: _NULLS.get(name) if value is None else value for name, value in found.items()}


def _check(wanted: Submitter) -> None:
    """:raises Refused: 422, it would let in anybody, or nobody."""
    fields = Fields()
    if wanted.hash is None:
        if not wanted.networks:
            fields.wrong(("body", "password"), "required, where there are no networks", "missing")
        elif too_wide(wanted.networks):
            fields.wrong(("body", "networks"), "would let in the world without a password")
    fields.check()


def _shown(submitter: Submitter) -> dict[str, Any]:
    return {
        "user": submitter.user,
        "tenant_id": submitter.tenant_id,
        "has_password": submitter.hash is not None,
        "account_id": submitter.account_id,
        "senders": list(submitter.senders),
        "networks": list(submitter.networks),
        "label": submitter.label,
        "active": submitter.active,
        "created_at": iso(submitter.created_at),
        "updated_at": iso(submitter.updated_at),
    }
