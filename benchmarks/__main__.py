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
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import attrs

from benchmarks import table
from benchmarks.figures import Piece, Results, read, to_json
from benchmarks.machine import additions, conditions, load
from benchmarks.numbers import shown
from benchmarks.piece import measure
from benchmarks.targets import missed

#: Every piece, in the order of a run, with the seconds it may take.
PIECES: Mapping[str, float] = {
    "raw": 50,
    "submission": 110,
    "relay": 180,
    "add": 50,
    "latency": 40,
    "urgent": 60,
    "isolation": 60,
    "tls": 70,
    "rtt": 60,
    "reports": 60,
    "depth": 150,
    "store_depth": 110,
    "memory": 80,
    "large": 330,
    "idle": 60,
    "compose_cost": 30,
}

#: Where runs are kept.
RESULTS = Path(__file__).parent / "results"

#: Measures one piece: its name, its limit in seconds, whether quickly.
Measure = Callable[[str, float, bool], Piece]


def run(
    names: list[str], results: Results, quick: bool, keep: Callable[[Results], None], one: Measure
) -> Results:
    """
    Measure *names*, one after the other.

    :param results: what they are put into.
    :param keep: is told what there is after each piece, so that a broken run leaves something.
    """
    for name in names:
        print(f"\n== {name}", flush=True)
        piece = one(name, PIECES[name], quick)
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
    names = given.only or list(PIECES)
    kept = RESULTS / ("quick.json" if given.quick else "latest.json")
    before = read(kept) if given.only else Results({}, ())
    if not given.only or not before.conditions:
        before = attrs.evolve(before, conditions=conditions())

    def keep(results: Results) -> None:
        kept.write_text(to_json(results), encoding="utf-8")

    results = run(names, before, given.quick, keep, measure)
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
