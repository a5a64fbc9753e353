"""What is on the disk before what leaves: counted in the order of system calls, under strace."""

from __future__ import annotations

import os
import smtplib
import sys
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.need import need_program
from tests.scenarios.mutant import ROOT
from tests.scenarios.processes import (
    Service,
    SinkProcess,
    account,
    free_port,
    message,
    wait_until,
)
from tests.scenarios.trace import BY_HTTP, BY_SMTP, STRACE, unsynced_answers, unsynced_bodies

MESSAGES = 5


class TracedService(Service):
    """The service under strace; with *mutation*, one promise is broken on purpose."""

    def __init__(self, directory: Path, mutation: str = "", **settings: str) -> None:
        super().__init__(directory, **settings)
        self.mutation = mutation
        self.trace = directory / "trace"
        self.prefix = [need_program("strace"), "-D", *STRACE, "-o", str(self.trace)]

    def command(self) -> list[str]:
        if not self.mutation:
            return super().command()
        module = ["-m", "tests.scenarios.mutant", self.mutation, "serve"]
        return [*self.prefix, sys.executable, *module]

    def environment(self) -> dict[str, str]:
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        return super().environment() | {"PYTHONPATH": path}


class DurabilityTests(SynchronousTestCase):
    def traced(self, mutation: str = "") -> Path:
        """Send a few messages one after the other; the trace of it."""
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-trace-"))
        sink = SinkProcess(directory).start()
        self.addCleanup(sink.end)
        door = free_port()
        service = TracedService(
            directory,
            mutation,
            GMP_SMTP_LISTEN=f"tcp:{door}:interface=127.0.0.1",
            GMP_SMTP_ALLOW="127.0.0.1",
        )
        service.start()
        self.addCleanup(service.end)
        service.call("POST", "/account", account(sink.smtp_port, tls_mode="plain"))
        for n in range(MESSAGES):
            self.send(service, f"m{n}")
            self.hand_in(service, door, f"s{n}")
        service.terminate()
        return service.trace

    def hand_in(self, service: Service, door: int, id: str) -> None:
        """The same by SMTP."""
        with smtplib.SMTP("127.0.0.1", door, timeout=20) as client:
            fields = f"From: a@example.test\nX-Mailproxy-Id: {id}\nX-Traced: yes\n\nHello\n"
            client.sendmail("a@example.test", ["b@example.test"], fields)
        wait_until(lambda: service.states().get(id) == "sent", what="the outcome")

    def send(self, service: Service, id: str) -> None:
        """Submit one message and wait until its outcome is stored."""
        self.assertEqual(200, service.add(message(id)).status)
        wait_until(lambda: service.states().get(id) == "sent", what="the outcome")

    def test_every_answer_follows_a_sync(self) -> None:
        """Before each 200 of add-messages, and each 250 by SMTP, the disk had what was accepted."""
        trace = self.traced()
        self.assertEqual((MESSAGES, 0), unsynced_answers(trace))
        self.assertEqual((MESSAGES, 0), unsynced_answers(trace, BY_SMTP))
        self.assertEqual((2 * MESSAGES, 0), unsynced_bodies(trace))

    def test_an_answer_before_the_commit_is_seen(self) -> None:
        """The proof fails for a service that answers first and commits then."""
        trace = self.traced("answer-before-commit")
        for by in (BY_HTTP, BY_SMTP):
            answers, bad = unsynced_answers(trace, by)
            self.assertEqual(MESSAGES, answers)
            self.assertGreater(bad, 0)

    def test_a_commit_without_a_sync_is_seen(self) -> None:
        """The proof fails for a service whose commits are not synced."""
        trace = self.traced("no-sync")
        for by in (BY_HTTP, BY_SMTP):
            self.assertEqual((MESSAGES, MESSAGES), unsynced_answers(trace, by))

    def test_an_intent_after_the_body_is_seen(self) -> None:
        """The proof fails for a service that sends first and notes it then."""
        bodies, bad = unsynced_bodies(self.traced("intent-after-body"))
        self.assertEqual(2 * MESSAGES, bodies)
        self.assertGreater(bad, 0)
