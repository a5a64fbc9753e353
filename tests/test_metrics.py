"""The metrics that dashboards and alarms are built on."""

from __future__ import annotations

import threading

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.metrics import Metrics


class MetricsTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.metrics = Metrics()

    def scrape(self) -> str:
        return generate_latest(self.metrics.exposition).decode()

    def test_names_of_older_dashboards(self) -> None:
        """The five names that dashboards use are there from the first scrape, with their kinds and
        labels."""
        self.metrics.know("default", "main")
        lines = self.scrape().splitlines()
        labels = '{account_id="main",tenant_id="default"}'
        for name in ("sent", "errors", "deferred", "rate_limited"):
            self.assertIn(f"# TYPE gmp_{name}_total counter", lines)
            self.assertIn(f"gmp_{name}_total{labels} 0.0", lines)
        self.assertIn("gmp_pending_messages 0.0", lines)

    def test_names(self) -> None:
        """Every other metric begins with our name, says what it means, and parses."""
        self.metrics.know("default", "main")
        families = list(text_string_to_metric_families(self.scrape()))
        self.assertGreater(len(families), 20)
        for family in families:
            self.assertRegex(family.name, r"^(gmp|mailproxy)_[a-z_]+$")
            self.assertTrue(family.documentation.endswith("."), family.name)

    def test_nothing_but_values(self) -> None:
        """When a series was made is not shown: it would double the answer."""
        self.metrics.know("default", "main")
        self.metrics.delivery.observe(1.0)
        text = self.scrape()
        self.assertIn("mailproxy_delivery_seconds_count 1.0", text)
        self.assertNotIn("_created", text)

    def test_labels_are_few(self) -> None:
        """Labels are tenants, accounts and closed sets of words: never ids or addresses."""
        allowed = {
            "tenant_id", "account_id", "state", "verdict", "phase", "result", "route", "status",
            "mode", "reason", "through", "rule",
        }  # fmt: skip
        for metric in vars(self.metrics).values():
            self.assertLessEqual(set(getattr(metric, "_labelnames", ())), allowed)

    def test_each_service_has_its_own(self) -> None:
        """Two services in one process do not share a number."""
        other = Metrics()
        self.metrics.sent.labels("default", "main").inc()
        other.know("default", "main")
        self.assertIn(
            'gmp_sent_total{account_id="main",tenant_id="default"} 0.0',
            generate_latest(other.exposition).decode(),
        )

    def test_counting_from_threads(self) -> None:
        """No count is lost when threads count at once."""
        counter = self.metrics.reported.labels("default")

        def count() -> None:
            for _ in range(1000):
                counter.inc()

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertIn('mailproxy_reported_events_total{tenant_id="default"} 4000.0', self.scrape())

    def test_awkward_names(self) -> None:
        """An account's id may hold anything without breaking the exposition."""
        self.metrics.know("default", 'a"b\\c\nd')
        list(text_string_to_metric_families(self.scrape()))
