"""
``mailproxy container``: ``mailproxy serve``, as the image starts it.

It first looks where the database lies: mail that was accepted must not go with the container.
"""

from __future__ import annotations

from pathlib import Path

import click

from mailproxy.cli.group import Refused
from mailproxy.cli.serve import run as run_service
from mailproxy.cli.serve import serve
from mailproxy.cli.settings import load_settings
from mailproxy.config import Settings
from mailproxy.config_database import DatabaseUrl
from mailproxy.mounts import Keeping, judge

#: The mounts this process sees.
MOUNTS = Path("/proc/self/mountinfo")


def run(reactor: str | None, **given: str | None) -> None:
    """Look at the place of the database, then serve."""
    warning = check_place(load_settings(given, accounts=False), MOUNTS)
    if warning:
        click.echo(f"mailproxy: {warning}", err=True)
    run_service(reactor, **given)


def check_place(settings: Settings, table: Path) -> str | None:
    """
    Whether the database outlasts the container.

    :param table: the table of mounts.
    :return: what the operator should know, if anything.
    :raises Refused: it does not, and ``GMP_ALLOW_EPHEMERAL`` does not say that it need not.
    """
    if isinstance(settings.db_path, DatabaseUrl):
        return None
    directory = settings.db_path.parent
    try:
        place = judge(str(directory.resolve()), table.read_text(errors="surrogateescape"))
    except OSError as error:
        return f"cannot tell whether {directory} outlasts the container: {table}: {error.strerror}"
    if place.keeping is Keeping.KEPT:
        return None
    if place.keeping is Keeping.LOST and not settings.allow_ephemeral:
        raise Refused(
            f"GMP_DB_PATH: {directory} is {place.what}: accepted mail would be lost. Mount a "
            "volume there (-v mailproxy:/data), or set GMP_ALLOW_EPHEMERAL=true to try things out"
        )
    hint = {
        Keeping.ANONYMOUS: "; a new container does not find it: -v mailproxy:/data names it",
        Keeping.LOST: "; GMP_ALLOW_EPHEMERAL: accepted mail is lost with it",
    }.get(place.keeping, "")
    return f"warning: {directory} is {place.what}{hint}"


container = click.Command(
    "container",
    callback=run,
    params=serve.params,
    help=(
        "Run the relay in a container: as `mailproxy serve`, if the database outlasts it.\n\n"
        "What lies in memory or in the container's own layer is refused unless "
        "GMP_ALLOW_EPHEMERAL is set; a volume without a name is a warning."
    ),
)
