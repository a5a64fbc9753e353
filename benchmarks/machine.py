"""What the machine was like, for it is not the same at all hours."""

from __future__ import annotations

import datetime
import os
import platform
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path


def now() -> str:
    """The instant, as ISO 8601 in UTC."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def load() -> float:
    """Processes that wanted a processor, the average of the last minute."""
    return os.getloadavg()[0]


def additions() -> float:
    """Millions of additions a second of this interpreter, the best of five tries."""
    best = 0.0
    for _ in range(5):
        start, total = time.perf_counter(), 0
        for n in range(1_000_000):
            total += n
        best = max(best, 1.0 / (time.perf_counter() - start))
    return best


def syncs(directory: Path, times: int = 200) -> list[float]:
    """Seconds that a sync of 4 kB appended to a file takes, in ascending order."""
    found = []
    descriptor = os.open(directory / "synced", os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        for _ in range(times):
            os.write(descriptor, b"x" * 4096)
            start = time.perf_counter()
            os.fdatasync(descriptor)
            found.append(time.perf_counter() - start)
    finally:
        os.close(descriptor)
    return sorted(found)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")


def conditions() -> dict[str, str]:
    """By what each thing is called."""
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        took = syncs(Path(directory))
    p99 = took[int(len(took) * 0.99)] * 1e6
    return {
        "date": now(),
        "cores": str(os.cpu_count()),
        "processor": _processor(),
        "system": f"{platform.system()} {platform.release()}",
        "Python": platform.python_version(),
        "SQLite": sqlite3.sqlite_version,
        "additions": f"{additions():.1f} million a second",
        "sync of 4 kB": f"p50 {statistics.median(took) * 1e6:.0f} us, p99 {p99:.0f} us",
        "load at the start": f"{load():.2f}",
    }
