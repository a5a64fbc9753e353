"""
The service that kills itself at a named place: ``python -m tests.scenarios.crasher NAME N serve``.

At the N-th passing of the crash point NAME the process sends itself SIGKILL: nothing is flushed,
closed or told. ``enqueue`` is a place of its own: everything of a submission has been written, only
its COMMIT has not been.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from typing import Any

from mailproxy.__main__ import main
from mailproxy.interfaces import CRASHPOINTS, observe_crashpoints

ENQUEUE = "enqueue"


def before_commit(pass_by: Callable[[], None]) -> None:
    """Call *pass_by* before the COMMIT of every transaction that has a submission in it."""
    from mailproxy.store.works import Work
    from mailproxy.store.writer import Writer

    commit, end = Writer._commit, Writer._end
    marks: set[str] = set()

    def watched_commit(self: Writer, cursor: sqlite3.Cursor, works: list[Work]) -> Any:
        marks.clear()
        marks.update(work.kind.mark for work in works)
        return commit(self, cursor, works)

    def watched_end(self: Writer, cursor: sqlite3.Cursor, changed: bool) -> None:
        if "enqueue-commit" in marks:
            pass_by()
        end(self, cursor, changed)

    Writer._commit = watched_commit  # type: ignore[method-assign]
    Writer._end = watched_end  # type: ignore[method-assign]


def run(arguments: list[str]) -> None:
    name, count, *rest = arguments
    if name not in (ENQUEUE, *CRASHPOINTS):
        raise SystemExit(f"{name} is no crash point")
    left = int(count)

    def passed(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    if name == ENQUEUE:
        before_commit(lambda: passed(ENQUEUE))
    else:
        observe_crashpoints(passed)
    sys.argv = ["mailproxy", *rest]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
