"""
The composition root: puts the parts together, starts them in order, and stops them in order.

The only module that knows all stages. Nothing is opened, locked or started before
``startService``, which comes after a daemon's fork and change of user.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import IService, Service
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import serverFromString
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy import __version__
from mailproxy.api.messages import IntakeRules
from mailproxy.api.root import Api, ApiOptions
from mailproxy.api.site import ApiSite, SiteLimits
from mailproxy.book import TenantBook
from mailproxy.clock import Names, SystemClock, seeded
from mailproxy.config import Settings
from mailproxy.config_secrets import Secrets, obtain
from mailproxy.crypto import Sealer
from mailproxy.delivery.connect import Connector
from mailproxy.delivery.courier import Courier
from mailproxy.delivery.pool import Pool
from mailproxy.dispatch.caretaker import Caretaker
from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.errors import ConfigurationError, StoreRefused
from mailproxy.interfaces import IClock, IControl, IReportSink, IStore
from mailproxy.metrics import Metrics
from mailproxy.model import DEFAULT_TENANT
from mailproxy.records import AccountSpec
from mailproxy.reload import Reload
from mailproxy.report.agent import make_agent
from mailproxy.report.http import HttpSink
from mailproxy.report.reporter import Reporter
from mailproxy.signals import Signals
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.store.options import StoreOptions
from mailproxy.tenancy import SyncState, SyncTest
from mailproxy.threads import Threads

_log = Logger()

#: Threads for what would keep the reactor busy: large requests and answers, large messages.
HELPERS = 4

#: Connections that may wait to be accepted.
BACKLOG = 1024

#: New objects, net, after which the collector looks at the youngest.
COLLECT_AFTER = 20_000

#: Seconds a thread may keep the interpreter while another waits for it.
SWITCH_SECONDS = 0.0005

#: Seconds that requests under way have to be answered once nobody listens any more.
LAST_ANSWERS = 2.0

#: Seconds the last report may take on the way down.
LAST_REPORT = 5.0


def assemble(reactor: Any, settings: Settings, read: Callable[[], Settings]) -> IService:
    """The service, ready to be started; *read* reads its settings again, for SIGHUP."""
    return MailProxy(reactor, settings, read)


@attrs.define
class Parts:
    """What runs while the service runs, in the order of its start."""

    helpers: Threads
    store: EmbeddedStore
    book: TenantBook
    courier: Courier
    dispatcher: Dispatcher
    reporter: Reporter
    caretaker: Caretaker
    site: ApiSite
    listener: StreamServerEndpointService


@implementer(IControl)
class MailProxy(Service):
    """
    The whole service.

    :param reactor: Twisted's reactor.
    :param settings: as loaded; files are made and read at the start.
    :param read: reads the settings again.
    """

    name = "mailproxy"

    def __init__(self, reactor: Any, settings: Settings, read: Callable[[], Settings]) -> None:
        self._reactor = reactor
        self._settings = settings
        self._clock: IClock = SystemClock(reactor)
        self._parts: Parts | None = None
        self._draining = False
        self._signals = Signals(reactor)
        self._reload = Reload(settings, read, self._log_activity, self._declare)

    # -- start -----------------------------------------------------------------------------

    def startService(self) -> None:
        """
        Acquire everything, in order.

        :raises SystemExit: the store or the configuration does not allow it; one line says why.
        """
        super().startService()
        self._draining = False
        try:
            secrets = obtain(self._settings)
            self._parts = parts = self._build(secrets)
            parts.helpers.startService()
            parts.store.startService()
            parts.book.startService()
        except (ConfigurationError, StoreRefused) as error:
            _log.critical("cannot start: {error}", error=error)
            raise SystemExit(f"mailproxy: {error}") from None
        self._listen(parts)
        _tune_interpreter()
        self._signals.on(signal.SIGHUP, self._reload)
        Deferred.fromCoroutine(self._go(parts)).addErrback(self._stumbled)

    async def _go(self, parts: Parts) -> None:
        """Let mail and reports move, once the store knows what the configuration says of it."""
        if not self._settings.scheduler_active:
            await parts.store.suspend(None, None, self._clock.now())
            _log.info("sending is suspended by GMP_SCHEDULER_ACTIVE until the activate command")
        await parts.store.declare_accounts(self._settings.accounts, self._clock.now())
        await parts.book.ready()
        if self._parts is not parts:
            return
        parts.store.subscribe(parts.reporter)
        parts.dispatcher.startService()
        parts.caretaker.startService()
        parts.reporter.startService()

    def _stumbled(self, failure: Failure) -> None:
        """Half a service would be worse than none."""
        _log.failure("cannot start", failure)
        self._reactor.stop()

    def _build(self, secrets: Secrets) -> Parts:
        settings, clock, metrics = self._settings, self._clock, Metrics()
        helpers = Threads(self._reactor, "helpers", HELPERS)
        store = EmbeddedStore(
            settings.db_path,
            clock=clock,
            names=Names(),
            sealer=Sealer(secrets.keys),
            metrics=metrics,
            reactor=self._reactor,
            options=StoreOptions(
                max_age_seconds=settings.max_age_seconds,
                retention_seconds=settings.delivery_report_retention_seconds,
                idempotency_seconds=settings.idempotency_seconds,
                report_max_age_seconds=settings.report_max_age_seconds,
            ),
        )
        courier = self._courier(store, metrics, helpers)
        dispatcher = Dispatcher(store, courier, clock, seeded(), metrics, self._dispatch_options())
        reporter = Reporter(
            store,
            self._sinks(),
            clock,
            metrics,
            rng=seeded(),
            interval=settings.client_sync_interval,
            log_activity=settings.log_delivery_activity,
        )
        book = TenantBook(store, clock)
        options = self._api_options(secrets)
        api = Api(store, self, clock, Names(), metrics, helpers, options, book)
        endpoint = serverFromString(self._reactor, settings.listen)
        site = api.site()
        return Parts(
            helpers,
            store,
            book,
            courier,
            dispatcher,
            reporter,
            Caretaker(store, clock),
            site,
            StreamServerEndpointService(endpoint, site),
        )

    def _courier(self, store: IStore, metrics: Metrics, helpers: Threads) -> Courier:
        settings = self._settings
        pool = Pool(
            Connector(self._reactor),
            self._clock,
            settings.helo_name,
            metrics,
            extra_ca=settings.ca_file.read_text() if settings.ca_file else None,
            trace=settings.log_level == "DEBUG",
        )
        return Courier(pool, self._clock, store.contents, helpers, metrics)

    def _dispatch_options(self) -> DispatchOptions:
        settings = self._settings
        return DispatchOptions(
            interval=settings.send_loop_interval,
            batch_size=settings.batch_size_per_account,
            retry_delays=settings.retry_delays,
            fault_max_age=settings.account_fault_max_age_seconds,
            test_mode=settings.test_mode,
            log_activity=settings.log_delivery_activity,
        )

    def _sinks(self) -> Callable[[str], IReportSink | None]:
        """The seed's one tenant reports to the global URL; without one, nothing is told."""
        settings = self._settings
        if settings.client_sync_url is None:
            return lambda tenant_id: None
        ca_file = str(settings.ca_file) if settings.ca_file else None
        try:
            sink = HttpSink(
                make_agent(self._reactor, ca_file),
                self._clock,
                settings.client_sync_url,
                token=settings.client_sync_token,
                user=settings.client_sync_user,
                password=settings.client_sync_password,
                timeout=settings.client_sync_timeout,
            )
        except ValueError as error:
            raise ConfigurationError("GMP_CLIENT_SYNC_URL", str(error)) from None
        return lambda tenant_id: sink if tenant_id == DEFAULT_TENANT else None

    def _api_options(self, secrets: Secrets) -> ApiOptions:
        settings = self._settings
        return ApiOptions(
            admin_token=secrets.api_token,
            metrics_token=settings.metrics_token,
            allow_no_token=settings.allow_no_token,
            rules=IntakeRules(
                max_batch=settings.max_batch,
                max_message_bytes=settings.max_message_bytes,
                max_recipients=settings.max_recipients,
                default_priority=settings.default_priority,
                helo_name=settings.helo_name,
            ),
            limits=SiteLimits(max_request_bytes=settings.max_request_bytes),
            trusted_proxies=settings.trusted_proxies,
            sync_interval=settings.client_sync_interval,
        )

    def _listen(self, parts: Parts) -> None:
        """Open the front door last. :raises SystemExit: the address is taken."""
        parts.listener._raiseSynchronously = True
        try:
            parts.listener.privilegedStartService()
            parts.listener.startService()
        except Exception as error:
            parts.book.stopService()
            parts.store.stopService()
            parts.helpers.stopService()
            problem = f"cannot listen on {self._settings.listen}: {error}"
            _log.critical("{problem}", problem=problem)
            raise SystemExit(f"mailproxy: {problem}") from None
        _log.info(
            "mailproxy {version} serves on {listen}",
            version=__version__,
            listen=self._settings.listen,
        )

    # -- IControl --------------------------------------------------------------------------

    def run_now(self, tenant_id: str | None) -> None:
        if self._parts is not None:
            self._parts.dispatcher.run_now()
            self._parts.reporter.run_now(tenant_id)

    def draining(self) -> bool:
        return self._draining

    def sync_status(self, tenant_id: str) -> SyncState | None:
        return None if self._parts is None else self._parts.reporter.status(tenant_id)

    async def test_sync(self, tenant_id: str) -> SyncTest:
        if self._parts is None:
            return SyncTest(acknowledged=False, problem="not running", seconds=0.0)
        return await self._parts.reporter.test(tenant_id)

    def tenant_registered(self, tenant_id: str) -> None:
        if self._parts is not None:
            self._parts.reporter.registered(tenant_id)

    # -- stop ------------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """
        Drain, report, close; fires when the store is closed.

        Bodies under way have ``drain_seconds`` to end; a second SIGTERM cuts them at once.
        """
        super().stopService()
        parts, self._parts = self._parts, None
        if parts is None:
            return Deferred.fromCoroutine(_nothing())
        return Deferred.fromCoroutine(self._stop(parts))

    async def _stop(self, parts: Parts) -> None:
        self._draining = True
        _log.info("stopping: no new mail is begun")
        self._cut_on_signal(parts)
        try:
            await _quietly("draining", parts.dispatcher.drain(self._settings.drain_seconds))
            await _quietly("the last report", parts.reporter.flush(LAST_REPORT))
            await _quietly("closing the front door", _stopped(parts.listener))
            await _quietly("the last answers", parts.site.finish(LAST_ANSWERS))
            for service in (parts.reporter, parts.dispatcher, parts.caretaker, parts.book):
                if service.running:
                    await _quietly("stopping", _stopped(service))
        finally:
            await _quietly("closing the store", _stopped(parts.store))
            await _quietly("stopping the helpers", _stopped(parts.helpers))
            self._signals.restore()
        _log.info("stopped")

    def _cut_on_signal(self, parts: Parts) -> None:
        """A second signal ends the patience of the first."""

        def cut() -> None:
            Deferred.fromCoroutine(_quietly("cutting", parts.courier.close(0.0)))

        self._signals.on(signal.SIGTERM, cut)
        self._signals.on(signal.SIGINT, cut)

    def _declare(self, specs: Sequence[AccountSpec]) -> None:
        """The configuration was read again, and declares these accounts now."""
        if self._parts is not None:
            made = self._parts.store.declare_accounts(specs, self._clock.now())
            Deferred.fromCoroutine(_quietly("declaring the accounts", made))

    def _log_activity(self, wanted: bool) -> None:
        if self._parts is not None:
            self._parts.dispatcher.activity.log = wanted
            self._parts.reporter.log_calls(wanted)


def _tune_interpreter() -> None:
    """
    What was made for the start stays for ever: the collector need not look at it again, nor wake
    for every few hundred of the short-lived values that a busy minute makes by the million. The
    store's thread and the reactor's hand the interpreter to each other many times a message, so
    neither may keep it for long.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 20, 100)
    sys.setswitchinterval(SWITCH_SECONDS)


async def _nothing() -> None:
    """There was nothing to stop."""


async def _stopped(service: IService) -> None:
    await _later(service.stopService())


async def _later(result: Any) -> None:
    """Wait for *result* if it is something to wait for."""
    if result is not None:
        await result


async def _quietly(what: str, awaitable: Any) -> None:
    """Wait for a step of the stop; a failure is logged and the next step is taken."""
    try:
        await _later(awaitable)
    except Exception:
        _log.failure("{what} failed", what=what)
