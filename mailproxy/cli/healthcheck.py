"""
``mailproxy healthcheck``: whether the service on this machine answers, for who starts it again.

It runs every few seconds, so the settings are imported only where an ini file has to be read.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import attrs
import click

from mailproxy.doors import words

#: Octets of an answer at most; more is not ours.
_MAX_ANSWER = 65536


@attrs.frozen
class Where:
    """
    How an endpoint is reached from this machine.

    :param address: host and port, or the path of a socket.
    :param tls: whether it speaks TLS; its certificate is made out to others and not looked at.
    :param proxied: whether it waits to be told who is calling (the PROXY protocol).
    """

    address: tuple[str, int] | str
    tls: bool = False
    proxied: bool = False

    def connect(self, timeout: float) -> socket.socket:
        """:raises OSError: nobody listens, or not in time."""
        if isinstance(self.address, str):
            made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            made.settimeout(timeout)
            made.connect(self.address)
        else:
            made = socket.create_connection(self.address, timeout)
        if self.proxied:
            made.sendall(b"PROXY UNKNOWN\r\n")
        if self.tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            made = context.wrap_socket(made)
        return made


class _Connection(HTTPConnection):
    def __init__(self, where: Where, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._where = where
        self._patience = timeout

    def connect(self) -> None:
        self.sock = self._where.connect(self._patience)


def run(ready: bool, timeout: float) -> None:
    """Ask; the exit status is 0 if the answer is good."""
    path = "/readyz" if ready else "/livez"
    for endpoint in endpoints(os.environ, Path.cwd()):
        if (where := reached(endpoint)) is not None:
            status = ask(where, path, timeout)
            if status != 200:
                raise click.ClickException(f"{path} at {endpoint}: {status}")
            click.echo(f"{path} at {endpoint}: {status}")
            return
    raise click.ClickException("GMP_HTTP_LISTEN: no endpoint whose address is known")


def ask(where: Where, path: str, timeout: float) -> int | str:
    """The status that GET *path* is answered with, or what went wrong."""
    connection = _Connection(where, timeout)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read(_MAX_ANSWER)
    except (OSError, HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return answer.status


def endpoints(environ: Mapping[str, str], cwd: Path) -> tuple[str, ...]:
    """
    Where the service listens that has this environment.

    :param cwd: where it is started.
    """
    if environ.get("GMP_CONFIG", "").strip() or (cwd / "config.ini").exists():
        from mailproxy.cli.settings import load_settings

        return load_settings({}, accounts=False).listen
    listen = environ.get("GMP_HTTP_LISTEN", "").split()
    host = environ.get("GMP_HOST", "").strip() or "0.0.0.0"
    port = environ.get("GMP_PORT", "").strip() or "8000"
    escaped = host.replace(":", "\\:")
    return tuple(listen) or (f"tcp:{port}:interface={escaped}",)


def reached(endpoint: str) -> Where | None:
    """How *endpoint* is reached; None where its description does not say."""
    parts = words(endpoint)
    proxied = parts[0] == "haproxy"
    kind, *rest = parts[1:] if proxied else parts
    named = dict(part.split("=", 1) for part in rest if "=" in part)
    plain = [part for part in rest if "=" not in part]
    if kind == "unix":
        path = named.get("address") or (plain[0] if plain else "")
        return Where(path, proxied=proxied) if path else None
    port = named.get("port") or (plain[0] if plain else "")
    if kind not in ("tcp", "tcp4", "tcp6", "ssl") or not port.isascii() or not port.isdigit():
        return None
    host = named.get("interface") or (plain[1] if len(plain) > 1 else "")
    anywhere = "::1" if kind == "tcp6" else "127.0.0.1"
    host = {"": anywhere, "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return Where((host.strip("[]"), int(port)), kind == "ssl", proxied)


healthcheck = click.Command(
    "healthcheck",
    callback=run,
    params=[
        click.Option(
            ["--ready"], is_flag=True, help="Ask whether it takes mail, not only whether it lives."
        ),
        click.Option(
            ["--timeout"], type=click.FloatRange(0.1, 600), default=3.0, show_default=True,
            help="Seconds to wait for the answer.",
        ),
    ],
    help=(
        "Ask the service on this machine whether it lives. It is found by GMP_HTTP_LISTEN, else "
        "GMP_HOST and GMP_PORT, or the ini file. The exit status is 0 if it does, else 1."
    ),
)  # fmt: skip
