"""
``mailproxy serve``: the service, in the foreground.

It is what ``twistd -n mailproxy`` runs: this only looks at the settings first, so that a wrong one
is one line and not a traceback, and leaves the process id file out.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping

import click

from mailproxy.cli.group import Refused
from mailproxy.cli.settings import load_settings, setting_options


def run(reactor: str | None, **given: str | None) -> None:
    """Check the settings, then hand over to Twisted; returns when the service has stopped."""
    load_settings(given)
    sys.argv = ["mailproxy", *twistd_arguments(reactor, given)]
    from twisted.scripts.twistd import run as twistd

    twistd()


def twistd_arguments(reactor: str | None, given: Mapping[str, str | None]) -> list[str]:
    """What ``twistd`` is called with for these options of ours."""
    own = ["--nodaemon", "--pidfile="]
    if reactor is not None:
        own.append(f"--reactor={reactor}")
    settings = [
        f"--{name.replace('_', '-')}={value}" for name, value in given.items() if value is not None
    ]
    return [*own, "mailproxy", *settings]


def _known_reactor(ctx: click.Context, param: click.Parameter, name: str | None) -> str | None:
    """Refuse a reactor Twisted has no plugin for."""
    if name is not None:
        from twisted.application.reactors import getReactorTypes

        names = sorted(kind.shortName for kind in getReactorTypes())
        if name not in names:
            raise Refused(f"--reactor: {name!r} is none of {', '.join(names)}")
    return name


serve = click.Command(
    "serve",
    callback=run,
    params=[
        click.Option(
            ["--reactor"],
            metavar="NAME",
            callback=_known_reactor,
            help="The Twisted reactor to use, such as epoll or asyncio.",
        ),
        *setting_options(),
    ],
    help=(
        "Run the relay: HTTP in, SMTP out, reports back, until SIGTERM or SIGINT.\n\n"
        "Every option can also be given as an environment variable (--port as GMP_PORT) or in the "
        "ini file named by GMP_CONFIG; the command line is the strongest."
    ),
)
