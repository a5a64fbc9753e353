"""The plot of a run, as SVG: the same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas

from benchmarks.figures import Results
from benchmarks.numbers import shown
from benchmarks.targets import TARGETS

_OURS, _OTHER, _RAW, _BELOW = "#1f6f8b", "#e07a3f", "#8a8f98", "#c0392b"

#: For bytes that do not change: ids from a fixed salt, text as text, no date.
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "mailproxy",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
}


def svg(results: Results) -> str:
    """The run as a picture of four panels; those for which nothing was measured are empty."""
    with matplotlib.rc_context(_STYLE):
        out = io.StringIO()
        _drawn(results).savefig(out, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _drawn(results: Results) -> Canvas:
    canvas = Canvas(figsize=(11, 8.5), layout="constrained")
    parts: Any = canvas.subfigures(2, 1, height_ratios=(1.25, 1))
    above, below = parts
    _aims(above.add_subplot(), results)
    panels = below.subplots(1, 3)
    _relay(panels[0], results)
    _beside(panels[1], results)
    _depth(panels[2], results)
    cores = results.conditions.get("cores", "?")
    date = results.conditions.get("date", "?")
    busy = max((piece.load for piece in results.pieces), default=0.0)
    canvas.suptitle(
        f"mailproxy, one process, SQLite, {cores} cores; {date}; load at most {busy:.1f}",
        fontsize=11,
    )
    return canvas


def _aims(axes: Axes, results: Results) -> None:
    """How much of each aim is reached, on a scale of powers, and where its floor is."""
    rows = [(row, value) for row in TARGETS if (value := results.value(row.figure)) is not None]
    axes.set_title("What is reached of each aim (bar), and its floor (mark)", loc="left")
    for n, (row, value) in enumerate(reversed(rows)):
        share = row.share(value)
        colour = _OURS if row.holds(value) else _BELOW
        axes.barh(n, share, color=colour, height=0.62)
        axes.plot(row.share(row.floor), n, marker="|", color="black", markersize=13)
        beyond = min(max(share, row.share(row.floor)), 10) * 1.06
        axes.text(beyond, n, f"{shown(value)} {row.unit}", va="center", fontsize=8)
    axes.set_yticks(range(len(rows)), [row.what for row, _ in reversed(rows)])
    axes.axvline(1.0, color=_RAW, linewidth=0.8, zorder=0)
    axes.set_xscale("log")
    axes.set_xlim(0.05, 20)
    ticks = (0.1, 0.2, 0.5, 1, 2, 5, 10)
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()


def _lines(
    axes: Axes, results: Results, names: Sequence[tuple[float, str]], label: str, **style: Any
) -> None:
    points = [(x, value) for x, name in names if (value := results.value(name)) is not None]
    if points:
        axes.plot(*zip(*points, strict=True), marker="o", markersize=4, label=label, **style)


def _relay(axes: Axes, results: Results) -> None:
    axes.set_title("REST to sink: messages/s, by sessions", loc="left")
    counts = (1, 4, 16)
    for size, line in (("2k", "-"), ("50k", "--")):
        named = size.replace("k", " kB")
        ours = [(n, f"relay-{size}-{n}") for n in counts]
        bare = [(n, f"raw-{size}-{n}") for n in counts]
        _lines(axes, results, ours, named, color=_OURS, linestyle=line)
        _lines(axes, results, bare, f"{named}, C to C", color=_RAW, linestyle=line)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    if axes.get_legend_handles_labels()[0]:
        bottom, top = axes.get_ylim()
        axes.set_ylim(bottom, top * 5)  # room for it
        axes.legend(fontsize=7, frameon=False, ncols=2, loc="upper left")


def _beside(axes: Axes, results: Results) -> None:
    axes.set_title("SMTP to SMTP: messages/s", loc="left")
    bars = (("mailproxy", "smtp-relayed", _OURS), ("Postfix", "postfix", _OTHER))
    found = [
        (label, value, colour)
        for label, name, colour in bars
        if (value := results.value(name)) is not None
    ]
    for n, (_, value, colour) in enumerate(found):
        axes.bar(n, value, color=colour, width=0.6)
        axes.text(n, value, f"{value:,.0f}", ha="center", va="bottom")
    axes.set_xticks(range(len(found)), [label for label, _, _ in found])


def _depth(axes: Axes, results: Results) -> None:
    axes.set_title("Sent: messages/s, by how many wait", loc="left")
    depths = ((2e3, "drain-2k"), (1e5, "drain-100k"), (1e6, "drain-1m"))
    _lines(axes, results, depths, "mailproxy", color=_OURS)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.2 * max((results.value(name) or 0 for _, name in depths), default=0) or 1)
