"""``mailproxy migrate``: brings the database to a schema, while no service has it."""

from __future__ import annotations

import click

from mailproxy.cli.group import Refused
from mailproxy.cli.settings import load_settings, setting_options
from mailproxy.errors import ConfigurationError, StoreRefused

#: The settings that say which database.
WHERE = ("db_path", "api_token", "allow_no_token", "encryption_key")


def run(to: str | None, **given: str | None) -> None:
    """Print the revision that the database is at afterwards."""
    from mailproxy.service_store import migrate_store

    settings = load_settings(given, accounts=False)
    try:
        click.echo(migrate_store(settings, to))
    except (ConfigurationError, StoreRefused) as error:
        raise Refused(str(error)) from None


migrate = click.Command(
    "migrate",
    callback=run,
    params=[
        click.Option(
            ["--to"],
            metavar="REVISION",
            help="The schema to go to, up or down; what later ones brought is lost.  "
            "[default: the newest]",
        ),
        *setting_options(WHERE),
    ],
    help=(
        "Bring the database to the schema of this program, or to an older one.\n\n"
        "The service does the former when it starts. Back it up, and stop the service, before you "
        "go back to an older release."
    ),
)
