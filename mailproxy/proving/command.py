"""``mailproxy sink``: the command line of :class:`mailproxy.proving.sink.Sink`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import click

from mailproxy.proving.answers import WORDS, parse_delay

_Command = TypeVar("_Command", bound=Callable[..., Any])

_WORDS = "\n".join(f"  {word + '@':<9} {does}" for word, does in WORDS.items())


def _delay(ctx: click.Context, param: click.Parameter, text: str) -> tuple[float, float]:
    try:
        return parse_delay(text)
    except ValueError:
        raise click.BadParameter("give it as 0-50ms, 20ms, 1-2s or 0.5 (seconds)") from None


def _scenario(ctx: click.Context, param: click.Parameter, name: str | None) -> Any:
    from mailproxy.proving.scenario import BadScenario, find

    try:
        return None if name is None else find(name)
    except BadScenario as error:
        raise click.BadParameter(str(error)) from None


def _both(user: str | None, password: str | None, name: str) -> None:
    if (user is None) != (password is None):
        raise click.UsageError(f"--{name}user and --{name}password go together")


def _port(name: str, **settings: Any) -> Callable[[_Command], _Command]:
    return click.option(name, metavar="PORT", type=click.IntRange(0, 65535), **settings)


def _count(name: str, metavar: str, **settings: Any) -> Callable[[_Command], _Command]:
    return click.option(name, metavar=metavar, type=click.IntRange(0), **settings)


def _seconds(name: str, **settings: Any) -> Callable[[_Command], _Command]:
    return click.option(name, metavar="SECONDS", type=click.FloatRange(0), **settings)


@click.command(
    help=(
        "A mail server and report receiver to try things against. Nothing leaves it.\n\n"
        "It keeps the mail it gets and shows it at GET /messages; any POST is taken as a delivery "
        "report, printed, and kept for GET /reports. By the first word of a recipient's address "
        f"it misbehaves:\n\n\b\n{_WORDS}\n\n"
        "A port of 0 is any free one; the ports are printed when the sink is ready."
    )
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@_port("--smtp-port", default=2525, show_default=True, help="For SMTP, with STARTTLS.")
@_port("--tls-port", help="For SMTP in implicit TLS as well.")
@_port("--http-port", default=8025, show_default=True, help="Shows mail, takes reports.")
@_port("--report-port", help="Takes reports as well.")
@_port("--https-port", help="As the HTTP port, in TLS.")
@click.option("--user", help="Offer AUTH and demand it: this user ...")
@click.option("--password", help="... with this password.")
@click.option("--starttls/--no-starttls", default=True, show_default=True, help="Offer STARTTLS.")
@click.option("--require-tls", is_flag=True, help="Take neither AUTH nor mail in clear.")
@click.option("--certificate", metavar="FILE", help="Write the certificate it makes there.")
@_count("--max-size", "BYTES", default=100 << 20, show_default=True, help="Of one mail.")
@_count("--close-after", "N", default=0, help="After N mails a connection gets 421.")
@click.option(
    "--delay",
    metavar="RANGE",
    default="0",
    callback=_delay,
    help="Wait so long before the reply to a mail: 0-50ms, drawn anew each time.",
)
@click.option(
    "--drop-rate",
    metavar="RATE",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="How often, 0 to 1, a mail is kept and the connection closed in place of the reply.",
)
@_count("--seed", "N", help="Of delays and lost replies; one is drawn and told if it matters.")
@_seconds("--slow", default=5.0, show_default=True, help="How long slow@ waits.")
@_seconds("--hold", default=60.0, show_default=True, help="How long drop@ stays connected.")
@_count("--keep", "N", default=1000, show_default=True, help="Mails in memory.")
@click.option(
    "--scenario",
    metavar="FILE",
    callback=_scenario,
    help="Behave as this TOML file says, or as a shipped one of this name; see docs/sink.md.",
)
@click.option("--ledger", metavar="FILE", help="Append a JSON line for every accepted mail.")
@click.option("--report-ledger", metavar="FILE", help="Append a JSON line for every report.")
@click.option("--report-user", help="Reports must show Basic credentials: this user ...")
@click.option("--report-password", help="... with this password.")
@click.option("--report-token", help="Reports must show this Bearer token (or the above).")
@click.option("--quiet", is_flag=True, help="Do not print reports.")
def sink(**given: Any) -> None:
    _both(given["user"], given["password"], "")
    _both(given["report_user"], given["report_password"], "report-")

    from twisted.internet import reactor
    from twisted.internet.error import CannotListenError

    from mailproxy.proving.sink import Sink

    made = Sink(reactor, _options(given), _silent if given["quiet"] else _print)
    try:
        made.startService()
    except (OSError, CannotListenError) as error:
        raise click.ClickException(str(error)) from None
    loop: Any = reactor
    loop.addSystemEventTrigger("before", "shutdown", made.stopService)
    _print(made.ready())
    loop.run()


def _print(line: str) -> None:
    # Whoever read our output may be gone; the sink goes on.
    with suppress(OSError):
        click.echo(line)


def _silent(line: str) -> None:
    pass


def _options(given: dict[str, Any]) -> Any:
    from mailproxy.proving.house import Terms
    from mailproxy.proving.receiver import Credentials
    from mailproxy.proving.sink import SinkOptions

    same = (
        *("host", "smtp_port", "tls_port", "http_port", "report_port", "https_port"),
        *("starttls", "seed"),
        *("delay", "drop_rate", "slow", "keep", "ledger", "report_ledger", "certificate"),
        "scenario",
    )
    terms = ("user", "password", "require_tls", "max_size", "close_after", "hold")
    return SinkOptions(
        terms=Terms(**{name: given[name] for name in terms}),
        credentials=Credentials(
            given["report_user"], given["report_password"], given["report_token"]
        ),
        **{name: given[name] for name in same},
    )
