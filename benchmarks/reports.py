"""
How fast a backlog of reports is told to one tenant, and whether others notice.

    python -m benchmarks.reports [--events 100000] [--floor 3000]

The file of a service is filled with messages that were sent and never reported, as after a night
in which the application was down. Then the service starts, and the clock runs from the first call
to the last. Meanwhile another tenant's mail is posted, one message after the other, and told: from
just before the POST to its report. Every event must be told once, in order, in calls of at most
500.
"""

from __future__ import annotations

import argparse
import re
import sqlite3
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import attrs

from benchmarks.figures import Figure
from benchmarks.filled import fill_ended
from benchmarks.latency import Arrivals, percentile
from mailproxy.records import MAX_BATCH
from tests.scenarios.processes import Service, account, message, wait_until

#: Seconds between two messages of the other tenant.
PAUSE = 0.1

_id = re.compile(rb'"id":"([^"]*)"')


class Receiver:
    """
    An application that takes every report.

    :ivar ids: of the items, in order; *pages* how many each call had.
    :ivar at: when each id was told first; *first* and *last* when calls were answered.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.pages: list[int] = []
        self.at: dict[str, float] = {}
        self.first = self.last = 0.0
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                take(self.rfile.read(int(self.headers["Content-Length"])))
                answer = b'{"ok":true}'
                head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d"
                self.wfile.write(head % len(answer) + b"\r\n\r\n" + answer)

            def log_message(self, format: str, *args: object) -> None:
                """Not a word."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/proxy_sync"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _take(self, raw: bytes) -> None:
        # Not decoded: the receiver shares the machine with what is measured.
        found = [each.decode() for each in _id.findall(raw)]
        now = time.perf_counter()
        if found:
            self.first = self.first or now
            self.last = now
            self.pages.append(len(found))
        self.ids += found
        for each in found:
            self.at.setdefault(each, now)


class Other(threading.Thread):
    """Another tenant, which posts one message after the other and waits until it is told."""

    def __init__(self, service: Service, receiver: Receiver) -> None:
        super().__init__(daemon=True)
        self.service = service
        self.receiver = receiver
        self.told: list[float] = []
        self.ending = threading.Event()

    def run(self) -> None:
        while not self.ending.wait(PAUSE):
            id = f"other{len(self.told)}"
            started = time.perf_counter()
            self.service.add(message(id, tenant_id="other", priority=0))
            wait_until(lambda id=id: id in self.receiver.at, 60.0, "its report", step=0.002)  # type: ignore[misc]
            self.told.append(self.receiver.at[id] - started)


def measure(directory: Path, count: int) -> tuple[Receiver, list[float]]:
    """:return: what was told to the tenant with the backlog, and how long the other waited."""
    arrivals, receiver, others = Arrivals(), Receiver(), Receiver()
    settings = {"GMP_CLIENT_SYNC_URL": receiver.url, "GMP_LOG_LEVEL": "WARNING"}
    service = Service(directory, **settings).start()
    try:
        service.call("POST", "/account", account(arrivals.port))
        service.call("POST", "/tenant", {"id": "other", "client_sync_url": others.url})
        service.call("POST", "/account?tenant_id=other", account(arrivals.port))
        service.add(message("first"))  # makes the account's lane
        wait_until(lambda: "first" in receiver.at, what="the first report")
        service.terminate()
        with sqlite3.connect(directory / "mail.db", isolation_level=None) as connection:
            (pk,) = connection.execute(
                "SELECT pk FROM accounts WHERE tenant_id = 'default'"
            ).fetchone()
            fill_ended(connection, "default", pk, count, now=time.time() - 60.0)
        connection.close()
        receiver.ids.clear()
        receiver.pages.clear()
        receiver.first = 0.0
        service.start()
        other = Other(service, others)
        other.start()
        wait_until(lambda: len(receiver.ids) >= count, 300.0, "the backlog", step=0.05)
        other.ending.set()
        other.join(60.0)
        return receiver, other.told
    finally:
        service.end()


@attrs.frozen
class Told:
    """
    How a backlog was told.

    :param rate: events a second, from the first call to the last.
    :param right: whether each was told once, in order.
    :param largest: events of the largest call, of *calls*.
    :param other: seconds from POST to report of the other tenant's messages.
    """

    rate: float
    right: bool
    calls: int
    largest: int
    other: list[float]


def told(count: int) -> Told:
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        receiver, other = measure(Path(directory), count)
    return Told(
        count / (receiver.last - receiver.first),
        receiver.ids == [f"ended-{n}" for n in range(count)],
        len(receiver.pages),
        max(receiver.pages),
        other,
    )


def figures(quick: bool) -> list[Figure]:
    count = 10_000 if quick else 100_000
    run = told(count)
    if not run.right or run.largest > MAX_BATCH:
        raise SystemExit(f"not told once each, in order, at most {MAX_BATCH} a call: {run}")
    note = f"{count} to one tenant, {run.calls} calls of at most {run.largest}"
    beside = "POST to report of another tenant's mail meanwhile"
    return [
        Figure("reports", run.rate, "msg/s", note),
        Figure("reports-other-p50", percentile(run.other, 0.5) * 1000, "ms", beside),
        Figure("reports-other-worst", max(run.other) * 1000, "ms", beside),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--floor", type=float, default=3000.0, help="events a second")
    given = parser.parse_args()
    run = told(given.events)
    print(
        f"{given.events} events: {run.rate:.0f} a second (floor: {given.floor:.0f}), "
        f"{run.calls} calls of at most {run.largest}; "
        f"once each and in order: {'yes' if run.right else 'NO'}"
    )
    print(
        f"another tenant's mail, POST to report: p50 {percentile(run.other, 0.5) * 1000:.0f} ms, "
        f"worst {max(run.other) * 1000:.0f} ms ({len(run.other)} messages; bar: 1000)"
    )
    good = run.right and run.largest <= MAX_BATCH and max(run.other) < 1.0
    raise SystemExit(not good or run.rate < given.floor)


if __name__ == "__main__":
    main()
