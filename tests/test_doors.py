"""What a description of an SMTP door says, and what has to go with it."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.doors import DoorDescription, described
from tests.test_config import ConfigCase

CERTIFICATE = {"GMP_SMTP_TLS_CERT": "door.pem", "GMP_SMTP_TLS_KEY": "door.key"}


class DescribedTests(SynchronousTestCase):
    def test_what_stands_before_the_endpoint(self) -> None:
        """``tls:`` before an endpoint is ours, before a directory it is Twisted's."""
        for text, endpoint, implicit, proxied, encrypted in (
            ("tcp:2525", "tcp:2525", False, False, False),
            ("tls:tcp:465", "tcp:465", True, False, True),
            ("tls:tcp6:465:interface=\\:\\:1", "tcp6:465:interface=\\:\\:1", True, False, True),
            ("haproxy:tcp:25", "haproxy:tcp:25", False, True, False),
            ("tls:haproxy:tcp:465", "haproxy:tcp:465", True, True, True),
            ("tls:systemd:domain=INET:index=0", "systemd:domain=INET:index=0", True, False, True),
            ("tls:/etc/tls:465", "tls:/etc/tls:465", False, False, True),
            ("tls:./tcp:465", "tls:./tcp:465", False, False, True),
            ("haproxy:ssl:465", "haproxy:ssl:465", False, True, True),
        ):
            found = described(text)
            self.assertEqual(DoorDescription(endpoint, implicit, proxied), found)
            self.assertEqual(encrypted, found.encrypted, text)


class DoorSettingsTests(ConfigCase):
    def setUp(self) -> None:
        super().setUp()
        for name in CERTIFICATE.values():
            self.write(name, "")

    def test_a_certificate_and_its_key(self) -> None:
        """A certificate without its key, a key alone, a ``tls:`` door without either: refused."""
        for given, name in (
            ({"GMP_SMTP_TLS_CERT": "door.pem"}, "GMP_SMTP_TLS_KEY"),
            ({"GMP_SMTP_TLS_KEY": "door.key"}, "GMP_SMTP_TLS_CERT"),
            ({"GMP_SMTP_LISTEN": "tcp:25 tls:tcp:465"}, "GMP_SMTP_TLS_CERT"),
        ):
            self.assertEqual(name, self.refused(given).variable)
        doors = {"GMP_SMTP_LISTEN": "tcp:25 tls:tcp:465"}
        self.assertEqual(("tcp:25", "tls:tcp:465"), self.load({**CERTIFICATE, **doors}).smtp_listen)

    def test_what_is_no_endpoint(self) -> None:
        """What follows ``tls:`` is looked at, too."""
        for text in ("tls:tcp:no-port", "tls:haproxy:pigeon:1", "tls:systemd:index=0"):
            found = self.refused({**CERTIFICATE, "GMP_SMTP_LISTEN": text})
            self.assertEqual("GMP_SMTP_LISTEN", found.variable, text)

    def test_s18_the_whole_world_is_not_let_in(self) -> None:
        """S18: no setting makes an open relay: a network of all addresses, or half, is refused."""
        for name in ("GMP_SMTP_ALLOW", "GMP_SMTP_PLAINTEXT_AUTH"):
            for networks in (
                "0.0.0.0/0",
                "10.0.0.0/8, ::/0",
                "unix,0.0.0.0/0",
                "2000::/3",
                "0.0.0.0/1",
            ):
                self.assertEqual(name, self.refused({name: networks}).variable)
            self.load({name: "10.0.0.0/8, fc00::/7, unix"})

    def test_a_door_at_which_nobody_can_log_in(self) -> None:
        """A door in clear without a certificate is a warning, unless a network may log in so."""
        door = {"GMP_SMTP_LISTEN": "tcp:2525"}
        key = {"GMP_API_TOKEN": "x" * 40}
        warned = [w for w in self.load({**key, **door}).warnings if "GMP_SMTP_LISTEN" in w]
        self.assertEqual(1, len(warned))
        for more in (CERTIFICATE, {"GMP_SMTP_PLAINTEXT_AUTH": "127.0.0.0/8"}):
            self.assertEqual((), tuple(self.load({**key, **door, **more}).warnings))
