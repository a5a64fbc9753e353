"""
The sink's SMTP server: what it offers, and one connection to it.

Built on Twisted's ESMTP. A message is taken in bulk: only CRLF.CRLF ends it, and nothing in it is
ever a command. What follows STARTTLS in clear ends the connection, and after the handshake the
session is new.
"""

from __future__ import annotations

from twisted.internet.interfaces import IAddress, IDelayedCall, ISSLTransport
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.mail.smtp import AUTH, COMMAND, DATA
from twisted.python.failure import Failure

from mailproxy.conversation import Conversation
from mailproxy.errors import BadCommand
from mailproxy.lines import Unstuffer
from mailproxy.login_exchange import Exchange
from mailproxy.proving.answers import Answer
from mailproxy.proving.envelope import Sender, parse_mail, parse_rcpt
from mailproxy.proving.house import House
from mailproxy.proving.ledger import Copy, header

#: Wrong commands after which the connection is closed.
MAX_ERRORS = 10

_END = b"\r\n.\r\n"
_TOO_LARGE = Answer(b"552 5.3.4 Message too large")
_BARE = Answer(b"550 5.6.0 Lines end in CR LF")
_NO_ROOM = Answer(b"452 4.3.1 Cannot write the message down")

_COMMANDS = {
    b"HELO": "do_HELO",
    b"EHLO": "do_EHLO",
    b"MAIL": "do_MAIL",
    b"RCPT": "do_RCPT",
    b"DATA": "do_DATA",
    b"RSET": "do_RSET",
    b"NOOP": "do_NOOP",
    b"VRFY": "do_VRFY",
    b"QUIT": "do_QUIT",
    b"AUTH": "ext_AUTH",
    b"STARTTLS": "ext_STARTTLS",
}

_log = Logger()


