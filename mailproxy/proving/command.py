"""``mailproxy sink``: the command line of :class:`mailproxy.proving.sink.Sink`."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import click

from mailproxy.proving.answers import WORDS, parse_delay

_WORDS = "\n".join(f"  {word + '@':<9} {does}" for word, does in WORDS.items())


def _delay(ctx: click.Context, param: click.Parameter, text: str) -> tuple[float, float]:
    try:
        return parse_delay(text)
    except ValueError:
        raise click.BadParameter("give it as 0-50ms, 20ms, 1-2s or 0.5 (seconds)") from None


def _both(user: str | None, password: str | None, name: str) -> None:
    if (user is None) != (password is None):
        raise click.UsageError(f"--{name}user and --{name}password go together")


_PORT = click.IntRange(0, 65535)
_COUNT = click.IntRange(0)


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
@click.option("--smtp-port", type=_PORT, default=2525, show_default=True, help="SMTP, STARTTLS.")
@click.option("--tls-port", type=_PORT, help="SMTP in implicit TLS, too.")
@click.option("--http-port", type=_PORT, default=8025, show_default=True, help="Mail and reports.")
@click.option("--report-port", type=_PORT, help="Another port for reports.")
@click.option("--user", help="Offer AUTH and demand it: this user ...")
@click.option("--password", help="... with this password.")
@click.option("--starttls/--no-starttls", default=True, show_default=True, help="Offer STARTTLS.")
@click.option("--require-tls", is_flag=True, help="Take neither AUTH nor mail in clear.")
@click.option("--certificate", metavar="FILE", help="Write the certificate it makes there.")
@click.option("--max-size", type=_COUNT, default=100 << 20, show_default=True, help="Of a mail.")
@click.option("--close-after", type=_COUNT, default=0, help="Mails per connection, then 421.")
@click.option("--delay", default="0", callback=_delay, help="Before each final reply: 0-50ms.")
@click.option(
    "--drop-rate",
    type=click.FloatRange(0, 1),
    default=0.0,
    help="How often a mail is kept and the connection closed in place of the final reply.",
)
@click.option("--seed", type=_COUNT, help="Of delays and lost replies.")
@click.option("--slow", type=click.FloatRange(0), default=5.0, show_default=True, help="slow@: s.")
@click.option(
    "--hold",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Seconds until a connection left without an answer is closed.",
)
@click.option("--keep", type=_COUNT, default=1000, show_default=True, help="Mails in memory.")
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
        *("host", "smtp_port", "tls_port", "http_port", "report_port", "starttls", "seed"),
        *("delay", "drop_rate", "slow", "keep", "ledger", "report_ledger", "certificate"),
    )
    terms = ("user", "password", "require_tls", "max_size", "close_after", "hold")
    return SinkOptions(
        terms=Terms(**{name: given[name] for name in terms}),
        credentials=Credentials(
            given["report_user"], given["report_password"], given["report_token"]
        ),
        **{name: given[name] for name in same},
    )
