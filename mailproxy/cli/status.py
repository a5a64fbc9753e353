"""``mailproxy status``: asks a running service how it is."""

from __future__ import annotations

from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import click
import msgspec

from mailproxy.cli.group import Refused
from mailproxy.cli.settings import load_settings, setting_options
from mailproxy.config import Settings
from mailproxy.errors import ConfigurationError

#: The settings that say where the service is and which token it asks for.
WHERE = ("host", "port", "api_token", "allow_no_token", "db_path", "data_dir")

#: Octets of an answer at most.
MAX_ANSWER = 1 << 20


def run(url: str | None, token: str | None, timeout: float, json: bool, **given: Any) -> None:
    """Ask, and print the answer."""
    settings = load_settings(given, accounts=False)
    base = (url or local_url(settings)).rstrip("/")
    if not base.startswith(("http://", "https://")):
        raise Refused("--url: not an http or https URL")
    answer = ask(f"{base}/status", token if token is not None else token_of(settings), timeout)
    if json:
        click.echo(msgspec.json.format(msgspec.json.encode(answer)).decode())
        return
    state = "active" if answer.get("active") else "suspended"
    if answer.get("draining"):
        state += ", stopping"
    click.echo(f"{base}: {state}, version {answer.get('version', 'unknown')}")
    if queue := answer.get("queue"):
        click.echo(", ".join(f"{count} {name}" for name, count in queue.items()))


def ask(url: str, token: str | None, timeout: float) -> dict[str, Any]:
    """
    GET *url* and return its JSON object.

    :raises click.ClickException: no service, or not a good answer.
    """
    request = Request(url, headers={"X-API-Token": token} if token else {})
    try:
        # Proxies of the environment are for the world outside, not for our own service.
        with build_opener(ProxyHandler({})).open(request, timeout=timeout) as response:
            body = response.read(MAX_ANSWER)
    except HTTPError as error:
        raise click.ClickException(f"{url}: {error.code} {_reason(error)}") from None
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or error
        raise click.ClickException(f"{url}: {reason}") from None
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.MsgspecError:
        raise click.ClickException(f"{url}: the answer is not that of a mailproxy") from None


def local_url(settings: Settings) -> str:
    """Where the service with these settings is found on this machine."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    host = anywhere.get(settings.host, settings.host)
    return f"http://{f'[{host}]' if ':' in host else host}:{settings.port}"


def token_of(settings: Settings) -> str | None:
    """The token in force on this machine. :raises Refused: its file cannot be read."""
    from mailproxy.config_secrets import kept_token

    try:
        return kept_token(settings)
    except ConfigurationError as error:
        raise Refused(str(error)) from None


def _reason(error: HTTPError) -> str:
    """What the service says of it, else what HTTP says."""
    try:
        answer = msgspec.json.decode(error.read(MAX_ANSWER), type=dict[str, Any])
    except (OSError, HTTPException, msgspec.MsgspecError):
        answer = {}
    return str(answer.get("error") or error.reason)


status = click.Command(
    "status",
    callback=run,
    params=[
        click.Option(["--url"], help="Of the service.  [default: as configured, on this machine]"),
        click.Option(["--token"], help="For the API.  [default: as `mailproxy token`]"),
        click.Option(
            ["--timeout"], type=click.FloatRange(0.1, 600), default=10.0, show_default=True,
            help="Seconds to wait for the answer.",
        ),
        click.Option(["--json"], is_flag=True, help="Print the answer as it came."),
        *setting_options(WHERE),
    ],
    help="Ask a running service how it is. The exit status is 0 if it answered.",
)  # fmt: skip
