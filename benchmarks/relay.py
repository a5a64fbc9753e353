"""
How many messages a second go all the way: REST in batches, durable, ESMTP out, reported back.

    python -m benchmarks.relay [--messages 5000] [--sessions 32] [--floor 3000]

One service process with everything on (token, validation, events, recipients, sealing, metrics,
reports) against Postfix's ``smtp-sink``; the clock runs from the first POST until the last message
is at the sink. Then single messages: POST to arrival, one at a time, at a sink of our own.
Every id accepted must be reported, once each, and the sink must have counted as many messages.

A machine is not equally fast at all hours. Beside the rates stands what it did in the same minute:
additions of the interpreter, and Postfix's ``smtp-source`` over as many sessions into such a sink.
"""

from __future__ import annotations

import argparse
import atexit
import http.client
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs

from benchmarks.bodies import call_bodies, text
from benchmarks.figures import Figure
from benchmarks.machine import additions
from tests.scenarios.processes import TOKEN, Service, account, free_port, wait_until


class Receiver:
    """Takes reports; keeps when each id was reported."""

    def __init__(self) -> None:
        self.ids: dict[str, float] = {}
        self.repeats = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                for item in json.loads(raw)["delivery_report"]:
                    outer.repeats += item["id"] in outer.ids
                    outer.ids[item["id"]] = time.perf_counter()
                answer = b'{"ok": true, "queued": 0}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, format: str, *args: Any) -> None:
                """Not a word."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/proxy_sync"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class PostfixSink:
    """``smtp-sink -c``: counts the messages it took (it prints the counter on one line)."""

    def __init__(self, directory: Path) -> None:
        path = shutil.which("smtp-sink") or "/usr/sbin/smtp-sink"
        self.port = free_port()
        self.output = directory / "smtp-sink.out"
        user = ["-u", "nobody"] if os.geteuid() == 0 else []
        with self.output.open("wb") as out:
            self.process = subprocess.Popen(
                [path, *user, "-c", f"127.0.0.1:{self.port}", "1000"], stdout=out
            )
        atexit.register(self.stop)  # also where what it is for does not start

    @property
    def count(self) -> int:
        """Messages taken so far, from the last ``mesg=N`` of its running counter."""
        with self.output.open("rb") as output:
            output.seek(max(0, output.seek(0, os.SEEK_END) - 200))
            found = re.findall(rb"mesg=(\d+)", output.read())
        return int(found[-1]) if found else 0

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def post(connection: Any, body: bytes) -> dict[str, Any]:
    connection.request("POST", "/commands/add-messages", body, {"X-API-Token": TOKEN})
    answer = connection.getresponse()
    raw = answer.read()
    if answer.status != 200:
        raise SystemExit(f"add-messages answered {answer.status}: {raw[:300]!r}")
    return dict(json.loads(raw))


@attrs.frozen
class Relayed:
    """
    What one run came to, in messages a second.

    :param rate: from the first POST to the last arrival at the sink.
    :param accepted: to the last answer.
    :param reported: to the last report.
    :param cpu: seconds of processor of the service for 1 000 messages, until the last report.
    :param repeats: reports that were told more than once.
    """

    rate: float
    accepted: float
    reported: float
    cpu: float
    repeats: int

    def __str__(self) -> str:
        return (
            f"accepted {self.accepted:.0f}/s, reported {self.reported:.0f}/s, "
            f"{self.cpu:.2f} CPU s per 1000, repeated reports {self.repeats}"
        )


def throughput(directory: Path, count: int, sessions: int, size: int = 2048) -> Relayed:
    """
    Relay *count* messages over at most *sessions* sessions.

    :param size: bytes of a body.
    :raises SystemExit: what was accepted, taken by the sink and reported is not the same.
    """
    return through([Service(directory, GMP_LOG_LEVEL="WARNING")], directory, count, sessions, size)


def through(
    services: Sequence[Service], directory: Path, count: int, sessions: int, size: int = 2048
) -> Relayed:
    """The same through nodes that are not started yet, each of which is given its share."""
    receiver, sink = Receiver(), PostfixSink(directory)
    try:
        for service in services:
            service.settings["GMP_CLIENT_SYNC_URL"] = receiver.url
            service.start()
        target = account(sink.port, max_sessions=sessions // len(services))
        services[0].call("POST", "/account", target)
        bodies = call_bodies(count, 100, "b", body=text(size))
        pids = [service.process.pid for service in services if service.process is not None]
        used = sum(map(_cpu, pids))
        start = time.perf_counter()
        accepted = _share_out(services, bodies)
        taken = time.perf_counter()
        wait_until(lambda: sink.count >= count, 120.0, "the sink", step=0.005)
        done = time.perf_counter()
        wait_until(lambda: len(receiver.ids) >= count, 60.0, "the reports", step=0.01)
        reported = time.perf_counter()
        used = sum(map(_cpu, pids)) - used
        arrived = sink.count
        if not accepted == count == len(receiver.ids) == arrived:
            raise SystemExit(
                f"accepted {accepted}, at the sink {arrived}, reported {len(receiver.ids)}: "
                f"they must all be {count}"
            )
        rates = [count / (end - start) for end in (done, taken, reported)]
        return Relayed(rates[0], rates[1], rates[2], used / count * 1000, receiver.repeats)
    finally:
        for service in services:
            service.end()
        sink.stop()


def _share_out(services: Sequence[Service], bodies: Sequence[bytes]) -> int:
    """Post to all nodes side by side, one call after the other to each. :return: how many took."""

    def posted(n: int) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", services[n].port)
        return sum(post(connection, body)["queued"] for body in bodies[n :: len(services)])

    with ThreadPoolExecutor(len(services)) as pool:
        return sum(pool.map(posted, range(len(services))))


def median_of(rounds: int, count: int, sessions: int, size: int = 2048) -> Relayed:
    """The run in the middle of *rounds*, by rate."""
    runs = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
            runs.append(throughput(Path(directory), count, sessions, size))
    return sorted(runs, key=lambda run: run.rate)[len(runs) // 2]


#: Bytes of a body, its short name, and over how many sessions how many messages go.
MATRIX = (
    (2048, "2k", ((1, 4000), (4, 6000), (16, 10_000))),
    (50_000, "50k", ((1, 1000), (4, 2000), (10, 3000), (16, 3000))),
)


def figures(quick: bool) -> list[Figure]:
    """Rates over 1, 4 and 16 sessions, with 2 kB and 50 kB; and the processor's time."""
    found = []
    for size, short, runs in MATRIX:
        for sessions, count in runs:
            count //= 10 if quick else 1
            run = median_of(1 if quick else 3, count, sessions, size)
            note = f"{sessions} session{'s' * (sessions > 1)}, {size} bytes; {run}"
            found.append(Figure(f"relay-{short}-{sessions}", run.rate, "msg/s", note))
            if (short, sessions) == ("2k", 16):
                found.append(Figure("cpu", run.cpu, "s", "for 1 000 of these, reports and all"))
    return found


