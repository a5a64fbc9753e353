"""Thousands of SMTP clients that connect and then say nothing."""

from __future__ import annotations

import errno
import selectors
import socket
import time

#: Connections that wait for their banner at the same time: fewer than a listener's backlog.
WAITING = 40


class Crowd:
    """
    Connections to *port* of the loopback from many of its addresses.

    :param peers: addresses they come from, in turn.
    :ivar greeted: those that got a banner; *refused*: what the others were told.
    """

    def __init__(self, port: int, peers: int = 20) -> None:
        self._port = port
        self._peers = [f"127.0.1.{n + 1}" for n in range(peers)]
        self._made = 0
        self.greeted: list[socket.socket] = []
        self.refused: list[bytes] = []

    def join(self, count: int, patience: float = 120.0) -> float:
        """
        Open *count* more, and wait until each has heard something.

        :return: seconds it took.
        :raises AssertionError: it took longer than *patience*.
        """
        start = time.monotonic()
        left = count
        with selectors.DefaultSelector() as waiting:
            while left or waiting.get_map():
                while left and len(waiting.get_map()) < WAITING:
                    waiting.register(self._connect(), selectors.EVENT_READ)
                    left -= 1
                for key, _ in waiting.select(1.0):
                    waiting.unregister(key.fileobj)
                    assert isinstance(key.fileobj, socket.socket)
                    self._heard(key.fileobj)
                if time.monotonic() - start > patience:
                    raise AssertionError(f"{left} connections left after {patience} s")
        return time.monotonic() - start

    def _connect(self) -> socket.socket:
        made = socket.socket()
        made.setblocking(False)
        made.bind((self._peers[self._made % len(self._peers)], 0))
        self._made += 1
        code = made.connect_ex(("127.0.0.1", self._port))
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, "cannot connect")
        return made

    def _heard(self, connection: socket.socket) -> None:
        said = connection.recv(1000)
        if said.startswith(b"220 "):
            self.greeted.append(connection)
        else:
            self.refused.append(said)
            connection.close()

    def silent(self) -> int:
        """How many of those that were greeted have heard nothing since, and are open."""
        count = 0
        for connection in self.greeted:
            try:
                connection.recv(1000, socket.MSG_PEEK)
            except BlockingIOError:
                count += 1
        return count

    def leave(self, count: int) -> None:
        """Close *count* of them, the last that came."""
        for _ in range(count):
            self.greeted.pop().close()

    def close(self) -> None:
        self.leave(len(self.greeted))
