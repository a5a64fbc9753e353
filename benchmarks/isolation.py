"""
Whether one tenant's flood, or one account's failure, keeps another's urgent mail waiting.

    python -m benchmarks.isolation [--messages 10000] [--singles 300] [--waiting 100000]

Two tenants, each with its own key, account and upstream. The quiet one posts single messages of
priority 0, one after the other: from just before the POST to the arrival. First alone, then while
the other's call with many messages is read, stored and sent. Besides: how long one call with 1 000
messages takes to be answered. Then the table of :mod:`benchmarks.troubles`: accounts that fail in
one way each, with *waiting* messages each, beside a live one.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.bodies import BODY
from benchmarks.figures import Figure
from benchmarks.latency import Arrivals, percentile
from benchmarks.relay import PostfixSink
from benchmarks.troubles import ACCOUNTS, table
from tests.scenarios.processes import Service, account, wait_until
from tests.scenarios.processes import http as call

#: Seconds by which the flood may delay the quiet tenant's mail, at the 99th percentile.
DELAY = 0.050

#: Seconds in which a call with 1 000 messages is answered.
ANSWER = 1.0

#: Seconds between two single messages.
PAUSE = 0.01


class Tenant:
    """A tenant of *service* with one account at *port*; posts on a connection of its own."""

    def __init__(self, service: Service, name: str, port: int) -> None:
        self.key = service.call("POST", "/tenant", {"id": name}).body["api_key"]
        self.port = service.port
        answer = call(
            "POST", f"{service.url}/account", account(port, max_sessions=16), self.headers
        )
        if answer.status != 200:
            raise SystemExit(f"POST /account answered {answer.status}: {answer.raw!r}")
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port)

    @property
    def headers(self) -> dict[str, str]:
        return {"X-API-Token": self.key}

    def post(self, body: bytes) -> float:
        """:return: seconds until the answer. :raises SystemExit: not all of it was accepted."""
        start = time.perf_counter()
        self.connection.request("POST", "/commands/add-messages", body, self.headers)
        answer = self.connection.getresponse()
        raw = answer.read()
        if answer.status != 200 or json.loads(raw)["rejected"]:
            raise SystemExit(f"add-messages answered {answer.status}: {raw[:300]!r}")
        return time.perf_counter() - start


def element(id: str, priority: int) -> dict[str, Any]:
    return {
        "id": id,
        "from": "Shop <shop@example.test>",
        "to": [f"{id}@example.test"],
        "subject": f"Message {id}",
        "body": BODY,
        "priority": priority,
    }


def body(prefix: str, count: int, priority: int) -> bytes:
    elements = [element(f"{prefix}{n}", priority) for n in range(count)]
    return json.dumps({"messages": elements}).encode()


def singles(
    quiet: Tenant, arrivals: Arrivals, prefix: str, go_on: Callable[[int], bool]
) -> list[float]:
    """Seconds from POST to arrival of one message after the other, as long as *go_on* says."""
    found: list[float] = []
    while go_on(len(found)):
        id = f"{prefix}{len(found)}"
        data = json.dumps({"messages": [element(id, 0)]}).encode()
        start = time.perf_counter()
        quiet.post(data)
        found.append(arrivals.wait_for(id) - start)
        time.sleep(PAUSE)
    return found


def measure(directory: Path, count: int, alone: int) -> tuple[list[float], list[float], float]:
    """:return: latencies without and with the flood, and the seconds until its call's answer."""
    arrivals, sink = Arrivals(), PostfixSink(directory)
    service = Service(directory, GMP_LOG_LEVEL="WARNING").start()
    try:
        quiet, loud = Tenant(service, "quiet", arrivals.port), Tenant(service, "loud", sink.port)
        singles(quiet, arrivals, "warm", lambda n: n < 50)
        before = singles(quiet, arrivals, "alone", lambda n: n < alone)
        flood = body("flood", count, 2)
        answered: list[float] = []
        caller = threading.Thread(target=lambda: answered.append(loud.post(flood)))
        caller.start()
        during = singles(quiet, arrivals, "beside", lambda n: sink.count < count)
        caller.join()
        wait_until(lambda: sink.count >= count, 60.0, "the flood at its sink")
        return before, during, answered[0]
    finally:
        service.end()
        sink.stop()


def answers(directory: Path, rounds: int) -> list[float]:
    """Seconds until a call with 1 000 messages is answered, one call after the other."""
    sink = PostfixSink(directory)
    service = Service(directory, GMP_LOG_LEVEL="WARNING").start()
    try:
        tenant = Tenant(service, "campaign", sink.port)
        found = []
        for n in range(rounds):
            found.append(tenant.post(body(f"call{n}-", 1000, 2)))
            wait_until(lambda: sink.count >= len(found) * 1000, 60.0, "the call's mail")
        return found
    finally:
        service.end()
        sink.stop()


def figures(quick: bool) -> list[Figure]:
    count, alone, rounds = (2000, 50, 2) if quick else (10_000, 300, 5)
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        before, during, answer = measure(Path(directory), count, alone)
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        calls = answers(Path(directory), rounds)
    note = f"priority 0 of one tenant beside one call with {count} of another; {len(during)} timed"
    return [
        Figure("flood-alone-p99", percentile(before, 0.99) * 1000, "ms", "the same alone"),
        Figure("flood-p50", percentile(during, 0.5) * 1000, "ms", note),
        Figure("flood-p99", percentile(during, 0.99) * 1000, "ms", note),
        Figure("flood-answer", answer * 1000, "ms", "until that call is answered"),
        Figure("call-1000", statistics.median(calls) * 1000, "ms", "a call with 1 000, alone"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--singles", type=int, default=300)
    parser.add_argument("--waiting", type=int, default=100_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        before, during, answer = measure(Path(directory), given.messages, given.singles)
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        calls = answers(Path(directory), 5)
    p99 = percentile(before, 0.99), percentile(during, 0.99)
    print(
        f"priority 0, POST to arrival: alone p50 {percentile(before, 0.5) * 1000:.1f} ms, "
        f"p99 {p99[0] * 1000:.1f} ms ({len(before)} messages); beside {given.messages} in one call "
        f"p50 {percentile(during, 0.5) * 1000:.1f} ms, p99 {p99[1] * 1000:.1f} ms, "
        f"worst {max(during) * 1000:.1f} ms ({len(during)} messages)"
    )
    print(f"delay at p99: {(p99[1] - p99[0]) * 1000:.1f} ms (bar: {DELAY * 1000:.0f})")
    print(
        f"one call with {given.messages}: answered in {answer:.2f} s; with 1000: median "
        f"{statistics.median(calls) * 1000:.0f} ms, worst {max(calls) * 1000:.0f} ms "
        f"(bar: {ANSWER * 1000:.0f})"
    )
    held = table(list(ACCOUNTS), given.waiting, given.singles)
    raise SystemExit(p99[1] - p99[0] > DELAY or max(calls) >= ANSWER or not held)


if __name__ == "__main__":
    main()
