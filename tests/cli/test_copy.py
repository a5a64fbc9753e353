"""``mailproxy copy``: what it is told, and what it says."""

from __future__ import annotations

import io
import json
import random
import sqlite3
import tempfile
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.__main__ import group
from mailproxy.service_copy import progress
from mailproxy.store.moving import TABLES
from tests.postgres import server
from tests.store.test_move import KEY, database, fill


class CopyTests(SynchronousTestCase):
    """:ivar old: a filled file, with its key beside it."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="mailproxy-copy-"))
        self.old = self.folder / "mail.db"
        fill(self.old, random.Random(11))
        (self.folder / "encryption-key").write_text(KEY + "\n")
        (self.folder / "encryption-key").chmod(0o600)

    def copy(self, *arguments: str, **environment: str) -> Result:
        return CliRunner().invoke(
            group(), ["copy", *arguments], env={"GMP_CONFIG": None, **environment}
        )

    def done(self, *arguments: str, **environment: str) -> str:
        found = self.copy(*arguments, **environment)
        self.assertEqual(0, found.exit_code, f"{found.output} {found.exception!r}")
        self.assertNotIn(":secret@", found.output)
        return found.output

    def assertRefused(self, why: str, *arguments: str, **environment: str) -> None:
        found = self.copy(*arguments, **environment)
        self.assertEqual(2, found.exit_code, found.output)
        self.assertIn(why, found.output)
        self.assertNotIn(":secret@", found.output)

    def test_there_and_back(self) -> None:
        """To the server, its URL in a file, and back; the key is the one beside the file."""
        url = self.folder / "url"
        url.write_text(server().url(database()) + "\n")
        new = self.folder / "new.db"

        said = self.done("--from", f"sqlite:{self.old}", "--to", f"@{url}")
        for word in ("all counts and digests agree", "no service starts", "encryption-key"):
            self.assertIn(word, said)
        self.assertIn(
            "nothing was done", self.done("--from", f"sqlite:{self.old}", "--to", f"@{url}")
        )

        told = json.loads(self.done("--from", f"@{url}", "--to", f"sqlite://{new}", "--json"))
        self.assertEqual((False, f"sqlite:{new}"), (told["already"], told["to"]))
        with sqlite3.connect(new) as connection:
            for each in told["tables"]:
                (rows,) = connection.execute(f"SELECT count(*) FROM {each['table']}").fetchone()
                own = 1 if each["table"] == "settings" else 0  # the mark
                self.assertEqual(each["rows"], rows - own, each)
        connection.close()
        self.assertEqual({each.name for each in TABLES}, {each["table"] for each in told["tables"]})
        self.assertEqual(told["rows"], sum(each["rows"] for each in told["tables"]))

    def test_take_back(self) -> None:
        """Who takes a source back is told what must not be."""
        new = self.folder / "new.db"
        self.done("--from", f"sqlite:{self.old}", "--to", f"sqlite:{new}")
        said = self.done("--from", f"sqlite:{self.old}", "--take-back")
        self.assertIn(f"{new} must not be", said)
        self.assertRefused("was not moved", "--from", f"sqlite:{self.old}", "--take-back")

    def test_refusals(self) -> None:
        """What is wrong is one line, with the option."""
        old, new = f"sqlite:{self.old}", f"sqlite:{self.folder / 'new.db'}"
        for why, arguments in (
            ("--from: neither sqlite:PATH", ("--from", str(self.old), "--to", new)),
            ("--to: neither sqlite:PATH", ("--from", old, "--to", "sqlite:")),
            ("--to: the database is missing", ("--from", old, "--to", "postgresql://h")),
            ("--to: cannot read", ("--from", old, "--to", f"@{self.folder}/none")),
            ("either --to or --take-back", ("--from", old)),
            ("either --to or --take-back", ("--from", old, "--to", new, "--take-back")),
            ("the same database", ("--from", old, "--to", old)),
            (
                "cannot open the database",
                ("--from", old, "--to", "postgresql://me:secret@127.0.0.1:9/m"),
            ),
        ):
            self.assertRefused(why, *arguments)
        self.assertRefused(
            "GMP_ENCRYPTION_KEY", "--from", old, "--to", new, "--data-dir", "/nowhere"
        )

    def test_progress(self) -> None:
        """A terminal is shown how far each table is; anything else nothing."""

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        for out, shown in ((Terminal(), True), (io.StringIO(), False)):
            with progress(out) as told:
                for done in (0, 500, 1000):
                    told("messages", done, 1000)
            self.assertEqual(shown, "messages" in out.getvalue())
