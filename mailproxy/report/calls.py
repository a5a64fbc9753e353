"""
What the calls of all streams have in common: what they are made with, and how their ends are named,
counted and logged.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import attrs
from twisted.logger import Logger

from mailproxy.errors import ReportRefused, ReportTooLarge, ReportUnanswered, SinkUnavailable
from mailproxy.interfaces import IClock, IReports, IReportSink
from mailproxy.metrics import Metrics
from mailproxy.records import ReportItem

_log = Logger()

#: What a call's end is called in metrics and logs, besides ``acked`` and ``unavailable``.
_RESULTS: dict[type[Exception], str] = {
    ReportTooLarge: "too_large",
    ReportRefused: "refused",
    ReportUnanswered: "timeout",
}


@attrs.define
class Parts:
    """
    What all streams of one reporter share; see :class:`mailproxy.report.reporter.Reporter`.

    :param timeout: seconds after which a sink has ended its call.
    """

    store: IReports
    sinks: Callable[[str], IReportSink | None]
    clock: IClock
    metrics: Metrics
    rng: random.Random
    interval: float
    timeout: float
    log_activity: bool

    def know(self, tenant_id: str) -> None:
        """Show the tenant's counts from now on, also while they are 0."""
        self.metrics.reported.labels(tenant_id)
        self.metrics.parked_events.labels(tenant_id)

    def told(self, tenant_id: str, result: str, items: int, started: float) -> None:
        """Count and log one call that has ended; it began at *started*."""
        self.metrics.reports.labels(tenant_id, result).inc()
        if self.log_activity:
            _log.info(
                "report to {tenant}: {items} items, {result}, {seconds:.3f} s",
                tenant=tenant_id,
                items=items,
                result=result,
                seconds=self.clock.seconds() - started,
            )

    def parked(self, item: ReportItem, reason: str) -> None:
        """Count and log one item that will not be offered again."""
        self.metrics.parked_events.labels(item.tenant_id).inc(len(item.event_pks))
        _log.error(
            "{tenant} will not take the report of message {id} ({event_id}): {reason}; parked",
            tenant=item.tenant_id,
            id=item.id,
            event_id=item.event_id,
            reason=reason,
        )


def result_of(error: Exception) -> str:
    """What the end of a call by *error* is called."""
    return _RESULTS.get(type(error), "unavailable")


def reason_of(error: Exception) -> str:
    """One line on why nothing was taken."""
    return error.reason if isinstance(error, SinkUnavailable) else type(error).__name__


def event_pks(items: Sequence[ReportItem]) -> list[int]:
    """Every event that *items* stand for."""
    return [pk for item in items for pk in item.event_pks]
