"""
From POST to arrival, one message at a time: how long an idle service needs.

    python -m benchmarks.latency [--messages 1000]

The upstream is a minimal server in this process that notes the instant at which the final dot of
each message was read. The first message (connecting, EHLO) is told apart from the others.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import json
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.bodies import BODY
from benchmarks.relay import post
from tests.scenarios.processes import Service, account, free_port


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
        self._loop.run_until_complete(asyncio.start_server(self._talk, "127.0.0.1", self.port))
        self._loop.run_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 arrivals\r\n")
        while line := await reader.readline():
            verb = line[:4].upper()
            if verb == b"EHLO":
                writer.write(b"250-arrivals\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
            elif verb == b"DATA":
                writer.write(b"354 go\r\n")
                data = await reader.readuntil(b"\r\n.\r\n")
                now = time.perf_counter()
                head = data.partition(b"\r\n\r\n")[0].split(b"\r\n")
                (found,) = [x for x in head if x.startswith(b"X-Genro-Mail-ID:")]
                with self.new:
                    self.at[found.split(b":", 1)[1].strip().decode()] = now
                    self.new.notify_all()
                writer.write(b"250 2.0.0 taken\r\n")
            elif verb == b"QUIT":
                writer.write(b"221 bye\r\n")
                break
            else:
                writer.write(b"250 ok\r\n")
        writer.close()

    def wait_for(self, id: str, patience: float = 30.0) -> float:
        with self.new:
            if not self.new.wait_for(lambda: id in self.at, patience):
                raise SystemExit(f"{id} did not arrive in {patience} s")
            return self.at[id]


def latencies(directory: Path, count: int) -> list[float]:
    """Seconds from just before the POST to the arrival, for each of *count* messages in turn."""
    arrivals = Arrivals()
    service = Service(directory, GMP_LOG_LEVEL="WARNING").start()
    try:
        service.call("POST", "/account", account(arrivals.port))
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        found = []
        for n in range(count):
            element = {
                "id": f"s{n}",
                "from": "Shop <shop@example.test>",
                "to": [f"customer{n}@example.test"],
                "subject": f"Your code {n}",
                "body": BODY,
            }
            body = json.dumps({"messages": [element]}).encode()
            start = time.perf_counter()
            post(connection, body)
            found.append(arrivals.wait_for(f"s{n}") - start)
        return found
    finally:
        service.end()


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        cold, *warm = latencies(Path(directory), given.messages + 1)
    p50, p99 = percentile(warm, 0.50) * 1000, percentile(warm, 0.99) * 1000
    print(
        f"POST to arrival, {len(warm)} messages in turn: p50 {p50:.1f} ms, p99 {p99:.1f} ms "
        f"(bars: 10, 40); the first one, with connecting: {cold * 1000:.1f} ms"
    )
    raise SystemExit(p50 >= 10.0 or p99 >= 40.0)


if __name__ == "__main__":
    main()
