"""
What the machine allows: the same mail with nothing of ours between, the same rows with no program.

    python -m benchmarks.raw

Postfix's ``smtp-source`` straight into its ``smtp-sink``, over 1, 4, 10 and 16 sessions that stay
open, with 2 kB and 50 kB. Then rows of 2 kB into SQLite with the settings of the store (a log, a
sync for every commit), in commits of 1, 10, 100 and 1 000 rows.
"""

from __future__ import annotations

import os
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks.figures import Figure
from benchmarks.relay import raw

#: Bytes of a body, its short name, and over how many sessions how many messages go.
SMTP = (
    (2048, "2k", ((1, 3000), (4, 8000), (10, 10_000), (16, 10_000))),
    (50_000, "50k", ((1, 1000), (4, 2000), (10, 3000), (16, 3000))),
)

#: Rows in a commit, and how many rows in all.
COMMITS = ((1, 3000), (10, 15_000), (100, 40_000), (1000, 40_000))


def smtp(size: int, sessions: int, count: int) -> float:
    """Messages a second."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        rate = raw(Path(directory), count, sessions, size)
    if rate is None:
        raise SystemExit("smtp-source is not installed: it comes with Postfix")
    return rate


def commits(group: int, count: int) -> float:
    """Rows a second."""
    body = os.urandom(2048)
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        connection = sqlite3.connect(Path(directory) / "rows.db", isolation_level=None)
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("CREATE TABLE rows (pk INTEGER PRIMARY KEY, body BLOB)")
            start = time.perf_counter()
            for first in range(0, count, group):
                connection.execute("BEGIN IMMEDIATE")
                connection.executemany(
                    "INSERT INTO rows VALUES (?, ?)", ((first + n, body) for n in range(group))
                )
                connection.execute("COMMIT")
            return count / (time.perf_counter() - start)
        finally:
            connection.close()


def figures(quick: bool) -> list[Figure]:
    part, rounds = (10, 1) if quick else (1, 3)
    found = []
    for size, short, runs in SMTP:
        for sessions, count in runs:
            rate = statistics.median(smtp(size, sessions, count // part) for _ in range(rounds))
            note = f"smtp-source to smtp-sink, {sessions} sessions, {size} bytes"
            found.append(Figure(f"raw-{short}-{sessions}", rate, "msg/s", note))
    for group, count in COMMITS:
        rate = statistics.median(commits(group, count // part) for _ in range(rounds))
        note = f"SQLite, {group} rows of 2 kB in a commit"
        found.append(Figure(f"sqlite-{group}", rate, "rows/s", note))
    return found


def main() -> None:
    for figure in figures(quick=False):
        print(f"{figure.name}: {figure.value:.0f} {figure.unit} ({figure.note})")


if __name__ == "__main__":
    main()
