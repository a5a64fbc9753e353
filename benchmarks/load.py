"""
Clients that submit as fast as they are answered, in a process of their own.

    python -m benchmarks.load --port PORT --clients 16 --batch 1 --calls 8000 --prefix a

Every client has one connection and sends its next call when the last was answered. The calls are
made before the clock runs. Prints one JSON object: seconds, and how long each call took in order.
"""

from __future__ import annotations

import argparse
import json
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import attrs

from benchmarks.bodies import call_bodies
from tests.scenarios.processes import TOKEN

_HEAD = (
    "POST /commands/add-messages HTTP/1.1\r\nHost: 127.0.0.1\r\nX-API-Token: {}\r\n"
    "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n"
)


@attrs.frozen
class Took:
    """
    What the clients found.

    :param seconds: from the first call to the last answer.
    :param calls: seconds that each call took, in ascending order.
    """

    seconds: float
    calls: tuple[float, ...]


class _Client:
    """One connection, with at most one call under way."""

    def __init__(self, port: int, calls: Iterator[bytes], batch: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._calls = calls
        self._said = b'"queued":%d,' % batch
        self._read = b""
        self._began = 0.0
        self.took: list[float] = []

    def send(self) -> bool:
        """Send the next call. :return: whether there was one."""
        call = next(self._calls, None)
        if call is None:
            return False
        self._began = time.perf_counter()
        self.socket.sendall(call)
        return True

    def take(self) -> bool:
        """Read what there is. :return: whether the answer is complete."""
        self._read += self.socket.recv(1 << 20)
        head, end, body = self._read.partition(b"\r\n\r\n")
        if not end:
            return False
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(body) < length:
            return False
        if not head.startswith(b"HTTP/1.1 200") or self._said not in body:
            raise SystemExit(f"add-messages answered {self._read[:500]!r}")
        self.took.append(time.perf_counter() - self._began)
        self._read = b""
        return True


def submit(port: int, clients: int, batch: int, count: int, prefix: str) -> Took:
    """Make *count* calls with *batch* messages each, over *clients* connections."""
    bodies = call_bodies(count * batch, batch, prefix)
    calls = iter([_HEAD.format(TOKEN, len(body)).encode() + body for body in bodies])
    crowd = [_Client(port, calls, batch) for _ in range(clients)]
    with selectors.DefaultSelector() as selector:
        start = time.perf_counter()
        for client in crowd:
            if client.send():
                selector.register(client.socket, selectors.EVENT_READ, client)
        while selector.get_map():
            for key, _ in selector.select(60.0):
                if key.data.take() and not key.data.send():
                    selector.unregister(key.data.socket)
        seconds = time.perf_counter() - start
    for client in crowd:
        client.socket.close()
    return Took(seconds, tuple(sorted(each for client in crowd for each in client.took)))


def submitted(port: int, clients: int, batch: int, count: int, prefix: str) -> Took:
    """:func:`submit` in a process of its own."""
    options = {"port": port, "clients": clients, "batch": batch, "calls": count, "prefix": prefix}
    words = [f"--{name}={value}" for name, value in options.items()]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", *words],
        capture_output=True,
        timeout=120,
        check=False,
        text=True,
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    found = json.loads(done.stdout)
    return Took(found["seconds"], tuple(found["calls"]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("port", "clients", "batch", "calls"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--prefix", required=True)
    given = parser.parse_args()
    found = submit(given.port, given.clients, given.batch, given.calls, given.prefix)
    print(json.dumps(attrs.asdict(found)))


if __name__ == "__main__":
    main()