class SinkProtocol(Conversation):
    """
    One connection to the sink.

    :param house: the sink it belongs to.
    """

    def __init__(self, house: House) -> None:
        super().__init__(house.terms.tls)
        self.host = house.terms.host
        self.timeout = house.terms.timeout  # type: ignore[assignment]  # the base has an int
        # The base would take the global reactor.
        self.callLater = house.clock.callLater  # type: ignore[assignment,method-assign]
        self._house = house
        self._terms = house.terms
        self._number = 0
        self._peer = self._name = self._user = ""
        self._greeted = False
        self._errors = 0
        self._messages = 0
        self._late: IDelayedCall | None = None
        self._body = Unstuffer()
        self._forget()

    def _forget(self) -> None:
        """Forget the transaction; what was negotiated stays."""
        self._sender: Sender | None = None
        self._recipients: list[str] = []
        self._chunks: list[bytes] = []
        self._size = 0

    # -- the connection --------------------------------------------------------------------

    def connectionMade(self) -> None:
        if hasattr(self.transport, "setTcpNoDelay"):
            self.transport.setTcpNoDelay(True)
        peer = self.transport.getPeer()
        self._peer = str(getattr(peer, "host", peer))
        self.startedTLS = ISSLTransport.providedBy(self.transport)
        if self.startedTLS:
            self._house.counts.tls += 1
        self._number = self._house.joined(self)
        super().connectionMade()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._late is not None and self._late.active():
            self._late.cancel()
        super().connectionLost(reason)
        self._house.left(self)

    def broken(self) -> None:
        self._house.counts.protocol_errors += 1

    def _wrong(self, error: BadCommand) -> None:
        self.broken()
        self._errors += 1
        if self._errors >= MAX_ERRORS:
            self.close(b"421 4.7.0 Too many errors\r\n")
        else:
            self.sendCode(error.code, error.text)

    # -- commands --------------------------------------------------------------------------

    def command(self, line: bytes) -> None:
        try:
            if self.mode is AUTH:
                self._step(line)
                return
            verb, _, argument = line.strip().partition(b" ")
            name = _COMMANDS.get(verb.upper())
            if name is None:
                raise BadCommand(500, b"5.5.1 Unknown command")
            getattr(self, name)(argument.strip())
        except BadCommand as error:
            self._wrong(error)

    def greeting(self) -> bytes:
        return bytes(self.host) + b" ESMTP sink"

    def extensions(self) -> dict[bytes, list[bytes] | None]:
        offered: dict[bytes, list[bytes] | None] = {
            b"PIPELINING": None,
            b"8BITMIME": None,
            b"SMTPUTF8": None,
            b"ENHANCEDSTATUSCODES": None,
            b"SIZE": [b"%d" % self._terms.max_size],
        }
        if self.canStartTLS and not self.startedTLS:
            offered[b"STARTTLS"] = None
        if self._mechanisms() and self._private():
            offered[b"AUTH"] = list(self._mechanisms())
        return offered

    def _mechanisms(self) -> tuple[bytes, ...]:
        """How one may log in; empty: not at all."""
        return () if self._terms.user is None else (b"PLAIN", b"LOGIN")

    def _exchange_by(self, mechanism: bytes) -> Exchange:
        """:raises BadCommand: there is no such *mechanism*."""
        return Exchange(mechanism)

    def _private(self) -> bool:
        """Whether the connection is as private as it has to be."""
        return self.startedTLS or not self._terms.require_tls

    def do_HELO(self, rest: bytes) -> None:
        self._greet(rest, b"")

    def do_EHLO(self, rest: bytes) -> None:
        self._greet(rest, b"\n" + self.listExtensions())

    def _greet(self, name: bytes, extensions: bytes) -> None:
        if not name:
            raise BadCommand(501, b"5.5.4 Name missing")
        self._name = name.decode("utf-8", "replace")
        self._greeted = True
        self._forget()
        self.sendCode(250, self.host + extensions)

    def do_MAIL(self, rest: bytes) -> None:
        terms = self._terms
        if terms.close_after and self._messages >= terms.close_after:
            self.close(b"421 4.7.0 Enough messages on this connection\r\n")
            return
        if not self._greeted or self._sender is not None:
            raise BadCommand(503, b"5.5.1 Not now")
        if not self._private():
            raise BadCommand(530, b"5.7.0 STARTTLS first")
        if self._mechanisms() and not self.authenticated:
            raise BadCommand(530, b"5.7.0 Authentication required")
        self._sender = parse_mail(rest, terms.max_size)
        self.reply(b"250 2.1.0 Sender ok\r\n")

    def do_RCPT(self, rest: bytes) -> None:
        sender = self._sender
        if sender is None:
            raise BadCommand(503, b"5.5.1 MAIL first")
        recipient = parse_rcpt(rest, sender.utf8)
        if len(self._recipients) >= self._terms.max_recipients:
            self.reply(b"452 4.5.3 Too many recipients\r\n")
            return
        answer = self._house.script.recipient(sender.address, recipient)
        if answer.positive:
            self._recipients.append(recipient)
        self._give(answer)

    def do_DATA(self, rest: bytes) -> None:
        if rest:
            raise BadCommand(501, b"5.5.4 DATA takes no argument")
        if not self._recipients:
            raise BadCommand(503, b"5.5.1 No valid recipients")
        answer = self._house.script.data(self._recipients)
        if answer.positive:
            self._begin()
        else:
            self._forget()
        self._give(answer)

    def _begin(self) -> None:
        """What comes next is a message."""
        self.mode = DATA
        self._body = Unstuffer()

    def do_RSET(self, rest: bytes) -> None:
        self._forget()
        self.reply(b"250 2.0.0 Forgotten\r\n")

    def do_NOOP(self, rest: bytes) -> None:
        self.reply(b"250 2.0.0 Ok\r\n")

    def do_VRFY(self, rest: bytes) -> None:
        self.reply(b"252 2.5.0 Send it and see\r\n")

    def do_QUIT(self, rest: bytes) -> None:
        self.close(b"221 2.0.0 Bye\r\n")

    # -- TLS and AUTH ----------------------------------------------------------------------

    def ext_STARTTLS(self, rest: bytes) -> None:
        if self._may_start_tls(rest):
            self.reply(b"220 2.0.0 Go ahead\r\n")
            self._start_tls()

    def _may_start_tls(self, rest: bytes) -> bool:
        """Whether there will be a handshake. :raises BadCommand: it is not the time for one."""
        if self.startedTLS or not self.canStartTLS:
            raise BadCommand(503, b"5.5.1 TLS not available")
        if rest:
            raise BadCommand(501, b"5.5.4 STARTTLS takes no argument")
        if self.held:
            # Commands sent in clear must not be taken as if they came through TLS.
            self.broken()
            self.close(b"554 5.5.1 Nothing may follow STARTTLS\r\n")
            return False
        return True

    def _start_tls(self) -> None:
        self.flush()
        self.transport.startTLS(self.ctx)
        self._house.counts.tls += 1
        self.startedTLS = True
        self.authenticated = self._greeted = False
        self._user = ""
        self._forget()

    def ext_AUTH(self, rest: bytes) -> None:
        if not self._mechanisms():
            raise BadCommand(502, b"5.5.1 AUTH not offered")
        if not self._private():
            raise BadCommand(538, b"5.7.11 STARTTLS first")
        if self.authenticated or self._sender is not None or not self._greeted:
            raise BadCommand(503, b"5.5.1 Not now")
        name, _, initial = rest.partition(b" ")
        self._exchange = self._exchange_by(name)
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
        else:
            self._log_in()

    def _log_in(self) -> None:
        """Decide about what the exchange has said."""
        if not self._exchange.proves(self._terms.user or "", self._terms.password or ""):
            self._house.counts.refuse(535)
            raise BadCommand(535, b"5.7.8 Wrong user or password")
        self._welcome(self._terms.user or "")

    def _welcome(self, user: str) -> None:
        self.authenticated = True
        self._user = user
        self._house.counts.logins += 1
        self.reply(b"235 2.7.0 Welcome\r\n")

    # -- messages --------------------------------------------------------------------------

    def take_data(self, held: bytearray) -> None:
        # Only what belongs to this message is handed on, so that a buffer full of pipelined
        # messages is not copied once for each.
        end = held.find(_END)
        piece = bytes(held[: end + len(_END)] if end >= 0 else held)
        del held[: len(piece)]
        body = self._body
        chunk = body.feed(piece)
        self._size += len(chunk)
        if self._size <= self._terms.max_size:
            self._chunks.append(chunk)
        else:
            self._chunks.clear()  # read to its end all the same, and refused there
        if body.done:
            held[:0] = body.rest
            self.mode = COMMAND
            self.busy()
            answer = self._judge(b"".join(self._chunks))
            self._forget()
            self._give(answer)

    def _judge(self, body: bytes) -> Answer:
        """Decide about a complete message, and keep it if that is the decision."""
        if self._size > self._terms.max_size:
            return _TOO_LARGE
        if self._body.bare:
            return _BARE
        head = body[: body.find(b"\r\n\r\n") + 2] or body
        message_id = header(head, b"message-id")
        mail_id = header(head, b"x-genro-mail-id") or message_id
        answer = self._ending(mail_id)
        if not answer.keep:
            return answer
        try:
            copy = self._keep(body, mail_id, message_id)
        except OSError as error:
            _log.error("a message could not be written down: {error}", error=error)
            return _NO_ROOM
        self._messages += 1
        return answer.numbered(copy.n)

    def _ending(self, mail_id: str) -> Answer:
        """The answer to the end of a message."""
        return self._house.script.end(self._recipients, mail_id)

    def _keep(self, body: bytes, mail_id: str, message_id: str) -> Copy:
        sender = self._sender
        assert sender is not None
        tls = self.transport.getHandle().get_protocol_version_name() if self.startedTLS else ""
        return self._house.ledger.add(
            body,
            time=self._house.clock.now(),
            connection=self._number,
            peer=self._peer,
            helo=self._name,
            tls=tls,
            user=self._user,
            sender=sender.address,
            recipients=self._recipients,
            options=list(sender.options),
            mail_id=mail_id,
            message_id=message_id,
        )

    # -- answers ---------------------------------------------------------------------------

    def _give(self, answer: Answer) -> None:
        """Do what *answer* says, now or later."""
        if answer.delay:
            self._late = self._house.clock.callLater(answer.delay, self._give_now, answer)
        else:
            self._give_now(answer)

    def _give_now(self, answer: Answer) -> None:
        if answer.reply:
            if not answer.positive:
                self._house.counts.refuse(int(answer.reply[:3]))
            line = answer.reply + b"\r\n"
            if answer.close:
                self.close(line)
            else:
                self.reply(line)
            return
        self._house.counts.unanswered += 1
        if answer.close:
            self.close()
        else:
            self.setTimeout(None)
            self._house.unanswered.add(self)
            self._late = self._house.clock.callLater(self._terms.hold, self.close)


class SinkFactory(ServerFactory):
    """Makes the connections of one sink."""

    noisy = False

    def __init__(self, house: House) -> None:
        self.house = house

    def buildProtocol(self, addr: IAddress | None) -> SinkProtocol:
        return SinkProtocol(self.house)
