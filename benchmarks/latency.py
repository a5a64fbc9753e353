"""
From POST to arrival, one message at a time: how long an idle service needs.

    python -m benchmarks.latency [--messages 1000]

The upstream is a minimal server in this process that notes the instant at which the final dot of
each message was read. Reports go to a receiver here as well: how long after its arrival each came
is told beside. The first message (connecting, EHLO) is told apart from the others.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import re
import tempfile
import threading
import time
from pathlib import Path

import attrs

from benchmarks.bodies import call_bodies
from benchmarks.figures import Figure
from benchmarks.relay import Receiver, post
from benchmarks.sink import Taking
from tests.scenarios.processes import Service, account, free_port, wait_until

_id = re.compile(rb"^X-Genro-Mail-ID: *([^\r\n]*)", re.MULTILINE)


class Arrivals:
    """An SMTP server that answers everything with yes, in a thread, and keeps arrival times."""

    def __init__(self) -> None:
        self.port = free_port()
        self.at: dict[str, float] = {}
        self.new = threading.Condition()
        self._loop = asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(
            self._loop.create_server(lambda: Taking(self._took), "127.0.0.1", self.port)
        )
        self._loop.run_forever()

    def _took(self, message: bytes) -> None:
        now = time.perf_counter()
        (found,) = _id.findall(message[: message.find(b"\r\n\r\n") + 2])
        with self.new:
            self.at[found.decode()] = now
            self.new.notify_all()

    def wait_for(self, id: str, patience: float = 30.0) -> float:
        with self.new:
            if not self.new.wait_for(lambda: id in self.at, patience):
                raise SystemExit(f"{id} did not arrive in {patience} s")
            return self.at[id]


@attrs.frozen
class Latencies:
    """
    Of each message in turn, in seconds.

    :param arrived: from just before the POST to the arrival.
    :param told: from the arrival to its report.
    """

    arrived: list[float]
    told: list[float]


def latencies(directory: Path, count: int) -> Latencies:
    """What *count* messages take, one after the other."""
    arrivals, receiver = Arrivals(), Receiver()
    service = Service(directory, GMP_CLIENT_SYNC_URL=receiver.url, GMP_LOG_LEVEL="WARNING").start()
    try:
        service.call("POST", "/account", account(arrivals.port))
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        found = []
        for n, body in enumerate(call_bodies(count, 1, "s")):
            start = time.perf_counter()
            post(connection, body)
            found.append(arrivals.wait_for(f"s{n}") - start)
        told = receiver.ids
        wait_until(lambda: len(told) >= count, 30.0, "the reports", step=0.01)
        return Latencies(found, [told[f"s{n}"] - arrivals.at[f"s{n}"] for n in range(count)])
    finally:
        service.end()


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def measured(count: int) -> tuple[float, Latencies]:
    """:return: what the first message took, which connects; and what *count* further ones did."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        found = latencies(Path(directory), count + 1)
    return found.arrived[0], Latencies(found.arrived[1:], found.told[1:])


def figures(quick: bool) -> list[Figure]:
    count = 100 if quick else 2000
    first, warm = measured(count)
    note = f"{count} messages in turn"
    came, told = f"POST to arrival, {note}", f"arrival to report, {note}"
    return [
        Figure("idle-first", first * 1000, "ms", "POST to arrival of the first, with connecting"),
        Figure("idle-p50", percentile(warm.arrived, 0.5) * 1000, "ms", came),
        Figure("idle-p99", percentile(warm.arrived, 0.99) * 1000, "ms", came),
        Figure("report-p50", percentile(warm.told, 0.5) * 1000, "ms", told),
        Figure(
            "report-p99", percentile(warm.told, 0.99) * 1000, "ms", f"arrival to report, {note}"
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    given = parser.parse_args()
    first, warm = measured(given.messages)
    p50, p99 = percentile(warm.arrived, 0.50) * 1000, percentile(warm.arrived, 0.99) * 1000
    print(
        f"POST to arrival, {given.messages} messages in turn: p50 {p50:.1f} ms, p99 {p99:.1f} ms "
        f"(bars: 10, 40); the first one, with connecting: {first * 1000:.1f} ms; arrival to report "
        f"p99 {percentile(warm.told, 0.99) * 1000:.1f} ms"
    )
    raise SystemExit(p50 >= 10.0 or p99 >= 40.0)


if __name__ == "__main__":
    main()
