"""SIGHUP reads the configuration again (F67)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import Settings, load
from mailproxy.records import AccountSpec
from mailproxy.reload import Reload
from mailproxy.reply_rules import Rule
from tests.scratch import scratch


class ReloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.environ = {"GMP_DB_PATH": "/tmp/x.db", "GMP_LOG_DELIVERY_ACTIVITY": "false"}
        self.activity: list[bool] = []
        self.declared: list[Sequence[AccountSpec]] = []
        self.rules: list[Sequence[Rule]] = []
        self.reload = Reload(
            self.read(), self.read, self.activity.append, self.declared.append, self.rules.append
        )
        self.events: list[LogEvent] = []
        observer = cast(ILogObserver, self.events.append)
        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)

    def read(self) -> Settings:
        return load(self.environ, {}, Path("/tmp"), hostname=lambda: "host")

    def said(self, level: LogLevel) -> list[str]:
        return [
            str(event["log_format"]).format(**event)
            for event in self.events
            if event.get("log_level") is level and event["log_namespace"] == "mailproxy.reload"
        ]

    def test_a_bad_configuration_is_rejected_and_the_old_kept(self) -> None:
        """F67: one line names the variable; nothing changes."""
        before = self.reload.settings
        self.environ |= {"GMP_PORT": "many", "GMP_LOG_DELIVERY_ACTIVITY": "true"}
        self.reload()
        (line,) = self.said(LogLevel.error)
        self.assertIn("GMP_PORT", line)
        self.assertEqual([], self.activity)
        self.assertIs(before, self.reload.settings)

    def test_what_can_change_changes_and_the_rest_is_named(self) -> None:
        """The activity log goes on at once; another port waits for a restart, and is named."""
        self.environ |= {"GMP_PORT": "8025", "GMP_LOG_DELIVERY_ACTIVITY": "true"}
        self.reload()
        self.assertEqual([True], self.activity)
        (line,) = self.said(LogLevel.info)
        self.assertIn("GMP_PORT", line)
        self.assertNotIn("GMP_LOG_DELIVERY_ACTIVITY", line)
        self.assertTrue(self.reload.settings.log_delivery_activity)
        self.assertEqual(8000, self.reload.settings.port)

    def test_rules_for_replies_are_read_again(self) -> None:
        """A good file is in force at once; of a bad one a line is told, and the old stays."""
        path = scratch(self) / "rules.toml"
        self.environ["GMP_REPLY_RULES"] = str(path)
        path.write_text('[[rule]]\nname="n"\ncodes=["421"]\naction="slow"\n')
        self.reload()
        self.assertEqual(["n"], [rule.name for rule in self.rules[-1]])
        path.write_text("[[rule]]\nname='n'\n")
        self.reload()
        (line,) = self.said(LogLevel.error)
        self.assertIn("GMP_REPLY_RULES", line)
        self.assertEqual(1, len(self.rules))

    def test_declared_accounts_are_read_again(self) -> None:
        """A changed file of accounts takes effect at once; a bad one leaves them as they were."""
        file = scratch(self) / "accounts.ini"
        file.write_text("[account main]\nhost = one.example\n")
        self.environ["GMP_ACCOUNTS_FILE"] = str(file)
        self.reload()
        file.write_text("[account main]\nhost = two.example\n")
        self.reload()
        file.write_text("[account main]\nhost = three.example\nport = many\n")
        self.reload()
        hosts = [[account.host for account in specs] for specs in self.declared]
        self.assertEqual([["one.example"], ["two.example"]], hosts)
        self.assertEqual("two.example", self.reload.settings.accounts[0].host)
        (line,) = self.said(LogLevel.error)
        self.assertIn("[account main] port", line)

    def test_a_changed_secret_is_taken_over(self) -> None:
        """A password file that was written anew is read, though no setting changed."""
        home = scratch(self)
        (home / "accounts.ini").write_text(
            f"[account main]\nhost = a.example\nuser = u\npassword_file = {home}/secret\n"
        )
        self.environ["GMP_ACCOUNTS_FILE"] = str(home / "accounts.ini")
        for secret in ("first secret", "second secret"):
            (home / "secret").write_text(secret + "\n")
            self.reload()
        passwords = [account.password for specs in self.declared for account in specs]
        self.assertEqual(["first secret", "second secret"], passwords)

    def test_a_reading_that_raises_changes_nothing(self) -> None:
        """Whatever goes wrong in reading is logged and the service goes on."""

        def broken() -> Settings:
            raise RuntimeError("x")

        self.reload.read = broken
        self.reload()
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual([], self.activity)
