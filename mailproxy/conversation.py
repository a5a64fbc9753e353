"""
One command, one reply, in order: how an SMTP server of ours turns bytes into commands.

``sendCode`` ends a command, and the next one is not looked at before. So PIPELINING may be offered
while any reply may be late, and a reply is never taken for that of another command. What a client
sends meanwhile is held, up to a limit, then it is made to wait.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import connectionDone
from twisted.mail.smtp import AUTH, COMMAND, DATA, ESMTP
from twisted.python.failure import Failure

from mailproxy.sending import send

#: Octets in a command line at most, and in a line of an AUTH exchange (RFC 4954, section 4).
MAX_LINE, MAX_AUTH_LINE = 4096, 12288

#: Octets held while a reply is late, before the client is made to wait.
MAX_HELD = 65536

#: Seconds a client has to take our last reply and close its side too; then the connection is cut.
LINGER = 30.0


class Conversation(ESMTP):
    """
    An ESMTP server that answers in order.

    Subclasses carry out commands in ``state_COMMAND`` and ``state_AUTH``, each of which leads to
    one ``sendCode`` or ``close``, sooner or later, and messages in ``take_data``.

    :param tls: makes the server side of a TLS connection; None: STARTTLS is not offered.
    """

    transport: Any
    noisy = False

    def __init__(self, tls: Any = None) -> None:
        super().__init__(None, tls)
        self.held = bytearray()
        self.over = False
        self._out: list[bytes] = []
        self._busy = True  # until the banner is sent
        self._pumping = False
        self._paused = False

    def take_data(self, held: bytearray) -> None:
        """Take from *held* what is there of the message; called in the mode DATA."""
        raise NotImplementedError

    def command(self, line: bytes) -> None:
        """Carry out one command, or one step of an AUTH exchange."""
        raise NotImplementedError

    def broken(self) -> None:
        """The client broke the protocol in a way that ends the connection."""

    def dataReceived(self, data: bytes) -> None:
        if self.over:
            return
        self.resetTimeout()
        self.held += data
        if self._busy:
            if len(self.held) > MAX_HELD and not self._paused:
                self._paused = True
                self.transport.pauseProducing()
        elif not self._pumping:
            self._pump()

    def busy(self) -> None:
        """Hold what comes next until there is a reply."""
        self._busy = True

    def resume(self) -> None:
        """What comes next belongs to the current command, whose reply comes after that."""
        self._busy = False

    def reply(self, lines: bytes) -> None:
        """Send the reply to the current command, each line with its CRLF, and so end it."""
        self._out.append(lines)
        self._busy = False
        if not self._pumping:
            self._pump()

    def sendCode(self, code: int, message: bytes = b"") -> None:
        lines = message.splitlines() or [b""]
        last = lines.pop()
        first = b"".join(b"%03d-%b\r\n" % (code, line) for line in lines)
        self.reply(b"%b%03d %b\r\n" % (first, code, last))

    def close(self, last: bytes = b"") -> None:
        """
        Send *last* and close; nothing more is read or carried out.

        A client that does not take the reply, or does not answer the end of TLS, keeps the
        connection no longer than :data:`LINGER`.

        :param last: a reply with its CRLF, or nothing.
        """
        if self.over:
            return
        self.over = True
        self.held.clear()
        self._out.append(last)
        self.flush()
        # Not moved to an earlier time, for which the reactor looks through all timers there are.
        self.setTimeout(None)
        self.setTimeout(LINGER)
        self.transport.loseConnection()

    def flush(self) -> None:
        """Write the replies that wait for the end of the input they answer."""
        if self._out:
            send(self.transport, b"".join(self._out))
            self._out.clear()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.over = True
        self.held.clear()
        self.mode = COMMAND  # the base has no message of its own to give up
        super().connectionLost(reason)

    def timeoutConnection(self) -> None:
        if self.over:
            self.transport.abortConnection()
            return
        self.close(b"421 4.4.2 Nothing heard for too long\r\n")

    def _pump(self) -> None:
        """Take what is held, one command or piece of a message after the other."""
        self._pumping = True
        while self.held and not self._busy and not self.over:
            if self.mode is DATA:
                self.take_data(self.held)
            elif not self._take_line():
                break
        self._pumping = False
        if not self.over:
            self.flush()
            if self._paused and not self._busy:
                self._paused = False
                self.transport.resumeProducing()

    def _take_line(self) -> bool:
        """Carry out the next command, if all of it is there."""
        held = self.held
        end = held.find(b"\r\n")
        # RFC 4954, section 4: the limit of an exchange holds for its initial response as well.
        login = self.mode is AUTH or bytes(held[:5]).upper() == b"AUTH "
        limit = MAX_AUTH_LINE if login else MAX_LINE
        if end > limit or (end < 0 and len(held) > limit):
            self.broken()
            self.close(b"500 5.5.6 Line too long\r\n")
            return False
        if end < 0:
            return False
        line = bytes(held[:end])
        del held[: end + 2]
        if b"\r" in line or b"\n" in line or b"\0" in line:
            self.broken()
            self.close(b"500 5.5.2 Stray control character\r\n")
            return False
        self._busy = True
        self.command(line)
        return True
