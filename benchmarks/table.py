"""
The table of a run, and the few ratios that the README quotes.

    python -m benchmarks.table            writes both anew from results/latest.json, and the plot
    python -m benchmarks.table --check    says whether they are as they would be written
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.figures import Figure, Results, read
from benchmarks.numbers import shown
from benchmarks.targets import RATIOS, TARGETS

ROOT = Path(__file__).parent.parent
LATEST = Path(__file__).parent / "results" / "latest.json"
README = ROOT / "README.md"

#: The lines of the README between which the ratios stand.
BEGIN = "<!-- Made by `python -m benchmarks.table`; do not edit. -->"
END = "<!-- Up to here. -->"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cells) + " |"


#: Load when a piece begins above which something else was at work: what the piece before it leaves
#: in the average of a minute is less.
BUSY = 3.0


def remark(results: Results) -> str:
    """A sentence about a machine that had other work to do; empty where it had none."""
    busiest = max((piece.load for piece in results.pieces), default=0.0)
    if busiest <= BUSY:
        return ""
    return (
        f"The machine had other work to do meanwhile (load up to {busiest:.0f}): programs of many "
        "processes get more of such a machine than those of one."
    )


def _targets(results: Results) -> list[str]:
    lines = [
        _row("what", "floor", "aim", "reached", "of the aim"),
        "|---|--:|--:|--:|--:|",
    ]
    for row in TARGETS:
        value = results.value(row.figure)
        if value is None:
            reached, share = "not measured", ""
        else:
            reached = f"{shown(value)} {row.unit}" + ("" if row.holds(value) else " (below)")
            share = f"{row.share(value):.2f}" if row.share(value) < 10 else "over 10"
        bars = (f"{shown(bar)} {row.unit}" for bar in (row.floor, row.aim))
        lines.append(_row(row.what, *bars, reached, share))
    return lines


def _figures(figures: tuple[Figure, ...]) -> list[str]:
    return [
        _row("figure", "value", "how"),
        "|---|--:|---|",
        *(
            _row(f"`{each.name}`", f"{shown(each.value)} {each.unit}", each.note)
            for each in figures
        ),
    ]


def markdown(results: Results, name: str) -> str:
    """
    The whole run: every target, every figure, the machine.

    :param name: of the run: ``latest``, or ``quick``; its plot is beside it.
    """
    lines = [
        f"# Benchmarks: the {name} run",
        "",
        "Made by `make bench`; [what each figure is](../README.md). Figures are of one machine and",
        "one hour: compare those of one run. *Of the aim*: 1 and more is all of it.",
        "",
        f"![The same as a plot]({name}.svg)",
        "",
        *([remark(results), ""] if remark(results) else []),
        *_targets(results),
        "",
        "## The machine",
        "",
        *(f"* {name}: {value}" for name, value in results.conditions.items()),
        "",
        "## Every figure",
        "",
    ]
    for piece in results.pieces:
        when = f"{piece.at}, {piece.seconds:.0f} s, load {piece.load:.1f}"
        lines += [f"### {piece.name}", "", f"{when}.", ""]
        lines += [f"**Failed**: {piece.failed}"] if piece.failed else _figures(piece.figures)
        lines.append("")
    return "\n".join(lines[:-1]) + "\n"


def ratios(results: Results) -> str:
    """The table for the README: ratios within the run, which hold on other machines."""
    lines = [_row("what", "ratio"), "|---|--:|"]
    for what, ratio in RATIOS.items():
        value = ratio(results)
        if value is not None:
            lines.append(_row(what, shown(value)))
    return "\n".join(lines)


def with_ratios(text: str, results: Results) -> str:
    """
    *text*, with the ratios between its two marks.

    :raises ValueError: the marks are not there.
    """
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text lacks {BEGIN!r} or {END!r}")
    told = "\n\n".join(filter(None, (ratios(results), remark(results))))
    return f"{head}{BEGIN}\n\n{told}\n\n{END}{tail}"


def pages(results: Results, kept: Path) -> dict[Path, str]:
    """What is to be written beside *kept*, the file of a run, by file."""
    from benchmarks.plot import svg  # which takes a second to import

    page = markdown(results, kept.stem)
    return {kept.with_suffix(".md"): page, kept.with_suffix(".svg"): svg(results)}


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args(arguments)
    results = read(LATEST)
    wanted = {README: with_ratios(README.read_text(encoding="utf-8"), results)}
    wanted |= pages(results, LATEST)
    stale = [
        path
        for path, text in wanted.items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in stale:
        if not given.check:
            path.write_text(wanted[path], encoding="utf-8")
        print(f"{path.relative_to(ROOT)}: {'stale' if given.check else 'written'}")
    return 1 if given.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
