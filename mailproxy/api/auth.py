"""
Who is calling: tokens, what they may do, and where a request really came from.

Tokens are compared by their hashes in constant time. The check needs the header fields only, so
that it can be made before a body is read.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import attrs
from twisted.web.http_headers import Headers

from mailproxy.api.answers import UNAUTHORIZED, Refused, unavailable
from mailproxy.book import TenantBook
from mailproxy.crypto import hash_token
from mailproxy.submitters import UNIX, within
from mailproxy.tenancy import ApiKey, Scope

#: Stands for the address of a peer that has none: a local socket.
NO_ADDRESS = "-"

#: What needs no token.
OPEN_PATHS = frozenset((b"/health", b"/livez", b"/readyz", b"/metrics", b"/openapi.json", b"/docs"))

#: Said to a token that is not the admin's while the tenants' keys are not at hand.
NOT_READ_YET = unavailable("tokens cannot be judged yet, nothing was stored")


@attrs.frozen
class Unjudged:
    """A token that is not the admin's, while the tenants' keys are not at hand."""

    hash: bytes = attrs.field(repr=False)
    address: str


@attrs.frozen
class Caller:
    """
    Whoever was let in.

    :param tenant_id: the only tenant the token is good for, if it is a tenant's.
    :param admin: whether the caller may do everything, for every tenant.
    :param scopes: what a tenant's token is good for.
    :param prefix: of a tenant's token: by what people tell it from others.
    :param test: whether all that is submitted counts as a test.
    :param unjudged: the token of whom nothing else is known yet; see :meth:`Gate.judge`.
    """

    tenant_id: str | None = None
    admin: bool = False
    scopes: frozenset[Scope] = frozenset()
    prefix: str = ""
    test: bool = False
    unjudged: Unjudged | None = None

    @property
    def who(self) -> str:
        """What the command log calls the caller."""
        return f"tenant:{self.tenant_id}:{self.prefix}" if self.tenant_id else "admin"


ADMIN = Caller(admin=True)

#: Someone at an open endpoint; no token was looked at.
ANYONE = Caller()


class Gate:
    """
    Decides from a request's header fields who is calling where a token is needed.

    :param admin_token: None for none.
    :param metrics_token: None leaves ``/metrics`` open.
    :param allow_no_token: whether, without an admin token, every caller is the admin.
    :param book: knows the tenants' keys; None: there are no tenants.
    """

    def __init__(
        self,
        admin_token: str | None,
        metrics_token: str | None = None,
        allow_no_token: bool = False,
        book: TenantBook | None = None,
    ) -> None:
        self._admin = hash_token(admin_token) if admin_token else None
        self._metrics = hash_token(metrics_token) if metrics_token else None
        self._everyone = allow_no_token and self._admin is None
        self._book = book

    def admit(self, headers: Headers, address: str = "", *, patient: bool = False) -> Caller:
        """
        Who is calling.

        :param address: where the request came from: an IP address, or something else for a
            connection that has none.
        :param patient: a token that cannot be judged now may be judged later.
        :raises Refused: nobody we know; a key used from outside its networks is nobody's.
        """
        if self._everyone:
            return ADMIN
        given = self._given(headers)
        if given is None:
            raise Refused(UNAUTHORIZED)
        token = Unjudged(given, address)
        unread = self._book is not None and not self._book.loaded
        if patient and unread and not self._is_admin(given):
            return Caller(unjudged=token)
        return self.recognize(token)

    def recognize(self, token: Unjudged) -> Caller:
        """Whose *token* is. :raises Refused: see :meth:`admit`."""
        if self._everyone or self._is_admin(token.hash):
            return ADMIN
        return self.judge(token)

    def may_scrape(self, headers: Headers) -> bool:
        """Whether metrics are shown to the caller."""
        if self._metrics is None:
            return True
        given = self._given(headers)
        return given is not None and (_equal(given, self._metrics) or self._is_admin(given))

    def judge(self, token: Unjudged) -> Caller:
        """The tenant whose key *token* is. :raises Refused: see :meth:`admit`."""
        if self._book is None:
            raise Refused(UNAUTHORIZED)
        if not self._book.loaded:
            raise Refused(NOT_READ_YET)
        key = self._book.key(token.hash)
        if key is None or not _from_its_networks(key, token.address):
            raise Refused(UNAUTHORIZED)
        self._book.note_use(key)
        return Caller(key.tenant_id, scopes=key.scopes, prefix=key.prefix, test=key.test)

    def _is_admin(self, given: bytes) -> bool:
        return self._admin is not None and _equal(given, self._admin)

    def _given(self, headers: Headers) -> bytes | None:
        """The hash of the token the request carries."""
        token: bytes | None = None
        if values := headers.getRawHeaders(b"x-api-token"):
            token = values[-1].strip()
        elif values := headers.getRawHeaders(b"authorization"):
            scheme, _, rest = values[-1].strip().partition(b" ")
            token = rest.strip() if scheme.lower() == b"bearer" else None
        return hash_token(token.decode("utf-8", "surrogateescape")) if token else None


def _equal(a: bytes, b: bytes) -> bool:
    return hmac.compare_digest(a, b)


def _from_its_networks(key: ApiKey, address: str) -> bool:
    """Whether the key may be used from *address*; what is no IP address is in no network."""
    if not key.networks:
        return True
    try:
        ip, networks = ip_address(address), _networks(key.networks)
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    places = [ip] if mapped is None else [ip, mapped]
    return any(each in network for network in networks for each in places)


@lru_cache(maxsize=1024)
def _networks(texts: tuple[str, ...]) -> tuple[IPv4Network | IPv6Network, ...]:
    return tuple(ip_network(text, strict=False) for text in texts)


class Proxies:
    """
    Whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.

    :param networks: addresses or CIDR blocks of our own reverse proxies; ``unix`` for local
        sockets.
    :raises ValueError: one of them is none of these.
    """

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._trusted = tuple(
            each if each == UNIX else str(ip_network(each, strict=False)) for each in networks
        )

    def secure(self, peer: str, headers: Headers) -> bool:
        """Whether one of our own proxies says that the client came by ``https``."""
        said = headers.getRawHeaders(b"x-forwarded-proto") or (b"",)
        return said[-1].strip().lower() == b"https" and self._trusts(peer)

    def client(self, peer: str, headers: Headers) -> str:
        """The address of the client: *peer*, or what our own proxies say of it."""
        if not self._trusted or not self._trusts(peer):
            return peer
        hops = b",".join(headers.getRawHeaders(b"x-forwarded-for") or ()).split(b",")
        for hop in reversed(hops):
            text = hop.strip().decode("ascii", "replace")
            try:
                ip_address(text)
            except ValueError:
                return peer
            peer = text
            if not self._trusts(peer):
                return peer
        return peer

    def _trusts(self, address: str) -> bool:
        return within("" if address == NO_ADDRESS else address, self._trusted)
