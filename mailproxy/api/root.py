"""
The HTTP front door: one resource for all endpoints, and the site that serves it.

Every request is judged by its token first, then routed, then answered with one JSON object,
whatever goes wrong on the way.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, cast

import attrs
from klein import Klein
from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from mailproxy.api.accounts import Accounts
from mailproxy.api.admission import CONSOLE_API, Admission, check, through_console
from mailproxy.api.answers import (
    CANNOT_READ,
    CANNOT_STORE,
    INTERNAL,
    NOT_FOUND,
    Answer,
    Refused,
    error,
)
from mailproxy.api.audit import Audit
from mailproxy.api.auth import NO_ADDRESS, NOT_READ_YET, Caller, Gate, Proxies
from mailproxy.api.call import Call, Need, Route, shielded
from mailproxy.api.command_log import CommandLog
from mailproxy.api.console.sessions import Sessions
from mailproxy.api.console.site import NOT_KEPT, Console
from mailproxy.api.description import Description
from mailproxy.api.dkim import DkimKeyring
from mailproxy.api.files import Files
from mailproxy.api.instance import Instance
from mailproxy.api.keys import Keys
from mailproxy.api.mail import mail_routes
from mailproxy.api.messages import IntakeRules
from mailproxy.api.nodes import Nodes
from mailproxy.api.patience import Patience
from mailproxy.api.site import ApiSite, SiteLimits
from mailproxy.api.status import Status
from mailproxy.api.submitters import SmtpCredentials
from mailproxy.api.tenants import Tenants
from mailproxy.book import TenantBook
from mailproxy.clock import Names
from mailproxy.dkim_keys import installed
from mailproxy.errors import StoreError
from mailproxy.filelinks import FileLinks
from mailproxy.interfaces import IClock, IControl, InThread, IStore
from mailproxy.metrics import Metrics
from mailproxy.submitter_book import SubmitterBook
from mailproxy.threads import NotRunning

_log = Logger()


@attrs.frozen
class ApiOptions:
    """
    What the front door is told at its start.

    :param admin_token: good for everything.
    :param metrics_token: what ``/metrics`` then requires; None leaves it open.
    :param allow_no_token: whether, without an admin token, everyone is the admin.
    :param trusted_proxies: addresses or CIDR blocks whose ``X-Forwarded-For`` is believed.
    :param links: to large files that are given out here; None: there are none.
    :param sync_interval: seconds after which a tenant is called though there is nothing to report.
    :param retention: seconds for which ended messages are kept where a tenant says nothing else.
    :param can_sign: whether what signs mail is installed.
    :param serves: whether an endpoint is there at all.
    """

    admin_token: str | None = attrs.field(default=None, repr=False)
    metrics_token: str | None = attrs.field(default=None, repr=False)
    allow_no_token: bool = False
    rules: IntakeRules = attrs.Factory(IntakeRules)
    limits: SiteLimits = attrs.Factory(SiteLimits)
    trusted_proxies: tuple[str, ...] = ()
    links: FileLinks | None = None
    sync_interval: float = 300.0
    retention: float = 7 * 86_400.0
    can_sign: Callable[[], bool] = installed
    serves: Callable[[Route], bool] = lambda route: True


class Api:
    """
    :param in_thread: where large requests are read, and large answers made.
    :param book: the tenants and their keys; *submitters*: who may hand mail in by SMTP.
    """

    def __init__(
        self,
        store: IStore,
        control: IControl,
        clock: IClock,
        names: Names,
        metrics: Metrics,
        in_thread: InThread,
        options: ApiOptions,
        book: TenantBook,
        submitters: SubmitterBook,
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._options = options
        routes: tuple[Route, ...] = (
            *mail_routes(
                store,
                control,
                clock,
                names,
                metrics,
                in_thread,
                options.rules,
                book,
                options.retention,
            ),
            *Accounts(store, clock, metrics, control).routes(),
            *Status(store, control, clock, metrics, in_thread, book).routes(),
            *Tenants(store, control, clock, book, metrics, options.sync_interval).routes(),
            *Keys(store, clock, book).routes(),
            *SmtpCredentials(store, clock, submitters, in_thread).routes(),
            *DkimKeyring(store, clock, book, in_thread, options.can_sign).routes(),
            *Instance(store, clock).routes(),
            *Nodes(store, clock).routes(),
            *CommandLog(store).routes(),
            *Files(store, options.links, clock, in_thread).routes(),
        )
        #: Every endpoint there is.
        self.routes = tuple(filter(options.serves, (*routes, *Description(routes).routes())))
        self._proxies = Proxies(options.trusted_proxies)
        gate = Gate(options.admin_token, options.metrics_token, options.allow_no_token, book)
        sessions = Sessions(gate, clock)
        console = Console(store, control, metrics, clock, in_thread, sessions, self._proxies)
        own = tuple(filter(options.serves, console.routes()))
        #: What the console shows live; to be started and stopped with the service.
        self.sampler = console.sampler if own else None
        audit = Audit(store, clock)
        patience = Patience(gate, book, clock)
        routes = (*self.routes, *own)
        self._front = _Front(gate, self._proxies, book, audit, patience, routes, sessions)

    def resource(self) -> Resource:
        """All endpoints, without the limits that only the site can enforce."""
        return self._front

    def site(self) -> ApiSite:
        """What to listen with."""
        front, limits = self._front, self._options.limits
        return ApiSite(front, front.admission, limits, self._proxies, self._metrics, self._clock)


class _Front(Resource):
    """Checks the token, hands the request to Klein, and words its failures."""

    isLeaf = True

    def __init__(
        self,
        gate: Gate,
        proxies: Proxies,
        book: TenantBook,
        audit: Audit,
        patience: Patience,
        routes: Sequence[Route],
        sessions: Sessions,
    ) -> None:
        super().__init__()
        self._book = book
        self._audit = audit
        self._patience = patience
        app = Klein()
        app.url_map.merge_slashes = False
        for route in routes:
            self._connect(app, route)
        app.handle_errors(HTTPException)(cast(Any, _routing_failed))
        app.handle_errors(Exception)(cast(Any, _failed))
        self.admission = Admission(
            gate, proxies, app.url_map, {_name(route): route for route in routes}, sessions
        )
        self._klein = app.resource()

    def _connect(self, app: Klein, route: Route) -> None:
        async def handle(request: Request, **path: str) -> bytes:
            return await self._serve(route, request, path)

        app.route(route.path, methods=[route.method], endpoint=_name(route))(handle)

    def render(self, request: Request) -> Any:
        peer = getattr(request.client, "host", NO_ADDRESS)
        try:
            caller = self.admission.admit(request.method, request.uri, request.requestHeaders, peer)
        except Refused as refused:
            return _write(request, refused.answer)
        try:
            b"/".join(request.postpath or ()).decode("utf-8")
        except UnicodeDecodeError:
            return _write(request, NOT_FOUND)
        if through_console(request.uri):
            _to_endpoint(request)
        request.caller = caller  # type: ignore[attr-defined]  # for whoever serves it
        self._klein.render(request)
        return NOT_DONE_YET

    async def _serve(self, route: Route, request: Request, path: dict[str, str]) -> bytes:
        request.route = route.path  # type: ignore[attr-defined]  # for the access log
        caller: Caller = request.caller  # type: ignore[attr-defined]  # as render set it
        known = self._exists if route.needs is not Need.TOKEN else self._may_exist
        call = Call(request, caller, path, known)
        write = route.method != "GET"
        try:
            # What writes goes on when the client leaves: half a request is nobody's wish.
            work = self._judged(route, call)
            result = await (shielded(work) if write else work)
        except Refused as refused:
            result = refused.answer
        except (StoreError, NotRunning) as problem:
            _log.warn("{route}: {problem}", route=route.path, problem=str(problem))
            result = CANNOT_STORE if write else CANNOT_READ
        except CancelledError:
            raise
        except Exception:
            # The edge of the request: whoever called gets an answer, which says nothing of the bug.
            _log.failure("{route} failed", route=route.path)
            result = INTERNAL
        if result is None:
            return b""
        return _write(request, result)

    async def _judged(self, route: Route, call: Call) -> Answer | None:
        """Make the call, once it is known who calls."""
        asked, unjudged = call.query("tenant_id"), call.caller.unjudged

        def perform(caller: Caller) -> Awaitable[Answer | None]:
            check(route, caller, call.path.get("tenant_id"), asked)
            return self._perform(route, attrs.evolve(call, caller=caller))

        if unjudged is None:
            return await perform(call.caller)
        return await self._patience.serve(unjudged, asked, perform)

    async def _perform(self, route: Route, call: Call) -> Answer | None:
        result = await route.endpoint(call)
        if result is not None and result.status < 300:
            await self._audit.note(route, call)
        return result

    def _exists(self, tenant_id: str) -> bool:
        """:raises Refused: it cannot be said yet; "no" would lose mail."""
        if not self._book.exists(tenant_id) and not self._book.loaded:
            raise Refused(NOT_READ_YET)
        return self._book.exists(tenant_id)

    def _may_exist(self, tenant_id: str) -> bool:
        return self._book.exists(tenant_id) or not self._book.loaded


def _name(route: Route) -> str:
    return f"{route.method} {route.path}"


def _to_endpoint(request: Request) -> None:
    """From the console's path to the endpoint's own; browsers keep nothing of the answer."""
    pieces = request.postpath or []
    request.prepath, request.postpath = pieces[:2], pieces[2:]
    request.path = request.path[len(CONSOLE_API) - 1 :]
    for name, value in NOT_KEPT:
        request.setHeader(name, value)


def _write(request: Request, result: Answer) -> bytes:
    """Set status and header; returns the entity, which the caller writes."""
    request.setResponseCode(result.status, result.phrase)
    for name, value in result.fields():
        request.setHeader(name, value)
    return result.body


def _routing_failed(request: Request, failure: Failure) -> bytes:
    """No such path, or not with this verb."""
    problem = failure.value
    if not isinstance(problem, MethodNotAllowed):
        return _write(request, NOT_FOUND)
    verbs = ", ".join(sorted(problem.valid_methods or ())).encode()
    return _write(request, error(405, "Method Not Allowed", headers=((b"Allow", verbs),)))


def _failed(request: Request, failure: Failure) -> bytes:
    """Nothing that a handler raises gets here but its cancellation."""
    if not failure.check(CancelledError):
        _log.failure("a request failed", failure=failure)
    return _write(request, INTERNAL)
