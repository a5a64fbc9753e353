"""
The composition root: has the parts put together, starts them in order, and stops them in order.

With :mod:`mailproxy.service_parts` the only module that knows all stages. Nothing is opened, locked
or started before ``startService``, which comes after a daemon's fork and change of user.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.application.service import IService, Service
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy import __version__
from mailproxy.clock import SystemClock
from mailproxy.config import Settings
from mailproxy.dkim_keys import NOT_INSTALLED, installed
from mailproxy.errors import ConfigurationError, StoreBusy, StoreRefused, StoreUnavailable
from mailproxy.interfaces import IClock, IControl
from mailproxy.model import Account
from mailproxy.notify import READY, STOPPING
from mailproxy.records import AccountSpec, AccountTest
from mailproxy.reload import Reload
from mailproxy.reply_rules import Rule
from mailproxy.service_machine import THIS_MACHINE, Machine
from mailproxy.service_parts import Builder, Parts
from mailproxy.tenancy import SyncState, SyncTest

_log = Logger()

#: Seconds until a store that takes nothing is told again what the configuration says.
AGAIN = 1.0

#: Seconds that requests under way have to be answered once nobody listens any more.
LAST_ANSWERS = 2.0

#: Seconds the last report may take on the way down.
LAST_REPORT = 5.0


def assemble(reactor: Any, settings: Settings, read: Callable[[], Settings]) -> IService:
    """The service, ready to be started; *read* reads its settings again, for SIGHUP."""
    return MailProxy(reactor, settings, read)


@implementer(IControl)
class MailProxy(Service):
    """
    The whole service.

    :param reactor: Twisted's reactor.
    :param settings: as loaded; files are made and read at the start.
    :param read: reads the settings again.
    :param machine: what it runs on.
    """

    name = "mailproxy"

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        read: Callable[[], Settings],
        machine: Machine = THIS_MACHINE,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._machine = machine
        self._clock: IClock = SystemClock(reactor, machine.wall)
        self._parts: Parts | None = None
        self._draining = False
        self._pause: Deferred[object] | None = None
        self._signals = machine.signals(reactor)
        self._reload = Reload(settings, read, self._log_activity, self._declare, self._know_replies)

    # -- start -----------------------------------------------------------------------------

    def startService(self) -> None:
        """
        Acquire everything, in order.

        :raises SystemExit: the store or the configuration does not allow it; one line says why.
        """
        super().startService()
        self._draining = False
        try:
            secrets = self._machine.secrets(self._settings)
            builder = Builder(self._reactor, self._settings, secrets, self._clock, self._machine)
            self._parts = parts = builder.build(self)
            parts.helpers.startService()
            parts.attachments.threads.startService()
            parts.store.startService()
            parts.book.startService()
            parts.submission.background.startService()
        except (ConfigurationError, StoreRefused) as error:
            _log.critical("cannot start: {error}", error=error)
            raise SystemExit(f"mailproxy: {error}") from None
        self._listen(parts)
        self._machine.tune()
        self._signals.on(signal.SIGHUP, self._reload)
        Deferred.fromCoroutine(self._go(parts)).addErrback(self._stumbled)

    async def _go(self, parts: Parts) -> None:
        """Let mail and reports move, once the store knows what the configuration says of it."""
        while not await self._told(parts):
            if self._parts is parts:
                self._pause = deferLater(self._clock, AGAIN)
                with suppress(CancelledError):  # by the stop
                    await self._pause
            if self._parts is not parts:
                return
        await parts.book.ready()
        if parts.book.any_signing and not installed():
            _log.error("{problem}: mail that is to be signed waits", problem=NOT_INSTALLED)
        if self._parts is not parts:
            return
        parts.store.subscribe(parts.reporter)
        parts.dispatcher.startService()
        parts.caretaker.startService()
        parts.attachments.sweeper.startService()
        parts.reporter.startService()
        if parts.sampler is not None:
            parts.sampler.startService()
        self._machine.tell(READY)

    async def _told(self, parts: Parts) -> bool:
        """
        Tell the store what the configuration says.

        :return: False: it could not be written just now. A service that has its store does not end
            because a database is away for a while.
        """
        try:
            if not self._settings.scheduler_active:
                await parts.store.suspend(None, None, self._clock.now())
                _log.info("sending is suspended by GMP_SCHEDULER_ACTIVE until the activate command")
            await parts.store.declare_accounts(self._settings.accounts, self._clock.now())
        except (StoreBusy, StoreUnavailable) as error:
            _log.warn("nothing moves yet: {error}", error=error)
            return False
        return True

    def _stumbled(self, failure: Failure) -> None:
        """Half a service would be worse than none."""
        _log.failure("cannot start", failure)
        self._reactor.stop()

    def _listen(self, parts: Parts) -> None:
        """Open the front door last. :raises SystemExit: the address is taken."""
        try:
            for each in (parts.listener, parts.submission.door):
                if each is not None:
                    each.privilegedStartService()
                    each.startService()
        except Exception as error:
            parts.submission.background.stopService()
            parts.book.stopService()
            parts.store.stopService()
            parts.attachments.threads.stopService()
            parts.helpers.stopService()
            doors = " ".join((*self._settings.listen, *self._settings.smtp_listen))
            problem = f"cannot listen on {doors}: {error}"
            _log.critical("{problem}", problem=problem)
            raise SystemExit(f"mailproxy: {problem}") from None
        _log.info(
            "mailproxy {version} serves on {listen}",
            version=__version__,
            listen=" ".join(self._settings.listen),
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

    async def test_account(self, account: Account) -> AccountTest:
        if self._parts is None:
            return AccountTest(problem="not running")
        return await self._parts.courier.test(account)

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
        if self._pause is not None:
            self._pause.cancel()
        if parts is None:
            return Deferred.fromCoroutine(_nothing())
        return Deferred.fromCoroutine(self._stop(parts))

    async def _stop(self, parts: Parts) -> None:
        self._draining = True
        _log.info("stopping: no new mail is begun")
        self._machine.tell(STOPPING)
        self._cut_on_signal(parts)
        try:
            if (door := parts.submission.door) is not None:
                await _quietly("closing the SMTP door", _stopped(door))
                await _quietly("the last answers by SMTP", door.finish())
            await _quietly("draining", parts.dispatcher.drain(self._settings.drain_seconds))
            await _quietly("the last report", parts.reporter.flush(LAST_REPORT))
            await _quietly("closing the front door", _stopped(parts.listener))
            await _quietly("the last answers", parts.site.finish(LAST_ANSWERS))
            background = (parts.caretaker, parts.attachments.sweeper, parts.submission.background)
            services = (parts.sampler, parts.reporter, parts.dispatcher, *background, parts.book)
            for service in services:
                if service is not None and service.running:
                    await _quietly("stopping", _stopped(service))
        finally:
            await _quietly("closing the store", _stopped(parts.store))
            await _quietly("stopping the helpers", _stopped(parts.attachments.threads))
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

    def _know_replies(self, rules: Sequence[Rule]) -> None:
        if self._parts is not None:
            self._parts.dispatcher.replies.replace(rules)

    def _log_activity(self, wanted: bool) -> None:
        if self._parts is not None:
            self._parts.dispatcher.activity.log = wanted
            self._parts.reporter.log_calls(wanted)


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
