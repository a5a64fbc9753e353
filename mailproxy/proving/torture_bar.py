"""What a torture run tells meanwhile: lines, or at a terminal a bar that fills with its time."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click


@contextmanager
def meanwhile(seconds: float) -> Iterator[Callable[[str], None]]:
    """
    What takes the lines of a run, on the standard error.

    :param seconds: for which it kills.
    """
    if not sys.stderr.isatty():
        yield lambda line: click.echo(line, err=True)
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("killing", total=seconds)

        def told(line: str) -> None:
            done = min(seconds, bars.tasks[0].elapsed or 0.0)
            bars.update(task, description=escape(line), completed=done)

        yield told
