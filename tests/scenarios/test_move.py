"""A queue that was moved is served on: what waited is sent, what was not reported is reported."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.crypto import new_key
from tests.postgres import server
from tests.scenarios.processes import (
    Service,
    SinkProcess,
    account,
    free_port,
    message,
    wait_until,
)


class MoveTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-move-"))
        self.sink = SinkProcess(self.directory).start()
        self.addCleanup(self.sink.end)
        self.key = new_key()

    def service(self, database: str, **settings: str) -> Service:
        made = Service(
            self.directory,
            **{
                "GMP_DB_PATH": database,
                "GMP_DATA_DIR": str(self.directory),
                "GMP_ENCRYPTION_KEY": self.key,
                "GMP_CLIENT_SYNC_URL": self.sink.sync_url,
                **settings,
            },
        )
        self.addCleanup(made.end)
        return made

    def copy(self, source: str, target: str) -> str:
        """The command, as an operator gives it."""
        environment = {name: v for name, v in os.environ.items() if not name.startswith("GMP_")}
        environment["GMP_ENCRYPTION_KEY"] = self.key
        command = [sys.executable, "-m", "mailproxy", "copy", "--from", source, "--to", target]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual(0, done.returncode, done.stderr)
        return done.stdout

    def test_served_on(self) -> None:
        """From a file to a server, with mail that waits and mail that was not reported yet."""
        old = str(self.directory / "old.db")
        url = server().url(server().database())
        nobody = f"http://127.0.0.1:{free_port()}/reports"
        first = self.service(old, GMP_CLIENT_SYNC_URL=nobody).start()
        self.assertTrue(first.call("POST", "/account", account(self.sink.smtp_port)).body["ok"])
        sent = [f"sent{n}" for n in range(5)]
        first.add(*map(message, sent))
        wait_until(lambda: set(first.states().values()) == {"sent"}, what="what is sent before")
        first.call("POST", "/commands/suspend", {"tenant_id": "default"})
        waiting = [f"waits{n}" for n in range(5)]
        first.add(*(message(each, batch_code="b") for each in waiting))
        before = first.states()
        first.terminate()

        self.assertIn("all counts and digests agree", self.copy(f"sqlite:{old}", url))

        refused = self.service(old)
        refused.spawn()
        assert refused.process is not None
        self.assertNotEqual(0, refused.process.wait(30))
        self.assertIn("this queue was moved to postgresql://", refused.output())
        self.assertNotIn("secret@", refused.output())

        second = self.service(url).start()
        self.assertEqual(before, second.states())
        wait_until(lambda: set(sent) <= self.reported(), what="the reports that were owed")
        self.assertEqual(set(sent), set(self.arrived()), "it is suspended, as it was")
        second.call("POST", "/commands/activate", {"tenant_id": "default"})
        wait_until(lambda: self.reported() >= {*sent, *waiting}, what="what waited")
        self.assertEqual(dict.fromkeys([*sent, *waiting], 1), self.arrived())

    def arrived(self) -> Counter[str]:
        found = self.sink.get("/messages?limit=1000")["messages"]
        return Counter(each["recipients"][0].partition("@")[0] for each in found)

    def reported(self) -> set[str]:
        found = self.sink.get("/reports")["reports"]
        return {item["id"] for report in found for item in report["items"]}
