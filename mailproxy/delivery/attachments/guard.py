"""
Which addresses an attachment may be fetched from.

A client names the URL, so that it must not lead to anything but the public internet: no loopback,
no private or link-local network, no metadata service, no multicast, however the address is spelled
or wrapped; save what the operator allows. The judgement is about the address a connection goes to.
Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)

_Address = IPv4Address | IPv6Address
_Network = IPv4Network | IPv6Network

#: RFC 6052, section 2.1: the last 32 bits are the address that a translator connects to.
_NAT64 = IPv6Network("64:ff9b::/96")

#: Not for the public, whatever a registry says; tunnels, whose other end cannot be judged, too.
_REFUSED: tuple[_Network, ...] = tuple(
    ip_network(each)
    for each in (
        "192.0.0.0/24",  # RFC 6890
        "192.88.99.0/24",  # RFC 7526: the old relays of 6to4
        "168.63.129.16/32",  # a hosting provider's own services, at an address that looks public
        "64:ff9b:1::/48",  # RFC 8215
        "2001::/23",  # RFC 2928; Teredo is in it
        "2002::/16",  # RFC 3056: 6to4
        "3fff::/20",  # RFC 9637
        "5f00::/16",  # RFC 9602
        "fec0::/10",  # RFC 3879
    )
)


class Guard:
    """
    :param allow: what is allowed although it is not public: networks or addresses (``10.1.0.0/16``,
        ``::1``), or names of hosts, whose addresses are then not looked at.
    :raises ValueError: one of them is neither.
    """

    def __init__(self, allow: Iterable[str] = ()) -> None:
        networks: list[_Network] = []
        hosts: set[str] = set()
        for each in allow:
            try:
                networks.append(ip_network(each.strip()))
            except ValueError:
                hosts.add(_host(each))
        self._networks = tuple(networks)
        self._hosts = frozenset(hosts)

    def allows(self, host: str, address: str) -> bool:
        """
        Whether a connection for *host* may go to *address*.

        :param host: the name in the URL.
        :param address: the IP address; anything else is refused.
        """
        if host.rstrip(".").lower() in self._hosts:
            return True
        try:
            given = ip_address(address.partition("%")[0])
        except ValueError:
            return False
        meant = _unwrapped(given)
        if any(each in network for each in (given, meant) for network in self._networks):
            return True
        return _public(meant)


def _unwrapped(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 address stands for, or *address* itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in _NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address


def _public(address: _Address) -> bool:
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in network for network in _REFUSED)
    )


def _host(text: str) -> str:
    name = text.strip().rstrip(".").lower()
    if not name or "/" in name or "*" in name or any(c.isspace() for c in name):
        raise ValueError("expected a network, an address or the name of a host")
    return name
