"""SMTP said octet by octet over a socket, as no proper client would say it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable

#: What is smuggled in: a transaction that must never happen.
VICTIM = "victim@example.test"
EVIL = b"MAIL FROM:<evil@example.test>\r\nRCPT TO:<%b>\r\nDATA\r\n" % VICTIM.encode()


class Wire:
    """
    A connection from the address *source* to *port* of the loopback.

    :param tls: with TLS from the first byte, under this context.
    """

    def __init__(
        self, port: int, source: str = "127.0.0.1", tls: ssl.SSLContext | None = None
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20.0, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._read = b""
        if tls is not None:
            self.encrypt(tls)

    def encrypt(self, tls: ssl.SSLContext) -> None:
        self.socket = tls.wrap_socket(self.socket, server_hostname="localhost")

    def send(self, *pieces: bytes) -> Wire:
        """Send the pieces, each in a call of its own; what the server no longer takes is lost."""
        try:
            for piece in pieces:
                self.socket.sendall(piece)
        except (ConnectionError, ssl.SSLError):
            pass
        return self

    def line(self) -> str:
        """The next line; "" where the server closed."""
        while b"\r\n" not in self._read:
            try:
                data = self.socket.recv(65536)
            except (ConnectionError, ssl.SSLError):
                data = b""
            if not data:
                return ""
            self._read += data
        line, _, self._read = self._read.partition(b"\r\n")
        return line.decode()

    def reply(self) -> str:
        """The last line of the next reply; "" where the server closed."""
        while (line := self.line())[3:4] == "-":
            pass
        return line

    def say(self, *commands: bytes) -> list[str]:
        """Send commands, each after the reply to the one before it: the codes of the replies."""
        return [self.send(command + b"\r\n").reply()[:3] for command in commands]

    def codes(self) -> list[str]:
        """The codes of all replies until the server closes, which it has to."""
        found = []
        while reply := self.reply():
            found.append(reply[:3])
        return found

    def close(self) -> None:
        self.socket.close()

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def cut(data: bytes, sizes: Iterable[int]) -> list[bytes]:
    """*data* in pieces of these sizes, and what is left."""
    pieces, at = [], 0
    for size in sizes:
        pieces.append(data[at : at + size])
        at += size
    return [piece for piece in (*pieces, data[at:]) if piece]
