"""
``/console``: the page and its files, and who is logged in.

The files are read when this module is: a service that changes its user may not be able to later.
None of the endpoints is part of the described API. All links are relative, so that a proxy may
serve everything below any path; for the same reason the session's cookie names no path: browsers
give it that of the folder in which the page, wherever a proxy puts it, logged in.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import attrs
from msgspec import Struct, json
from twisted.logger import Logger

import mailproxy
from mailproxy.api.answers import NOT_FOUND, UNAUTHORIZED, Answer, Refused, error, ok
from mailproxy.api.auth import NO_ADDRESS, Caller, Proxies
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.console.figures import Sampler
from mailproxy.api.console.sessions import COOKIE, Session, Sessions
from mailproxy.api.console.stream import Streams
from mailproxy.api.typed import read_typed
from mailproxy.interfaces import IClock, IControl, InThread, IStore
from mailproxy.metrics import Metrics

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)

_SAFE = (
    (b"Content-Security-Policy", POLICY.encode()),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
    (b"Cross-Origin-Opener-Policy", b"same-origin"),
    (b"Cross-Origin-Resource-Policy", b"same-origin"),
)

#: With what tells of the service's data, and of whoever is logged in.
NOT_KEPT = ((b"Cache-Control", b"no-store"), (b"X-Content-Type-Options", b"nosniff"))

_TYPES = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".svg": b"image/svg+xml",
}

PAGE = "index.html"

#: The files by name.
FILES = {
    path.name: path.read_bytes()
    for path in sorted(Path(__file__).with_name("assets").iterdir())
    if path.suffix in _TYPES
}

_log = Logger()


ELSEWHERE = error(403, "log in from the console's own page")


class Login(Struct, kw_only=True):
    token: str = ""


class LoggedIn(Struct, kw_only=True):
    """:ivar csrf: what every request that changes something has to repeat."""

    admin: bool
    tenant_id: str | None
    scopes: list[str]
    csrf: str
    version: str


_login = json.Decoder(Login)


class Console:
    """The console of one service."""

    def __init__(
        self,
        store: IStore,
        control: IControl,
        metrics: Metrics,
        clock: IClock,
        in_thread: InThread,
        sessions: Sessions,
        proxies: Proxies,
    ) -> None:
        self._sessions = sessions
        self._proxies = proxies
        self.sampler = Sampler(store, control, metrics, clock, in_thread)
        self._streams = Streams(self.sampler, sessions, clock, str(store.node_id)[:12])

    def routes(self) -> Iterable[Route]:
        """What is not part of the described API. Who calls is looked at here."""
        yield Route("GET", "/console", self.lead, Need.OPEN)
        yield Route("GET", "/console/", self.page, Need.OPEN)
        yield Route("GET", "/console/assets/<name>", self.file, Need.OPEN)
        yield Route("GET", "/console/session", self.whoami, Need.OPEN)
        yield Route("POST", "/console/session", self.login, Need.OPEN)
        yield Route("DELETE", "/console/session", self.logout, Need.OPEN)
        yield Route("GET", "/console/stream", self.stream, Need.OPEN)

    async def lead(self, call: Call) -> Answer:
        """To where relative links are right."""
        return Answer(308, b"", b"text/plain", ((b"Location", b"console/"),))

    async def page(self, call: Call) -> Answer:
        return _file(PAGE)

    async def file(self, call: Call) -> Answer:
        if call.path["name"] not in FILES:
            raise Refused(NOT_FOUND)
        return _file(call.path["name"])

    async def whoami(self, call: Call) -> Answer:
        try:
            session = self._sessions.find(call.request.requestHeaders)
            caller = self._sessions.judge(session, self._address(call))
        except Refused as refused:
            if refused.answer is not UNAUTHORIZED:
                raise
            return attrs.evolve(ok(session=None), headers=NOT_KEPT)
        return _told(session, caller)

    async def login(self, call: Call) -> Answer:
        _check_origin(call)
        given = read_typed(call, _login)
        address = self._address(call)
        value, session, caller = self._sessions.login(given.token, address)
        _log.info("{who} logged in at the console from {address}", who=caller.who, address=address)
        return _with_cookie(_told(session, caller), self._cookie(call, value))

    async def logout(self, call: Call) -> Answer:
        self._sessions.logout(call.request.requestHeaders)
        return _with_cookie(ok(), self._cookie(call, "", "; Max-Age=0"))

    async def stream(self, call: Call) -> None:
        await self._streams.serve(call, self._address(call))

    def _address(self, call: Call) -> str:
        return self._proxies.client(_peer(call), call.request.requestHeaders)

    def _cookie(self, call: Call, value: str, more: str = "") -> bytes:
        secure = call.request.isSecure() or self._proxies.secure(
            _peer(call), call.request.requestHeaders
        )
        cookie = f"{COOKIE}={value}; HttpOnly; SameSite=Strict{more}"
        return (cookie + ("; Secure" if secure else "")).encode()


def _peer(call: Call) -> str:
    return str(getattr(call.request.client, "host", NO_ADDRESS))


def _file(name: str) -> Answer:
    kind = _TYPES[Path(name).suffix]
    return Answer(200, FILES[name], kind, (*_SAFE, (b"Cache-Control", b"no-cache")))


def _check_origin(call: Call) -> None:
    """:raises Refused: another site's page has a browser send this."""
    site = call.request.getHeader("sec-fetch-site") or "none"
    kind = (call.request.getHeader("content-type") or "").partition(";")[0].strip().lower()
    if site not in ("same-origin", "none") or kind != "application/json":
        raise Refused(ELSEWHERE)


def _told(session: Session, caller: Caller) -> Answer:
    """Who is logged in, to the page."""
    told = LoggedIn(
        admin=caller.admin,
        tenant_id=caller.tenant_id,
        scopes=sorted(caller.scopes),
        csrf=session.csrf,
        version=mailproxy.__version__,
    )
    return attrs.evolve(ok(session=told), headers=NOT_KEPT)


def _with_cookie(told: Answer, cookie: bytes) -> Answer:
    return attrs.evolve(told, headers=(*NOT_KEPT, (b"Set-Cookie", cookie)))
