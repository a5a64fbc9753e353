"""SIGHUP reads the configuration again (F67)."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from twisted.logger import ILogObserver, LogEvent, LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.config import Settings, load
from mailproxy.reload import Reload


class ReloadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.environ = {"GMP_DB_PATH": "/tmp/x.db", "GMP_LOG_DELIVERY_ACTIVITY": "false"}
        self.activity: list[bool] = []
        self.reload = Reload(self.read(), self.read, self.activity.append)
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

    def test_a_reading_that_raises_changes_nothing(self) -> None:
        """Whatever goes wrong in reading is logged and the service goes on."""

        def broken() -> Settings:
            raise RuntimeError("x")

        self.reload.read = broken
        self.reload()
        self.assertEqual(1, len(self.flushLoggedErrors(RuntimeError)))
        self.assertEqual([], self.activity)
