"""
All benchmarks in turn: ``python -m benchmarks``.

Each is a module of its own with options of its own, prints figures, and ends with a status other
than 0 where a bar was not met. Figures differ from machine to machine and from hour to hour;
ratios within one run are what to look at.
"""

from __future__ import annotations

import subprocess
import sys

ALL = (
    "compose_cost",
    "store_depth",
    "relay",
    "latency",
    "rtt",
    "reports",
    "isolation",
    "submission",
    "idle",
)


def main() -> None:
    missed = []
    for name in ALL:
        print(f"\n== {name}", flush=True)
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}"], check=False).returncode:
            missed.append(name)
    if missed:
        raise SystemExit(f"bars not met: {', '.join(missed)}")


if __name__ == "__main__":
    main()
