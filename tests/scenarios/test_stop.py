"""F67: the service is told to stop while bodies are under way."""

from __future__ import annotations

import signal
import tempfile
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import Service, SinkProcess, account, http, message, wait_until

#: Sessions in DATA when the signal comes.
SESSIONS = 200


class StopTests(SynchronousTestCase):
    """A service with many sessions, each waiting for the last reply of its message."""

    def begin(self, delay: str, drain: str) -> None:
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-stop-"))
        self.sink = SinkProcess(
            directory, "--no-starttls", "--delay", delay, "--ledger", str(directory / "copies")
        ).start()
        self.addCleanup(self.sink.end)
        self.service = Service(
            directory,
            GMP_DRAIN_SECONDS=drain,
            GMP_RETRY_DELAYS="0.2",
            GMP_CLIENT_SYNC_URL=self.sink.sync_url,
        ).start()
        self.addCleanup(self.service.end)
        self.service.call("POST", "/account", account(self.sink.smtp_port, max_sessions=SESSIONS))
        self.service.add(*(message(f"m{n}") for n in range(SESSIONS * 4)))
        wait_until(
            lambda: self.copies() >= SESSIONS, what="all sessions to wait for the last reply"
        )

    def copies(self) -> int:
        return int(self.sink.get("/stats")["accepted"])

    def test_bodies_under_way_end_within_the_time_given(self) -> None:
        """F67: SIGTERM: what is under way ends, nothing new begins, and nothing is uncertain."""
        self.begin("1500-1500ms", "20")
        process = self.service.process
        assert process is not None
        process.terminate()
        wait_until(
            lambda: http("GET", f"{self.service.url}/readyz").status == 503, what="readyz 503"
        )
        self.assertEqual(503, self.service.add(message("late")).status)
        process.wait(20.0)
        taken = self.copies()
        self.assertGreaterEqual(taken, SESSIONS)
        self.service.start()
        records = self.service.messages()
        self.assertNotIn("late", {each["id"] for each in records})
        self.assertEqual(
            set(), {r["id"] for r in records if "uncertain" in (r["deferred_reason"] or "")}
        )
        self.assertGreaterEqual([r["state"] for r in records].count("sent"), taken)

    def test_a_second_signal_cuts_and_says_so(self) -> None:
        """F67: a second SIGTERM ends it at once; what was cut is uncertain in the timeline."""
        self.begin("60000-60000ms", "300")
        process = self.service.process
        assert process is not None
        process.terminate()
        wait_until(
            lambda: http("GET", f"{self.service.url}/readyz").status == 503, what="readyz 503"
        )
        began = time.monotonic()
        process.terminate()
        process.wait(20.0)
        self.assertLess(time.monotonic() - began, 15.0)
        self.service.settings["GMP_SCHEDULER_ACTIVE"] = "false"
        self.service.start()
        records = self.service.messages()
        uncertain = [r for r in records if "uncertain" in (r["deferred_reason"] or "")]
        self.assertGreaterEqual(len(uncertain), SESSIONS)
        self.assertEqual({"deferred"}, {r["state"] for r in uncertain})


class HangUpTests(SynchronousTestCase):
    def test_sighup_reads_the_configuration_again(self) -> None:
        """F67: a bad file is rejected in one line, the service goes on; a good one takes effect."""
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-hup-"))
        ini = directory / "config.ini"
        ini.write_text("[logging]\nlevel = WARNING\n")
        service = Service(directory, GMP_CONFIG=str(ini)).start()
        self.addCleanup(service.end)
        process = service.process
        assert process is not None
        ini.write_text("[logging]\nlevel = LOUD\n")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "GMP_LOG_LEVEL" in service.output(), what="the line in the log")
        self.assertEqual(200, service.call("GET", "/status").status)
        ini.write_text("[logging]\nlevel = DEBUG\n")
        process.send_signal(signal.SIGHUP)
        wait_until(lambda: "read again" in service.output(), what="the second line")
        service.call("GET", "/status")
        wait_until(lambda: "GET /status" in service.output(), what="a line at DEBUG")
        self.assertIn(service.terminate(), (0, -signal.SIGTERM))
