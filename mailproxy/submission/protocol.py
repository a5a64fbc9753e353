"""
One connection of a program that hands mail in: its messages.

Only CRLF.CRLF ends a message that DATA brings, and a count of octets one that BDAT brings (RFC
3030); nothing in one is ever a command. A message is acknowledged when it is stored, never before.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ServerFactory, connectionDone
from twisted.logger import Logger
from twisted.mail.smtp import COMMAND, DATA
from twisted.python.failure import Failure

from mailproxy.errors import BadCommand
from mailproxy.submission.commands import Mail, Rcpt, parse_bdat, parse_mail, parse_rcpt
from mailproxy.submission.desk import Desk, Handed, Reply
from mailproxy.submission.spool import Spool
from mailproxy.submission.visit import SICK, Visit
from mailproxy.submitters import Submitter

_END = b"\r\n.\r\n"

_TOO_LARGE = Reply(552, b"5.3.4 Message too large")
_NO_ROOM = Reply(452, b"4.3.1 Cannot keep the message now")

_log = Logger()


class Submission(Visit):
    """
    :ivar gone: called once, with this connection, when it is closed.
    :ivar storing: whether a message was handed over and its reply is waited for.
    """

    def __init__(self, desk: Desk, proxied: bool = False) -> None:
        super().__init__(desk, proxied)
        self.gone: Callable[[Submission], None] | None = None
        self.storing = False
        self._mail: Mail | None = None
        self._allowed: Submitter | None = None
        self._recipients: list[Rcpt] = []
        self._spool: Spool | None = None
        self._chunk = 0
        self._last = False

    @property
    def busy_with_mail(self) -> bool:
        return self._mail is not None

    def forget(self) -> None:
        self._mail = None
        self._recipients = []
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self._chunk = 0

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        super().connectionLost(reason)
        if self.gone is not None:
            self.gone(self)

    def end(self) -> None:
        """Say goodbye as soon as no message is being stored: the service is stopping."""
        if not self.storing:
            self.close(b"421 4.3.2 The service is stopping\r\n")

    # -- the envelope ----------------------------------------------------------------------

    def do_MAIL(self, rest: bytes) -> None:
        if not self.helo or self._mail is not None:
            raise BadCommand(503, b"5.5.1 Not now")
        if self.desk.intake.draining():
            self.close(b"421 4.3.2 The service is stopping\r\n")
            return
        if self.submitter is not None and not self.desk.gate.still(self.submitter):
            self.close(b"421 4.7.0 The credential was changed, log in again\r\n")
            return
        submitter = self.submitter or self.desk.gate.unasked(self.peer)
        if submitter is None:
            if self.private():
                raise BadCommand(530, b"5.7.0 Authentication required")
            raise BadCommand(530, b"5.7.0 STARTTLS first, then authentication")
        mail = parse_mail(rest, self.terms.max_size)
        if not submitter.may_send_as(mail.sender):
            raise BadCommand(550, b"5.7.1 This sender is not yours")
        self._mail = mail
        self._allowed = submitter
        # What the size allows for, if one is declared; else for the largest there may be.
        size = mail.size or self.terms.max_size
        self.expect(self.terms.transaction + size / self.terms.slowest)
        self.reply(b"250 2.1.0 Sender ok\r\n")

    def do_RCPT(self, rest: bytes) -> None:
        mail = self._mail
        if mail is None:
            raise BadCommand(503, b"5.5.1 MAIL first")
        if self._spool is not None:
            raise BadCommand(503, b"5.5.1 The message has begun")
        rcpt = parse_rcpt(rest, mail.utf8)
        if len(self._recipients) >= self.terms.max_recipients:
            self.reply(b"452 4.5.3 Too many recipients\r\n")
            return
        self._recipients.append(rcpt)
        self.idling -= 1  # it leads on; those beyond the limit do not
        self.reply(b"250 2.1.5 Recipient ok\r\n")

    # -- messages --------------------------------------------------------------------------

    def do_DATA(self, rest: bytes) -> None:
        if rest:
            raise BadCommand(501, b"5.5.4 DATA takes no argument")
        if self._spool is not None:
            raise BadCommand(503, b"5.5.1 BDAT has begun the message")
        if not self._recipients:
            raise BadCommand(503, b"5.5.1 No valid recipients")
        self._spool = Spool(self.terms.max_size)
        self._chunk = -1
        self.mode = DATA
        self.reply(b"354 End with a line that is only a dot\r\n")

    def do_BDAT(self, rest: bytes) -> None:
        size, self._last = parse_bdat(rest)
        if size > self.terms.max_size:
            self.close(b"552 5.3.4 Message too large\r\n")
            return
        # Whether or not it may be said now, its octets are no commands.
        self._chunk = size
        if self._recipients and self._spool is None:
            self._spool = Spool(self.terms.max_size)
        if size:
            self.mode = DATA
            self.resume()
        else:
            self._chunk_over()

    def take_data(self, held: bytearray) -> None:
        if self._chunk >= 0:
            self._take_chunk(held)
            return
        # Only what belongs to this message is handed on, so that a buffer full of pipelined
        # messages is not copied once for each.
        end = held.find(_END)
        piece = bytes(held[: end + len(_END)] if end >= 0 else held)
        del held[: len(piece)]
        spool = self._spool
        assert spool is not None
        self._kept(spool.stuffed, piece)
        if self.over:
            return
        if spool.unstuffer.done:
            held[:0] = spool.unstuffer.rest
            self._complete(spool)

    def _take_chunk(self, held: bytearray) -> None:
        piece = bytes(held[: self._chunk])
        del held[: len(piece)]
        self._chunk -= len(piece)
        if self._spool is not None:
            self._kept(self._spool.plain, piece)
        if not self._chunk and not self.over:
            self.mode = COMMAND
            self.busy()
            self._chunk_over()

    def _kept(self, keep: Callable[[bytes], None], piece: bytes) -> None:
        try:
            keep(piece)
        except OSError as error:
            _log.warn("a message cannot be kept while it comes in: {error}", error=str(error))
            self.close(b"452 4.3.1 Cannot keep the message now\r\n")

    def _chunk_over(self) -> None:
        spool = self._spool
        if spool is None:
            self.wrong(BadCommand(503, b"5.5.1 No valid recipients"))
        elif self._last:
            self._complete(spool)
        else:
            self.reply(b"250 2.0.0 Chunk ok\r\n")

    def _complete(self, spool: Spool) -> None:
        """The message is there: hand it over, and wait for what it comes to."""
        self.mode = COMMAND
        self.busy()
        self.expect(None)
        if spool.too_large:
            self._answer(_TOO_LARGE)
            return
        mail, allowed = self._mail, self._allowed
        assert mail is not None
        assert allowed is not None
        try:
            data = spool.take()
        except OSError as error:
            _log.warn("a message cannot be read back: {error}", error=str(error))
            self._answer(_NO_ROOM)
            return
        handed = Handed(
            allowed,
            mail,
            tuple(self._recipients),
            data,
            spool.bare,
            self._protocol(mail),
            self.peer,
            self.helo,
            self._tls(),
        )
        self.storing = True
        Deferred.fromCoroutine(self._handed(handed)).addBoth(self._came_to)

    async def _handed(self, handed: Handed) -> Reply:
        return await self.desk.intake.take(handed)

    def _came_to(self, result: Reply | Failure) -> None:
        self.storing = False
        if isinstance(result, Failure):
            _log.failure("taking a message by SMTP raised", result)
            result = SICK
        if not self.over:
            self.resetTimeout()
            self._answer(result)

    def timeoutConnection(self) -> None:
        if self.storing and not self.over:  # it is we who say nothing
            self.setTimeout(self.terms.idle)
        else:
            super().timeoutConnection()

    def _answer(self, answer: Reply) -> None:
        self.forget()
        self.idling = 0
        self.expect(self.terms.opening)
        if answer.code == 421 or self.desk.intake.draining():
            self.close(b"%d %b\r\n" % (answer.code, answer.text))
        else:
            self.reply(b"%d %b\r\n" % (answer.code, answer.text))

    def _protocol(self, mail: Mail) -> str:
        """RFC 3848, and RFC 6531, section 3.7.3."""
        if not self.extended:
            return "SMTP"
        name = "UTF8SMTP" if mail.utf8 else "ESMTP"
        return f"{name}{'S' * self.startedTLS}{'A' * (self.submitter is not None)}"

    def _tls(self) -> str:
        if not self.startedTLS:
            return ""
        handle = self.transport.getHandle()
        return f"{handle.get_protocol_version_name()} {handle.get_cipher_name()}"


class SubmissionFactory(ServerFactory):
    """
    Makes the connections of one door.

    :ivar connections: those that are open.
    """

    noisy = False

    def __init__(self, desk: Desk, proxied: bool = False) -> None:
        self.desk = desk
        self._proxied = proxied
        self.connections: set[Submission] = set()

    def buildProtocol(self, addr: IAddress | None) -> Submission:
        protocol = Submission(self.desk, self._proxied)
        protocol.gone = self.connections.discard
        self.connections.add(protocol)
        return protocol
