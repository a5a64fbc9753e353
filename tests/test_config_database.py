"""The URL of a database: taken as it is given, shown without its password."""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config_database import DatabaseUrl
from mailproxy.config_values import DatabasePath

URL = "postgresql://me:p%40ss@db.example:5433/mail?sslmode=require"


class DatabaseUrlTests(SynchronousTestCase):
    def test_shown(self) -> None:
        """Neither its text nor its representation has the password."""
        url = DatabaseUrl(URL)
        self.assertEqual("postgresql://me@db.example:5433/mail", str(url))
        for shown in (str(url), repr(url), f"{url}"):
            self.assertNotIn("ss", shown.replace("password", ""))

    def test_passwords(self) -> None:
        """What is to be kept out of the log: as it is, and as it is written."""
        self.assertEqual(("p%40ss", "p@ss"), DatabaseUrl(URL).passwords)
        self.assertEqual(
            ("hunter2",), DatabaseUrl("postgresql://db/mail?user=me&password=hunter2").passwords
        )
        self.assertEqual((), DatabaseUrl("postgresql://db/mail").passwords)

    def test_read(self) -> None:
        """Both names of the scheme are taken; a path stays a path."""
        base = Path("/somewhere")
        read = DatabasePath().read
        self.assertEqual(DatabaseUrl(URL), read(URL, base))
        self.assertEqual(DatabaseUrl("postgresql://db/mail"), read("postgres://db/mail", base))
        self.assertEqual(base / "mail.db", read("mail.db", base))
        socket = "postgresql:///mail?host=/run/postgresql"
        self.assertEqual(DatabaseUrl(socket), read(socket, base))
