"""
The reference of the command line, made from the commands themselves.

``python -m mailproxy.cli.reference docs`` writes ``docs/reference/cli.md``; with ``--check`` it
only looks whether the file is as it would be written.
"""

from __future__ import annotations

import re
from pathlib import Path

import click

from mailproxy.__main__ import group

PLACE = Path("reference") / "cli.md"


def reference() -> str:
    """The whole page."""
    root = group()
    parent = click.Context(root, info_name="mailproxy")
    parts = ["# The command line", _made(), root.help or ""]
    known: dict[int, str] = {}
    for name in root.list_commands(parent):
        command = root.get_command(parent, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=parent)
        parts += [f"## mailproxy {name}", _prose(command.help or "")]
        same = known.setdefault(id(command.params), name)
        parts.append(
            _table(command, context)
            if same == name
            else f"The options are those of [`mailproxy {same}`](#mailproxy-{same})."
        )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _made() -> str:
    return "<!-- Made by `python -m mailproxy.cli.reference docs`; do not edit. -->"


def _prose(text: str) -> str:
    """A help text; the paragraphs it marks as set by hand stay so."""
    paragraphs = []
    for paragraph in text.split("\n\n"):
        by_hand = paragraph.removeprefix("\b\n")
        paragraphs.append(paragraph if by_hand == paragraph else f"```text\n{by_hand}\n```")
    return "\n\n".join(paragraphs)


def _table(command: click.Command, context: click.Context) -> str:
    rows = ["| option | |", "|---|---|"]
    for param in command.params:
        record = param.get_help_record(context)
        if record is not None:
            option, says = (re.sub(r"\s+", " ", each).replace("|", "\\|") for each in record)
            rows.append(f"| `{option}` | {says} |")
    return "\n".join(rows)


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
