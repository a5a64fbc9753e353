"""
Ten thousand SMTP connections that say nothing: what they cost, and what the API makes of it.

    python -m benchmarks.idle [--connections 10000] [--requests 200] [--out]

The limit of open files is raised on both sides as far as the system allows, and the figure reached
is printed. The clients come from a hundred addresses of the loopback, so that no address runs out
of ports. Requests are timed with nobody there and with everybody there: GET /status, and POST of
one message, whose answer comes after a sync of the disk. ``--out`` waits for the service to show
all of them out, two minutes after they came.
"""

from __future__ import annotations

import argparse
import http.client
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bodies import call_bodies
from benchmarks.relay import post
from mailproxy.descriptors import make_room
from tests.scenarios.crowd import Crowd
from tests.scenarios.door import OpenDoor
from tests.scenarios.processes import TOKEN, wait_until

PEERS = 100


def memory(pid: int) -> float:
    """Resident memory of a process, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / 1e6


def timed(count: int, request: Callable[[], Any]) -> str:
    """Milliseconds of *request*, called *count* times: the median and the 99th percentile."""
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        request()
        taken.append((time.perf_counter() - start) * 1000)
    return f"{statistics.median(taken):.1f} ms (99 %: {statistics.quantiles(taken, n=100)[98]:.1f})"


class Api:
    """Requests to the service over one connection."""

    def __init__(self, door: OpenDoor, count: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", door.service.port)
        self._bodies = iter(call_bodies(2 * count, 1, "b"))

    def status(self) -> None:
        self._connection.request("GET", "/status", headers={"X-API-Token": TOKEN})
        answer = self._connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise SystemExit(f"GET /status answered {answer.status}")

    def add(self) -> None:
        post(self._connection, next(self._bodies))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--out", action="store_true")
    given = parser.parse_args()
    count = make_room(given.connections)
    door = OpenDoor(
        GMP_SMTP_MAX_CONNECTIONS=str(count),
        GMP_SMTP_MAX_PER_PEER=str(count // PEERS + 1),
        GMP_LOG_LEVEL="WARNING",
    )
    crowd = Crowd(door.port, PEERS)
    try:
        assert door.service.process is not None
        pid = door.service.process.pid
        api = Api(door, given.requests)
        print(f"alone: status {timed(given.requests, api.status)}, ", end="")
        print(f"add {timed(given.requests, api.add)}", flush=True)
        before = memory(pid)
        seconds = crowd.join(count)
        came = time.monotonic()
        reached = len(crowd.greeted)
        each = (memory(pid) - before) / max(reached, 1) * 1000
        print(f"{reached} connections in {seconds:.1f} s, {each:.1f} kB each", flush=True)
        print(f"beside them: status {timed(given.requests, api.status)}, ", end="")
        print(f"add {timed(given.requests, api.add)}", flush=True)
        crowd.join(1)
        stayed = crowd.silent()
        print(f"one more: {crowd.refused}; still there: {stayed}")
        if given.out:
            slowest = 0.0

            def gone() -> bool:
                nonlocal slowest
                start = time.perf_counter()
                api.status()
                slowest = max(slowest, time.perf_counter() - start)
                return crowd.silent() == 0

            wait_until(gone, 150.0, "their end", step=0.05)
            print(f"all shown out {time.monotonic() - came:.0f} s after they came, ", end="")
            print(f"the slowest status meanwhile {slowest * 1000:.0f} ms")
        sys.exit(not reached == stayed == given.connections or len(crowd.refused) != 1)
    finally:
        crowd.close()
        door.close()


if __name__ == "__main__":
    main()
