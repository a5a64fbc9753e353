"""
What TLS and a login cost on the way out.

    python -m benchmarks.tls [--messages 10000] [--sessions 16] [--rounds 3]

The same mail goes over as many sessions, in each round once in clear and once over TLS with a
login, to the same small server in a process of its own (:mod:`benchmarks.sink`), which does its
part of the TLS on the same machine. The queue is filled before, so that only sending is measured:
connecting, handshakes and logins are part of it.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.load import submitted
from benchmarks.sink import Sink
from tests.delivery.certificates import Authority
from tests.scenarios.processes import Service, account, wait_until


def rate(directory: Path, count: int, sessions: int, authority: Authority | None) -> float:
    """Messages a second from the activation to the last arrival; over TLS with an *authority*."""
    sink = Sink(directory, authority.issue("127.0.0.1") if authority else None)
    service = Service(directory, GMP_LOG_LEVEL="WARNING", GMP_SCHEDULER_ACTIVE="0").start()
    secure = {"tls_mode": "plain"}
    if authority is not None:
        secure = {"tls_mode": "implicit", "user": "u", "password": "p", "ca_pem": authority.pem}
    try:
        fields = {**account(sink.port, max_sessions=sessions), **secure}
        fields.pop("use_tls")
        made = service.call("POST", "/account", fields)
        if made.status != 200:
            raise SystemExit(f"POST /account answered {made.status}: {made.raw!r}")
        submitted(service.port, 1, 100, count // 100, "t")
        start = time.perf_counter()
        service.call("POST", "/commands/activate")
        wait_until(lambda: sink.count >= count, 60.0, "the sink", step=0.002)
        return count / (time.perf_counter() - start)
    finally:
        service.end()
        sink.stop()


def found(count: int, sessions: int, rounds: int) -> list[Figure]:
    rates = []
    for _ in range(rounds):
        pair = []
        for authority in (None, Authority()):
            with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
                pair.append(rate(Path(directory), count, sessions, authority))
        rates.append((pair[0], pair[1]))
    note = f"{sessions} sessions, 2048 bytes, to a server in Python"
    return [
        Figure("out-plain", statistics.median(plain for plain, _ in rates), "msg/s", note),
        Figure("out-tls", statistics.median(tls for _, tls in rates), "msg/s", f"{note}; AUTH"),
        Figure(
            "tls-plain",
            statistics.median(tls / plain for plain, tls in rates),
            "x",
            "out-tls against out-plain, each round by itself",
        ),
    ]


def figures(quick: bool) -> list[Figure]:
    return found(1000, 16, 1) if quick else found(10_000, 16, 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--sessions", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    for figure in found(given.messages, given.sessions, given.rounds):
        print(f"{figure.name}: {figure.value:.3g} {figure.unit} ({figure.note})")


if __name__ == "__main__":
    main()
