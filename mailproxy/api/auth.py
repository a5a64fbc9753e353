"""
Who is calling: tokens, what they may do, and where a request really came from.

Tokens are compared by their hashes in constant time. The check needs the header fields only, so
that it can be made before a body is read.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

import attrs
from twisted.web.http_headers import Headers

from mailproxy.crypto import hash_token

#: What needs no token.
OPEN_PATHS = frozenset(
    (b"/health", b"/livez", b"/readyz", b"/metrics", b"/openapi.json", b"/docs")
)


@attrs.frozen
class Caller:
    """
    Whoever was let in.

    :param tenant_id: the only tenant the token is good for, if it is a tenant's.
    :param admin: whether the caller may do everything, for every tenant.
    """

    tenant_id: str | None = None
    admin: bool = False


ADMIN = Caller(admin=True)

#: Someone at an open endpoint; no token was looked at.
ANYONE = Caller()


def _no_tenant(token_hash: bytes) -> str | None:
    return None


class Gate:
    """
    Decides from a request's header fields who is calling.

    :param admin_token: None for none.
    :param metrics_token: None leaves ``/metrics`` open.
    :param allow_no_token: whether, without an admin token, every caller is the admin.
    :param tenant_of: the tenant a token's hash belongs to, None for an unknown one.
    """

    def __init__(
        self,
        admin_token: str | None,
        metrics_token: str | None = None,
        allow_no_token: bool = False,
        tenant_of: Callable[[bytes], str | None] = _no_tenant,
    ) -> None:
        self._admin = hash_token(admin_token) if admin_token else None
        self._metrics = hash_token(metrics_token) if metrics_token else None
        self._everyone = allow_no_token and self._admin is None
        self._tenant_of = tenant_of

    def admit(self, method: bytes, path: bytes, headers: Headers) -> Caller | None:
        """
        Who is calling; None if the request has to be refused.

        An open path admits anyone, whatever token comes along.
        """
        if path in OPEN_PATHS and method in (b"GET", b"HEAD"):
            return ANYONE if path != b"/metrics" or self._may_scrape(headers) else None
        if self._everyone:
            return ADMIN
        given = self._given(headers)
        if given is None:
            return None
        if self._is_admin(given):
            return ADMIN
        tenant_id = self._tenant_of(given)
        return None if tenant_id is None else Caller(tenant_id)

    def _may_scrape(self, headers: Headers) -> bool:
        if self._metrics is None:
            return True
        given = self._given(headers)
        return given is not None and (_equal(given, self._metrics) or self._is_admin(given))

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


class Proxies:
    """
    Whose ``X-Forwarded-For`` is believed.

    :param networks: addresses or CIDR blocks of our own reverse proxies.
    :raises ValueError: one of them is neither.
    """

    def __init__(self, networks: Sequence[str] = ()) -> None:
        self._trusted: tuple[IPv4Network | IPv6Network, ...] = tuple(
            ip_network(network, strict=False) for network in networks
        )

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
        try:
            ip = ip_address(address)
        except ValueError:
            return False
        return any(ip in network for network in self._trusted)
