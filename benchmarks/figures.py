"""
What benchmarks found: figures, gathered by piece, as they are kept in ``results/latest.json``.

A *piece* is one benchmark of a run. It either gave figures or failed; both are kept, with the hour
and the load of the machine at that time, since pieces can be measured anew one by one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import attrs


@attrs.frozen
class Figure:
    """
    One thing that was measured.

    :param name: what it is called in ``targets.py``, in the table and in the plot.
    :param unit: ``msg/s``, ``ms``, ``MB``, ``s``, or ``x`` for a ratio.
    :param note: how it came about, for the table.
    """

    name: str
    value: float
    unit: str
    note: str = ""


@attrs.frozen
class Piece:
    """
    One benchmark of a run.

    :param at: when it began, as ISO 8601 in UTC.
    :param seconds: how long it took.
    :param load: processes that wanted a processor when it began, the average of a minute.
    :param failed: why there are no figures; empty where there are.
    """

    name: str
    at: str
    seconds: float
    load: float
    figures: tuple[Figure, ...] = ()
    failed: str = ""


@attrs.frozen
class Results:
    """
    A run.

    :param conditions: what the machine was like, by what each thing is called.
    """

    conditions: Mapping[str, str]
    pieces: tuple[Piece, ...]

    @property
    def figures(self) -> dict[str, Figure]:
        """Every figure by its name."""
        return {each.name: each for piece in self.pieces for each in piece.figures}

    @property
    def failed(self) -> tuple[Piece, ...]:
        return tuple(piece for piece in self.pieces if piece.failed)

    def value(self, name: str) -> float | None:
        """The figure called *name*, None if it was not measured."""
        found = self.figures.get(name)
        return None if found is None else found.value

    def with_piece(self, piece: Piece) -> Results:
        """These, with *piece* in the place of what was measured under its name before."""
        names = [each.name for each in self.pieces]
        if piece.name not in names:
            return attrs.evolve(self, pieces=(*self.pieces, piece))
        kept = list(self.pieces)
        kept[names.index(piece.name)] = piece
        return attrs.evolve(self, pieces=tuple(kept))


def to_json(results: Results) -> str:
    """As kept."""
    return json.dumps(attrs.asdict(results), indent=1) + "\n"


def from_json(text: str) -> Results:
    """
    The other way round.

    :raises ValueError: this is not a run.
    """
    try:
        raw = json.loads(text)
        pieces = tuple(
            Piece(**{**piece, "figures": tuple(Figure(**each) for each in piece["figures"])})
            for piece in raw["pieces"]
        )
        return Results(dict(raw["conditions"]), pieces)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the results of a run: {error!r}") from error


def read(path: Path) -> Results:
    """:return: what *path* has, nothing if it is not there."""
    return from_json(path.read_text(encoding="utf-8")) if path.exists() else Results({}, ())
