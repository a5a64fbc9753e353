"""What a first start puts into the data directory."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import attrs
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import Settings
from mailproxy.config_secrets import Secrets, kept_token, obtain
from mailproxy.crypto import Sealer, new_key
from mailproxy.errors import ConfigurationError
from tests.scratch import scratch


class ObtainTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.dir = scratch(self) / "deep" / "data"
        self.database = self.dir / "mail.db"
        self.settings = Settings(db_path=self.database, data_dir=self.dir)

    def obtain(self, **changes: Any) -> tuple[Secrets, str]:
        """What a start gets, and all that it logged."""
        with capturedLogs() as events:
            secrets = obtain(attrs.evolve(self.settings, **changes))
        return secrets, "\n".join(formatEvent(event) for event in events)

    def mode(self, path: Path) -> int:
        return stat.S_IMODE(path.stat().st_mode)

    def test_first_start(self) -> None:
        """A first start makes a token and a key, for the owner's eyes only, and logs where."""
        secrets, log = self.obtain()
        token = secrets.api_token
        assert token is not None
        self.assertRegex(token, "^[0-9a-f]{64}$")
        Sealer(secrets.keys)
        self.assertEqual(token, self.settings.token_file.read_text().strip())
        self.assertEqual(secrets.keys, (self.settings.key_file.read_text().strip(),))
        for path in (self.settings.token_file, self.settings.key_file):
            self.assertEqual(0o600, self.mode(path))
            self.assertIn(str(path), log)
        self.assertEqual(0o700, self.mode(self.dir))
        self.assertEqual(0o600, self.mode(self.database))
        self.assertEqual(0, self.database.stat().st_size)
        files = ["api-token", "encryption-key", "mail.db"]
        self.assertEqual(files, sorted(os.listdir(self.dir)))
        self.assertNotIn(token, log)
        self.assertNotIn(secrets.keys[0], log + repr(secrets))
        self.assertNotIn(token, repr(secrets))

    def test_umask_does_not_matter(self) -> None:
        """The files are private whatever the process's umask is."""
        old = os.umask(0)
        self.addCleanup(os.umask, old)
        self.obtain()
        self.assertEqual(0o600, self.mode(self.settings.token_file))

    def test_second_start(self) -> None:
        """The next start uses the same token and key, with the store there."""
        first, _ = self.obtain()
        self.database.write_bytes(b"SQLite format 3\0")
        second, log = self.obtain()
        self.assertEqual(first, second)
        self.assertIn(str(self.settings.token_file), log)

    def test_configured_values_win(self) -> None:
        """What is configured is used, and nothing is generated."""
        keys = (new_key(), new_key())
        secrets, _ = self.obtain(api_token="t" * 32, encryption_key=keys)
        self.assertEqual(Secrets("t" * 32, keys), secrets)
        self.assertEqual(["mail.db"], os.listdir(self.dir))

    def test_without_token(self) -> None:
        """Where serving without a token is allowed, none is made."""
        secrets, _ = self.obtain(allow_no_token=True)
        self.assertIsNone(secrets.api_token)
        self.assertFalse(self.settings.token_file.exists())

    def test_no_new_key_for_an_old_store(self) -> None:
        """A store whose key is lost stops the start; no key is invented for it."""
        self.dir.mkdir(parents=True)
        self.database.write_bytes(b"SQLite format 3\0")
        with self.assertRaises(ConfigurationError) as caught:
            self.obtain()
        self.assertEqual("GMP_ENCRYPTION_KEY", caught.exception.variable)
        self.assertFalse(self.settings.key_file.exists())

    def test_damaged_files(self) -> None:
        """A damaged token or key is refused without being shown or replaced."""
        self.obtain()
        for path, name in (
            (self.settings.token_file, "GMP_API_TOKEN"),
            (self.settings.key_file, "GMP_ENCRYPTION_KEY"),
        ):
            kept = path.read_bytes()
            for damaged in (b"", b"two words\n", b"\xff\xfe"):
                path.write_bytes(damaged)
                with self.subTest(path), self.assertRaises(ConfigurationError) as caught:
                    self.obtain()
                self.assertEqual(name, caught.exception.variable)
                self.assertEqual(f"{path} is damaged", caught.exception.problem)
                self.assertEqual(damaged, path.read_bytes())
            path.write_bytes(kept)

    def test_readable_by_others(self) -> None:
        """A token that others can read is pointed out at every start."""
        self.obtain()
        self.settings.token_file.chmod(0o644)
        _, log = self.obtain()
        self.assertIn("can be read by others (mode 644)", log)

    def test_unusable_directory(self) -> None:
        """Where the directory cannot be made the start stops and names the variable."""
        self.dir.parent.mkdir(parents=True)
        self.dir.write_text("a file")
        with self.assertRaises(ConfigurationError) as caught:
            self.obtain()
        self.assertEqual("GMP_DB_PATH", caught.exception.variable)

    def test_token_for_the_operator(self) -> None:
        """The operator's command sees the token in force, and makes none."""
        self.assertIsNone(kept_token(self.settings))
        self.assertFalse(self.dir.exists())
        secrets, _ = self.obtain()
        self.assertEqual(secrets.api_token, kept_token(self.settings))
        self.assertEqual("x", kept_token(attrs.evolve(self.settings, api_token="x")))
        self.assertIsNone(kept_token(attrs.evolve(self.settings, allow_no_token=True)))

    def test_two_first_starts_agree(self) -> None:
        """Of two starts that find no token, the later one uses what the earlier one wrote."""
        from mailproxy.config_secrets import _keep

        self.dir.mkdir(parents=True)
        path = self.settings.token_file
        self.assertEqual("first", _keep("GMP_API_TOKEN", path, "first"))
        self.assertEqual("first", _keep("GMP_API_TOKEN", path, "second"))
        self.assertEqual(["api-token"], os.listdir(self.dir))
