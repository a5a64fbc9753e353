"""
Who is logged in at the console.

A session is a random value in a cookie and, in memory, the hash of the token it was made from. Each
request is judged by that token anew, so a session is worth what the token is worth now, from where
the request comes, and ends when it is revoked. A restart ends all.
"""

from __future__ import annotations

import hmac
import secrets
from collections import deque

import attrs
from twisted.web.http_headers import Headers

from mailproxy.api.admission import LACKING
from mailproxy.api.answers import UNAUTHORIZED, Refused, error
from mailproxy.api.auth import Caller, Gate, Unjudged
from mailproxy.crypto import hash_token
from mailproxy.interfaces import IClock
from mailproxy.tenancy import Scope

COOKIE = "mailproxy-console"

#: The header field in which a request that changes something repeats its session's secret.
CSRF_FIELD = b"x-csrf-token"

#: Seconds after its last request, and after its login, at which a session ends.
IDLE, LONGEST = 12 * 3600.0, 7 * 86_400.0

#: Sessions at the same time; beyond, the one that was used longest ago ends.
MOST = 1000

#: Wrong tokens in a minute: from one address, from everywhere.
WRONG_FROM_ONE, WRONG_FROM_ALL = 10, 200

_MINUTE = 60.0

FORGED = error(403, "missing or wrong X-CSRF-Token")
SLOW_DOWN = error(429, "too many wrong tokens", headers=((b"Retry-After", b"60"),))


@attrs.define(eq=False)
class Session:
    """
    :param key: hash of the cookie's value.
    :param token: hash of the token it was made from.
    :param csrf: what requests that change something repeat.
    """

    key: bytes = attrs.field(repr=False)
    token: bytes = attrs.field(repr=False)
    csrf: str = attrs.field(repr=False)
    began: float
    used: float


class Sessions:
    """
    :param gate: judges tokens.
    :param clock: its monotonic seconds count.
    """

    def __init__(self, gate: Gate, clock: IClock) -> None:
        self._gate = gate
        self._clock = clock
        self._open: dict[bytes, Session] = {}  # by hash of the cookie; the last used come last
        self._wrong: deque[tuple[float, str]] = deque()

    def login(self, token: str, address: str) -> tuple[str, Session, Caller]:
        """
        Begin a session.

        :param address: where the request comes from.
        :return: the cookie's value, the session, and who it is.
        :raises Refused: the token is not good, may not read, or too many were not good lately.
        """
        self._check_pace(address)
        given = hash_token(token)
        try:
            caller = self._gate.recognize(Unjudged(given, address))
        except Refused as refused:
            if refused.answer is UNAUTHORIZED:
                self._wrong.append((self._clock.seconds(), address))
            raise
        if not caller.admin and Scope.READ not in caller.scopes:
            raise Refused(LACKING[Scope.READ])
        now = self._clock.seconds()
        self._expire(now)
        while len(self._open) >= MOST:
            del self._open[next(iter(self._open))]
        value = secrets.token_urlsafe(32)
        session = Session(hash_token(value), given, secrets.token_urlsafe(32), now, now)
        self._open[session.key] = session
        return value, session, caller

    def logout(self, headers: Headers) -> None:
        """End the session of a request. :raises Refused: it does not repeat the secret."""
        session = self.find(headers)
        if not _repeats(headers, session):
            raise Refused(FORGED)
        del self._open[session.key]

    def find(self, headers: Headers) -> Session:
        """The session of a request. :raises Refused: it has none, or it ended."""
        self._expire(self._clock.seconds())
        session = self._open.get(_key(headers) or b"")
        if session is None:
            raise Refused(UNAUTHORIZED)
        return session

    def admit(self, method: bytes, headers: Headers, address: str) -> Caller:
        """
        Who makes a request, by its cookie.

        :raises Refused: nobody; or it changes something and does not repeat the session's secret.
        """
        session = self.find(headers)
        caller = self.judge(session, address)
        if method not in (b"GET", b"HEAD") and not _repeats(headers, session):
            raise Refused(FORGED)
        session.used = self._clock.seconds()
        self._open[session.key] = self._open.pop(session.key)
        return caller

    def judge(self, session: Session, address: str) -> Caller:
        """What *session* is good for now, from *address*. :raises Refused: nothing."""
        if session.key not in self._open:
            raise Refused(UNAUTHORIZED)
        return self._gate.recognize(Unjudged(session.token, address))

    def _check_pace(self, address: str) -> None:
        since = self._clock.seconds() - _MINUTE
        while self._wrong and self._wrong[0][0] <= since:
            self._wrong.popleft()
        same = sum(each == address for _, each in self._wrong)
        if same >= WRONG_FROM_ONE or len(self._wrong) >= WRONG_FROM_ALL:
            raise Refused(SLOW_DOWN)

    def _expire(self, now: float) -> None:
        ended = [
            key
            for key, each in self._open.items()
            if now - each.used >= IDLE or now - each.began >= LONGEST
        ]
        for key in ended:
            del self._open[key]


def _key(headers: Headers) -> bytes | None:
    """The hash of the cookie's value; of several that of the longest path, which comes first."""
    for line in headers.getRawHeaders(b"cookie") or ():
        for pair in line.split(b";"):
            name, _, value = pair.strip().partition(b"=")
            if name == COOKIE.encode():
                return hash_token(value.decode("latin-1"))
    return None


def _repeats(headers: Headers, session: Session) -> bool:
    values = headers.getRawHeaders(CSRF_FIELD) or (b"",)
    return hmac.compare_digest(values[-1], session.csrf.encode())
