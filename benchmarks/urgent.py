"""
How long urgent mail takes while bulk mail is being sent.

    python -m benchmarks.urgent [--messages 300] [--waiting 100000]

Single messages of priority 0, one after the other, from just before the POST to the arrival: over
the same account, the same sessions and to the same server as bulk mail of priority 2 that waits and
is sent as fast as it goes; and over another account of the same service.
"""

from __future__ import annotations

import argparse
import http.client
import tempfile
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.latency import Arrivals, percentile
from benchmarks.troubles import FLOOD, prepare, singles
from tests.scenarios.processes import Service, account

#: Messages that are sent before any is timed.
WARM = 50


def measured(directory: Path, count: int, waiting: int) -> dict[str, list[float]]:
    """Seconds of each message: alone, beside bulk of its own account, beside another's."""
    arrivals, bulk = Arrivals(), Arrivals()
    service = Service(directory, GMP_LOG_LEVEL="ERROR").start()
    try:
        for id, port in (("main", bulk.port), ("live", arrivals.port)):
            service.call("POST", "/account", account(port, id=id, max_sessions=16))
        prepare(service, waiting, "main")
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        singles(connection, arrivals, "warm", WARM)
        found = {"alone": singles(connection, arrivals, "alone", count)}
        service.call("POST", f"/commands/activate?batch_code={FLOOD}")
        found["same"] = singles(connection, bulk, "same", count, "main")
        found["other"] = singles(connection, arrivals, "other", count)
        if len(bulk.at) >= waiting:
            raise SystemExit(f"all {waiting} were sent before the end")
        return found
    finally:
        service.end()


def found(count: int, waiting: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        each = measured(Path(directory), count, waiting)
    note = f"{count} messages of priority 0, {waiting} of bulk"
    named = {
        "urgent": ("same", f"{note} over the same account"),
        "urgent-other": ("other", f"{note} over another account"),
        "urgent-alone": ("alone", f"{count} messages of priority 0 alone, 10 ms apart"),
    }
    return [
        Figure(f"{name}-{label}", percentile(each[kind], share) * 1000, "ms", how)
        for name, (kind, how) in named.items()
        for label, share in (("p50", 0.5), ("p99", 0.99))
    ]


def figures(quick: bool) -> list[Figure]:
    return found(50, 20_000) if quick else found(500, 200_000)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=300)
    parser.add_argument("--waiting", type=int, default=100_000)
    given = parser.parse_args()
    for figure in found(given.messages, given.waiting):
        print(f"{figure.name}: {figure.value:.1f} ms ({figure.note})")


if __name__ == "__main__":
    main()
