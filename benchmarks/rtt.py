"""
How many messages a second go to an upstream that is 50 ms away.

    python -m benchmarks.rtt [--messages 10000] [--round-trip 0.05] [--sessions 64] [--floor 1000]

The queue is filled while sending is suspended. The clock runs from the activation until the last
message is at Postfix's ``smtp-sink``, connecting included. The distance is made by a process of
ours between the two (:mod:`benchmarks.delay`), and measured by NOOPs, before and beside the load.
In the same run a plain client sends over as many connections that stay open, one command after the
other (``smtplib``), for the ratio.
"""

from __future__ import annotations

import argparse
import http.client
import smtplib
import statistics
import tempfile
import threading
import time
from pathlib import Path

import attrs

from benchmarks.bodies import BODY, call_bodies
from benchmarks.delay import DelayProxy, measure
from benchmarks.figures import Figure
from benchmarks.latency import percentile
from benchmarks.relay import PostfixSink, post
from tests.scenarios.processes import Service, account, wait_until

#: Messages that each connection of the plain client sends.
PLAIN = 30


def service_rate(
    directory: Path, count: int, sessions: int, port: int, sink: PostfixSink
) -> tuple[float, list[float]]:
    """
    :param port: of the delay proxy before *sink*.
    :return: messages a second, from the activation until the last arrival; and round trips
        measured meanwhile.
    """
    service = Service(directory, GMP_LOG_LEVEL="WARNING", GMP_SCHEDULER_ACTIVE="0").start()
    try:
        made = service.call("POST", "/account", account(port, max_sessions=sessions))
        if made.status != 200:
            raise SystemExit(f"POST /account answered {made.status}: {made.raw!r}")
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        accepted = sum(post(connection, body)["queued"] for body in call_bodies(count, 100, "b"))
        if accepted != count:
            raise SystemExit(f"{accepted} of {count} were accepted")
        before = sink.count
        trips: list[float] = []
        probe = threading.Thread(target=lambda: trips.extend(measure(port, 60)))
        start = time.perf_counter()
        service.call("POST", "/commands/activate")
        probe.start()
        wait_until(lambda: sink.count >= before + count, 140.0, "the sink", step=0.005)
        rate = count / (time.perf_counter() - start)
        if sink.count != before + count:
            raise SystemExit(f"the sink counted {sink.count - before}, not {count}")
        probe.join()
        return rate, trips
    finally:
        service.end()


def plain_rate(port: int, sessions: int, each: int) -> float:
    """Messages a second of a client that waits for every reply, on *sessions* open connections."""
    clients = [smtplib.SMTP("127.0.0.1", port) for _ in range(sessions)]
    data = f"From: shop@example.test\r\nSubject: Your order\r\n\r\n{BODY}"

    def send(client: smtplib.SMTP, n: int) -> None:
        client.ehlo("bench.example.test")
        for m in range(each):
            client.sendmail("shop@example.test", [f"customer{n}-{m}@example.test"], data)

    threads = [
        threading.Thread(target=send, args=(client, n), daemon=True)
        for n, client in enumerate(clients)
    ]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sessions * each / (time.perf_counter() - start)
    for client in clients:
        client.close()
    return rate


def _shown(seconds: list[float]) -> str:
    return (
        f"p50 {percentile(seconds, 0.5) * 1000:.1f} ms, p99 {percentile(seconds, 0.99) * 1000:.1f}"
    )


@attrs.frozen
class Far:
    """
    What came of it, in messages a second.

    :param plain: of the client that waits for every reply, over as many sessions.
    :param idle: seconds of round trips measured before the load; *beside* it.
    """

    ours: float
    plain: float
    idle: list[float]
    beside: list[float]


def far(count: int, sessions: int, round_trip: float) -> Far:
    """:raises SystemExit: the way was shorter than *round_trip* seconds."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        sink = PostfixSink(Path(directory))
        proxy = DelayProxy(sink.port, round_trip)
        try:
            idle = measure(proxy.port, 40)
            ours, beside = service_rate(Path(directory), count, sessions, proxy.port, sink)
            plain = plain_rate(proxy.port, sessions, PLAIN)
        finally:
            proxy.stop()
            sink.stop()
    if statistics.median(idle) < round_trip:
        raise SystemExit(f"the delay was {statistics.median(idle) * 1000:.1f} ms only")
    return Far(ours, plain, idle, beside)


def figures(quick: bool) -> list[Figure]:
    sessions, round_trip = (16, 0.05) if quick else (32, 0.05)
    run = far(sessions * (30 if quick else 300), sessions, round_trip)
    note = f"{sessions} sessions, 50 ms away (measured: {_shown(run.idle)})"
    return [
        Figure("rtt", run.ours, "msg/s", note),
        Figure("rtt-session", run.ours / sessions, "msg/s", "the same for each session"),
        Figure("rtt-smtplib", run.plain, "msg/s", f"{note}; a client that waits for every reply"),
        Figure("rtt-plain", run.ours / run.plain, "x", "rtt against rtt-smtplib"),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--round-trip", type=float, default=0.05)
    parser.add_argument("--sessions", type=int, default=64)
    parser.add_argument("--floor", type=float, default=1000.0)
    given = parser.parse_args()
    run = far(given.messages, given.sessions, given.round_trip)
    print(f"delay tool: benchmarks.delay, {given.round_trip * 1000:.0f} ms asked for")
    print(f"round trip measured: idle {_shown(run.idle)}; under load {_shown(run.beside)}")
    print(
        f"{given.sessions} sessions: {run.ours:.0f} msg/s (floor {given.floor:.0f}); "
        f"plain client {run.plain:.0f} msg/s; ratio {run.ours / run.plain:.1f}"
    )
    raise SystemExit(run.ours < given.floor)


if __name__ == "__main__":
    main()
