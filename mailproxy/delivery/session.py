"""
One connection to an upstream, carrying one transaction after the other.

``SessionFactory(account, clock, helo_name, tls)`` is an ``ESMTPSenderFactory`` whose one Deferred,
:attr:`~SessionFactory.ready`, means *the session is ready*: its result is the :class:`Session`,
its failure an :class:`~mailproxy.errors.AccountFault`.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger
from twisted.mail.smtp import ESMTPSenderFactory
from twisted.python.failure import Failure

from mailproxy.delivery.auth import Credentials, Login, TokenLogin
from mailproxy.delivery.link import Circumstances
from mailproxy.delivery.opening import Opening
from mailproxy.delivery.pipeline import Pipeline
from mailproxy.delivery.replies import BadReply
from mailproxy.delivery.tls import TlsClient
from mailproxy.interfaces import ITransaction
from mailproxy.model import Account, Outcome
from mailproxy.pins import pins_of
from mailproxy.states import TlsMode

_log = Logger()

#: Seconds a server has to answer QUIT.
QUIT_TIMEOUT = 5.0

_REQUIRING = (TlsMode.IMPLICIT, TlsMode.STARTTLS)


class Session(Opening):
    """
    :ivar gone: called once, with this session, when it can carry nothing more.
    :ivar broken: whether it ended because the server broke the protocol.
    """

    def connectionMade(self) -> None:
        self.gone: Callable[[Session], None] | None = None
        self.broken = False
        self._pipeline: Pipeline | None = None
        super().connectionMade()

    def opened(self) -> None:
        factory, problem = self.factory, self.unverified()
        about = Circumstances(
            self.offered,
            self.offered.pipelining and factory.pipelining,
            self.account.timeout,
            self.tls_used,
            self.peer,
            (*factory.notes, problem) if problem else factory.notes,
            isinstance(factory.login, TokenLogin),
        )
        self._pipeline = Pipeline(self, self.transport, factory.clock, about, factory.trace)
        factory.fire(self)

    def deliver(self, transaction: ITransaction) -> Deferred[Outcome]:
        """
        Send one message; may be called while an earlier one is on its way.

        When its commands go out, ``transaction.begin()`` is asked for the intent; the body waits
        for it. What the server said is the result, whatever that was.

        :return: fires once, after the intent was settled.
        :raises Withdrawn: (by the Deferred) the intent was refused; no body was begun.
        :raises SessionLost: (likewise) the session ended before anything of the message was sent
            and before the intent was asked for.
        :raises UnsafeCommand: (likewise) an address cannot stand in a command; nothing was sent
            or asked.
        """
        assert self._pipeline is not None, "the session is not ready"
        return self._pipeline.deliver(transaction)

    @property
    def usable(self) -> bool:
        """Whether a transaction may be handed over."""
        return self._pipeline is not None and not self.ended

    @property
    def carried(self) -> int:
        """Transactions begun so far."""
        return self._pipeline.carried if self._pipeline is not None else 0

    def dataReceived(self, data: bytes) -> None:
        replies = self.replies
        if not self.ended:
            # After the end nothing is read any more, so nothing may be collected either.
            replies.push(data)
        try:
            while not self.ended and (reply := replies.pop()) is not None:
                if self._pipeline is not None:
                    if self.factory.trace:
                        self.heard(reply)
                    self._pipeline.reply(reply)
                else:
                    self.opening_reply(reply)
        except BadReply as error:
            self.lose(str(error), broken=True)
        except Exception:
            # The edge of the loop that reads: what was on its way has to come to an outcome, by how
            # far it came, which the transport would not see to.
            _log.failure("reading what {peer} sent raised", peer=self.peer)
            self.lose("an internal error")
        if self.ended and self._closing:
            self.transport.loseConnection()

    def quit(self) -> Deferred[None]:
        """
        Say QUIT and close; fires when the connection is gone, after 5 s at the latest.

        What was on its way ends by how far it came: ask only sessions that are idle.
        """
        if not self.ended:
            self.end("the session was ended")
            self.deadline.set(QUIT_TIMEOUT)
            self.sendLine(b"QUIT")
        return self.closed()

    def closed(self) -> Deferred[None]:
        """Fires when the connection is gone."""
        done: Deferred[None] = Deferred()
        if self.disconnected:
            done.callback(None)
        else:
            self._closing.append(done)
        return done

    def lose(self, reason: str, *, broken: bool = False) -> None:
        """Cut the connection; what was on its way ends by how far it came."""
        if self.ended:
            self.transport.abortConnection()
        elif self._pipeline is None:
            self.fault(reason)
        else:
            self.broken = broken
            self.end(reason)
            self.transport.abortConnection()

    def end(self, reason: str) -> None:
        if self.ended:
            return
        super().end(reason)
        if self._pipeline is not None:
            self._pipeline.lost(reason)
            if self.gone is not None:
                self.gone(self)

    def silent(self) -> None:
        if self._pipeline is None or self.ended:
            self.lose(f"no answer within {self.account.timeout:g} s")
        else:
            self.lose(f"no answer in time, waiting for {self._pipeline.waiting_for()}")


class SessionFactory(ESMTPSenderFactory):
    """
    Makes the one :class:`Session` of a connection.

    :param helo_name: what we call ourselves in EHLO.
    :param tls: for this connection; None never to use TLS on it.
    :param login: what to log in with; None: the account's user and password, if there is a user.
    :param pipelining: False to send one command at a time whatever the server offers.
    :param notes: what the outcomes of this session are to say beside the replies.
    :param trace: log commands and replies, without secrets and bodies, at DEBUG.

    :ivar ready: fires with the session once it can be used; fails with AccountFault. Cancelling
        it drops the connection.
    """

    protocol = Session
    noisy = False

    def __init__(
        self,
        account: Account,
        clock: IReactorTime,
        helo_name: str,
        tls: TlsClient | None,
        *,
        login: Credentials | None = None,
        pipelining: bool = True,
        notes: tuple[str, ...] = (),
        trace: bool = False,
    ) -> None:
        self.account = account
        self.clock = clock
        self.tls = tls
        self.pipelining = pipelining
        self.notes = notes
        self.trace = trace
        self.domain = helo_name.encode("ascii")
        if login is None and account.user:
            login = Login(account.user, account.password or "")
        self.login = login
        self.ready: Deferred[Session] = Deferred(self._given_up)
        super().__init__(
            None,
            None,
            "",
            [],
            BytesIO(),
            self.ready,
            retries=0,
            timeout=None,
            contextFactory=tls,
            heloFallback=True,
            requireAuthentication=login is not None,
            requireTransportSecurity=account.tls_mode in _REQUIRING
            or bool(pins_of(account.options)),
        )

    def _given_up(self, ready: Deferred[Session]) -> None:
        if self.currentProtocol is not None:
            self.currentProtocol.lose("the attempt was given up")

    def fire(self, result: Session | Failure) -> None:
        """Tell, once, how the opening ended."""
        if not self.ready.called:
            self.ready.callback(result)
