"""
What waiting mail costs in memory.

    python -m benchmarks.memory [--messages 100000]

The memory of a service (its own and its part of what is shared, PSS) that has just started, *cold*,
and that has sent a few thousand messages and has nothing to do, *empty*; then with many messages of
2 kB waiting that came by REST, while their server refuses connections, so that the dispatcher is at
work on them; then after a new start with all of them there.
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from pathlib import Path

import attrs

from benchmarks.figures import Figure
from benchmarks.load import submitted
from benchmarks.relay import PostfixSink
from tests.scenarios.processes import Service, account, wait_until

#: Seconds in which a service comes to rest.
REST = 3.0

#: Messages that are sent before a service counts as empty.
WARM = 5000


def pss(pid: int) -> float:
    """Memory of a process in MB: what it has alone, and its part of what it shares."""
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    found = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert found is not None
    return int(found[1]) / 1000


def rested(service: Service) -> float:
    """Memory in MB when the service has come to rest."""
    time.sleep(REST)
    assert service.process is not None
    return pss(service.process.pid)


@attrs.frozen
class Memory:
    """MB of one service in turn: just started, warm with nothing waiting, full, started anew."""

    cold: float
    empty: float
    full: float
    again: float


def measured(directory: Path, count: int) -> Memory:
    sink = PostfixSink(directory)
    service = Service(directory, GMP_LOG_LEVEL="ERROR").start()
    try:
        service.call("POST", "/account", account(sink.port, max_sessions=16))
        cold = rested(service)
        submitted(service.port, 1, 100, WARM // 100, "warm-")
        wait_until(lambda: sink.count >= WARM, 60.0, "the sink")
        empty = rested(service)
        sink.stop()  # nobody listens there from now on: mail waits, and is tried again and again
        submitted(service.port, 1, 100, count // 100, "waiting-")
        full = rested(service)
        service.terminate()
        service.start()
        waiting = sum(service.call("GET", "/status").body["queue"].values())
        if waiting != count:
            raise SystemExit(f"{waiting} are waiting, not {count}")
        return Memory(cold, empty, full, rested(service))
    finally:
        service.end()
        sink.stop()


def found(count: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        memory = measured(Path(directory), count)
    above = f"PSS with {count} waiting, above"
    return [
        Figure("memory-cold", memory.cold, "MB", "PSS, just started"),
        Figure("memory-empty", memory.empty, "MB", f"PSS when {WARM} were sent and none waits"),
        Figure("memory-100k", memory.full - memory.empty, "MB", f"{above} empty"),
        Figure("memory-100k-cold", memory.full - memory.cold, "MB", f"{above} just started"),
        Figure("memory-100k-again", memory.again - memory.cold, "MB", "both started anew"),
    ]


def figures(quick: bool) -> list[Figure]:
    return found(5000 if quick else 100_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    given = parser.parse_args()
    for figure in found(given.messages):
        print(f"{figure.name}: {figure.value:.1f} MB ({figure.note})")


if __name__ == "__main__":
    main()
