"""A way to a server that lets only so much of the first connection through."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable
from typing import Any


class Gate:
    """
    Connects whoever comes to *port* of this machine.

    Of what the first client sends, *most* bytes pass; then nothing of it is read until it is
    gone. Later clients pass freely.

    :ivar port: where it listens.
    :ivar shut: set once the first client has been stopped.
    """

    def __init__(self, port: int, most: int) -> None:
        self._to = port
        self._left = most
        self.shut = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._start(self._accept)

    def close(self) -> None:
        self._listener.close()

    def _start(self, work: Callable[..., None], *args: Any) -> None:
        threading.Thread(target=work, args=args, daemon=True).start()

    def _accept(self) -> None:
        first = True
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._to))
            self._start(self._copy, server, client, None)
            self._start(self._copy, client, server, self._left if first else None)
            first = False

    def _copy(self, source: socket.socket, target: socket.socket, most: int | None) -> None:
        try:
            while data := source.recv(16384 if most is None else min(16384, most)):
                target.sendall(data)
                if most is not None:
                    most -= len(data)
                    if not most:
                        self.shut.set()
                        _wait_for_end(source)
                        break
        except OSError:
            pass
        finally:
            for end in (source, target):
                end.close()


def _wait_for_end(client: socket.socket) -> None:
    """Wait, without reading, until the other side has gone away."""
    poller = select.poll()
    poller.register(client, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
    poller.poll()
