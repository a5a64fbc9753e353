"""
A TCP relay that makes every byte late, in a process of its own: a distance for benchmarks.

    python -m benchmarks.delay --to PORT --one-way 0.025

Prints its port. Each read is passed on *one-way* seconds after it was read, in order and whatever
follows it (a delay, not a bottleneck), and the first bytes of the far side come a further round
trip late, which is what the handshake of a distant connection costs. :func:`measure` says what the
delay really is.
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import subprocess
import sys
import time
from collections import deque


class _Line:
    """One direction of one connection: what was read, and when it is due at the other end."""

    def __init__(self, one_way: float, extra: float) -> None:
        self._one_way = one_way
        self._extra = extra
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self.to: asyncio.Transport | None = None

    def take(self, data: bytes) -> None:
        """:param data: empty for the end of the stream."""
        due = asyncio.get_running_loop().time() + self._one_way + self._extra
        self._extra = 0.0
        if self._waiting:
            due = max(due, self._waiting[-1][0])
        self._waiting.append((due, data))
        if self._timer is None:
            self._arm()

    def _arm(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(self._waiting[0][0], self._pass_on)

    def _pass_on(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        ready = []
        while self._waiting and self._waiting[0][0] <= now:
            ready.append(self._waiting.popleft()[1])
        if self.to is not None and not self.to.is_closing():
            if data := b"".join(ready):
                self.to.write(data)
            if ready and not ready[-1]:
                self.to.close()
        if self._waiting:
            self._arm()


class _End(asyncio.Protocol):
    """One end of a connection: what it says goes down *line*."""

    def __init__(self, line: _Line, back: _Line) -> None:
        self._line = line
        self._back = back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._back.to = transport

    def data_received(self, data: bytes) -> None:
        self._line.take(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._line.take(b"")


async def _serve(target: int, one_way: float) -> None:
    loop = asyncio.get_running_loop()
    dialling: set[asyncio.Task[object]] = set()

    def accepted() -> _End:
        out, back = _Line(one_way, 0.0), _Line(one_way, 2 * one_way)
        far = _End(back, out)
        task: asyncio.Task[object] = loop.create_task(
            loop.create_connection(lambda: far, "127.0.0.1", target)
        )
        dialling.add(task)
        task.add_done_callback(dialling.discard)
        return _End(out, back)

    server = await loop.create_server(accepted, "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class DelayProxy:
    """
    The relay as a child process.

    :param target: the port of the loopback that it leads to.
    :param round_trip: seconds.
    """

    def __init__(self, target: int, round_trip: float) -> None:
        command = [sys.executable, "-m", "benchmarks.delay"]
        self.process = subprocess.Popen(
            [*command, "--to", str(target), "--one-way", str(round_trip / 2)],
            stdout=subprocess.PIPE,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def measure(port: int, times: int) -> list[float]:
    """Seconds that each of *times* NOOPs to the SMTP server behind *port* takes, one by one."""
    found = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(4096)
        for _ in range(times):
            start = time.perf_counter()
            connection.sendall(b"NOOP\r\n")
            connection.recv(4096)
            found.append(time.perf_counter() - start)
        connection.sendall(b"QUIT\r\n")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--one-way", type=float, required=True)
    given = parser.parse_args()
    asyncio.run(_serve(given.to, given.one_way))


if __name__ == "__main__":
    main()
