"""
Nodes on a PostgreSQL server: how fast one and two are, and what a claim costs in a deep queue.

    python -m benchmarks.nodes [--messages 6000] [--rounds 3] [--depth 1000 --depth 1000000]

The rate is that of ``benchmarks.relay``: REST in batches of 100, to arrival at the sink, reported.
A file of SQLite, one node and two nodes take turns, on one server that syncs each commit; with two
nodes each is given half of the mail, and has half of the sessions. The server is on the machine,
too, and does its part of the work on the same processors.

A claim is measured beside it on a server that syncs nothing, since the time of a sync is the
disk's: the time of a call as its caller sees it, with 1 000, 100 000 and 1 000 000 messages waiting
that are due at the same instant, before and after ANALYZE. Of many calls in turn the quicker
quarter ends there: what else the machine does makes the others slower, not these.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import attrs

from benchmarks.figures import Figure
from benchmarks.relay import Relayed, through
from benchmarks.store_depth import BATCH, NOW, Cost, Still, wait
from mailproxy.clock import Names
from mailproxy.crypto import Sealer, new_key
from mailproxy.records import AccountSpec
from mailproxy.states import TlsMode
from mailproxy.store.options import StoreOptions
from mailproxy.store.postgres import PostgresStore
from tests.postgres import Server
from tests.scenarios.processes import Service

#: What a server for measuring is told: the defaults of a small machine, but for checkpoints, which
#: would come in the middle.
SETTINGS = {"shared_buffers": "256MB", "max_wal_size": "4GB", "checkpoint_timeout": "1h"}
UNSYNCED = {**SETTINGS, "fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}

SESSIONS = 16

DEPTHS = (1_000, 100_000, 1_000_000)

NAMES = {1_000: "1k", 100_000: "100k", 1_000_000: "1m"}

_LANE = """
INSERT INTO lanes (pk, tenant_id, account_pk, priority, batch, due_at, queued)
VALUES (1, 'default', {account}, 2, '', {now}, {count})
"""
_FILL = """
INSERT INTO messages (pk, tenant_id, id, generation, account_pk, lane, priority, batch, next_at,
    claim_at, accepted_at, updated_at, expires_at, attempts, uncertain, intent, state, hold,
    message_id, digest, envelope_from, size, parts, body_pk)
SELECT n, 'default', 'bulk-' || n, 1, {account}, 1, 2, '', {now}, {now}, {now}, {now},
    {now} + 86400, 0, 0, 0, 'queued', '', '<' || n || '@bulk>', '\\x00', 'a@example.com', 300, 0, n
FROM generate_series(1, {count}) AS n;
INSERT INTO recipients (message_pk, n, address, kind, state)
SELECT n, 0, 'u' || n || '@example.com', 'to', 'waiting' FROM generate_series(1, {count}) AS n;
INSERT INTO payloads (body_pk, json) SELECT n, '\\x7b7d' FROM generate_series(1, {count}) AS n;
INSERT INTO texts (body_pk, text) SELECT n, '\\x61' FROM generate_series(1, {count}) AS n
"""


@contextmanager
def served(settings: dict[str, str]) -> Iterator[Server]:
    """A server of our own."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        Path(directory).chmod(0o711)
        folder = Path(directory) / "postgres"
        folder.mkdir()
        made = Server(folder, settings=settings)
        made.create()
        made.start()
        try:
            yield made
        finally:
            made.stop()


# --- the rate ------------------------------------------------------------------------------------


def nodes(server: Server | None, directory: Path, count: int) -> Sequence[Service]:
    """*count* nodes on a database of their own; without a server, one on a file."""
    database = str(directory / "mail.db") if server is None else server.url(server.database())
    key, made = new_key(), []
    for n in range(count):
        own = directory / f"node{n}"
        own.mkdir()
        made.append(
            Service(
                own,
                GMP_DB_PATH=database,
                GMP_DATA_DIR=str(own),
                GMP_ENCRYPTION_KEY=key,
                GMP_LOG_LEVEL="WARNING",
            )
        )
    return made


#: What is compared, by the name of its figure.
WAYS: dict[str, Callable[[Server, Path], Sequence[Service]]] = {
    "nodes-sqlite": lambda _, directory: nodes(None, directory, 1),
    "nodes-1": lambda server, directory: nodes(server, directory, 1),
    "nodes-2": lambda server, directory: nodes(server, directory, 2),
}


