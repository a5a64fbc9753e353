"""
Mail in by SMTP: how much is taken a second, and how much goes all the way, beside stock Postfix.

    python -m benchmarks.submission [--messages 5000] [--sessions 10] [--rounds 3]

Postfix's ``smtp-source`` hands messages of 2 kB in over persistent connections; a 250 of ours comes
after a sync of the disk. *taken* is measured while sending is suspended, *relayed* from the first
connection to the last message at ``smtp-sink``. The same source and sink then have a Postfix
between them, with its stock settings and a queue of its own (as root, and where it is installed);
*raw* is the source to the sink with nothing between. All in one round, so that the ratios hold on
any machine.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import attrs

from benchmarks.figures import Figure
from benchmarks.relay import PostfixSink, Receiver
from tests.scenarios.postfix import Postfix
from tests.scenarios.processes import Service, account, free_port, wait_until

SIZE = 2048

#: What issue and design ask for: messages taken a second, and the relay against Postfix's.
TAKEN, RATIO = 4000.0, 3.0


def program(name: str) -> str:
    found = shutil.which(name) or f"/usr/sbin/{name}"
    if not Path(found).exists():
        raise SystemExit(f"{name} is not installed: it comes with Postfix")
    return found


def source(port: int, count: int, sessions: int, size: int = SIZE) -> float:
    """
    Hand *count* messages in.

    :param size: bytes of a body.
    :return: seconds until the last was acknowledged.
    """
    start = time.perf_counter()
    subprocess.run(
        [
            *(program("smtp-source"), "-d", "-s", str(sessions), "-m", str(count)),
            *("-l", str(size), "-f", "sender@example.test", "-t", "anna@example.test"),
            f"127.0.0.1:{port}",
        ],
        check=True,
        timeout=300,
    )
    return time.perf_counter() - start


class Ours:
    """The service with everything on, its door open to this machine."""

    def __init__(self, directory: Path, sink: PostfixSink, sessions: int) -> None:
        self.receiver = Receiver()
        self.port = free_port()
        self.service = Service(
            directory,
            GMP_CLIENT_SYNC_URL=self.receiver.url,
            GMP_LOG_LEVEL="WARNING",
            GMP_SMTP_LISTEN=f"tcp:{self.port}:interface=127.0.0.1:backlog=1024",
            GMP_SMTP_ALLOW="127.0.0.1",
        ).start()
        self.service.call("POST", "/account", account(sink.port, max_sessions=sessions))

    def stop(self) -> None:
        self.service.end()


def stock_postfix(directory: Path, sink: PostfixSink) -> Postfix:
    """A Postfix with stock settings between the source and *sink*."""
    return Postfix(directory, f"[127.0.0.1]:{sink.port}")


def taken(count: int, sessions: int) -> float:
    """Messages acknowledged a second while nothing is sent."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        sink = PostfixSink(Path(directory))
        ours = None
        try:
            ours = Ours(Path(directory), sink, 16)
            ours.service.call("POST", "/commands/suspend")
            return count / source(ours.port, count, sessions)
        finally:
            if ours is not None:
                ours.stop()
            sink.stop()


def relayed(
    make: Callable[[Path, PostfixSink], Ours | Postfix],
    count: int,
    sessions: int,
    size: int = SIZE,
) -> float:
    """Messages a second from the first connection to the last arrival."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        sink = PostfixSink(Path(directory))
        server = None
        try:
            server = make(Path(directory), sink)
            time.sleep(0.5)  # both have begun to listen before that
            start = time.perf_counter()
            source(server.port, count, sessions, size)
            wait_until(lambda: sink.count >= count, 300.0, "the sink", step=0.005)
            seconds = time.perf_counter() - start
            if isinstance(server, Ours):
                reported = server.receiver.ids
                wait_until(lambda: len(reported) >= count, 60.0, "the reports", step=0.01)
            return count / seconds
        finally:
            if server is not None:
                server.stop()
            sink.stop()


def raw(count: int, sessions: int) -> float:
    """Messages a second from the source straight to the sink."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        sink = PostfixSink(Path(directory))
        try:
            time.sleep(0.2)
            return count / source(sink.port, count, sessions)
        finally:
            sink.stop()


def ours(directory: Path, sink: PostfixSink) -> Ours:
    """The service, with as many sessions to *sink* as in the other benchmarks."""
    return Ours(directory, sink, 16)


@attrs.frozen
class Round:
    """Messages a second, of one round; *postfix* is None where none could be started."""

    raw: float
    taken: float
    relayed: float
    postfix: float | None

    def __str__(self) -> str:
        beside = "" if self.postfix is None else f"  stock Postfix {self.postfix:.0f}/s"
        return (
            f"raw {self.raw:.0f}/s  taken {self.taken:.0f}/s  relayed {self.relayed:.0f}/s{beside}"
        )


def measured(count: int, sessions: int) -> Round:
    stock = os.geteuid() == 0 and Path("/etc/postfix/master.cf.proto").exists()
    return Round(
        raw(count, sessions),
        taken(count, sessions),
        relayed(ours, count, sessions),
        relayed(stock_postfix, min(count, 2000), sessions) if stock else None,
    )


def against_postfix(rounds: list[Round]) -> float | None:
    """How many times as much as Postfix, the median of the rounds' own ratios."""
    ratios = [each.relayed / each.postfix for each in rounds if each.postfix]
    return statistics.median(ratios) if ratios else None


def figures(quick: bool) -> list[Figure]:
    count, sessions = (500 if quick else 5000), 10
    rounds = [measured(count, sessions) for _ in range(1 if quick else 3)]
    note = f"smtp-source, {sessions} sessions, {SIZE} bytes"
    found = [
        Figure("smtp-raw", _middle(rounds, "raw"), "msg/s", f"{note}; straight to smtp-sink"),
        Figure("smtp-taken", _middle(rounds, "taken"), "msg/s", f"{note}; sending suspended"),
        Figure("smtp-relayed", _middle(rounds, "relayed"), "msg/s", f"{note}; to smtp-sink"),
        Figure(
            "smtp-relayed-50k",
            relayed(ours, count // 2, sessions, 50_000),
            "msg/s",
            f"smtp-source, {sessions} sessions, 50000 bytes; to smtp-sink",
        ),
    ]
    ratio = against_postfix(rounds)
    if ratio is None:
        print("no stock Postfix to compare with: it takes root, and Postfix installed")
        return found
    return [
        *found,
        Figure("postfix", _middle(rounds, "postfix"), "msg/s", f"{note}; to smtp-sink"),
        Figure("smtp-postfix", ratio, "x", "smtp-relayed against postfix, each round by itself"),
    ]


def _middle(rounds: list[Round], column: str) -> float:
    return float(statistics.median(getattr(each, column) for each in rounds))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    rounds = []
    for _ in range(given.rounds):
        rounds.append(measured(given.messages, given.sessions))
        print(rounds[-1], flush=True)
    middle, ratio = _middle(rounds, "taken"), against_postfix(rounds)
    print(
        f"medians: taken {middle:.0f}/s (wanted {TAKEN:.0f}), "
        f"relayed {_middle(rounds, 'relayed'):.0f}/s, "
        + (f"{ratio:.1f} times stock Postfix (wanted {RATIO:.0f})" if ratio else "no Postfix")
    )
    sys.exit(not (middle >= TAKEN and (ratio is None or ratio >= RATIO)))


if __name__ == "__main__":
    main()
