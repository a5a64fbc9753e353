"""``mailproxy call``: any endpoint of the API, also those without a command of their own."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlsplit

import click

from mailproxy.cli.connection import Service, content, service_command
from mailproxy.cli.group import Refused

METHODS = ("GET", "POST", "PUT", "DELETE")


def call_endpoint(service: Service, method: str, path: str, file: str | None) -> None:
    """Make one call, and print its answer."""
    parts = urlsplit(path)
    if parts.scheme or parts.netloc or not path.startswith("/"):
        raise Refused("PATH: begins with a slash; the service is named by --url")
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    body = None if file is None else content(file)
    service.output.json(service.call(method, parts.path, query, content=body))


call = service_command(
    "call",
    call_endpoint,
    "Call any endpoint of the API, such as `GET /v1/holds` or "
    "`POST /v1/destinations/example.org/pause`, and print its answer as JSON. FILE is the body; - "
    "is the standard input.",
    [
        click.Argument(["method"], type=click.Choice(METHODS, case_sensitive=False)),
        click.Argument(["path"]),
        click.Argument(["file"], required=False),
    ],
    seconds=60.0,
)
