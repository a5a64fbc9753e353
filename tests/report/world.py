"""
Several tenants on one clock: a store in memory, the reporter with its real sinks, and each tenant's
application behind HTTP in memory.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import attrs
from treq.testing import RequestTraversalAgent
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.http import Request
from twisted.web.iweb import IRequest
from twisted.web.resource import Resource

from mailproxy.book import TenantBook
from mailproxy.interfaces import IReports
from mailproxy.metrics import Metrics
from mailproxy.report.reporter import GRACE, Reporter
from mailproxy.report.tenants import TenantSinks
from mailproxy.tenancy import Tenant
from tests.build import account_spec, new_message, record
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result

#: What an application does with a call: it renders the request.
Render = Callable[[Request], Any]


#: More than what is lost when instants are added up.
_STEP = 1e-6


def takes(request: Request) -> bytes:
    """The application took the report."""
    return b'{"ok":true}'


class Application:
    """
    One tenant's side of the reports.

    :ivar render: what it does with a call.
    :ivar offered: when each call came, and the event ids in it.
    :ivar taken: the event ids of the calls it answered at once, in order.
    :ivar open: calls without an answer; ``most_open`` the most there ever were.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.render: Render = takes
        self.offered: list[tuple[float, list[str]]] = []
        self.taken: list[str] = []
        self.ids: list[str] = []
        self.taken_at: dict[str, float] = {}
        self.open = self.most_open = 0

    def __call__(self, request: Request) -> Any:
        assert request.content is not None
        items = json.loads(request.content.read())["delivery_report"]
        event_ids = [item["event_id"] for item in items]
        self.offered.append((round(self._clock.seconds(), 3), event_ids))
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        request.notifyFinish().addBoth(self._closed)
        answer = self.render(request)
        if isinstance(answer, bytes):
            self.taken += event_ids
            self.ids += [item["id"] for item in items]
            for item in items:
                self.taken_at.setdefault(item["id"], self._clock.seconds())
        return answer

    def _closed(self, _: object) -> None:
        self.open -= 1


class Hosts(Resource):
    """Finds the application by the host that was asked for: ``http://TENANT.test/``."""

    isLeaf = True

    def __init__(self) -> None:
        super().__init__()
        self.applications: dict[str, Application] = {}

    def render(self, request: IRequest) -> Any:
        assert isinstance(request, Request)
        host = request.getRequestHostname().decode()
        return self.applications[host.removesuffix(".test")](request)


class World(SynchronousTestCase):
    """
    :cvar interval: seconds without contact after which an empty report is sent.
    :cvar poll: seconds between looks at the store that nobody asked for.
    """

    interval = 300.0
    poll = 600.0

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.hosts = Hosts()
        self.agent = RequestTraversalAgent(self.hosts)
        self.book = TenantBook(self.store, self.clock)
        self.metrics = Metrics()
        self.sinks = TenantSinks(self.agent, self.clock, self.book)
        self._pks: dict[str, int] = {}
        self._sent = 0

    def application(self, tenant_id: str, render: Render = takes, **fields: Any) -> Application:
        """Register a tenant, and give it an account and an application."""

        def change(old: Tenant | None) -> Tenant:
            url = f"http://{tenant_id}.test"
            return attrs.evolve(old or Tenant(tenant_id), client_base_url=url, **fields)

        now = self.clock.now()
        result(self.store.change_tenant(tenant_id, change, now))
        account = result(self.store.put_account(account_spec(tenant_id=tenant_id), now))
        self._pks[tenant_id] = account.pk
        result(self.book.refresh())
        made = self.hosts.applications[tenant_id] = Application(self.clock)
        made.render = render
        return made

    def start(self, store: IReports | None = None) -> Reporter:
        """Start the reporter, on the store in memory unless another is given."""
        reporter = Reporter(
            store or self.store,
            self.sinks,
            self.clock,
            self.metrics,
            tenants=self.sinks.tenants,
            rng=random.Random(1),
            interval=self.interval,
            poll=self.poll,
        )
        self.sinks.follow(reporter)
        if store is None:
            self.store.subscribe(reporter)
        reporter.startService()
        self.addCleanup(self._stop, reporter)
        return reporter

    def _stop(self, reporter: Reporter) -> None:
        stopped = reporter.stopService()
        self.until(self.clock.seconds() + GRACE + 1.0)
        self.successResultOf(stopped)
        self.assertEqual([], self.clock.getDelayedCalls())

    def submit(self, tenant_id: str, count: int = 1) -> list[str]:
        """Accept messages of a tenant. :return: their ids."""
        ids = [f"m{self._sent + number}" for number in range(1, count + 1)]
        self._sent += count
        messages = [new_message(id=each, tenant_id=tenant_id) for each in ids]
        result(self.store.enqueue(messages, self.clock.now(), 5.0))
        return ids

    def send(self, tenant_id: str, count: int = 1) -> list[str]:
        """Have messages of a tenant accepted and sent, each an event. :return: their ids."""
        ids, now = self.submit(tenant_id, count), self.clock.now()
        claimed = result(self.store.claim(self._pks[tenant_id], count, now))
        result(self.store.begin([(each.pk, each.token) for each in claimed], "acct", now))
        result(self.store.record([record(each, at=now) for each in claimed]))
        return ids

    def until(self, when: float) -> None:
        """Let time pass, from each timer to the next."""
        while True:
            calls = self.clock.getDelayedCalls()
            due = min((each.getTime() for each in calls), default=math.inf)
            if due > when:
                break
            self.clock.advance(max(due - self.clock.seconds(), 0.0) + _STEP)
            self.agent.flush()
        self.clock.advance(max(when - self.clock.seconds(), 0.0))
        self.agent.flush()

    def after(self, seconds: float) -> None:
        self.until(self.clock.seconds() + seconds)
