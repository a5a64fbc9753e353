"""``mailproxy copy``: moves a whole queue to another database, while no service has either."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING
from uuid import uuid4

import click
import msgspec

from mailproxy.cli.group import Refused
from mailproxy.cli.settings import load_settings, setting_options
from mailproxy.config import Settings
from mailproxy.config_database import DatabaseUrl, database_url
from mailproxy.config_secrets import kept_keys
from mailproxy.errors import ConfigurationError, StoreRefused

if TYPE_CHECKING:
    from mailproxy.store.move import Moved, Progress
    from mailproxy.store.moving import Side

#: The settings that say with which key secrets are sealed.
WHERE = ("encryption_key", "data_dir")

#: Octets of a file that holds a database's address, at most.
MAX_ADDRESS = 4096

Place = Path | DatabaseUrl


def run(source: str, target: str | None, back: bool, json: bool, **given: str | None) -> None:
    """Move, and say what was moved and what has to be carried along."""
    old, new = place("--from", source), None if target is None else place("--to", target)
    if back == (new is not None):
        raise Refused("give either --to or --take-back")
    try:
        if new is None:
            _take_back(old)
        else:
            _move(old, new, json, given)
    except (ConfigurationError, StoreRefused) as error:
        raise Refused(str(error)) from None


def place(option: str, text: str) -> Place:
    """
    What an option names: ``sqlite:PATH``, ``postgresql://...``, or ``@FILE`` with either in it.

    :raises Refused: it names no database.
    """
    if text.startswith("@"):
        text = _read(option, Path(text[1:]))
    scheme, _, rest = text.partition(":")
    if scheme == "sqlite" and rest.strip("/"):
        # As in URLs of databases, after three slashes, but also without any.
        return Path.cwd() / (rest[2:] if rest.startswith("///") else rest)
    if scheme in ("postgresql", "postgres"):
        try:
            return database_url(text)
        except ValueError as error:
            raise Refused(f"{option}: {error}") from None
    raise Refused(f"{option}: neither sqlite:PATH nor postgresql://user:password@host/database")


def _read(option: str, path: Path) -> str:
    try:
        with path.open(encoding="utf-8") as file:
            return file.read(MAX_ADDRESS).strip()
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not a text"
        raise Refused(f"{option}: cannot read {path}: {said}") from None


def side(where: Place) -> Side:
    if isinstance(where, Path):
        from mailproxy.store.moving_file import FileSide

        return FileSide(where)
    from mailproxy.service_store import need_driver

    need_driver()
    # Loaded where it is needed: the driver comes with an extra.
    from mailproxy.store.moving_server import ServerSide

    return ServerSide(where.text, str(where))


def _settings(old: Place, new: Place, given: dict[str, str | None]) -> Settings:
    """With the data directory that belongs to the file, unless another is given."""
    file = next((str(each) for each in (old, new) if isinstance(each, Path)), None)
    return load_settings({**given, "db_path": file}, accounts=False)


def _move(old: Place, new: Place, json: bool, given: dict[str, str | None]) -> None:
    from mailproxy.crypto import Sealer
    from mailproxy.store.move import move
    from mailproxy.store.moving import Mark

    if old == new:
        raise Refused("--from and --to are the same database")
    settings = _settings(old, new, given)
    sealer = Sealer(kept_keys(settings))
    source, target = side(old), side(new)
    wanted = Mark(uuid4().hex, target.place, time.time())
    began = time.monotonic()
    with progress(sys.stderr) as told:
        done = move(source, target, sealer, wanted, told)
    if json:
        click.echo(_report(done, source.place, target.place, time.monotonic() - began))
    else:
        click.echo("\n".join(_told(done, source.place, target.place, settings)))


def _report(done: Moved, source: str, target: str, seconds: float) -> str:
    rows = sum(each.rows for each in done.tables)
    return msgspec.json.format(
        msgspec.json.encode(
            {
                "move": done.mark.id,
                "from": source,
                "to": target,
                "schema": done.schema,
                "already": done.already,
                "rows": rows,
                "seconds": round(seconds, 3),
                "tables": [
                    {
                        "table": each.table,
                        "rows": each.rows,
                        "sha256": each.digest,
                        "changed": each.changed,
                    }
                    for each in done.tables
                ],
            }
        )
    ).decode()


def _told(done: Moved, source: str, target: str, settings: Settings) -> Iterator[str]:
    if done.already:
        yield f"{source} is in {target} since {done.mark.day} UTC; nothing was done"
        return
    filled = [each for each in done.tables if each.rows]
    width = max((len(each.table) for each in filled), default=0)
    for each in filled:
        yield f"{each.table:{width}}  {each.rows:>10}  sha256 {each.digest[:16]}"
    changed = sum(each.changed for each in done.tables)
    if changed:
        yield f"{changed} rows: NUL in a text, which a server does not keep, became U+FFFD"
    yield f"moved {source} to {target}; all counts and digests agree"
    yield f"{source} is marked: no service starts with it any more"
    key = "GMP_ENCRYPTION_KEY" if settings.encryption_key else str(settings.key_file)
    token = "GMP_API_TOKEN" if settings.api_token else str(settings.token_file)
    yield f"serve the copy with the same key ({key}) and token ({token})"


def _take_back(old: Place) -> None:
    from mailproxy.store.move import take_back

    source = side(old)
    mark = take_back(source)
    click.echo(
        f"{source.place} can be served again; {mark.place} must not be: what waits in both would "
        "be sent twice"
    )


@contextmanager
def progress(out: IO[str]) -> Iterator[Progress]:
    """How far each table is, on a terminal; nothing elsewhere."""
    if not out.isatty():
        yield lambda _table, _done, _total: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bars
    from rich.progress import TaskID

    with Bars(console=Console(file=out), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def told(table: str, done: int, total: int) -> None:
            if table not in tasks:
                tasks[table] = bars.add_task(table, total=total)
            bars.update(tasks[table], completed=done)

        yield told


copy = click.Command(
    "copy",
    callback=run,
    params=[
        click.Option(
            ["--from", "source"],
            required=True,
            metavar="DATABASE",
            help="Where the queue is: sqlite:PATH, postgresql://user:password@host/database, or "
            "@FILE for a file with either in it.",
        ),
        click.Option(
            ["--to", "target"],
            metavar="DATABASE",
            help="Where it goes: an empty database, or a file that is not there yet.",
        ),
        click.Option(
            ["--take-back", "back"],
            is_flag=True,
            help="Instead: let the source be served again, because its copy is lost or was never "
            "served.",
        ),
        click.Option(["--json"], is_flag=True, help="Print what was done as JSON."),
        *setting_options(WHERE),
    ],
    help=(
        "Move the whole queue to another database, while no service has either of them.\n\n"
        "Every table is compared by count and digest before the copy counts; then the source is "
        "marked, and no service starts with it any more. The encryption key stays the same."
    ),
)
