"""``mailproxy token``: shows the token of the API to who may read it."""

from __future__ import annotations

import click

from mailproxy.cli.group import Refused
from mailproxy.cli.settings import load_settings, setting_options
from mailproxy.errors import ConfigurationError

#: The settings that say where the token is.
WHERE = ("api_token", "allow_no_token", "db_path", "data_dir")


def run(**given: str | None) -> None:
    """Print the token, and nothing else, so that it can be used in ``$(mailproxy token)``."""
    from mailproxy.config_secrets import kept_token

    settings = load_settings(given, accounts=False)
    try:
        token = kept_token(settings)
    except ConfigurationError as error:
        raise Refused(str(error)) from None
    if token is not None:
        click.echo(token)
    elif settings.allow_no_token:
        raise click.ClickException("the API asks for no token (GMP_ALLOW_NO_TOKEN)")
    else:
        raise click.ClickException(
            f"there is no token yet: {settings.token_file} is made when the service first starts"
        )


token = click.Command(
    "token",
    callback=run,
    params=list(setting_options(WHERE)),
    help=(
        "Show the API token: the one configured, else the one the service made.\n\n"
        "Run it where and as whom the service runs."
    ),
)
