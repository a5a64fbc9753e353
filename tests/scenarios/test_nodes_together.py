"""What one node is told the others keep to, and no tenant is called by two of them at once."""

from __future__ import annotations

import time

from mailproxy.book import POLL
from tests.postgres import server
from tests.scenarios.endpoint import Endpoint
from tests.scenarios.nodes_case import NodesCase
from tests.scenarios.processes import Service, free_port, http, message, wait_until


class CommandsTests(NodesCase):
    """One node takes commands and sends nothing, being in test mode; the other sends."""

    sink_options = ("--delay", "100-100ms")

    def setUp(self) -> None:
        super().setUp()
        self.desk = self.node("desk", GMP_TEST_MODE="true").start()
        self.sender = self.node("sender").start()

    def begun(self) -> int:
        """Bodies that were begun so far, or may be."""
        (row,) = server().sql(self.database, "SELECT count(*) FROM attempts")
        return int(row[0])

    def sending(self, count: int, prefix: str) -> None:
        """Have *count* messages on their way, some of them sent already."""
        before = sum(self.arrived().values())
        self.sender.add(*(message(f"{prefix}{n}") for n in range(count)))
        wait_until(lambda: sum(self.arrived().values()) > before + 5, what="the first of them")

    def no_more_begun(self) -> int:
        """Nothing is begun any more from now on. :return: how much was."""
        begun = self.begun()
        time.sleep(1.0)
        self.assertEqual(begun, self.begun())
        return begun

    def test_commands(self) -> None:
        """Changed and deleted accounts, suspension and revoked keys: the sender keeps to it all."""
        self._changed()
        self._suspended()
        self._deleted()
        self._revoked()

    def _changed(self) -> None:
        self.put_account(self.desk, port=free_port())
        self.sender.add(message("m"))
        wait_until(
            lambda: all(each["deferred_reason"] for each in self.sender.messages()),
            what="the first try",
        )
        self.put_account(self.desk)
        wait_until(lambda: "m" in self.arrived(), what="the message, by the account as it is now")

    def _suspended(self) -> None:
        self.sending(80, "s")
        self.assertEqual(200, self.desk.call("POST", "/commands/suspend").status)
        begun = self.no_more_begun()
        self.assertLess(begun, 81)
        self.desk.call("POST", "/commands/activate")
        wait_until(lambda: self.begun() > begun, what="the rest to go on")
        wait_until(lambda: sum(self.arrived().values()) == 81, what="the rest")

    def _deleted(self) -> None:
        self.sending(80, "d")
        self.assertEqual(200, self.desk.call("DELETE", "/account/main").status)
        begun = self.no_more_begun()
        self.assertLess(begun, 161)
        wait_until(lambda: set(self.sender.states().values()) == {"sent", "failed"}, what="the end")
        self.assertEqual(begun, sum(self.arrived().values()))

    def _revoked(self) -> None:
        key = self.desk.call("POST", "/tenant", {"id": "shop"}).body["api_key"]

        def status() -> int:
            return http("GET", self.sender.url + "/messages", None, {"X-API-Token": key}).status

        wait_until(lambda: status() == 200, what="the key to be known to the other")
        self.assertEqual(200, self.desk.call("DELETE", "/tenant/shop/api-key").status)
        began = time.monotonic()
        wait_until(lambda: status() == 401, what="the key to be refused by the other")
        self.assertLess(time.monotonic() - began, POLL / 2, "it was not told of that")


class SharedTests(NodesCase):
    """Two nodes that send and report."""

    def setUp(self) -> None:
        super().setUp()
        self.endpoint = Endpoint()
        self.addCleanup(self.endpoint.stop)
        self.nodes = [
            self.node(name, GMP_CLIENT_SYNC_URL=self.endpoint.base_url).start()
            for name in ("first", "second")
        ]
        self.put_account(self.nodes[0])

    def add(self, *ids: str) -> None:
        """To either in turn."""
        for n, each in enumerate(ids):
            self.nodes[n % 2].add(message(each))

    def holder(self) -> tuple[str, Service]:
        """The node that calls just now, and its process."""
        (row,) = server().sql(
            self.database, "SELECT node FROM report_leases WHERE tenant_id = 'default'"
        )
        listed = self.nodes[0].call("GET", "/v1/nodes").body["nodes"]  # the oldest first
        names = [each["id"] for each in listed]
        return row[0], self.nodes[names.index(row[0])]

    def test_reports_and_limits(self) -> None:
        """
        Calls take a while and never overlap, each event is told once; killed in a call, a node is
        replaced. A limit for a minute is one for both.
        """
        self._in_turn()
        self._limited()
        self._moved()

    def _in_turn(self) -> None:
        self.endpoint.pause = 0.15
        ids = [f"m{n}" for n in range(40)]
        self.add(*ids)
        wait_until(lambda: set(self.endpoint.final()) == set(ids), what="the reports")
        self.assertEqual(1, self.endpoint.most_open)
        events = self.endpoint.events()
        self.assertEqual(len(ids), len(events), "an event was told twice")
        carried = server().sql(self.database, "SELECT DISTINCT node FROM attempts")
        self.assertEqual(2, len(carried), "one of them did all the work")
        self.endpoint.pause = 0.0

    def _limited(self) -> None:
        self.put_account(self.nodes[1], limit_per_minute=6)
        self.add(*(f"l{n}" for n in range(30)))
        wait_until(lambda: sum(self.arrived().values()) >= 46, what="what the limit allows")
        time.sleep(1.0)
        self.assertEqual(46, sum(self.arrived().values()))
        self.put_account(self.nodes[0])
        wait_until(lambda: sum(self.arrived().values()) == 70, what="the rest")
        wait_until(lambda: len(self.endpoint.final()) == 70, what="their reports")

    def _moved(self) -> None:
        self.endpoint.hang()
        before = len(self.endpoint.calls)
        self.add("last")
        wait_until(lambda: len(self.endpoint.calls) > before, what="a call")
        name, process = self.holder()
        process.kill()
        time.sleep(0.5)
        self.assertEqual(before + 1, len(self.endpoint.calls))
        self.endpoint.go_on()
        server().sql(self.database, f"UPDATE nodes SET alive_until = 0 WHERE id = '{name}'")
        wait_until(lambda: len(self.endpoint.calls) > before + 1, 15.0, what="a call of the other")
        wait_until(lambda: "last" in self.endpoint.final(), what="the report")
