"""What tests of the reporter stand on."""

from __future__ import annotations

import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import (
    ReportRefused,
    SinkUnavailable,
)
from mailproxy.interfaces import IReportSink
from mailproxy.metrics import Metrics
from mailproxy.report.reporter import GRACE, Reporter
from tests.fakes import FakeClock
from tests.report.fakes import Answer, FakeReports, FakeSink

DOWN = SinkUnavailable("HTTP 500")
REFUSED = ReportRefused("HTTP 422")


class ReporterCase(SynchronousTestCase):
    """A reporter with a store in memory and one scripted receiver per tenant."""

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = FakeReports(self.clock)
        self.sink = FakeSink(self.clock)
        self.sinks: dict[str, IReportSink] = {"default": self.sink}
        self.metrics = Metrics()

    def start(self, *answers: Answer, first: bool = True, **options: Any) -> Reporter:
        """
        Start the reporter.

        :param answers: what the receiver of the default tenant answers from then on.
        :param first: whether its first, empty call is over already.
        """
        options.setdefault("poll", 1000.0)
        reporter = Reporter(
            self.store,
            self.sinks.get,
            self.clock,
            self.metrics,
            rng=_NoJitter(),
            **options,
        )
        self.store.subscribe(reporter)
        if not first:
            self.sink.answers = list(answers)
        reporter.startService()
        self.addCleanup(self.stop, reporter)
        if first:
            self.clock.advance(0)
            self.sink.offered.clear()
            self.sink.times.clear()
            self.sink.answers = list(answers)
        return reporter

    def stop(self, reporter: Reporter) -> None:
        stopped = reporter.stopService()
        self.clock.pump([GRACE, 1.0])
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def run_for(self, seconds: float, step: float = 0.005) -> None:
        self.clock.pump([step] * round(seconds / step))

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"mailproxy_{name}", labels) or 0.0


class _NoJitter(random.Random):
    def random(self) -> float:
        return 0.0
