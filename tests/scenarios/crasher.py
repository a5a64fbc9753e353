"""
The service that kills itself at a named place: ``python -m tests.scenarios.crasher NAME N serve``.

At the N-th passing of the crash point NAME the process sends itself SIGKILL: nothing is flushed,
closed or told.
"""

from __future__ import annotations

import os
import signal
import sys

from mailproxy.__main__ import main
from mailproxy.interfaces import CRASHPOINTS, observe_crashpoints


def run(arguments: list[str]) -> None:
    name, count, *rest = arguments
    if name not in CRASHPOINTS:
        raise SystemExit(f"{name} is no crash point")
    left = int(count)

    def passed(point: str) -> None:
        nonlocal left
        if point == name:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    observe_crashpoints(passed)
    sys.argv = ["mailproxy", *rest]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
