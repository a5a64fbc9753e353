"""
A command group that imports a command only when it is run.

``mailproxy --help`` and every error of usage stay quick, and no reactor is installed before a
command has chosen one.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

import click


class Refused(click.ClickException):
    """The command cannot be carried out as it was given: one line, no traceback."""

    exit_code = 2


class LazyGroup(click.Group):
    """
    :param lazy: for each command, where it is (``module:name``) and its line in the list.
    """

    def __init__(self, lazy: Mapping[str, tuple[str, str]], **settings: Any) -> None:
        super().__init__(**settings)
        self._lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._lazy:
            return None
        module, _, name = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in self._lazy.items()])
