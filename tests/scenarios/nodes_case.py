"""Several nodes on one PostgreSQL server, as processes: what their scenarios stand on."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.crypto import new_key
from tests.postgres import server
from tests.scenarios.processes import Service, SinkProcess, account
from tests.store.postgres_opened import migrated


class NodesCase(SynchronousTestCase):
    """
    A sink, a database, and as many nodes as a test wants.

    :cvar sink_options: how the sink behaves.
    """

    sink_options: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-nodes-"))
        self.sink = SinkProcess(self.directory, *self.sink_options).start()
        self.addCleanup(self.sink.end)
        self.database = server().database(migrated())
        self.url = self.directory / "database"
        self.url.write_text(server().url(self.database) + "\n")
        self.key = new_key()

    def node(self, name: str, **settings: str) -> Service:
        directory = self.directory / name
        directory.mkdir()
        common = {
            "GMP_DB_PATH_FILE": str(self.url),
            "GMP_DATA_DIR": str(directory),
            "GMP_ENCRYPTION_KEY": self.key,
            "GMP_CLIENT_SYNC_URL": self.sink.sync_url,
            "GMP_LOG_LEVEL": "DEBUG",
        }
        made = Service(directory, **{**common, **settings})
        del made.settings["GMP_DB_PATH"]
        self.addCleanup(made.end)
        return made

    def arrived(self) -> Counter[str]:
        """How often each message came to the upstream."""
        found = self.sink.get("/messages?limit=100000")["messages"]
        return Counter(each["recipients"][0].partition("@")[0] for each in found)

    def reported(self) -> set[str]:
        found = self.sink.get("/reports")["reports"]
        return {item["id"] for report in found for item in report["items"]}

    def put_account(self, node: Service, **fields: Any) -> None:
        port = fields.pop("port", self.sink.smtp_port)
        answer = node.call("POST", "/account", account(port, **fields))
        self.assertEqual(200, answer.status, answer.raw)
