"""
All benchmarks in turn, and what they found as a table and a plot: ``python -m benchmarks``.

    python -m benchmarks                  everything; writes results/latest.json, .md and .svg, and
                                          the ratios in the README
    python -m benchmarks --only relay     one piece (or more), anew; the others stay as they were
    python -m benchmarks --quick          everything, small: whether it works, not how fast it is;
                                          writes results/quick.*

Each piece runs in a process of its own with a limit of time. A piece that fails is written down as
failed, and the rest goes on. The status is 1 if a piece failed or a floor was missed.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from benchmarks import table
from benchmarks.figures import Piece, Results, read, to_json
from benchmarks.machine import additions, conditions, load, now
from benchmarks.numbers import shown
from benchmarks.piece import measure, terminated
from benchmarks.targets import missed

#: Every piece, in the order of a run, with the seconds it may take: several times what it needs on
#: a machine that does nothing else.
PIECES: Mapping[str, float] = {
    "raw": 150,
    "submission": 250,
    "relay": 400,
    "add": 120,
    "latency": 90,
    "urgent": 150,
    "tls": 150,
    "rtt": 120,
    "reports": 120,
    "depth": 300,
    "nodes": 250,
    "memory": 200,
    "large": 400,
    "isolation": 120,
    "store_depth": 200,
    "idle": 120,
    "compose_cost": 60,
}

#: Seconds that a run may take in all; what is not measured by then is not measured.
WHOLE = 24 * 60

#: Load above which a machine has something else to do.
BUSY = 0.5

#: Where runs are kept.
RESULTS = Path(__file__).parent / "results"

#: Measures one piece: its name, its limit in seconds, whether quickly.
Measure = Callable[[str, float, bool], Piece]


def run(
    names: list[str],
    results: Results,
    quick: bool,
    keep: Callable[[Results], None],
    one: Measure = measure,
    clock: Callable[[], float] = time.monotonic,
) -> Results:
    """
    Measure *names*, one after the other.

    :param results: what they are put into.
    :param keep: is told what there is after each piece, so that a broken run leaves something.
    :param clock: in seconds; nothing begins when :data:`WHOLE` has gone by.
    """
    end = clock() + WHOLE
    for name in names:
        print(f"\n== {name}", flush=True)
        limit = min(PIECES[name], end - clock())
        if limit > 0:
            piece = one(name, limit, quick)
        else:
            piece = Piece(name, now(), 0.0, load(), failed="the time of the whole run was up")
        for figure in piece.figures:
            print(f"{figure.name:24}{shown(figure.value):>10} {figure.unit:6} {figure.note}")
        print(f"FAILED: {piece.failed}" if piece.failed else f"{piece.seconds:.0f} s", flush=True)
        results = results.with_piece(piece)
        keep(results)
    return results


def verdict(results: Results, names: list[str]) -> list[str]:
    """What went wrong, in words."""
    failed = [f"{each.name}: {each.failed}" for each in results.failed if each.name in names]
    return failed + missed(
        attrs.evolve(results, pieces=tuple(p for p in results.pieces if p.name in names))
    )


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=list(PIECES), metavar="NAME")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, terminated)
    names = given.only or list(PIECES)
    kept = RESULTS / ("quick.json" if given.quick else "latest.json")
    before = read(kept) if given.only else Results({}, ())
    if not given.only or not before.conditions:
        before = attrs.evolve(before, conditions=conditions())

    if load() > BUSY:
        print(f"This machine is busy (load {load():.1f}): the figures will be rough.", flush=True)

    def keep(results: Results) -> None:
        kept.write_text(to_json(results), encoding="utf-8")

    results = run(names, before, given.quick, keep)
    if not given.only:
        end = {"additions at the end": f"{additions():.1f} million a second"}
        end["load at the end"] = f"{load():.2f}"
        results = attrs.evolve(results, conditions={**results.conditions, **end})
        keep(results)
    for path, text in table.pages(results, kept).items():
        path.write_text(text, encoding="utf-8")
    if not given.quick:
        readme = table.README.read_text(encoding="utf-8")
        table.README.write_text(table.with_ratios(readme, results), encoding="utf-8")
    print(f"\n{kept.with_suffix('.md')}\n")
    wrong = verdict(results, names)
    for line in wrong:
        print(f"NOT MET: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
