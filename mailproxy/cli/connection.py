"""
How a running service is found, and what becomes of its refusals.

Where it listens and its token are taken from the same environment and ini file as the service's own
settings, unless options say otherwise. The exit status is 0 if the service did what it was asked,
1 if it refused, failed, or could not be reached, and 2 if the command was called wrongly or the
configuration does not allow it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from mailproxy.cli.group import Refused
from mailproxy.cli.output import Output, clean, json_option
from mailproxy.cli.settings import load_settings, setting_options
from mailproxy.cli.status import local_url, token_of

if TYPE_CHECKING:
    from mailproxy.client import Client

#: Octets of a secret at most.
MAX_SECRET = 1 << 16

#: Seconds to connect.
CONNECT = 5.0

#: Stands for the standard input, where a file is asked for.
STDIN = "-"


@attrs.frozen
class Service:
    """
    A running service, and where what it answers goes.

    :param tenant: whose things are meant; None: those of all, for the admin.
    """

    client: Client
    output: Output
    tenant: str | None

    def call(self, method: str, path: str, *args: Any, **options: Any) -> dict[str, Any]:
        """See :meth:`mailproxy.client.Client.call`."""
        return self.client.call(method, path, *args, **options)


class ServiceCommand(click.Command):
    """:ivar own: the parameters that are its own."""

    own: Sequence[click.Parameter] = ()


def service_command(
    name: str,
    run: Callable[..., None],
    help: str,
    params: Sequence[click.Parameter] = (),
    seconds: float = 10.0,
) -> ServiceCommand:
    """
    A command that is run with a :class:`Service` and the values of *params*.

    :param seconds: the usual time to wait for an answer.
    """

    def callback(**given: Any) -> None:
        common = {name: given.pop(name) for name in _COMMON}
        with connected(**common) as service:
            run(service, **given)

    made = ServiceCommand(
        name, callback=callback, params=[*params, *connection_options(seconds)], help=help
    )
    made.own = params
    return made


def connection_options(seconds: float = 10.0) -> list[click.Option]:
    """What every command has that talks to a service."""
    return [
        json_option(),
        click.Option(
            ["--tenant"], help="Whose things are meant.  [default: with the admin token, all]"
        ),
        click.Option(["--url"], help="Of the service.  [default: as configured, on this machine]"),
        click.Option(
            ["--token"],
            help="For the API; - asks for it, or reads it from the standard input. Others on the "
            "machine can see what is given here.  [default: as `mailproxy token`]",
        ),
        click.Option(
            ["--timeout"],
            type=click.FloatRange(0.1, 3600),
            default=seconds,
            show_default=True,
            help="Seconds to wait for an answer.",
        ),
        *setting_options(("api_token",)),
    ]


_COMMON = tuple(str(option.name) for option in connection_options())


@contextmanager
def connected(
    url: str | None,
    token: str | None,
    tenant: str | None,
    timeout: float,
    json: bool,
    **given: Any,
) -> Iterator[Service]:
    """
    The service that the options and settings name; no connection is made yet.

    :raises Refused: one of them is wrong.
    :raises click.ClickException: (in the block) the service did not grant a call.
    """
    from mailproxy.client import Client, ClientError, Retry

    settings = load_settings(given, accounts=False)
    if token is None:
        token = token_of(settings)
    elif token == STDIN:
        token = secret("token", STDIN)
    try:
        client = Client(
            url or local_url(settings),
            token,
            tenant_id=tenant,
            timeout=(min(timeout, CONNECT), timeout),
            retry=Retry(attempts=1),
        )
    except ValueError as error:
        raise Refused(f"--url or --token: {error}") from None
    with client:
        try:
            yield Service(client, Output(json), tenant)
        except ClientError as error:
            raise click.ClickException("\n".join(told(error, client.url))) from None


def told(error: Any, url: str) -> Iterator[str]:
    """What a refusal is told as: a line for each field that is wrong, else one."""
    from mailproxy.client import Refused as NotAsItIs

    faults = error.faults if isinstance(error, NotAsItIs) else ()
    for fault in faults:
        loc = fault.loc[1:] if fault.loc[:1] in (("body",), ("query",)) else fault.loc
        field = ".".join(map(str, loc)) or "the request"
        yield clean(f"{field}: {fault.msg}")
    if not faults:
        text = str(error)
        yield clean(text if text.startswith(url) else f"{url}: {text}")


def secret(name: str, source: str | None, ask: bool = True) -> str | None:
    """
    A secret from a file, the standard input, or who sits at the terminal.

    :param source: a path, or ``-``; None: it is asked for at a terminal, elsewhere there is none.
    :param ask: whether it may be asked for.
    :raises Refused: it cannot be read.
    """
    interactive = sys.stdin.isatty()
    if source is None and not (ask and interactive):
        return None
    if source is None or (source == STDIN and interactive):
        return click.prompt(name, hide_input=True, err=True, default="", show_default=False) or None
    try:
        if source == STDIN:
            text = sys.stdin.read(MAX_SECRET)
        else:
            with Path(source).open(encoding="utf-8") as file:
                text = file.read(MAX_SECRET)
    except (OSError, UnicodeDecodeError) as error:
        said = error.strerror if isinstance(error, OSError) else "not a text"
        raise Refused(f"{name}: cannot read {source}: {said}") from None
    return text.rstrip("\r\n")


def content(source: str, most: int = 64 << 20) -> bytes:
    """The octets of a file, or of the standard input. :raises Refused: it cannot be read."""
    try:
        if source == STDIN:
            data = sys.stdin.buffer.read(most + 1)
        else:
            with Path(source).open("rb") as file:
                data = file.read(most + 1)
    except OSError as error:
        raise Refused(f"cannot read {source}: {error.strerror}") from None
    if len(data) > most:
        raise Refused(f"{source}: larger than {most} bytes")
    return data
