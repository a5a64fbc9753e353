"""
What the service is made of: every part, built from the settings and connected to the others.

Together with :mod:`mailproxy.service` the only module that knows all stages. Nothing is opened,
locked or started here.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet.endpoints import serverFromString

from mailproxy.api.console.figures import Sampler
from mailproxy.api.messages import IntakeRules
from mailproxy.api.root import Api, ApiOptions
from mailproxy.api.site import ApiSite, SiteLimits
from mailproxy.book import TenantBook
from mailproxy.clock import Names
from mailproxy.composed import Composed
from mailproxy.config import Settings
from mailproxy.config_secrets import Secrets
from mailproxy.crypto import Sealer
from mailproxy.delivery.attachments.guard import Guard
from mailproxy.delivery.connect import Connector
from mailproxy.delivery.courier import Courier
from mailproxy.delivery.names import THREADS as NAMES
from mailproxy.delivery.names import Names as UpstreamNames
from mailproxy.delivery.pool import Pool
from mailproxy.delivery.tokens import Tokens
from mailproxy.dispatch.caretaker import Caretaker
from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.errors import ConfigurationError
from mailproxy.filelinks import FileLinks
from mailproxy.interfaces import IClock, IControl, IStore
from mailproxy.metrics import Metrics
from mailproxy.reply_rules import Rule, RuleBook, read_rules
from mailproxy.report.agent import make_agent
from mailproxy.report.reporter import Reporter
from mailproxy.report.tenants import TenantSinks, usual_address
from mailproxy.service_attachments import Attachments, attachments
from mailproxy.service_machine import THIS_MACHINE, Machine
from mailproxy.service_submission import Submission, submission
from mailproxy.store.embedded import EmbeddedStore
from mailproxy.threads import Threads
from mailproxy.turns import Turns, ready

if TYPE_CHECKING:
    from mailproxy.store.postgres import PostgresStore

#: Threads for what would keep the reactor busy: large requests and answers, large messages.
HELPERS = 4


@attrs.define
class Parts:
    """What runs while the service runs, in the order of its start."""

    helpers: Threads
    attachments: Attachments
    store: EmbeddedStore | PostgresStore
    book: TenantBook
    courier: Courier
    dispatcher: Dispatcher
    reporter: Reporter
    caretaker: Caretaker
    site: ApiSite
    sampler: Sampler | None
    listener: MultiService
    submission: Submission


#: The rules that come with the program. Read before a daemon changes its user, who may not be able
#: to read where the program lies.
_KNOWN_REPLIES = Path(__file__).with_name("reply_rules.toml").read_text(encoding="utf-8")


@cache
def _known_replies() -> tuple[Rule, ...]:
    return read_rules(_KNOWN_REPLIES)


class Builder:
    """
    :param settings: as loaded.
    :param secrets: those that the settings name, or that lie in the data directory.
    :param machine: what it runs on.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        secrets: Secrets,
        clock: IClock,
        machine: Machine = THIS_MACHINE,
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._secrets = secrets
        self._clock = clock
        self._machine = machine
        self._composed = Composed()

    def build(self, control: IControl) -> Parts:
        """
        Everything, nothing of it started.

        :param control: what the front door may ask of it all.
        :raises ConfigurationError: a setting is wrong.
        """
        settings, clock, metrics = self._settings, self._clock, Metrics()
        machine, names = self._machine, Names(self._machine.rng())
        helpers = machine.threads(self._reactor, "helpers", HELPERS)
        turns = Turns(self._reactor, ready(self._reactor))
        sealer = Sealer(self._secrets.keys)
        store = machine.store(self._reactor, settings, clock, names, sealer, metrics, turns.send)
        book = TenantBook(store, clock)
        links = FileLinks([key.encode() for key in self._secrets.keys])
        fetching = attachments(
            self._reactor, settings, sealer, links, clock, store, book, metrics, machine.threads
        )
        courier = self._courier(store, metrics, helpers, fetching, book)
        dispatcher = Dispatcher(
            store, courier, clock, machine.rng(), metrics, self._dispatch_options(), turns.gather
        )
        sinks = self._sinks(book)
        reporter = Reporter(
            store,
            sinks,
            clock,
            metrics,
            tenants=sinks.tenants,
            rng=machine.rng(),
            interval=settings.client_sync_interval,
            timeout=settings.client_sync_timeout,
            log_activity=settings.log_delivery_activity,
        )
        sinks.follow(reporter)
        options = self._api_options(fetching)
        names = Names(machine.rng())
        door = submission(
            self._reactor,
            settings,
            clock,
            names,
            store,
            control,
            book,
            helpers,
            metrics,
            machine,
            self._composed,
        )
        api = Api(store, control, clock, names, metrics, helpers, options, book, door.book)
        site = api.site()
        return Parts(
            helpers,
            fetching,
            store,
            book,
            courier,
            dispatcher,
            reporter,
            Caretaker(store, clock),
            site,
            api.sampler,
            self._listener(site),
            door,
        )

    def _listener(self, site: ApiSite) -> MultiService:
        """What opens every door of the API, or raises at once."""
        doors = MultiService()
        for text in self._settings.listen:
            door = StreamServerEndpointService(serverFromString(self._reactor, text), site)
            door._raiseSynchronously = True
            door.setServiceParent(doors)
        return doors

    def _courier(
        self,
        store: IStore,
        metrics: Metrics,
        helpers: Threads,
        fetching: Attachments,
        book: TenantBook,
    ) -> Courier:
        settings = self._settings
        guard = Guard(settings.oauth_allow)
        asking = self._machine.threads(self._reactor, "names of upstreams", NAMES)
        asking.setServiceParent(fetching.threads)
        pool = Pool(
            Connector(
                self._reactor, UpstreamNames(asking, self._clock, lookup=self._machine.lookup)
            ),
            self._clock,
            settings.helo_name,
            metrics,
            tokens=Tokens(fetching.exchanges, guard, store, self._clock),
            extra_ca=settings.ca_file.read_text() if settings.ca_file else None,
            trace=settings.log_level == "DEBUG",
        )
        return Courier(
            pool,
            self._clock,
            store.contents,
            helpers,
            metrics,
            attachments=fetching.completion,
            signing=book,
            composed=self._composed,
        )

    def _dispatch_options(self) -> DispatchOptions:
        settings = self._settings
        return DispatchOptions(
            interval=settings.send_loop_interval,
            batch_size=settings.batch_size_per_account,
            retry_delays=settings.retry_delays,
            fault_max_age=settings.account_fault_max_age_seconds,
            replies=RuleBook(_known_replies(), settings.reply_rules),
            test_mode=settings.test_mode,
            log_activity=settings.log_delivery_activity,
            lease_seconds=settings.node_lease_seconds,
        )

    def _sinks(self, book: TenantBook) -> TenantSinks:
        """Where each tenant is told; ``default`` at the global URL unless it says otherwise."""
        settings = self._settings
        ca_file = str(settings.ca_file) if settings.ca_file else None
        usual = usual_address(
            settings.client_sync_url,
            settings.client_sync_token,
            settings.client_sync_user,
            settings.client_sync_password,
        )
        agent, timeout = make_agent(self._reactor, ca_file), settings.client_sync_timeout
        try:
            return TenantSinks(agent, self._clock, book, usual, timeout)
        except ValueError as error:
            raise ConfigurationError("GMP_CLIENT_SYNC_URL", str(error)) from None

    def _api_options(self, fetching: Attachments) -> ApiOptions:
        settings = self._settings
        return ApiOptions(
            admin_token=self._secrets.api_token,
            metrics_token=settings.metrics_token,
            allow_no_token=settings.allow_no_token,
            rules=IntakeRules(
                max_batch=settings.max_batch,
                max_message_bytes=settings.max_message_bytes,
                max_recipients=settings.max_recipients,
                default_priority=settings.default_priority,
                helo_name=settings.helo_name,
                attachments=fetching.rules,
                composed=self._composed,
            ),
            links=fetching.links,
            limits=SiteLimits(max_request_bytes=settings.max_request_bytes),
            trusted_proxies=settings.trusted_proxies,
            sync_interval=settings.client_sync_interval,
            retention=settings.delivery_report_retention_seconds,
            serves=self._machine.serves,
        )
