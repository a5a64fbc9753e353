"""
Whether a request is let in: by its head alone, so that nobody else's body is ever read.

The token is judged first, so that without one nobody learns which paths there are; then what the
endpoint needs, and for which tenant it is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol
from urllib.parse import unquote_to_bytes

from twisted.web.http import parse_qs
from twisted.web.http_headers import Headers
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map

from mailproxy.api.answers import ADMIN_ONLY, OTHER_TENANT, UNAUTHORIZED, Answer, Refused, error
from mailproxy.api.auth import ANYONE, Caller, Gate, Proxies
from mailproxy.api.call import Need, Route
from mailproxy.tenancy import Scope

#: What a tenant's key without the scope is told.
LACKING: Mapping[Scope, Answer] = {
    scope: error(403, f"This token lacks the scope: {scope}") for scope in Scope
}

_METRICS = "/metrics"

#: Below this path the console finds every endpoint, and is known by its session.
CONSOLE_API = b"/console/api/"


def through_console(target: bytes) -> bool:
    """Whether the console asks for an endpoint. :param target: as the request has it."""
    return target.startswith(CONSOLE_API)


class ISessions(Protocol):
    """Whoever knows who is logged in at the console."""

    def admit(self, method: bytes, headers: Headers, address: str) -> Caller:
        """Who makes a request from *address*. :raises Refused: nobody who may."""


class Admission:
    """
    :param urls: where the endpoints are; each by the name that *routes* has it under.
    """

    def __init__(
        self,
        gate: Gate,
        proxies: Proxies,
        urls: Map,
        routes: Mapping[str, Route],
        sessions: ISessions,
    ) -> None:
        self._gate = gate
        self._sessions = sessions
        self._proxies = proxies
        self._urls = urls.bind("mailproxy")
        self._routes = routes

    def admit(self, method: bytes, target: bytes, headers: Headers, peer: str) -> Caller:
        """
        Who is calling.

        :param target: as the request has it, not decoded.
        :param peer: the address of the other end of the connection, else ``NO_ADDRESS``.
        :raises Refused: this caller may not make this request.
        """
        path, _, query = target.partition(b"?")
        by_console = through_console(path)
        if by_console:
            path = path[len(CONSOLE_API) - 1 :]
        route, named = self._find(method, path)
        if route is not None and _open(route, path):
            if route.path == _METRICS and not self._gate.may_scrape(headers):
                raise Refused(UNAUTHORIZED)
            return ANYONE
        address = self._proxies.client(peer, headers)
        if by_console:
            caller = self._sessions.admit(method, headers, address)
        else:
            patient = route is not None and route.needs is Need.TOKEN
            caller = self._gate.admit(headers, address, patient=patient)
        if route is not None and caller.unjudged is None:
            check(route, caller, named, _asked(query))
        return caller

    def _find(self, method: bytes, path: bytes) -> tuple[Route | None, str | None]:
        """The endpoint, and the tenant that the path names; None for what there is not."""
        # As Twisted and Klein take a path to pieces.
        pieces = [unquote_to_bytes(piece) for piece in path[1:].split(b"/")]
        try:
            text = b"/".join([b"", *pieces]).decode("utf-8")
            name, values = self._urls.match(text, method.decode("ascii"))
        except (UnicodeDecodeError, HTTPException):
            return None, None
        return self._routes[name], values.get("tenant_id")


def _open(route: Route, path: bytes) -> bool:
    """Whether anyone may call it; a path without variable parts has to be spelt exactly."""
    if route.needs is not Need.OPEN:
        return False
    return "<" in route.path or route.path.encode() == path


def _asked(query: bytes) -> str | None:
    """The tenant that the query names, as :meth:`mailproxy.api.call.Call.query` reads it."""
    values = parse_qs(query, keep_blank_values=True).get(b"tenant_id") if query else None
    try:
        return values[-1].decode("utf-8") or None if values else None
    except UnicodeDecodeError:
        return None


def check(route: Route, caller: Caller, named: str | None, asked: str | None) -> None:
    """
    Whether *caller* may call *route*.

    Asked once more where the request is served, of the endpoint that serves it: the path may have
    been taken to pieces in another way.

    :param named: the tenant in the path; *asked*: the one in the query.
    :raises Refused: it may not.
    """
    needs = route.needs
    if caller.admin or needs is Need.OPEN:
        return
    if caller.tenant_id is None:
        raise Refused(UNAUTHORIZED)
    if needs is Need.ADMIN:
        raise Refused(ADMIN_ONLY)
    if {named, asked} - {None, caller.tenant_id}:
        raise Refused(OTHER_TENANT)
    if needs is Need.TOKEN:
        return
    scope = Scope(needs.value)
    if scope not in caller.scopes:
        raise Refused(LACKING[scope])
