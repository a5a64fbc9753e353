"""
The HTTP front door: one resource for all endpoints, and the site that serves it.

Every request is judged by its token first, then routed, then answered with one JSON object,
whatever goes wrong on the way.
"""

from __future__ import annotations

from collections.abc import Callable
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
from mailproxy.api.answers import (
    CANNOT_READ,
    CANNOT_STORE,
    INTERNAL,
    NOT_FOUND,
    UNAUTHORIZED,
    Answer,
    Refused,
    error,
)
from mailproxy.api.auth import Gate, Proxies
from mailproxy.api.call import Call, Route, shielded
from mailproxy.api.commands import Commands
from mailproxy.api.description import Description
from mailproxy.api.listing import Listing
from mailproxy.api.messages import Intake, IntakeRules
from mailproxy.api.site import ApiSite, SiteLimits
from mailproxy.api.status import Status
from mailproxy.clock import Names
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, IControl, InThread, IStore
from mailproxy.metrics import Metrics
from mailproxy.model import DEFAULT_TENANT
from mailproxy.threads import NotRunning

_log = Logger()


def _default_only(tenant_id: str) -> bool:
    return tenant_id == DEFAULT_TENANT


def _no_tenant(token_hash: bytes) -> str | None:
    return None


@attrs.frozen
class ApiOptions:
    """
    What the front door is told at its start.

    :param admin_token: good for everything.
    :param metrics_token: what ``/metrics`` then requires; None leaves it open.
    :param allow_no_token: whether, without an admin token, everyone is the admin.
    :param tenant_of: the tenant that a token's hash (:func:`mailproxy.crypto.hash_token`) belongs
        to; None for an unknown one.
    :param tenant_exists: whether a tenant id is one we know.
    :param trusted_proxies: addresses or CIDR blocks whose ``X-Forwarded-For`` is believed.
    """

    admin_token: str | None = attrs.field(default=None, repr=False)
    metrics_token: str | None = attrs.field(default=None, repr=False)
    allow_no_token: bool = False
    tenant_of: Callable[[bytes], str | None] = _no_tenant
    tenant_exists: Callable[[str], bool] = _default_only
    rules: IntakeRules = attrs.Factory(IntakeRules)
    limits: SiteLimits = attrs.Factory(SiteLimits)
    trusted_proxies: tuple[str, ...] = ()


class Api:
    """
    :param in_thread: where large requests are read, and large answers made.
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
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._options = options
        self._gate = Gate(
            options.admin_token, options.metrics_token, options.allow_no_token, options.tenant_of
        )
        routes = [
            *Intake(store, control, clock, names, metrics, in_thread, options.rules).routes(),
            *Commands(store, control, clock).routes(),
            *Accounts(store, clock, metrics).routes(),
            *Listing(store, clock, in_thread).routes(),
            *Status(store, control, clock, metrics, in_thread).routes(),
        ]
        #: Every endpoint there is.
        self.routes = [*routes, *Description(routes).routes()]
        self._front = _Front(self._gate, options.tenant_exists, self.routes)

    def resource(self) -> Resource:
        """All endpoints, without the limits that only the site can enforce."""
        return self._front

    def site(self) -> ApiSite:
        """What to listen with."""
        options = self._options
        proxies = Proxies(options.trusted_proxies)
        return ApiSite(self._front, self._gate, options.limits, proxies, self._metrics, self._clock)


class _Front(Resource):
    """Checks the token, hands the request to Klein, and words its failures."""

    isLeaf = True

    def __init__(
        self, gate: Gate, tenant_exists: Callable[[str], bool], routes: list[Route]
    ) -> None:
        super().__init__()
        self._gate = gate
        self._tenant_exists = tenant_exists
        app = Klein()
        app.url_map.merge_slashes = False
        for route in routes:
            self._connect(app, route)
        app.handle_errors(HTTPException)(cast(Any, _routing_failed))
        app.handle_errors(Exception)(cast(Any, _failed))
        self._klein = app.resource()

    def _connect(self, app: Klein, route: Route) -> None:
        async def handle(request: Request, **path: str) -> bytes:
            return await self._serve(route, request, path)

        name = f"{route.method} {route.path}"
        app.route(route.path, methods=[route.method], endpoint=name)(handle)

    def render(self, request: Request) -> Any:
        if self._admit(request) is None:
            return _write(request, UNAUTHORIZED)
        try:
            b"/".join(request.postpath or ()).decode("utf-8")
        except UnicodeDecodeError:
            return _write(request, NOT_FOUND)
        self._klein.render(request)
        return NOT_DONE_YET

    def _admit(self, request: Request) -> Any:
        return self._gate.admit(request.method, request.path, request.requestHeaders)

    async def _serve(self, route: Route, request: Request, path: dict[str, str]) -> bytes:
        request.route = route.path  # type: ignore[attr-defined]  # for the access log
        caller = self._admit(request)
        call = Call(request, caller, path, self._tenant_exists)
        write = route.method != "GET"
        try:
            # What writes goes on when the client leaves: half a request is nobody's wish.
            work = route.endpoint(call)
            result = await (shielded(work) if write else work)
        except Refused as refused:
            result = refused.answer
        except (StoreError, NotRunning) as problem:
            _log.warn("{route}: {problem}", route=route.path, problem=str(problem))
            result = CANNOT_STORE if write else CANNOT_READ
        except CancelledError:
            raise
        except Exception:
            _log.failure("{route} failed", route=route.path)
            result = INTERNAL
        if result is None:
            return b""
        return _write(request, result)


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
