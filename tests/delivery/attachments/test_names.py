"""The addresses of hosts, as the system finds them."""

from __future__ import annotations

from twisted.internet.error import DNSLookupError
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.attachments.names import system_names
from mailproxy.threads import inline
from tests.fakes import result


class NamesTests(SynchronousTestCase):
    def test_addresses(self) -> None:
        """An address is its own, in whatever form the system understands, once."""
        resolve = system_names(inline)
        for host, expected in (
            ("127.0.0.1", "127.0.0.1"),
            ("2130706433", "127.0.0.1"),
            ("0x7f.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::ffff:127.0.0.1", "::ffff:127.0.0.1"),
        ):
            self.assertEqual([expected], result(resolve(host, 80)))

    def test_not_found(self) -> None:
        """What is no name is not found, and nothing else is raised."""
        for host in ("x" * 70 + ".example", "a..b"):
            self.assertRaises(DNSLookupError, result, system_names(inline)(host, 80))
