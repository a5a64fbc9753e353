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

import attrs

from benchmarks.bodies import call_bodies
from benchmarks.figures import Figure
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


def timed(count: int, request: Callable[[], Any]) -> list[float]:
    """Milliseconds of *request*, each of *count* times."""
    taken = []
    for _ in range(count):
        start = time.perf_counter()
        request()
        taken.append((time.perf_counter() - start) * 1000)
    return taken


def shown(taken: list[float]) -> str:
    """The median and the 99th percentile."""
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


@attrs.frozen
class Idle:
    """
    What silent connections came to.

    :param reached: of those that were tried, greeted; *stayed* until the end.
    :param each: kB of memory of one.
    :param alone: milliseconds of GET /status and of POST with nobody there; *beside* with all.
    :param refused: what the one too many was told.
    """

    reached: int
    stayed: int
    seconds: float
    each: float
    alone: tuple[list[float], list[float]]
    beside: tuple[list[float], list[float]]
    refused: list[Any]


def measured(count: int, requests: int, after: Callable[[Crowd, Api, float], None]) -> Idle:
    """
    :param count: connections, each within its limits of open files.
    :param after: is called with all of them there, and when they came.
    """
    door = OpenDoor(
        GMP_SMTP_MAX_CONNECTIONS=str(count),
        GMP_SMTP_MAX_PER_PEER=str(count // PEERS + 1),
        GMP_LOG_LEVEL="WARNING",
    )
    crowd = Crowd(door.port, PEERS)
    try:
        assert door.service.process is not None
        pid = door.service.process.pid
        api = Api(door, requests)
        alone = timed(requests, api.status), timed(requests, api.add)
        before = memory(pid)
        seconds = crowd.join(count)
        came = time.monotonic()
        reached = len(crowd.greeted)
        each = (memory(pid) - before) / max(reached, 1) * 1000
        beside = timed(requests, api.status), timed(requests, api.add)
        crowd.join(1)
        stayed = crowd.silent()
        after(crowd, api, came)
        return Idle(reached, stayed, seconds, each, alone, beside, list(crowd.refused))
    finally:
        crowd.close()
        door.close()


def shown_out(crowd: Crowd, api: Api, came: float) -> None:
    """Wait until the service has shown all of them out."""
    slowest = 0.0

    def gone() -> bool:
        nonlocal slowest
        slowest = max(slowest, *timed(1, api.status))
        return crowd.silent() == 0

    wait_until(gone, 150.0, "their end", step=0.05)
    print(f"all shown out {time.monotonic() - came:.0f} s after they came, ", end="")
    print(f"the slowest status meanwhile {slowest:.0f} ms")


def stay(crowd: Crowd, api: Api, came: float) -> None:
    """Nothing more is done with them."""


def figures(quick: bool) -> list[Figure]:
    count = make_room(500 if quick else 10_000)
    run = measured(count, 100, stay)
    if not run.reached == run.stayed == count:
        raise SystemExit(f"of {count} connections {run.reached} came and {run.stayed} stayed")
    note = f"{count} silent SMTP connections"
    return [
        Figure("idle-connection", run.each, "kB", f"memory of one of {note}"),
        Figure("idle-status", statistics.median(run.beside[0]), "ms", f"GET /status beside {note}"),
        Figure("idle-add", statistics.median(run.beside[1]), "ms", f"POST beside {note}"),
        Figure("idle-add-alone", statistics.median(run.alone[1]), "ms", "POST with none there"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=200)
    parser.add_argument("--out", action="store_true")
    given = parser.parse_args()
    count = make_room(given.connections)
    run = measured(count, given.requests, shown_out if given.out else stay)
    print(f"alone: status {shown(run.alone[0])}, add {shown(run.alone[1])}")
    print(f"{run.reached} connections in {run.seconds:.1f} s, {run.each:.1f} kB each")
    print(f"beside them: status {shown(run.beside[0])}, add {shown(run.beside[1])}")
    print(f"one more: {run.refused}; still there: {run.stayed}")
    sys.exit(not run.reached == run.stayed == given.connections or len(run.refused) != 1)


if __name__ == "__main__":
    main()
