"""
The opening of a session: greeting, EHLO, TLS, login; and what every byte that goes out passes.

The order of the steps is that of Twisted's ``ESMTPSender``; how replies are read, who is trusted
with credentials, and how an opening ends are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IHandshakeListener, IReactorTime
from twisted.logger import Logger
from twisted.mail.smtp import ESMTPSender
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy.delivery.auth import Credentials
from mailproxy.delivery.commands import (
    MAX_AUTH,
    MAX_COMMAND,
    Capabilities,
    UnsafeCommand,
    capabilities,
    command,
)
from mailproxy.delivery.deadline import Deadline
from mailproxy.delivery.reasons import reason as reason_of
from mailproxy.delivery.replies import ReplyReader, readable
from mailproxy.delivery.tls import TlsClient
from mailproxy.errors import AccountFault
from mailproxy.model import Account, Reply
from mailproxy.sending import send
from mailproxy.states import Phase, TlsMode

_log = Logger()


class StreamInjected(AccountFault):
    """Somebody wrote into the stream before it was protected: no way round it is looked for."""


class Terms(Protocol):
    """What a session needs to know of its factory."""

    account: Account
    clock: IReactorTime
    tls: TlsClient | None
    login: Credentials | None
    pipelining: bool
    notes: tuple[str, ...]
    trace: bool

    def fire(self, result: Any) -> None:
        """Tell, once, how the opening ended."""


@implementer(IHandshakeListener)
class Opening(ESMTPSender):
    """
    An SMTP connection until it can carry mail.

    :ivar phase: how far it has come; ``MAIL`` once it can.
    :ivar expect: have the connection dropped if nothing happens within so many seconds.
    """

    debug = False
    timeout = None
    transport: Any
    factory: Terms
    expect: Callable[[float | None], None]

    def _registerAuthenticators(self) -> None:
        """The base's mechanisms are not used; see :mod:`mailproxy.delivery.auth`."""

    def connectionMade(self) -> None:
        self.account = self.factory.account
        self.phase = Phase.TLS if self.account.tls_mode is TlsMode.IMPLICIT else Phase.BANNER
        self.ended = self.disconnected = False
        self.offered = Capabilities()
        self.tls_used = ""
        self.replies = ReplyReader()
        self.deadline = Deadline(self.factory.clock, self.silent)
        self.expect = self.deadline.set
        self._reply: Reply | None = None
        self._login: Iterator[bytes] | None = None
        self._closing: list[Deferred[None]] = []
        peer = self.transport.getPeer()
        self.peer = f"{getattr(peer, 'host', '?')}:{getattr(peer, 'port', '?')}"
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.expect(self.account.timeout)
        super().connectionMade()

    def opened(self) -> None:
        """The session is ready."""
        raise NotImplementedError

    def opening_reply(self, reply: Reply) -> None:
        """Take the next step of the opening."""
        self._reply = reply = Reply(reply.code, self._discreet(reply.text))
        if self.factory.trace:
            self.heard(reply)
        if self.phase is Phase.TLS:
            implicit = self.account.tls_mode is TlsMode.IMPLICIT
            self.phase = Phase.BANNER if implicit else Phase.EHLO
        self.expect(self.account.timeout)
        if reply.code == 421:
            self.fault(str(reply), reply.code)
        elif reply.code in self._expected:
            self._okresponse(reply.code, reply.text.encode())
        else:
            self._failresponse(reply.code, reply.text.encode())

    # -- steps of the base class that need more than it gives ----------------------------------

    def esmtpState_ehlo(self, code: int, resp: bytes) -> None:
        if self.phase is not Phase.TLS:
            self.phase = Phase.EHLO
        super().esmtpState_ehlo(code, resp)

    def smtpState_helo(self, code: int, resp: bytes) -> None:
        """EHLO was refused, and nothing needs it."""
        if code < 500:
            self.fault(str(self._reply), code)
            return
        super().smtpState_helo(code, resp)
        # A refused HELO is the end of it.
        self._failresponse = self.smtpConnectionFailed

    def esmtpState_serverConfig(self, code: int, resp: bytes) -> None:
        self.offered = capabilities(self._reply.text) if self._reply else Capabilities()
        items = {b"STARTTLS": None} if self.offered.starttls else {}
        self.tryTLS(code, resp, items)

    def esmtpTLSRequired(self, code: int = -1, resp: bytes | None = None) -> None:
        self.phase = Phase.TLS
        self.fault("the server does not offer STARTTLS, and the account requires TLS")

    def esmtpTLSFailed(self, code: int = -1, resp: bytes | None = None) -> None:
        self.phase = Phase.TLS
        self.fault(f"STARTTLS was refused: {self._reply}", code)

    def esmtpState_starttls(self, code: int, resp: bytes) -> None:
        self.phase = Phase.TLS
        if self.replies.residue:
            # Whoever sent this was able to write into the unprotected stream.
            why = "the server sent more than its answer to STARTTLS; this may be an attack"
            self.fault(why, kind=StreamInjected)
            return
        # What was said in clear is not to be believed (RFC 3207, section 4.2).
        self.offered = Capabilities()
        self.transport.startTLS(self.context)
        self._tlsMode = True
        self.esmtpState_ehlo(code, resp)

    def handshakeCompleted(self) -> None:
        handle = self.transport.getHandle()
        self.tls_used = f"{handle.get_protocol_version_name()} {handle.get_cipher_name()}"

    def unverified(self) -> str:
        """Why the peer is not known to be who it should be; "" if it is, or without TLS."""
        tls = self.factory.tls
        return tls.problem if tls is not None and self._tlsMode else ""

    def authenticate(self, code: int, resp: bytes, items: object) -> None:
        login = self.factory.login
        if login is None:
            self.smtpState_from(code, resp)
            return
        self.phase = Phase.AUTH
        if not self.account.allow_plaintext_auth and (not self._tlsMode or self.unverified()):
            self.fault(self.unverified() or "credentials are not sent without TLS")
            return
        self._login = login.lines(self.offered)
        if self._login is None:
            offered = " ".join(sorted(self.offered.auth)) or "none"
            known = ", ".join(login.mechanisms)
            self.fault(f"the server offers no login we know ({known}); it offers: {offered}")
            return
        self._okresponse = self._login_goes_on
        self._failresponse = self._login_refused
        self._expected = [235, 334]
        self._say_login(next(self._login))

    def _login_goes_on(self, code: int, resp: bytes) -> None:
        if code == 235:
            self._login = None
            self.smtpState_from(code, resp)
            return
        line = next(self._login, None) if self._login is not None else None
        if line is None:
            self.fault("the server asked for more than there is to say", code)
        else:
            self._say_login(line)

    def _login_refused(self, code: int, resp: bytes) -> None:
        self.fault(str(self._reply), code)

    def _discreet(self, text: str) -> str:
        """*text* without credentials, if they have been sent."""
        login = self.factory.login
        return text if login is None or self.phase is not Phase.AUTH else login.hide(text)

    def _say_login(self, line: bytes) -> None:
        self.send_command(line, MAX_AUTH, "(credentials)")

    def smtpState_from(self, code: int, resp: bytes) -> None:
        """The opening is over."""
        self.phase = Phase.MAIL
        self.expect(None)
        self.opened()

    # -- writing, and the log of it -------------------------------------------------------------

    def send_command(self, line: bytes, limit: int = MAX_COMMAND, shown: str = "") -> None:
        """Send *line*, which must be one command; *shown* stands for it in the log."""
        try:
            data = command(line, limit)
        except UnsafeCommand as error:
            self.fault(str(error))
            return
        if self.factory.trace:
            self.sent(shown or line)
        send(self.transport, data)

    def sendLine(self, line: bytes) -> None:
        """What the base class says goes the same way."""
        self.send_command(line)

    def sent(self, what: bytes | str) -> None:
        """Log what went out."""
        if isinstance(what, bytes):
            what = readable(what.rstrip(b"\r\n").replace(b"\r\n", b" | "))
        _log.debug("{peer} < {what}", peer=self.peer, what=what)

    def heard(self, reply: Reply) -> None:
        """Log what came in."""
        shown = str(reply).replace("\n", " | ")
        _log.debug("{peer} > {reply}", peer=self.peer, reply=shown)

    # -- ending ---------------------------------------------------------------------------------

    def sendError(self, exc: Any) -> None:
        """What the base class finds wrong with the opening."""
        reply = self._reply
        self.fault(str(reply or "the opening failed"), reply.code if reply else None)

    def fault(
        self, why: str, code: int | None = None, kind: type[AccountFault] = AccountFault
    ) -> None:
        """The session cannot be had."""
        why = self._discreet(why)
        self.end(why)
        self.factory.fire(Failure(kind(self.phase, why, code)))
        self.transport.abortConnection()

    def end(self, reason: str) -> None:
        """Nothing more is read or begun; the connection may live on to say goodbye."""
        self.ended = True
        self.deadline.stop()

    def silent(self) -> None:
        """Nothing happened in time."""
        self.fault(f"no answer within {self.account.timeout:g} s")

    def connectionLost(self, reason: Any = None) -> None:
        """With endpoints this is the only place that learns of it."""
        self.disconnected = True
        if not self.ended:
            tls = self.factory.tls if self.phase is Phase.TLS else None
            why = (tls.fatal if tls is not None else "") or reason_of(reason)
            self.end(why)
            self.factory.fire(Failure(AccountFault(self.phase, why)))
        self.deadline.stop()
        super().connectionLost(reason)
        closing, self._closing = self._closing, []
        for done in closing:
            done.callback(None)
