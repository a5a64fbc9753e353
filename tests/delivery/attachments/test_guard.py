"""Which addresses may be called."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.attachments.guard import Guard

#: What is nobody's business (RFC 6890 and its successors), written down apart from the program.
SPECIAL = [
    ip_network(each)
    for each in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
        "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16", "198.18.0.0/15",
        "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    )
]  # fmt: skip

_specials = st.sampled_from(SPECIAL).flatmap(
    lambda network: st.integers(int(network.network_address), int(network.broadcast_address)).map(
        IPv4Address
    )
)
_mostly_special = st.one_of(_specials, st.ip_addresses(v=4))


def special(address: IPv4Address) -> bool:
    return any(address in network for network in SPECIAL)


class GuardTests(SynchronousTestCase):
    def test_s13_refused(self) -> None:
        """S13: loopback, private, link-local, metadata, multicast, and all ways to write them."""
        guard = Guard()
        for address in (
            "127.0.0.1", "127.255.255.254", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255",
            "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "198.18.0.1",
            "224.0.0.1", "239.255.255.250", "255.255.255.255", "240.0.0.1", "168.63.129.16",
            "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1",
            "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::7f00:1",
            "64:ff9b::7f00:1", "64:ff9b::169.254.169.254", "64:ff9b:1::1", "2002:7f00:1::",
            "2002:0a00:0001::1", "2001:0:7f00:1::", "2001:db8::1", "fd00:ec2::254", "100::1",
            "3fff::1", "5f00::1",
            "", "localhost", "127.1", "2130706433", "1.2.3.4.5",
        ):  # fmt: skip
            self.assertFalse(guard.allows("h.example", address), address)

    def test_public(self) -> None:
        """Public addresses may be called, also mapped and through a translator."""
        guard = Guard()
        for address in (
            "93.184.215.14", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111",
            "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2001:4860:4860::8888",
        ):  # fmt: skip
            self.assertTrue(guard.allows("h.example", address), address)

    def test_allowed_networks(self) -> None:
        """A network that is allowed is so in each form; its neighbours are not."""
        guard = Guard(["10.1.0.0/16", " fd00::/64", "192.168.7.7", "::1"])
        for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd00::5", "192.168.7.7",
                        "::1"):  # fmt: skip
            self.assertTrue(guard.allows("h", address), address)
        for address in ("10.2.0.1", "fd00:1::5", "192.168.7.8", "127.0.0.1"):
            self.assertFalse(guard.allows("h", address), address)

    def test_allowed_hosts(self) -> None:
        """A host is allowed by its whole name, without regard to case or a final dot."""
        guard = Guard(["NAS.internal.", "box"])
        for host in ("nas.internal", "Nas.Internal.", "box"):
            self.assertTrue(guard.allows(host, "10.0.0.1"), host)
        for host in ("internal", "x.nas.internal", "nas.internal.evil.example", "xbox", ""):
            self.assertFalse(guard.allows(host, "10.0.0.1"), host)

    def test_bad_allowances(self) -> None:
        """What is neither network nor name is refused when it is said."""
        for text in ("", " ", "10.0.0.1/8", "10.0.0.0/40", "*.example.com", "a b", "a/b"):
            self.assertRaises(ValueError, Guard, [text])

    @given(_mostly_special)
    @settings(max_examples=300, deadline=None)
    def test_s13_no_wrapping_helps(self, address: IPv4Address) -> None:
        """S13: what is refused plainly is refused in every IPv6 address that stands for it."""
        number = int(address)
        forms = [
            str(address),
            str(IPv6Address((0xFFFF << 32) | number)),
            str(IPv6Address((0x64FF9B << 96) | number)),
        ]
        tunnels = [
            str(IPv6Address((0x2002 << 112) | (number << 80))),
            str(IPv6Address((0x20010000 << 96) | (number ^ 0xFFFFFFFF))),
            str(IPv6Address(number)),
        ]
        guard = Guard()
        answers = {guard.allows("h", form) for form in forms}
        self.assertEqual(1, len(answers))
        if special(address):
            self.assertEqual({False}, answers)
        self.assertEqual({False}, {guard.allows("h", form) for form in tunnels})

    @given(st.one_of(st.ip_addresses(), st.text(max_size=20)))
    @settings(max_examples=200, deadline=None)
    def test_anything(self, address: object) -> None:
        """Whatever a resolver says, there is an answer; and only global addresses get a yes."""
        if Guard().allows("h", str(address)):
            self.assertTrue(ip_address(str(address)).is_global or "64:ff9b" in str(address)
                            or "ffff" in str(address))  # fmt: skip
