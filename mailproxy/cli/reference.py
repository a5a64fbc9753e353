"""
The reference of the command line, made from the commands themselves.

``python -m mailproxy.cli.reference docs`` writes ``docs/reference/cli.md``; with ``--check`` it
only looks whether the file is as it would be written.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import click

from mailproxy.__main__ import group
from mailproxy.cli import connection
from mailproxy.cli.connection import ServiceCommand, connection_options

PLACE = Path("reference") / "cli.md"


#: Where the options are told that many commands have.
COMMON = "Options of commands that talk to a service"


def reference() -> str:
    """The whole page."""
    root = group()
    parent = click.Context(root, info_name="mailproxy")
    parts = ["# The command line", _made(), root.help or ""]
    known: dict[int, str] = {}
    for name in root.list_commands(parent):
        command = root.get_command(parent, name)
        assert command is not None
        parts += _section(command, click.Context(command, info_name=name, parent=parent), known)
    common = click.Command("x", params=[*connection_options()])
    parts += [f"## {COMMON}", connection.__doc__ or "", _table(common.params, parent)]
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _section(
    command: click.Command, context: click.Context, known: dict[int, str], level: str = "##"
) -> list[str]:
    """
    A command; a group is followed by its own.

    :param known: the commands so far, by their parameters.
    """
    path = context.command_path
    parts = [f"{level} {path}", _prose(command.help or "")]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            below = click.Context(inner, info_name=name, parent=context)
            parts += _section(inner, below, known, f"{level}#")
        return parts
    same = known.setdefault(id(command.params), path)
    if same != path:
        return [*parts, f"The options are those of [`{same}`](#{same.replace(' ', '-')})."]
    if any(isinstance(each, click.Argument) for each in command.params):
        words = " ".join([path, *command.collect_usage_pieces(context)])
        parts.append(f"Usage: `{words}`")
    if not isinstance(command, ServiceCommand):
        return [*parts, _table(command.params, context)]
    if own := _table(command.own, context):
        parts.append(own)
    anchor = COMMON.lower().replace(" ", "-")
    also = "Also" if own else "The options are"
    return [*parts, f"{also} [those of every command that talks to a service](#{anchor})."]


def _made() -> str:
    return "<!-- Made by `python -m mailproxy.cli.reference docs`; do not edit. -->"


def _prose(text: str) -> str:
    """A help text; the paragraphs it marks as set by hand stay so."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        by_hand = paragraph.removeprefix("\b\n")
        paragraphs.append(paragraph if by_hand == paragraph else f"```text\n{by_hand}\n```")
    return "\n\n".join(paragraphs)


def _table(params: Sequence[click.Parameter], context: click.Context) -> str:
    """The options among *params*; "" if there are none."""
    rows = ["| option | |", "|---|---|"]
    for param in params:
        record = param.get_help_record(context)
        if record is not None and not isinstance(param, click.Argument):
            option, says = (re.sub(r"\s+", " ", each).replace("|", "\\|") for each in record)
            rows.append(f"| `{option}` | {says} |")
    return "\n".join(rows) if len(rows) > 2 else ""


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if the file is not up to date.")
@click.argument("docs", type=click.Path(file_okay=False, path_type=Path))
def main(check: bool, docs: Path) -> None:
    """Write the reference of the command line into the folder DOCS."""
    path = docs / PLACE
    page = reference()
    if not check:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    elif not path.is_file() or path.read_text(encoding="utf-8") != page:
        raise click.ClickException(
            f"{path} is not up to date: python -m mailproxy.cli.reference {docs}"
        )


if __name__ == "__main__":
    main()
