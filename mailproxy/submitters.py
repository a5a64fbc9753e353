"""
Who may hand mail in by SMTP: a credential, what it is bound to, and what it may say.

Pure: frozen values, and the few things that follow from their own fields.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import attrs

from mailproxy.errors import MailProxyError
from mailproxy.model import DEFAULT_TENANT

#: Credentials of one tenant at most.
MAX_SUBMITTERS = 1000


#: Stands among networks for the sockets of this machine that have a path.
UNIX = "unix"


class TooManySubmitters(MailProxyError):
    """The tenant has as many credentials as it may have."""


class UserTaken(MailProxyError):
    """Another tenant has a credential with this user name: a login says no tenant."""


@attrs.frozen
class Submitter:
    """
    A credential.

    :param user: what a program logs in with; unique over all tenants, compared exactly.
    :param hash: of its password, as :func:`mailproxy.crypto.hash_password` gives it; None: nobody
        can log in, the networks alone admit.
    :param account_id: the account its mail goes through; None for the tenant's default.
    :param senders: addresses, and domains as ``@example.com``, that its mail may come from; empty:
        any.
    :param networks: CIDR blocks it is good for; empty: everywhere. Without a password what comes
        from one of them needs no login.
    """

    user: str
    tenant_id: str
    hash: str | None = attrs.field(default=None, repr=False)
    account_id: str | None = None
    senders: tuple[str, ...] = ()
    networks: tuple[str, ...] = ()
    label: str = ""
    active: bool = True
    created_at: float = 0.0
    updated_at: float = 0.0

    def admits(self, peer: str) -> bool:
        """Whether it may be used from the IP address *peer* ("" for a local socket)."""
        return not self.networks or within(peer, self.networks)

    def may_send_as(self, address: str) -> bool:
        """Whether mail may come from *address* (``local@domain``); "" is the null sender."""
        if not self.senders or not address:
            return True
        domain = "@" + address.rpartition("@")[2]
        return address in self.senders or domain in self.senders


#: Bits that a network must fix at least before it may do without a password, by IP version: what is
#: wider (10.0.0.0/8 and fc00::/7 are the widest of private use) is no network but the world.
LEAST_BITS = {4: 8, 6: 7}


def too_wide(networks: Iterable[str]) -> bool:
    """Whether one of the CIDR blocks lets in more than any network of one's own."""
    blocks = (_network(each) for each in networks if each != UNIX)
    return any(block.prefixlen < LEAST_BITS[block.version] for block in blocks)


#: Stands for programs on networks that the configuration trusts.
TRUSTED = Submitter("", DEFAULT_TENANT)


def within(peer: str, networks: Iterable[str]) -> bool:
    """
    Whether the IP address *peer* is in one of the CIDR blocks.

    What is no address is in none; "", a local socket, is in what says ``unix``.
    """
    if not peer:
        return UNIX in networks
    address = _address(peer)
    if address is None:
        return False
    return any(address in _network(each) for each in networks if each != UNIX)


@lru_cache(maxsize=4096)
def _address(peer: str) -> IPv4Address | IPv6Address | None:
    """*peer*, which is asked about for each of its messages; None if it is no address."""
    try:
        address = ip_address(peer.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


@lru_cache(maxsize=1024)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text, strict=False)
