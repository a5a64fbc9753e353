"""Health, status, metrics and the access log."""

from __future__ import annotations

from typing import Any, cast

from prometheus_client.parser import text_string_to_metric_families
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, formatEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

import mailproxy
from mailproxy.errors import StoreUnavailable
from mailproxy.model import Account
from mailproxy.records import Counts
from tests.api.door import TOKEN, Door, message, request
from tests.fake_store import FakeStore


class StatusTests(SynchronousTestCase):
    def test_status(self) -> None:
        """The status tells version, activity and what waits."""
        door = Door()
        door.put_account()
        door.add(message("m1"), message("m2"))
        answer = door.call("GET", "/status").json
        self.assertEqual((True, True), (answer["ok"], answer["active"]))
        self.assertEqual(mailproxy.__version__, answer["version"])
        self.assertEqual(
            (2, 0, 2), (answer["pending_messages"], answer["in_flight"], answer["queue"]["queued"])
        )

    def test_nodes(self) -> None:
        """The admin sees the processes that are the service; a tenant's key does not."""
        door = Door()
        (node,) = door.call("GET", "/v1/nodes").json["nodes"]
        self.assertEqual((True, mailproxy.__version__), (node["alive"], node["version"]))
        self.assertRegex(node["alive_until"], r"^\d{4}-\d\d-\d\dT")
        self.assertEqual(401, door.call("GET", "/v1/nodes", token=None).status)

    def test_store_away(self) -> None:
        """Without storage the status is a 503, while the process is alive and not ready."""
        door = Door()
        door.store.close()
        self.assertEqual(503, door.call("GET", "/status").status)
        self.assertEqual(200, door.call("GET", "/livez").status)
        reply = door.call("GET", "/readyz")
        self.assertEqual((503, "error"), (reply.status, reply.json["status"]))

    def test_healthy(self) -> None:
        """All three probes answer ok."""
        door = Door()
        for target in ("/health", "/livez", "/readyz"):
            reply = door.call("GET", target, token=None)
            self.assertEqual((200, {"ok": True, "status": "ok"}), (reply.status, reply.json))

    def test_ready(self) -> None:
        """Readiness ends with a failed write, and comes back with the next good one."""
        door = Door()
        door.store.fail_next(StoreUnavailable("full"))
        door.put_account()
        reply = door.call("GET", "/readyz", token=None)
        self.assertEqual(
            (503, "error", False), (reply.status, reply.json["status"], reply.json["ok"])
        )
        self.assertEqual(reply.json["error"], reply.json["detail"])
        door.put_account()
        self.assertEqual(200, door.call("GET", "/readyz", token=None).status)

    def test_tenants_unknown(self) -> None:
        """A service that cannot judge the keys of tenants is not ready."""
        door = Door()
        door.book.loaded = False
        self.assertEqual(503, door.call("GET", "/readyz", token=None).status)
        self.assertEqual(200, door.call("GET", "/livez", token=None).status)

    def test_draining(self) -> None:
        """A service that stops is alive, but no longer ready."""
        door = Door()
        door.control.stopping = True
        self.assertEqual(503, door.call("GET", "/readyz", token=None).status)
        self.assertEqual(200, door.call("GET", "/livez", token=None).status)
        self.assertIs(True, door.call("GET", "/status").json["draining"])


class SlowStore(FakeStore):
    """A store whose counts take as long as the test likes."""

    slow: Deferred[None] | None = None

    async def counts(self, now: float, tenant_id: str | None = None) -> Counts:
        if self.slow is not None:
            await self.slow
        return await super().counts(now, tenant_id)


class CountingStore(FakeStore):
    """A store that counts how often its accounts are read."""

    reads = 0

    async def accounts(self, tenant_id: str | None) -> list[Account]:
        self.reads += 1
        return await super().accounts(tenant_id)


