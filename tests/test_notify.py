"""What the service manager is told."""

from __future__ import annotations

import os
import socket

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.notify import READY, tell
from tests.scratch import scratch


class TellTests(SynchronousTestCase):
    def told(self, address: str) -> socket.socket:
        manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.addCleanup(manager.close)
        manager.bind(address.replace("@", "\0", 1))
        manager.setblocking(False)
        self.patch(os, "environ", {**os.environ, "NOTIFY_SOCKET": address})
        return manager

    def test_told(self) -> None:
        """It is told in one datagram, at a path or at an abstract name."""
        for address in (str(scratch(self) / "notify"), f"@mailproxy-test-{os.getpid()}"):
            manager = self.told(address)
            tell(READY)
            self.assertEqual(b"READY=1", manager.recv(100))

    def test_nobody_asks(self) -> None:
        """Without a manager nothing is done."""
        environ = {name: text for name, text in os.environ.items() if name != "NOTIFY_SOCKET"}
        self.patch(os, "environ", environ)
        tell(READY)

    def test_a_deaf_manager(self) -> None:
        """A manager that does not read, or is gone, stops nothing."""
        manager = self.told(str(scratch(self) / "notify"))
        for _ in range(1000):
            tell(READY)
        manager.close()
        tell(READY)
