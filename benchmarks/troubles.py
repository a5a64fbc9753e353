"""
Whether one account's failure changes what another account's urgent mail takes.

    python -m benchmarks.troubles [--waiting 100000] [--singles 300] [--only hang]

Two accounts of one service. One is alive and posts single messages of priority 0, one after the
other: from just before the POST to the arrival. First alone, while the other's batch with all that
waits is suspended; then the batch is activated and fails in one way (:mod:`benchmarks.upstreams`),
or is held up by its rate limit. The bar: at the 99th percentile no more than twice as long, or
20 ms longer, whichever is more; and never more than 50 ms longer.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sqlite3
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs

from benchmarks.bodies import BODY
from benchmarks.filled import fill
from benchmarks.latency import Arrivals, percentile
from benchmarks.relay import post
from benchmarks.upstreams import Upstream
from tests.scenarios.processes import Service, account, free_port

#: What the 99th percentile may grow by: this factor, or these seconds, the larger.
FACTOR, GROWTH = 2.0, 0.020

#: And by no more seconds than these, however long it took alone.
MOST = 0.050

#: Seconds between two single messages.
PAUSE = 0.01

#: The faulty account's batch, suspended until the failure is to begin.
FLOOD = "flood"

#: What the faulty account is like, by the kind of its upstream.
ACCOUNTS: dict[str, dict[str, Any]] = {
    "hang": {"timeout": 3},
    "refuse": {},
    "storm": {},
    "reset": {},
    "login": {"user": "u", "password": "p", "allow_plaintext_auth": True},
    "limited": {"limit_per_minute": 30},
}


@attrs.frozen
class Row:
    """Seconds from POST to arrival of the live account's mail, alone and beside the failure."""

    kind: str
    alone: list[float]
    beside: list[float]
    counts: dict[str, int]

    @property
    def p99(self) -> tuple[float, float]:
        return percentile(self.alone, 0.99), percentile(self.beside, 0.99)

    @property
    def met(self) -> bool:
        alone, beside = self.p99
        return beside <= min(max(alone * FACTOR, alone + GROWTH), alone + MOST)

    def __str__(self) -> str:
        alone, beside = self.p99
        told = ", ".join(f"{count} {state}" for state, count in self.counts.items())
        return (
            f"{self.kind:8} alone p50 {percentile(self.alone, 0.5) * 1000:5.1f} p99 "
            f"{alone * 1000:5.1f} | beside p50 {percentile(self.beside, 0.5) * 1000:5.1f} p99 "
            f"{beside * 1000:5.1f} worst {max(self.beside) * 1000:6.1f} ms | "
            f"{'met' if self.met else 'MISSED'} | of the other: {told}"
        )


def element(id: str, account_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "id": id,
        "account_id": account_id,
        "from": "Shop <shop@example.test>",
        "to": [f"{id}@example.test"],
        "subject": f"Message {id}",
        "body": BODY,
        **fields,
    }


def prepare(
    service: Service,
    waiting: int,
    account_id: str = "faulty",
    *,
    batches: Sequence[str] = (FLOOD,),
    body: str = BODY,
) -> None:
    """
    Let *waiting* messages of *account_id* wait, and start the service anew.

    They are as many in each of *batches*, all of which are suspended.
    """
    for batch in batches:
        service.call("POST", f"/commands/suspend?batch_code={batch}")
        service.add(element(f"seed-{batch}", account_id, batch_code=batch, priority=2, body=body))
    service.end()
    connection = sqlite3.connect(service.settings["GMP_DB_PATH"], isolation_level=None)
    try:
        lanes = [pk for (pk,) in connection.execute("SELECT pk FROM lanes WHERE batch != ''")]
        head, text = connection.execute(
            "SELECT json, text FROM payloads JOIN texts USING (body_pk) LIMIT 1"
        ).fetchone()
        now = time.time()
        fill(connection, lanes, waiting, now=now, due=now, payload=(head, text))
    finally:
        connection.close()
    service.start()


def singles(
    connection: Any, arrivals: Arrivals, prefix: str, count: int, account_id: str = "live"
) -> list[float]:
    """Seconds from POST to arrival of *count* messages of priority 0, one after the other."""
    found = []
    for n in range(count):
        id = f"{prefix}{n}"
        data = json.dumps({"messages": [element(id, account_id, priority=0)]}).encode()
        start = time.perf_counter()
        post(connection, data)
        found.append(arrivals.wait_for(id) - start)
        time.sleep(PAUSE)
    return found


def measure(directory: Path, kind: str, waiting: int, count: int) -> Row:
    arrivals = Arrivals()
    upstream = Upstream("good" if kind == "limited" else kind, free_port())
    service = Service(directory, GMP_LOG_LEVEL="ERROR").start()
    try:
        _account(service, arrivals.port, id="live")
        _account(service, upstream.port, id="faulty", max_sessions=16, **ACCOUNTS[kind])
        prepare(service, waiting)
        connection = http.client.HTTPConnection("127.0.0.1", service.port)
        singles(connection, arrivals, "warm", 50)
        alone = singles(connection, arrivals, "alone", count)
        service.call("POST", f"/commands/activate?batch_code={FLOOD}")
        beside = singles(connection, arrivals, "beside", count)
        return Row(kind, alone, beside, _states(service))
    finally:
        service.end()
        upstream.stop()


def _account(service: Service, port: int, **fields: Any) -> None:
    made = service.call("POST", "/account", account(port, **fields))
    if made.status != 200:
        raise SystemExit(f"POST /account answered {made.status}: {made.raw!r}")


def _states(service: Service) -> dict[str, int]:
    """How many of the faulty account's messages are in which state; read when all is measured."""
    service.end()
    connection = sqlite3.connect(service.settings["GMP_DB_PATH"])
    try:
        return dict(
            connection.execute(
                "SELECT state, count(*) FROM messages WHERE batch = ? GROUP BY state", (FLOOD,)
            ).fetchall()
        )
    finally:
        connection.close()


def table(kinds: list[str], waiting: int, count: int) -> bool:
    """Measure each of *kinds* on a service of its own, and print it. :return: all bars are met."""
    print(f"{waiting} waiting; POST to arrival of another account's priority 0:")
    met = True
    for kind in kinds:
        with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
            row = measure(Path(directory), kind, waiting, count)
        print(row, flush=True)
        met = met and row.met
    return met


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waiting", type=int, default=100_000)
    parser.add_argument("--singles", type=int, default=300)
    parser.add_argument("--only", choices=list(ACCOUNTS), action="append")
    given = parser.parse_args()
    raise SystemExit(not table(given.only or list(ACCOUNTS), given.waiting, given.singles))


if __name__ == "__main__":
    main()