def samples(body: bytes) -> dict[str, float]:
    """The samples of an exposition by ``name{labels}``."""
    found = {}
    for family in text_string_to_metric_families(body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{k}={v}" for k, v in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


class MetricsTests(SynchronousTestCase):
    def test_gauges(self) -> None:
        """A scrape shows the queue as it is now."""
        door = Door()
        door.put_account()
        door.add(message("m1"), message("m2"), message("m3", to=[]))
        door.clock.advance(30)
        shown = samples(door.call("GET", "/metrics", token=None).body)
        self.assertEqual(2, shown["gmp_pending_messages{}"])
        self.assertEqual(2, shown["mailproxy_queue_messages{state=queued}"])
        self.assertEqual(0, shown["mailproxy_queue_messages{state=held}"])
        self.assertEqual(30, shown["mailproxy_queue_oldest_due_seconds{}"])
        self.assertEqual(0, shown["mailproxy_report_lag_seconds{}"])
        self.assertEqual(2, shown["mailproxy_accepted_total{verdict=queued}"])
        self.assertEqual(1, shown["mailproxy_accepted_total{verdict=rejected}"])

    def test_names_of_dashboards(self) -> None:
        """The first scrape of a restarted service has the series that dashboards use."""
        before = Door(store=CountingStore)
        before.put_account()
        door = Door(store=CountingStore)
        door.store.disk.accounts = before.store.disk.accounts
        labels = "{account_id=smtp-main,tenant_id=default}"
        for _ in range(3):
            shown = samples(door.call("GET", "/metrics", token=None).body)
            for name in ("sent", "errors", "deferred", "rate_limited"):
                self.assertEqual(0, shown[f"gmp_{name}_total{labels}"])
        assert isinstance(door.store, CountingStore)
        self.assertEqual(1, door.store.reads)

    def test_formats(self) -> None:
        """The exposition comes in the format the scraper asks for."""
        door = Door()
        reply = door.call("GET", "/metrics", token=None)
        self.assertTrue(reply.headers["content-type"].startswith("text/plain"))
        accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
        reply = door.call("GET", "/metrics", token=None, headers=accept)
        self.assertTrue(reply.headers["content-type"].startswith("application/openmetrics-text"))
        self.assertTrue(reply.body.endswith(b"# EOF\n"))

    def test_store_away(self) -> None:
        """Without storage there are metrics all the same."""
        door = Door()
        door.store.close()
        reply = door.call("GET", "/metrics", token=None)
        self.assertEqual(200, reply.status)
        self.assertIn(b"gmp_pending_messages", reply.body)

    def test_store_slow(self) -> None:
        """A store that does not answer delays a scrape by two seconds, not for ever."""
        door = Door(store=SlowStore)
        assert isinstance(door.store, SlowStore)
        door.store.slow = Deferred()
        client = door.connect()
        client.send(request("GET", "/metrics", token=None))
        door.clock.advance(1.9)
        self.assertEqual([], client.replies)

        door.clock.advance(0.1)

        self.assertEqual([200], [reply.status for reply in client.replies])

    def test_requests(self) -> None:
        """Requests are counted by the route's pattern and the status."""
        door = Door()
        door.call("DELETE", "/account/secret-name")
        door.call("GET", "/secret-path")
        door.call("GET", "/messages", token=None)
        door.call("POST", "/commands/add-messages", b"x", token=None)
        body = door.call("GET", "/metrics", token=None).body
        shown = samples(body)
        self.assertEqual(
            1, shown["mailproxy_http_requests_total{route=/account/<path:id>,status=200}"]
        )
        self.assertEqual(1, shown["mailproxy_http_requests_total{route=other,status=404}"])
        self.assertEqual(2, shown["mailproxy_http_requests_total{route=other,status=401}"])
        self.assertEqual(4, shown["mailproxy_http_request_seconds_count{}"])
        self.assertNotIn(b"secret", body)


class LogTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events: list[Any] = []
        globalLogPublisher.addObserver(cast(Any, self.events.append))
        self.addCleanup(globalLogPublisher.removeObserver, cast(Any, self.events.append))

    def requests(self) -> list[Any]:
        return [event for event in self.events if "seconds" in event and "method" in event]

    def test_one_event(self) -> None:
        """Each request is one event at DEBUG, with its fields apart."""
        door = Door()
        door.call("GET", "/messages?limit=5")
        (event,) = self.requests()
        self.assertEqual(LogLevel.debug, event["log_level"])
        self.assertEqual(
            ("GET", "/messages", 200), (event["method"], event["path"], event["status"])
        )
        self.assertEqual("192.0.2.7", event["client"])
        self.assertIn("GET /messages 200", formatEvent(event))

    def test_refused_early(self) -> None:
        """A request refused before its body is an event too."""
        Door().call("POST", "/commands/add-messages", b"x", token="wrong")
        (event,) = self.requests()
        self.assertEqual(
            ("POST", "/commands/add-messages", 401),
            (event["method"], event["path"], event["status"]),
        )

    def test_not_even_a_request(self) -> None:
        """What is no request leaves what there is of it."""
        for before in (b"", b"GET /livez HTTP/1.1\r\n\r\n"):
            Door().connect().send(before + b"nonsense\r\n\r\n")
            event = self.requests()[-1]
            self.assertEqual(
                ("-", "-", 400), (event["method"], event["path"], event["status"]), before
            )

    def test_behind_a_proxy(self) -> None:
        """Behind our own proxy the client is the one it tells."""
        door = Door(trusted_proxies=("192.0.2.0/24",))
        door.call("GET", "/livez", headers={"X-Forwarded-For": "198.51.100.1"})
        self.assertEqual("198.51.100.1", self.requests()[0]["client"])

    def test_no_secrets(self) -> None:
        """Neither tokens nor passwords nor bodies get into the log, whatever happens."""
        door = Door()
        door.put_account(user="u", password="canary-password")
        door.add(message(subject="canary-subject", body="canary-body"))
        door.call("POST", "/account", b'{"password": "canary-broken')
        door.call("GET", "/status?canary=query", token="canary-token")
        door.store.fail_next(ZeroDivisionError(), "enqueue")
        door.add(message(subject="canary-subject"))
        self.flushLoggedErrors(ZeroDivisionError)
        for event in self.events:
            text = formatEvent(event) + repr(event)
            self.assertNotIn("canary", text)
            self.assertNotIn(TOKEN, text)

    def test_no_control_characters(self) -> None:
        """What a client puts into its path cannot look like a line of the log."""
        door = Door()
        client = door.connect()
        client.send(b"GET /\x80\x9b31m HTTP/1.1\r\n\r\n")
        self.assertTrue(all(event["path"].isprintable() for event in self.requests()))
        self.assertEqual(1, len(self.requests()))