def raw(directory: Path, count: int, sessions: int, size: int = 2048) -> float | None:
    """Messages a second of ``smtp-source`` to ``smtp-sink``; None where there is none.

    :param size: bytes of a body.
    """
    source = shutil.which("smtp-source") or "/usr/sbin/smtp-source"
    if not Path(source).exists():
        return None
    sink = PostfixSink(directory)
    try:
        wait_until(lambda: _listens(sink.port), 10.0, "the sink")
        start = time.perf_counter()
        options = ["-d", "-s", str(sessions), "-m", str(count), "-l", str(size)]
        subprocess.run([source, *options, f"127.0.0.1:{sink.port}"], check=True, timeout=60.0)
        return count / (time.perf_counter() - start)
    finally:
        sink.stop()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1.0).close()
    except OSError:
        return False
    return True


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / 100.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=5000)
    parser.add_argument("--sessions", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--floor", type=float, default=3000.0)
    given = parser.parse_args()
    run = median_of(given.rounds, given.messages, given.sessions)
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        best = raw(Path(directory), given.messages, given.sessions)
    beside = f", smtp-source to smtp-sink {best:.0f} msg/s" if best else ""
    print(f"this machine now: {additions():.1f} million additions/s{beside}")
    print(f"median of {given.rounds}: {run.rate:.0f} msg/s, floor {given.floor:.0f} ({run})")
    sys.exit(run.rate < given.floor)


if __name__ == "__main__":
    main()
