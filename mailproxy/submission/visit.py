"""
A visit to the SMTP door, until there is a message: who is there, and may it come in.

One command, one reply, in order, whatever the client pipelines and however late a reply is
(:mod:`mailproxy.conversation`). What follows STARTTLS in clear ends the connection, and after the
handshake the session is new.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, ISSLTransport
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.mail.smtp import AUTH, COMMAND
from twisted.python.failure import Failure

from mailproxy.conversation import Conversation
from mailproxy.errors import BadCommand
from mailproxy.login_exchange import Exchange
from mailproxy.submission.desk import Desk, Reply
from mailproxy.submitters import Submitter

#: Wrong commands, and wrong logins, after which the connection is closed.
MAX_ERRORS, MAX_LOGINS = 10, 3

#: Commands that lead to no message, after which the connection is closed.
MAX_IDLING = 500

#: What is said of an error of ours.
SICK = Reply(451, b"4.3.0 An error here; try again later")

_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]{1,255}")

_COMMANDS = {
    verb: f"do_{verb.decode()}"
    for verb in (
        *(b"HELO", b"EHLO", b"STARTTLS", b"AUTH"),
        *(b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET"),
        *(b"NOOP", b"VRFY", b"EXPN", b"HELP", b"QUIT"),
    )
}

_log = Logger()

T = TypeVar("T")


class Visit(Conversation):
    """
    :param desk: what it shares with all others.
    :param proxied: a balancer stands before us, and says who the peer is with its first bytes.
    """

    def __init__(self, desk: Desk, proxied: bool = False) -> None:
        super().__init__(desk.terms.tls)
        self.desk = desk
        self.terms = desk.terms
        self._proxied = proxied
        self.host = desk.terms.host.encode("ascii")
        self.timeout = desk.terms.idle  # type: ignore[assignment]  # the base has an int
        # The base would take the global reactor.
        self.callLater = desk.clock.callLater  # type: ignore[assignment,method-assign]
        self.helo = ""
        self.extended = False
        self.submitter: Submitter | None = None
        self.idling = 0
        self._counted = False
        self._peer: str | None = None
        self._errors = self._logins = 0
        self._limit: IDelayedCall | None = None
        self._deadline: float | None = None

    @property
    def peer(self) -> str:
        """The IP address of the client, "" for a local socket or one not known yet."""
        return self._peer or ""

    @property
    def busy_with_mail(self) -> bool:
        """Whether a transaction is open."""
        raise NotImplementedError

    def forget(self) -> None:
        """Forget the transaction; what was negotiated stays."""
        raise NotImplementedError

    # -- the connection --------------------------------------------------------------------

    def connectionMade(self) -> None:
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        self.startedTLS = ISSLTransport.providedBy(self.transport)
        self._counted = self.desk.gate.enter()
        if not self._counted:
            self.close(b"421 4.3.2 Too many connections, try again later\r\n")
            return
        self.expect(self.terms.opening)
        if self._proxied or self._known():
            super().connectionMade()

    def _known(self) -> bool:
        """Whether the peer may be here; asked once, when it is certain who it is."""
        if self._peer is not None:
            return True
        # A local socket of the balancer's machine is none of ours.
        nameless = "proxied" if self._proxied else ""
        peer = str(getattr(self.transport.getPeer(), "host", "") or nameless)
        if not self.desk.gate.enter_from(peer):
            self.close(b"421 4.7.0 Too many connections from your address\r\n")
            return False
        self._peer = peer
        return True

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.expect(None)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None
        self.forget()
        super().connectionLost(reason)
        if self._counted:
            self._counted = False
            self.desk.gate.leave(self._peer)

    def expect(self, seconds: float | None) -> None:
        """
        What is under way has to be over in *seconds*; None: nothing is waited for.

        A timer that comes too early is left, and set again when it comes: one is cheaper than
        three for each message.
        """
        if seconds is None:
            self._deadline = None
            return
        self._deadline = deadline = self.desk.clock.seconds() + seconds
        if self._limit is not None:
            if self._limit.getTime() <= deadline:
                return
            self._limit.cancel()
        self._limit = self.desk.clock.callLater(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._limit = None
        if self._deadline is None:
            return
        left = self._deadline - self.desk.clock.seconds()
        if left > 0:
            self._limit = self.desk.clock.callLater(left, self._too_slow)
        else:
            self.close(b"421 4.4.2 That took too long\r\n")

    def wrong(self, error: BadCommand) -> None:
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self.close(b"421 4.7.0 Too many errors\r\n")
        else:
            self.sendCode(error.code, error.text)

    def later(self, work: Awaitable[T], done: Callable[[T], None]) -> None:
        """Go on with *done* when *work* is done, if the client is still there."""

        def told(result: Any) -> None:
            if isinstance(result, Failure):
                if self.over:
                    return
                error = result.value
                if isinstance(error, BadCommand):
                    self.wrong(error)
                    return
                _log.failure("a command by SMTP raised", result)
                self.sendCode(SICK.code, SICK.text)
            elif not self.over:
                done(result)

        Deferred.fromCoroutine(_awaited(work)).addBoth(told)

    # -- commands --------------------------------------------------------------------------

    def command(self, line: bytes) -> None:
        if not self._known():
            return
        try:
            if self.mode is AUTH:
                self._step(line)
                return
            self.idling += 1
            if self.idling > MAX_IDLING:
                self.close(b"421 4.7.0 Too many commands without a message\r\n")
                return
            verb, _, argument = line.strip().partition(b" ")
            name = _COMMANDS.get(verb.upper())
            if name is None:
                raise BadCommand(500, b"5.5.1 Unknown command")
            getattr(self, name)(argument.strip())
        except BadCommand as error:
            self.wrong(error)
        except Exception:
            _log.failure("a command by SMTP raised")
            self.sendCode(SICK.code, SICK.text)

    def greeting(self) -> bytes:
        return bytes(self.host) + b" ESMTP"

    def extensions(self) -> dict[bytes, list[bytes] | None]:
        offered: dict[bytes, list[bytes] | None] = {
            b"PIPELINING": None,
            b"8BITMIME": None,
            b"SMTPUTF8": None,
            b"ENHANCEDSTATUSCODES": None,
            b"DSN": None,
            b"CHUNKING": None,
            b"SIZE": [b"%d" % self.terms.max_size],
        }
        if self.canStartTLS and not self.startedTLS:
            offered[b"STARTTLS"] = None
        if self.private():
            offered[b"AUTH"] = [b"PLAIN", b"LOGIN"]
        return offered

    def private(self) -> bool:
        """Whether a password may be said here."""
        return self.startedTLS or self.desk.gate.plaintext_login(self.peer)

    def do_HELO(self, rest: bytes) -> None:
        self._greet(rest, extended=False)

    def do_EHLO(self, rest: bytes) -> None:
        self._greet(rest, extended=True)

    def _greet(self, name: bytes, *, extended: bool) -> None:
        if not name:
            raise BadCommand(501, b"5.5.4 Name missing")
        said = name.decode("ascii", "replace")
        self.helo = said if _NAME.fullmatch(said) else "unknown"
        self.extended = extended
        self.forget()
        self.sendCode(250, self.host + (b"\n" + self.listExtensions() if extended else b""))

    def do_RSET(self, rest: bytes) -> None:
        self.forget()
        self.expect(self.terms.opening)
        self.reply(b"250 2.0.0 Forgotten\r\n")

    def do_NOOP(self, rest: bytes) -> None:
        self.reply(b"250 2.0.0 Ok\r\n")

    def do_VRFY(self, rest: bytes) -> None:
        self.reply(b"252 2.5.0 Send it and see\r\n")

    def do_EXPN(self, rest: bytes) -> None:
        raise BadCommand(502, b"5.5.1 There are no lists here")

    def do_HELP(self, rest: bytes) -> None:
        self.reply(b"214 2.0.0 RFC 5321 and 6409; this server relays for its own users\r\n")

    def do_QUIT(self, rest: bytes) -> None:
        self.close(b"221 2.0.0 Bye\r\n")

    # -- TLS and AUTH ----------------------------------------------------------------------

    def do_STARTTLS(self, rest: bytes) -> None:
        if self.startedTLS or not self.canStartTLS:
            raise BadCommand(503, b"5.5.1 TLS not available")
        if rest:
            raise BadCommand(501, b"5.5.4 STARTTLS takes no argument")
        if self.held:
            # Commands sent in clear must not be taken as if they came through TLS.
            self.close(b"554 5.5.1 Nothing may follow STARTTLS\r\n")
            return
        self.reply(b"220 2.0.0 Go ahead\r\n")
        self.flush()
        self.transport.startTLS(self.ctx)
        self.startedTLS = True
        self.helo = ""
        self.submitter = None
        self.forget()

    def do_AUTH(self, rest: bytes) -> None:
        if not self.private():
            raise BadCommand(538, b"5.7.11 STARTTLS first")
        if self.submitter is not None or self.busy_with_mail or not self.extended:
            raise BadCommand(503, b"5.5.1 Not now")
        name, _, initial = rest.partition(b" ")
        self._exchange = Exchange(name)
        if initial:
            self._exchange.challenge()  # the client answers it unasked
            self._step(b"" if initial == b"=" else initial)
        else:
            self._ask()

    def _ask(self) -> None:
        self.mode = AUTH
        self.sendCode(334, self._exchange.challenge())

    def _step(self, line: bytes) -> None:
        """Take one response of an AUTH exchange."""
        self.mode = COMMAND
        if self._exchange.respond(line):
            self._ask()
            return
        self._logins += 1
        if self._logins > MAX_LOGINS:
            self.close(b"421 4.7.0 Too many logins\r\n")
            return
        user, password = self._exchange.said()
        self.later(self.desk.gate.login(user, password, self.peer), self._welcome)

    def _welcome(self, submitter: Submitter) -> None:
        self.submitter = submitter
        self._logins = 0
        self.reply(b"235 2.7.0 Welcome\r\n")


async def _awaited(work: Awaitable[T]) -> T:
    return await work
