"""
How fast mail is taken by REST, with an answer only when it is durable.

    python -m benchmarks.add [--messages 20000] [--rounds 3]

Sending is suspended: what is measured is reading, checking, storing and answering. One message a
call from one client and from sixteen, then calls with 100 and with 1 000 messages of 2 kB. The
clients are in a process of their own. Afterwards as many must be waiting as were accepted.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path

import attrs

from benchmarks.figures import Figure
from benchmarks.load import Took, submitted
from tests.scenarios.processes import Service, account, free_port


@attrs.frozen
class Case:
    """*clients* at a time with *batch* messages a call; *share* of the messages of a run."""

    name: str
    batch: int
    clients: int
    share: float


CASES = (
    Case("add-1x1", 1, 1, 0.1),
    Case("add-1x16", 1, 16, 0.3),
    Case("add-100", 100, 1, 1.0),
    Case("add-1000", 1000, 1, 1.0),
)


def measured(directory: Path, count: int, rounds: int) -> dict[str, list[Took]]:
    """What the clients of each case found, in *rounds* rounds over all of them."""
    service = Service(directory, GMP_LOG_LEVEL="WARNING", GMP_SCHEDULER_ACTIVE="0").start()
    found: dict[str, list[Took]] = {case.name: [] for case in CASES}
    sent = 0
    try:
        service.call("POST", "/account", account(free_port()))
        submitted(service.port, 1, 100, 5, "warm-")
        sent += 500
        for n in range(rounds):
            for case in CASES:
                calls = max(1, int(count * case.share) // case.batch)
                took = submitted(service.port, case.clients, case.batch, calls, f"{case.name}-{n}-")
                found[case.name].append(took)
                sent += calls * case.batch
        waiting = service.call("GET", "/status").body["queue"]["queued"]
        if waiting != sent:
            raise SystemExit(f"{waiting} are waiting, {sent} were accepted")
        return found
    finally:
        service.end()


def _rate(case: Case, took: Took) -> float:
    return len(took.calls) * case.batch / took.seconds


def found(count: int, rounds: int) -> list[Figure]:
    """The median rate of each case, and how long a call takes."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        each = measured(Path(directory), count, rounds)
    figures = []
    for case in CASES:
        tooks = each[case.name]
        rate = statistics.median(_rate(case, took) for took in tooks)
        calls = sorted(call for took in tooks for call in took.calls)
        p99 = calls[min(len(calls) - 1, int(len(calls) * 0.99))] * 1000
        note = (
            f"{case.clients} client{'s' * (case.clients > 1)}, {case.batch} a call, median of "
            f"{rounds}; a call takes p50 {statistics.median(calls) * 1000:.1f} ms, p99 {p99:.1f} ms"
        )
        figures.append(Figure(case.name, rate, "msg/s", note))
    return figures


def figures(quick: bool) -> list[Figure]:
    return found(2000, 1) if quick else found(20_000, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for figure in found(given.messages, given.rounds):
        print(f"{figure.name}: {figure.value:.0f} msg/s ({figure.note})")


if __name__ == "__main__":
    main()
