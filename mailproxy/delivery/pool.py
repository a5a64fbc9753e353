"""
Warm sessions, by account.

``Pool(connect, clock, helo_name, metrics, *, tokens=None, extra_ca=None, trace=False)`` lends a
session to one user at a time, the last used first. Sessions belong to one account in one version:
whatever changes about it, its credentials or its TLS policy, the next message goes over a new
connection and the old ones say QUIT. Why no session could be had is told as an
:class:`~mailproxy.errors.AccountFault`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IProtocol, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from mailproxy.delivery.auth import Credentials, Login, TokenLogin
from mailproxy.delivery.opening import StreamInjected
from mailproxy.delivery.reasons import reason
from mailproxy.delivery.session import Session, SessionFactory
from mailproxy.delivery.shelf import Shelf
from mailproxy.delivery.tls import BadRoots, TlsClients, lenient
from mailproxy.delivery.tokens import Tokens
from mailproxy.errors import AccountFault
from mailproxy.logins import XOAUTH2, auth_of
from mailproxy.metrics import Metrics
from mailproxy.model import Account
from mailproxy.states import Phase, TlsMode

_log = Logger()

#: Messages one session carries at most; providers count, too.
MAX_MESSAGES = 100

#: Seconds an idle session is kept. Short enough that it need not be probed before use.
IDLE_TIMEOUT = 30.0

#: Seconds for which nothing is pipelined to a server that broke the protocol.
CAREFUL = 3600.0

#: The reply that refuses credentials (RFC 4954, section 6).
_REFUSED = 535

Connect = Callable[[Account, SessionFactory], Deferred[IProtocol]]


class Pool:
    """
    :param connect: opens the connection of a session; see
        :class:`mailproxy.delivery.connect.Connector`.
    :param helo_name: what we call ourselves in EHLO; ASCII.
    :param tokens: for accounts that log in with one; None: none of them can.
    :param extra_ca: PEM of roots to trust beside the platform's.
    :param trace: log commands and replies at DEBUG.
    """

    def __init__(
        self,
        connect: Connect,
        clock: IReactorTime,
        helo_name: str,
        metrics: Metrics,
        *,
        tokens: Tokens | None = None,
        extra_ca: str | None = None,
        trace: bool = False,
        max_messages: int = MAX_MESSAGES,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        self._connect = connect
        self._clock = clock
        self._helo_name = helo_name
        self._metrics = metrics
        self._tokens = tokens
        self._tls = TlsClients(extra_ca)
        self._trace = trace
        self._max_messages = max_messages
        self._idle_timeout = idle_timeout
        self._shelves: dict[int, Shelf] = {}
        self._homes: dict[Session, Shelf] = {}
        self._attempts: dict[Deferred[Any], None] = {}
        self._farewells: dict[Deferred[None], None] = {}
        self.closing = False

    # -- lending ------------------------------------------------------------------------------

    async def acquire(self, account: Account) -> Session:
        """
        A session of *account*, warm or new; waits while ``max_sessions`` are in use.

        :raises AccountFault: none could be had.
        """
        while not self.closing:
            shelf = self._shelf(account)
            self._sweep(shelf)
            if shelf.idle:
                return shelf.idle.pop()[1]
            if not shelf.full:
                return await self._new(shelf)
            turn: Deferred[None] = Deferred()
            shelf.waiting.append(turn)
            await turn
        raise AccountFault(Phase.CONNECT, "the service is stopping")

    async def try_out(self, account: Account) -> Session:
        """
        A new session of *account*, outside of all limits, that carries nothing and says QUIT.

        :raises AccountFault: none could be had.
        """
        if self.closing:
            raise AccountFault(Phase.CONNECT, "the service is stopping")
        session = await self._open(Shelf(account, draining=True))
        self._dismiss(session)
        return session

    def release(self, session: Session) -> None:
        """Give *session* back, idle; one that has had its time says QUIT."""
        shelf = self._homes.get(session)
        if shelf is None:
            return
        if self.worn(session):
            self._dismiss(session)
            return
        shelf.idle.append((self._clock.seconds(), session))
        self._sweep_later(shelf)
        shelf.wake()

    def worn(self, session: Session) -> bool:
        """Whether *session* shall carry nothing more."""
        shelf = self._homes.get(session)
        return (
            shelf is None
            or self.closing
            or shelf.draining
            or session.carried >= self._max_messages
            or self._clock.seconds() >= shelf.born[session] + shelf.account.ttl
        )

    def superseded(self, account: Account) -> bool:
        """Whether a newer version of *account* is in use."""
        shelf = self._shelves.get(account.pk)
        return shelf is not None and shelf.account.version > account.version

    async def close(self, deadline: float) -> None:
        """Idle sessions say QUIT; what is not done after *deadline* seconds is cut."""
        self.closing = True
        for shelf in dict.fromkeys([*self._shelves.values(), *self._homes.values()]):
            self._drain(shelf)
            while shelf.waiting:
                shelf.wake()
        cut = self._clock.callLater(deadline, self._cut)
        while self._farewells or self._homes or self._attempts:
            await DeferredList([*self._farewells, *map(_closed, self._homes), *self._ended()])
        if cut.active():
            cut.cancel()
        if self._tokens is not None:
            self._tokens.close()

    def _ended(self) -> list[Deferred[None]]:
        """One Deferred for each attempt, that fires when it has ended."""
        result = []
        for attempt in self._attempts:
            ended: Deferred[None] = Deferred()
            result.append(ended)
            attempt.addBoth(_pass_on, ended)
        return result

    def _cut(self) -> None:
        for attempt in tuple(self._attempts):
            attempt.cancel()
        for session in tuple(self._homes):
            session.lose("the service is stopping")

    # -- opening ------------------------------------------------------------------------------

    def _shelf(self, account: Account) -> Shelf:
        shelf = self._shelves.get(account.pk)
        if shelf is not None and shelf.account.version == account.version:
            return shelf
        if self.superseded(account):
            return Shelf(account, draining=True)
        if shelf is not None:
            self._drain(shelf)
        shelf = self._shelves[account.pk] = Shelf(account)
        return shelf

    async def _new(self, shelf: Shelf) -> Session:
        account = shelf.account
        shelf.open += 1
        try:
            session = await self._open(shelf)
            if not session.usable:
                raise AccountFault(Phase.MAIL, "the server closed the connection")
        except AccountFault as fault:
            shelf.open -= 1
            shelf.wake()
            self._metrics.session_failures.labels(account.tenant_id, account.id, fault.phase).inc()
            raise
        shelf.born[session] = self._clock.seconds()
        self._homes[session] = shelf
        self._metrics.sessions.labels(account.tenant_id, account.id).inc()
        session.gone = self._gone
        return session

    async def _open(self, shelf: Shelf) -> Session:
        """A new session; with a token that was refused, one more with another."""
        account = shelf.account
        login = await self._login(account)
        try:
            return await self._open_as(login, shelf)
        except AccountFault as fault:
            refused = fault.phase == Phase.AUTH and fault.code == _REFUSED
            if not refused or not isinstance(login, TokenLogin):
                raise
        return await self._open_as(await self._login(account, login.token), shelf)

    async def _login(self, account: Account, refused: str = "") -> Credentials | None:
        """:param refused: a token that the server did not take."""
        if not account.user:
            return None
        method = auth_of(account.options).method
        if method != XOAUTH2:
            return Login(account.user, account.password or "", method)
        if self._tokens is None:
            raise AccountFault(Phase.AUTH, "there is no way to an authorization server")
        token = self._tokens.token(account, refused)
        self._attempts[token] = None
        try:
            return TokenLogin(account.user, await token)
        except CancelledError:
            raise AccountFault(Phase.AUTH, "the attempt was given up") from None
        finally:
            self._attempts.pop(token, None)

    async def _open_as(self, login: Credentials | None, shelf: Shelf) -> Session:
        account = shelf.account
        try:
            tls = None if account.tls_mode is TlsMode.PLAIN else self._tls.client(account)
        except BadRoots as error:
            raise AccountFault(Phase.TLS, str(error)) from None
        factory = SessionFactory(
            account,
            self._clock,
            self._helo_name,
            tls,
            login=login,
            pipelining=self._clock.seconds() >= shelf.careful_until,
            trace=self._trace,
        )
        try:
            return await self._attempt(account, factory)
        except StreamInjected:
            raise
        except AccountFault as fault:
            if fault.phase != Phase.TLS or not lenient(account):
                raise
            note = f"TLS could not be had ({fault.reason}); sent in clear"
        clear = SessionFactory(
            account,
            self._clock,
            self._helo_name,
            None,
            login=login,
            pipelining=factory.pipelining,
            notes=(note,),
            trace=self._trace,
        )
        return await self._attempt(account, clear)

    async def _attempt(self, account: Account, factory: SessionFactory) -> Session:
        connecting = self._connect(account, factory)
        late = self._clock.callLater(account.timeout, connecting.cancel)
        self._attempts[connecting] = None
        try:
            await connecting
        except Exception as error:
            phase = Phase.RESOLVE if isinstance(error, DNSLookupError) else Phase.CONNECT
            in_time = late.active()
            why = reason(Failure()) if in_time else f"no connection within {account.timeout:g} s"
            raise AccountFault(phase, why) from None
        finally:
            self._attempts.pop(connecting, None)
            if late.active():
                late.cancel()
        self._attempts[factory.ready] = None
        try:
            return await factory.ready
        finally:
            self._attempts.pop(factory.ready, None)

    # -- ending -------------------------------------------------------------------------------

    def _gone(self, session: Session) -> None:
        shelf = self._homes.pop(session)
        if session.broken:
            shelf.careful_until = self._clock.seconds() + CAREFUL
        account = shelf.account
        self._metrics.sessions.labels(account.tenant_id, account.id).dec()
        shelf.forget(session)
        if not shelf.open and self._clock.seconds() >= shelf.careful_until:
            # Nothing worth remembering; accounts come and go.
            if self._shelves.get(account.pk) is shelf:
                del self._shelves[account.pk]
            if shelf.sweep is not None:
                shelf.sweep.cancel()
                shelf.sweep = None

    def _dismiss(self, session: Session) -> None:
        done = session.quit()
        self._farewells[done] = None
        done.addCallback(lambda _: self._farewells.pop(done, None))

    def _drain(self, shelf: Shelf) -> None:
        shelf.draining = True
        if shelf.sweep is not None:
            shelf.sweep.cancel()
            shelf.sweep = None
        for _, session in tuple(shelf.idle):
            self._dismiss(session)

    def _sweep(self, shelf: Shelf) -> None:
        """Say goodbye to what has been idle or alive too long."""
        now = self._clock.seconds()
        for session in shelf.take_out(now - self._idle_timeout, now - shelf.account.ttl):
            self._dismiss(session)

    def _sweep_later(self, shelf: Shelf) -> None:
        if shelf.sweep is None:
            pause = min(self._idle_timeout, shelf.account.ttl)
            shelf.sweep = self._clock.callLater(pause, self._swept, shelf)

    def _swept(self, shelf: Shelf) -> None:
        shelf.sweep = None
        self._sweep(shelf)
        if shelf.idle:
            self._sweep_later(shelf)


def _closed(session: Session) -> Deferred[None]:
    return session.closed()


def _pass_on(result: object, ended: Deferred[None]) -> object:
    ended.callback(None)
    return result
