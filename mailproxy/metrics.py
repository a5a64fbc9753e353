"""
Every metric, declared once, with what a rise of it means.

One :class:`Metrics` belongs to one running service; nothing registers itself globally. Counters
may be raised from any thread. Labels are tenants and accounts, never recipients or message ids.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

#: Upper bounds in seconds for things that should be quick.
QUICK = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

#: Upper bounds in seconds for how long a message waits.
PATIENT = (0.01, 0.05, 0.25, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0, 14400.0, 86400.0, 432000.0)

_ACCOUNT = ("tenant_id", "account_id")


class Exposition(Collector):
    """
    What ``/metrics`` shows of a registry: all but when each series was made.

    A ``_created`` series for every counter and histogram would double the answer, and nobody
    looks at them.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            family.samples = [one for one in family.samples if not one.name.endswith("_created")]
            yield family


class Metrics:
    """The metrics of one service; ``exposition`` is what ``/metrics`` shows of ``registry``."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        self.exposition = Exposition(registry)

        # Names that dashboards already use.
        self.sent = Counter(
            "gmp_sent",
            "Messages accepted upstream for every recipient.",
            _ACCOUNT,
            registry=registry,
        )
        self.errors = Counter(
            "gmp_errors",
            "Messages that finally failed, whatever the cause.",
            _ACCOUNT,
            registry=registry,
        )
        self.deferred = Counter(
            "gmp_deferred",
            "Attempts that ended in a deferral: an upstream is refusing for now.",
            _ACCOUNT,
            registry=registry,
        )
        self.rate_limited = Counter(
            "gmp_rate_limited",
            "Messages put off, or failed, because a limit of their account or tenant was met.",
            _ACCOUNT,
            registry=registry,
        )
        self.pending = Gauge(
            "gmp_pending_messages",
            "Messages not final. Rising: more comes in than goes out.",
            registry=registry,
        )

        self.queue = Gauge(
            "mailproxy_queue_messages",
            "Messages not final, by state.",
            ("state",),
            registry=registry,
        )
        self.oldest_due = Gauge(
            "mailproxy_queue_oldest_due_seconds",
            "Age of the message that has been due longest. Rising: nothing drains the queue.",
            registry=registry,
        )
        self.accepted = Counter(
            "mailproxy_accepted",
            "Submitted elements by verdict.",
            ("verdict",),
            registry=registry,
        )
        self.bounces = Counter(
            "mailproxy_bounces",
            "Failed messages of tenants that want bounces: a bounce was made, nothing was to be "
            "told, or none could be sent.",
            ("result",),
            registry=registry,
        )
        self.recipients = Counter(
            "mailproxy_recipients",
            "Recipients by what became of them in an attempt.",
            ("state",),
            registry=registry,
        )
        self.time_in_queue = Histogram(
            "mailproxy_time_in_queue_seconds",
            "From accept to the end of a message.",
            buckets=PATIENT,
            registry=registry,
        )
        self.delivery = Histogram(
            "mailproxy_delivery_seconds",
            "From the envelope's first byte to the last reply.",
            buckets=QUICK,
            registry=registry,
        )
        self.sessions = Gauge(
            "mailproxy_smtp_sessions",
            "Open outbound sessions.",
            _ACCOUNT,
            registry=registry,
        )
        self.session_failures = Counter(
            "mailproxy_smtp_session_failures",
            "Sessions that could not be had, by phase. Rising: route, TLS or login is broken.",
            (*_ACCOUNT, "phase"),
            registry=registry,
        )
        self.accounts_parked = Gauge(
            "mailproxy_accounts_parked",
            "1 while an account is parked: a person is needed.",
            _ACCOUNT,
            registry=registry,
        )
        self.through_others = Counter(
            "mailproxy_attempts_through_others",
            "Attempts that another account carried. Rising: the account is parked or limited, or "
            "its weights say so.",
            (*_ACCOUNT, "through"),
            registry=registry,
        )
        self.accounts_limited = Gauge(
            "mailproxy_accounts_limited",
            "1 while a limit of the account, or (no account) of the tenant, is met.",
            _ACCOUNT,
            registry=registry,
        )
        self.account_breaker = Gauge(
            "mailproxy_account_breaker",
            "0: mail of the account flows. 2: it is left alone. 1: a message tries it.",
            _ACCOUNT,
            registry=registry,
        )
        self.account_sessions_target = Gauge(
            "mailproxy_account_sessions_target",
            "Sessions an account may use at once. Falling: its server puts us off.",
            _ACCOUNT,
            registry=registry,
        )
        self.reply_rules = Counter(
            "mailproxy_reply_rules",
            "Replies that a rule for known replies decided about.",
            (*_ACCOUNT, "rule"),
            registry=registry,
        )
        self.uncertain = Counter(
            "mailproxy_uncertain",
            "Attempts of which nobody knows whether they were accepted.",
            _ACCOUNT,
            registry=registry,
        )
        self.quarantined = Counter(
            "mailproxy_quarantined",
            "Messages held because handling them raised three times.",
            registry=registry,
        )
        self.submission_connections = Gauge(
            "mailproxy_submission_connections",
            "Open connections of programs that hand mail in by SMTP.",
            registry=registry,
        )
        self.submission_refused = Counter(
            "mailproxy_submission_refused",
            "What was turned away at the SMTP door, by reason. Rising logins: somebody guesses.",
            ("reason",),
            registry=registry,
        )
        self.commit_seconds = Histogram(
            "mailproxy_store_commit_seconds",
            "Time of one group commit. Rising: the disk is slow.",
            buckets=QUICK,
            registry=registry,
        )
        self.commit_works = Histogram(
            "mailproxy_store_commit_works",
            "Works in one group commit.",
            buckets=(1, 2, 5, 10, 25, 50, 100, 250, 500, 1000),
            registry=registry,
        )
        self.store_failures = Counter(
            "mailproxy_store_failures",
            "Transactions that failed. Any: look at disk and log.",
            registry=registry,
        )
        self.reports = Counter(
            "mailproxy_report_posts",
            "Report calls by result.",
            ("tenant_id", "result"),
            registry=registry,
        )
        self.attachments = Counter(
            "mailproxy_attachments",
            "Attachments that had to be fetched, by source and by what became of it.",
            ("mode", "result"),
            registry=registry,
        )
        self.reported = Counter(
            "mailproxy_reported_events",
            "Events acknowledged by the application.",
            ("tenant_id",),
            registry=registry,
        )
        self.parked_events = Counter(
            "mailproxy_parked_events",
            "Events the application refused for good, or did not take in time.",
            ("tenant_id",),
            registry=registry,
        )
        self.report_lag = Gauge(
            "mailproxy_report_lag_seconds",
            "Age of the oldest unreported event. Rising: the application does not take reports.",
            registry=registry,
        )
        self.last_report = Gauge(
            "mailproxy_last_report_timestamp_seconds",
            "When a report call last succeeded.",
            ("tenant_id",),
            registry=registry,
        )
        self.http_requests = Counter(
            "mailproxy_http_requests",
            "API requests by route and status.",
            ("route", "status"),
            registry=registry,
        )
        self.http_seconds = Histogram(
            "mailproxy_http_request_seconds",
            "Time from the request's headers to its answer.",
            buckets=QUICK,
            registry=registry,
        )

    def know(self, tenant_id: str, account_id: str) -> None:
        """Make the per-account series appear, at 0, before anything has happened to them."""
        for metric in (self.sent, self.errors, self.deferred, self.rate_limited, self.uncertain):
            metric.labels(tenant_id, account_id)
        self.sessions.labels(tenant_id, account_id)

    def open_sessions(self) -> dict[tuple[str, str], int]:
        """Open outbound sessions, by tenant and account."""
        return {
            (sample.labels["tenant_id"], sample.labels["account_id"]): int(sample.value)
            for family in self.sessions.collect()
            for sample in family.samples
        }

    def forget(self, tenant_id: str, account_id: str) -> None:
        """An account was deleted: nobody is needed for it any more. What it did stays counted."""
        for gauge in (self.accounts_parked, self.account_breaker, self.account_sessions_target):
            gauge.labels(tenant_id, account_id).set(0)
