"""Where a proof was made: versions, machine, file system, and what a sync takes there."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

import twisted
from mailproxy import __version__

#: Syncs that are timed, each of one block.
SYNCS = 20
BLOCK = 4096

#: Seconds below which a sync has hardly reached anything that keeps its content without power.
TOO_QUICK = 0.0001


@attrs.frozen
class Place:
    """
    :param file_system: its type, what it is on, and where it is mounted; "" where nobody looked.
    :param sync_seconds: the median of :data:`SYNCS` syncs of one block.
    """

    version: str
    platform: str
    database: str
    file_system: str = ""
    sync_seconds: float = 0.0

    def lines(self) -> dict[str, str]:
        """As a page shows it."""
        seen = {"version": self.version, "platform": self.platform, "database": self.database}
        if self.file_system:
            seen |= {"file_system": self.file_system, "fsync": self.sync()}
        return seen

    def sync(self) -> str:
        """What the time of a sync says of the disk."""
        told = f"{self.sync_seconds * 1000:.3f} ms for {BLOCK} octets (median of {SYNCS})"
        if self.sync_seconds < TOO_QUICK:
            return f"{told}: so quick that it may not reach what survives a loss of power"
        return told


def look(directory: Path | None, database: str) -> Place:
    """Look at this machine, and at the disk that *directory* is on, with the database on it."""
    disk = {} if directory is None else _disk(directory)
    return Place(
        version=(
            f"mailproxy {__version__}, Python {platform.python_version()}, "
            f"Twisted {twisted.__version__}, SQLite {sqlite3.sqlite_version}"
        ),
        platform=f"{platform.system()} {platform.release()} {platform.machine()}, "
        f"{os.cpu_count()} processors",
        database=database,
        **disk,
    )


def _disk(directory: Path) -> dict[str, Any]:
    return {
        "file_system": file_system(directory, _mounts()),
        "sync_seconds": sync_seconds(directory),
    }


def sync_seconds(directory: Path) -> float:
    """The median time of a sync of one block that was written in *directory*."""
    path = directory / "sync-probe"
    taken = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(SYNCS):
                file.write(bytes(BLOCK))
                start = time.perf_counter()
                os.fsync(file.fileno())
                taken.append(time.perf_counter() - start)
    finally:
        path.unlink(missing_ok=True)
    return statistics.median(taken)


def file_system(directory: Path, mounts: Iterable[str]) -> str:
    """
    What *directory* is on.

    :param mounts: lines as those of ``/proc/self/mountinfo``, see proc(5).
    """
    best, found = "", "unknown"
    path = str(directory.resolve())
    for line in mounts:
        before, dash, after = line.partition(" - ")
        words, rest = before.split(), after.split()
        if not dash or len(words) < 5 or len(rest) < 2:
            continue
        point = words[4].encode().decode("unicode_escape")  # blanks are \040
        inside = path == point or path.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= len(best):
            best, found = point, f"{rest[0]} on {rest[1]}, mounted at {point}"
    return found


def _mounts() -> list[str]:
    try:
        return Path("/proc/self/mountinfo").read_text().splitlines()
    except OSError:
        return []
