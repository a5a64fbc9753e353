"""
The service that kills itself before the COMMIT of a submission: ``python -m
tests.scenarios.crasher N serve``.

Everything of the N-th submission has been written then, only its COMMIT has not been. For the
places behind a commit there are crash points, see :mod:`mailproxy.crash`.
"""

from __future__ import annotations

import sqlite3
import sys
from typing import Any

from mailproxy.__main__ import main
from mailproxy.crash import die


def die_before_commit(count: int) -> None:
    """Die before the COMMIT of the *count*-th transaction that has a submission in it."""
    from mailproxy.store.works import Work
    from mailproxy.store.writer import Writer

    commit, end = Writer._commit, Writer._end
    left = count
    marks: set[str] = set()

    def watched_commit(self: Writer, cursor: sqlite3.Cursor, works: list[Work]) -> Any:
        marks.clear()
        marks.update(work.kind.mark for work in works)
        return commit(self, cursor, works)

    def watched_end(self: Writer, cursor: sqlite3.Cursor, changed: bool) -> None:
        nonlocal left
        if "enqueue-commit" in marks:
            left -= 1
            if left == 0:
                die()
        end(self, cursor, changed)

    Writer._commit = watched_commit  # type: ignore[method-assign]
    Writer._end = watched_end  # type: ignore[method-assign]


def run(arguments: list[str]) -> None:
    count, *rest = arguments
    die_before_commit(int(count))
    sys.argv = ["mailproxy", *rest]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
