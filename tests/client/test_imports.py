"""What using the client brings along."""

from __future__ import annotations

import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from tests.test_architecture import ROOT

#: What the service is made of, and its users do without.
HEAVY = ("twisted", "klein", "sqlalchemy", "treq", "zope", "cryptography", "OpenSSL", "alembic")


class ImportTests(SynchronousTestCase):
    def test_light(self) -> None:
        """Importing the client imports nothing that only the service needs."""
        program = (
            "import sys, mailproxy.client\n"
            f"print(sorted(set({HEAVY!r}) & set(sys.modules)))\n"
            "print(sorted(m for m in sys.modules if m.startswith('mailproxy.')"
            " and not m.startswith('mailproxy.client')))"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        self.assertEqual("", done.stderr)
        brought, ours = done.stdout.splitlines()
        self.assertEqual("[]", brought)
        vocabulary = {
            "mailproxy.errors",
            "mailproxy.items",
            "mailproxy.records",
            "mailproxy.states",
        }
        self.assertEqual(str(sorted(vocabulary)), ours)