def rates(count: int, rounds: int) -> dict[str, list[Relayed]]:
    """Each way once in each round, so that what the machine does meets them all."""
    found: dict[str, list[Relayed]] = {name: [] for name in WAYS}
    with served(SETTINGS) as server:
        for _ in range(rounds):
            for name, way in WAYS.items():
                with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
                    made = way(server, Path(directory))
                    found[name].append(through(made, Path(directory), count, SESSIONS))
    return found


# --- a claim -------------------------------------------------------------------------------------


@attrs.frozen
class Queue:
    """A store with so many messages waiting, in one lane."""

    store: PostgresStore
    account: int

    def claim(self, cost: Cost) -> None:
        """One claim, measured, and its undoing, which is not."""
        claimed = cost.call(lambda: self.store.claim(self.account, BATCH, NOW))
        if len(claimed) != BATCH:
            raise SystemExit(f"{len(claimed)} claimed in the place of {BATCH}")
        wait(self.store.release([(each.pk, each.token) for each in claimed]))


def queue(server: Server, name: str, depth: int) -> Queue:
    store = PostgresStore(
        server.url(name),
        clock=Still(),
        names=Names(random.Random(1)),
        sealer=Sealer([new_key()]),
        reactor=None,
        options=StoreOptions(lease_seconds=1e6),
    )
    store.open()
    spec = AccountSpec("default", "a", "localhost", 25, TlsMode.PLAIN)
    account = wait(store.put_account(spec, NOW)).pk
    values = {"account": account, "now": NOW, "count": depth}
    server.sql(name, "DELETE FROM lanes")
    server.sql(name, _LANE.format(**values))
    server.sql(name, _FILL.format(**values))
    return Queue(store, account)


def claims(depths: Sequence[int], times: int) -> dict[tuple[int, str], float]:
    """Milliseconds of a claim, by depth and by whether the tables were analyzed."""
    found: dict[tuple[int, str], float] = {}
    with served(UNSYNCED) as server:
        names = {depth: server.database() for depth in depths}
        queues = {depth: queue(server, name, depth) for depth, name in names.items()}
        for analyzed in ("", "analyzed"):
            if analyzed:
                for name in names.values():
                    server.sql(name, "VACUUM ANALYZE")
            costs = {depth: Cost() for depth in depths}
            for each in range(times + 5):
                for depth, made in queues.items():
                    made.claim(Cost() if each < 5 else costs[depth])
            for depth, cost in costs.items():
                found[depth, analyzed] = statistics.quantiles(cost.wall, n=4)[0]
        for made in queues.values():
            made.store.close()
    return found


# --- figures -------------------------------------------------------------------------------------


def found(count: int, rounds: int, depths: Sequence[int], times: int) -> Iterator[Figure]:
    middle: dict[str, float] = {}
    for name, runs in rates(count, rounds).items():
        run = sorted(runs, key=lambda run: run.rate)[len(runs) // 2]
        middle[name] = run.rate
        note = f"{SESSIONS} sessions, 2048 bytes; {run}"
        yield Figure(name, run.rate, "msg/s", note)
    for name, under in (("nodes-1", "nodes-sqlite"), ("nodes-2", "nodes-1")):
        yield Figure(f"{name}-ratio", middle[name] / middle[under], "x", f"against {under}")
    costs = claims(depths, times)
    for (depth, analyzed), cost in costs.items():
        name = f"nodes-claim-{NAMES.get(depth, str(depth))}{analyzed and '-analyzed'}"
        note = f"{BATCH} of {depth} waiting{analyzed and ', analyzed'}"
        yield Figure(name, cost, "ms", note)
    worst = max(cost / costs[depths[0], analyzed] for (_, analyzed), cost in costs.items())
    yield Figure("nodes-claim-ratio", worst, "x", f"the worst, against {depths[0]} waiting")


def figures(quick: bool) -> list[Figure]:
    if quick:
        return list(found(600, 1, (1_000, 10_000), 21))
    return list(found(6000, 3, DEPTHS, 101))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--messages", type=int, default=6000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--depth", type=int, action="append")
    parser.add_argument("--times", type=int, default=101, help="claims, of each depth")
    given = parser.parse_args()
    for figure in found(given.messages, given.rounds, given.depth or DEPTHS, given.times):
        print(f"{figure.name}: {figure.value:.4g} {figure.unit} ({figure.note})", flush=True)


if __name__ == "__main__":
    main()
