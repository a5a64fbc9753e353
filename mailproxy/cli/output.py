"""
What commands print: tables for people, columns for programs, JSON for both.

On a terminal a table is aligned and wrapped; anywhere else each row is one line with a TAB between
its columns, the heading first. What came from outside - subjects, replies, names - never reaches
the terminal as a control sequence.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import click
import msgspec

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

#: What would move the cursor, colour the rest of the screen, or turn the direction of the text.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")

#: The same where JSON leaves it as it is.
_IN_JSON = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

NOTHING = "-"

Cell = str | int | float | bool | None


def clean(text: str) -> str:
    """*text* on one line, its control characters written as escapes."""
    return _CONTROL.sub(lambda found: _escape(found[0]), text)


def _escape(char: str) -> str:
    code = ord(char)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def shown(value: Cell) -> str:
    """A value as a cell of a table."""
    if value is None or value == "":
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean(str(value))


def when(value: float | str | None) -> str | None:
    """An instant, in Unix seconds or ISO 8601, as people read it: in UTC, to the second."""
    if value is None or value == "":
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value).astimezone(UTC)
        except ValueError:
            return value
    else:
        moment = datetime.fromtimestamp(value, UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


class Output:
    """
    :param json: print what the service answered, and nothing for people.
    :param width: columns of the terminal; None: where the output goes decides, also whether it is
        a terminal at all.
    """

    def __init__(self, json: bool = False, width: int | None = None) -> None:
        self.as_json = json
        self._width = width

    @property
    def terminal(self) -> bool:
        return self._width is not None or sys.stdout.isatty()

    def json(self, value: Any) -> None:
        text = msgspec.json.format(msgspec.json.encode(value)).decode()
        click.echo(_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))

    def line(self, value: Any) -> None:
        """One JSON value on one line, at once: a step of something that goes on."""
        text = msgspec.json.encode(value).decode()
        click.echo(_IN_JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", text))
        sys.stdout.flush()

    def say(self, text: str) -> None:
        """A sentence of ours. :param text: may have values in it that came from outside."""
        click.echo(clean(text))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
        cells = [[shown(value) for value in row] for row in rows]
        if not self.terminal:
            for row in [list(columns), *cells]:
                click.echo("\t".join(row))
            return
        from rich.table import Table

        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for column in columns:
            made.add_column(column.upper(), overflow="fold")
        self._print(made, cells)

    def fields(self, pairs: Iterable[tuple[str, Cell]]) -> None:
        """One thing, a line for each of its fields."""
        cells = [[name, shown(value)] for name, value in pairs]
        if not self.terminal:
            for row in cells:
                click.echo("\t".join(row))
            return
        from rich.table import Table

        made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        made.add_column(style="bold", no_wrap=True)
        made.add_column(overflow="fold")
        self._print(made, cells)

    def _print(self, table: Any, cells: Sequence[Sequence[str]]) -> None:
        from rich.console import Console
        from rich.text import Text

        for row in cells:
            table.add_row(*map(Text, row))  # as text: nothing of it is markup
        Console(file=sys.stdout, width=self._width, highlight=False, soft_wrap=False).print(table)


class Bar(Protocol):
    """How far something is."""

    def to(self, done: int, total: int) -> None: ...

    def so_far(self, done: int) -> None: ...


class _NoBar:
    def to(self, done: int, total: int) -> None:
        """Nobody looks."""

    def so_far(self, done: int) -> None:
        """Nobody looks."""


class _Drawn:
    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def to(self, done: int, total: int) -> None:
        self._progress.update(self._task, completed=done, total=total)

    def so_far(self, done: int) -> None:
        self._progress.update(self._task, completed=done)


@contextmanager
def progress(what: str, unit: str, output: Output) -> Iterator[Bar]:
    """A bar on the standard error, if that is a terminal and no JSON was asked for."""
    if output.as_json or not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as drawn:
        yield _Drawn(drawn, drawn.add_task(what, total=None))


def json_option(says: str = "Print what the service answers, as JSON.") -> click.Option:
    return click.Option(["--json"], is_flag=True, help=says)
