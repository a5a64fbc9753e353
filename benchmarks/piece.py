"""
One piece of a run, in a process of its own.

    python -m benchmarks.piece NAME --out FILE [--quick]

Its figures go to FILE. SIGTERM ends it the long way, so that what it started ends with it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs

from benchmarks.figures import Figure, Piece
from benchmarks.machine import load, now

#: Seconds that a piece whose time is up has for ending what it started.
GRACE = 20.0


def measure(name: str, limit: float, quick: bool) -> Piece:
    """
    Run a piece. Whatever becomes of it, this returns.

    :param name: a module of this package with a function ``figures(quick)``.
    :param limit: seconds it may take.
    """
    began, at, before = time.monotonic(), now(), load()
    with tempfile.TemporaryDirectory(prefix="mailproxy-bench-") as directory:
        out = Path(directory) / "figures.json"
        command = [sys.executable, "-m", "benchmarks.piece", name, "--out", str(out)]
        child = subprocess.Popen(
            [*command, *(["--quick"] if quick else [])], start_new_session=True
        )
        status: int | None = None
        try:
            status = child.wait(limit)
            failed = f"ended with status {status}" if status else ""
        except subprocess.TimeoutExpired:
            failed = f"took longer than {limit:.0f} s"
        finally:
            _end(child)
        figures: tuple[Figure, ...] = ()
        if not failed:
            figures = tuple(Figure(**each) for each in json.loads(out.read_text()))
        elif status is not None and out.exists():
            failed = json.loads(out.read_text())
    return Piece(name, at, round(time.monotonic() - began, 1), round(before, 2), figures, failed)


def _end(child: subprocess.Popen[bytes]) -> None:
    """End it, and what it left behind in its session."""
    if child.poll() is None:
        child.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(GRACE)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def terminated(*_: object) -> None:
    """As SIGTERM's handler: end the long way, what was started first."""
    raise SystemExit("ended from outside")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, terminated)
    try:
        found = importlib.import_module(f"benchmarks.{given.name}").figures(given.quick)
    except BaseException as error:
        # Also where it was ended, or ended itself with a sentence: the run wants to say why.
        given.out.write_text(json.dumps(" ".join(f"{type(error).__name__}: {error}".split())[:500]))
        raise
    given.out.write_text(json.dumps([attrs.asdict(each) for each in found]))


if __name__ == "__main__":
    main()
