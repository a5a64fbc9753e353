"""``/status``, ``/health``, ``/livez``, ``/readyz`` and ``/metrics``: how the service is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from prometheus_client.exposition import choose_encoder
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger

import mailproxy
from mailproxy.api.answers import Answer, error, ok
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Alive, NotReady, ServiceStatus
from mailproxy.book import TenantBook
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, IControl, InThread, IStore
from mailproxy.metrics import Metrics
from mailproxy.states import MessageState

#: Seconds a scrape waits for the store; then it shows the values of the scrape before.
REFRESH_SECONDS = 2.0

_OPEN_STATES = [state.value for state in MessageState if not state.final]

_log = Logger()


class Status:
    """How the service is, for people, load balancers and Prometheus."""

    def __init__(
        self,
        store: IStore,
        control: IControl,
        clock: IClock,
        metrics: Metrics,
        in_thread: InThread,
        book: TenantBook,
    ) -> None:
        self._store = store
        self._book = book
        self._control = control
        self._clock = clock
        self._metrics = metrics
        self._in_thread = in_thread
        self._introduced = False
        #: (tenant, account) of the limits that were met at the scrape before.
        self._limited: set[tuple[str, str]] = set()

    def routes(self) -> Iterable[Route]:
        about = "Show how the service is, or the tenant's part of it."
        yield Route("GET", "/status", self.status, Need.READ, Doc(about, gives=ServiceStatus))
        about = "Answer, as long as the process does."
        yield Route("GET", "/health", self.alive, Need.OPEN, Doc(about, gives=Alive))
        yield Route("GET", "/livez", self.alive, Need.OPEN, Doc(about, gives=Alive))
        about = "Tell whether mail can be taken now."
        doc = Doc(about, gives=Alive, refuses={503: NotReady})
        yield Route("GET", "/readyz", self.ready, Need.OPEN, doc)
        about = "Give all metrics. Where `GMP_METRICS_TOKEN` is set, it needs that, or the admin's."
        doc = Doc(about, gives=str, gives_type="text/plain", refuses={401: None})
        yield Route("GET", "/metrics", self.metrics, Need.OPEN, doc)

    async def status(self, call: Call) -> Answer:
        suspension = await self._store.suspension(call.scope())
        fields: dict[str, Any] = {}
        if call.caller.admin:
            fields["queue"] = (await self._store.counts(self._clock.now())).by_state
        return ok(
            active=suspension.active,
            version=mailproxy.__version__,
            draining=bool(self._control.draining()),
            suspended_batches=suspension.batches,
            pending_messages=suspension.pending,
            in_flight=suspension.in_flight,
            **fields,
        )

    async def alive(self, call: Call) -> Answer:
        return ok(status="ok")

    async def ready(self, call: Call) -> Answer:
        problem = None
        if self._control.draining():
            problem = "shutting down"
        elif not self._store.healthy():
            problem = "the store does not take writes"
        elif not self._book.loaded:
            problem = "the tenants are not known yet"
        return ok(status="ok") if problem is None else error(503, problem, status="error")

    async def metrics(self, call: Call) -> Answer:
        await self._refresh()
        accepted = call.request.getHeader("accept") or ""
        encode, content_type = choose_encoder(accepted)
        text = await self._in_thread(encode, self._metrics.exposition)
        return Answer(200, text, content_type.encode("ascii"))

    async def _refresh(self) -> None:
        """Set the gauges that follow from the store; a sick store leaves them as they were."""
        gathering: Deferred[None] = ensureDeferred(self._gather())
        gathering.addTimeout(REFRESH_SECONDS, self._clock)
        try:
            await gathering
        except (StoreError, DeferredTimeout) as problem:
            _log.debug("metrics are not fresh: {problem}", problem=str(problem))

    async def _gather(self) -> None:
        if not self._introduced:
            for account in await self._store.accounts(None):
                self._metrics.know(account.tenant_id, account.id)
            self._introduced = True
        now = self._clock.now()
        counts = await self._store.counts(now)
        for state in _OPEN_STATES:
            self._metrics.queue.labels(state).set(counts.by_state.get(state, 0))
        self._metrics.pending.set(counts.pending)
        due = counts.oldest_due
        self._metrics.oldest_due.set(0.0 if due is None else max(0.0, now - due))
        self._metrics.report_lag.set(await self._store.report_lag(now))
        await self._gather_limits(now)

    async def _gather_limits(self, now: float) -> None:
        shown: dict[tuple[str, str], bool] = dict.fromkeys(self._limited, False)
        for use in await self._store.limits(None, now):
            key = (use.tenant_id, use.account_id)
            shown[key] = shown.get(key, False) or use.until is not None
        for key, limited in shown.items():
            self._metrics.accounts_limited.labels(*key).set(limited)
        self._limited = {key for key, limited in shown.items() if limited}
