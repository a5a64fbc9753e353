"""A mail server that dies in the phase it is told to, again and again, until it is told to live."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading

#: Where it may die, in the order of a session: before or after the reply to what the word names.
PHASES = (
    "refuse", "accept", "banner", "ehlo", "starttls", "handshake", "auth", "mail", "rcpt", "data",
    "body", "dot",
)  # fmt: skip


class DyingServer:
    """
    Speaks ESMTP on *port* of the loopback, with STARTTLS and AUTH PLAIN; one thread a connection.

    :ivar phase: where each session dies, by a reset; "" for nowhere. In ``dot`` the message is read
        to its end and not kept.
    :ivar kept: the messages it answered 250 for.
    :ivar deaths: sessions that died.
    """

    def __init__(self, port: int, context: ssl.SSLContext, phase: str = "") -> None:
        self.port = port
        self.phase = phase
        self.kept: list[bytes] = []
        self.deaths = 0
        self._context = context
        self._listener: socket.socket | None = None

    def start(self) -> DyingServer:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=50)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        return self

    def stop(self) -> None:
        """Nobody listens any more."""
        if self._listener is not None:
            # Another thread may be in accept(): only a shutdown wakes it.
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(20.0)
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        session = _Session(self, connection)
        try:
            session.run()
        except _Died:
            self.deaths += 1
            session.reset()
        except OSError:
            session.reset()

    def context(self) -> ssl.SSLContext:
        return self._context


class _Died(Exception):
    pass


class _Session:
    def __init__(self, server: DyingServer, connection: socket.socket) -> None:
        self._server = server
        self._connection = connection
        self._held = b""

    def _at(self, phase: str) -> None:
        if self._server.phase == phase:
            raise _Died

    def reset(self) -> None:
        """Close with RST, so that nothing that was written before is made up for."""
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self._connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._connection.close()

    def run(self) -> None:
        self._at("accept")
        self._say("220 dying.test ESMTP")
        self._at("banner")
        while line := self._line():
            word = line.split(b" ")[0].split(b":")[0].strip().upper().decode()
            if word == "QUIT":
                self._say("221 bye")
                break
            self._command(word)
        self._connection.close()

    def _command(self, word: str) -> None:
        self._at(word.lower())
        if word == "EHLO":
            self._say("250-dying.test\r\n250-STARTTLS\r\n250-AUTH PLAIN\r\n250 SIZE 10000000")
        elif word == "STARTTLS":
            self._say("220 go")
            self._at("handshake")
            self._connection = self._server.context().wrap_socket(
                self._connection, server_side=True
            )
        elif word == "AUTH":
            self._say("235 2.7.0 welcome")
        elif word == "DATA":
            self._say("354 go")
            self._message()
        else:
            self._say("250 2.0.0 ok")

    def _message(self) -> None:
        if self._server.phase == "body":
            self._connection.recv(10)
            raise _Died
        while b"\r\n.\r\n" not in self._held:
            self._more()
        self._at("dot")
        body, _, self._held = self._held.partition(b"\r\n.\r\n")
        self._server.kept.append(body)
        self._say("250 2.0.0 kept")

    def _line(self) -> bytes:
        while b"\r\n" not in self._held:
            if not self._more():
                return b""
        line, _, self._held = self._held.partition(b"\r\n")
        return line

    def _more(self) -> bool:
        data = self._connection.recv(65536)
        self._held += data
        return bool(data)

    def _say(self, text: str) -> None:
        self._connection.sendall(text.encode() + b"\r\n")
