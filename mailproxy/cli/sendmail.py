"""
``mailproxy sendmail``: what programs call that expect ``/usr/sbin/sendmail``.

A message is read from the standard input and handed in by SMTP, to all recipients or to none. The
exit status is one of ``sysexits.h``, so that the caller knows whether to try again.
"""

from __future__ import annotations

import getpass
import os
import re
import smtplib
import socket
import ssl
import sys
from collections.abc import Iterable, Sequence
from email import policy
from email.parser import BytesHeaderParser
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from mailproxy.address import parse_mailbox, parse_mailboxes
from mailproxy.errors import BadAddress, MailProxyError
from mailproxy.lines import canonical

USAGE, DATAERR, NOINPUT, NOUSER, NOPERM, TEMPFAIL = 64, 65, 66, 67, 77, 75

#: Seconds until a server that says nothing is given up, and until the end of the message is
#: acknowledged.
PATIENCE = 120.0

#: Where the service is asked for, if nothing says otherwise.
SERVER = "127.0.0.1:2525"

_HEADER_END = re.compile(rb"\r\n\r\n")
_FROM = re.compile(rb"^from[ \t]*:", re.IGNORECASE | re.MULTILINE)


class Failed(MailProxyError):
    """The message is not handed in. :param code: the exit status."""

    def __init__(self, code: int, problem: str) -> None:
        super().__init__(problem)
        self.code = code


class _UnixSmtp(smtplib.SMTP):
    """SMTP over the socket at a path, which is given as the host."""

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.settimeout(timeout)
        made.connect(host)
        return made


def read_message(stdin: bytes, *, dots: bool) -> bytes:
    """
    The message in lines that end in CRLF.

    :param dots: whether a line that is only a dot ends it.
    """
    data = canonical(stdin)
    if dots and (end := re.search(rb"(?:^|\r\n)\.(?:\r\n|$)", data)):
        data = data[: end.start() + (2 if end.start() else 0)]
    return data if data.endswith(b"\r\n") else data + b"\r\n"


def complete(address: str, domain: str) -> str:
    """An envelope address; a name alone is at *domain*. :raises Failed: it is none."""
    try:
        text = address if "@" in address else f"{address.strip()}@{domain}"
        return parse_mailbox(text).addr
    except BadAddress as error:
        raise Failed(DATAERR, f"{address!r} is not an address: {error}") from None


def named_in(data: bytes) -> list[str]:
    """The recipients that To, Cc and Bcc name. :raises Failed: one of them cannot be read."""
    header = BytesHeaderParser(policy=policy.compat32).parsebytes(data)
    found: list[str] = []
    for name in ("To", "Cc", "Bcc"):
        for value in header.get_all(name, ()):
            text = re.sub(r"\r?\n[ \t]+", " ", str(value)).replace("\t", " ")
            try:
                found += [mailbox.addr for mailbox in parse_mailboxes(text)]
            except BadAddress as error:
                raise Failed(DATAERR, f"{name}: {error}") from None
    return found


def with_from(data: bytes, sender: str, name: str) -> bytes:
    """*data*, with a From if it has none."""
    header = data[: (end.start() if (end := _HEADER_END.search(data)) else len(data))]
    if data.startswith(b"\r\n"):
        header = b""
    if _FROM.search(header):
        return data
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '" ' if name else ""
    return f"From: {quoted}<{sender}>\r\n".encode() + data


def _check(code: int, text: bytes | str, permanent: int, what: str) -> None:
    """:raises Failed: the reply is a refusal."""
    if code >= 400:
        shown = text if isinstance(text, str) else text.decode("utf-8", "replace")
        said = f"{what}: {code} {shown}"
        raise Failed(TEMPFAIL if code < 500 else permanent, said)


def hand_in(client: smtplib.SMTP, sender: str, recipients: Iterable[str], data: bytes) -> str:
    """
    One transaction, for all recipients or for none. :return: what the server said at its end.

    :raises Failed: it was refused; nothing was handed in.
    """
    client.ehlo_or_helo_if_needed()
    eight_bit = not data.isascii() and client.has_extn("8bitmime")
    options = [f"SIZE={len(data)}"] if client.has_extn("size") else []
    _check(
        *client.mail(sender, [*options, *(["BODY=8BITMIME"] if eight_bit else [])]), NOPERM, sender
    )
    for recipient in recipients:
        _check(*client.rcpt(recipient), NOUSER, recipient)
    code, text = client.data(data)
    _check(code, text, DATAERR, "the message")
    return text.decode("utf-8", "replace")


def connect(server: str) -> smtplib.SMTP:
    """:param server: ``host:port`` or ``unix:/path``. :raises OSError: it cannot be reached."""
    if server.startswith("unix:"):
        return _UnixSmtp(server.removeprefix("unix:"), timeout=PATIENCE)
    host, _, port = server.rpartition(":")
    if not host or not port.isdigit():
        raise Failed(USAGE, f"--server: {server!r} is neither HOST:PORT nor unix:/PATH")
    return smtplib.SMTP(host.strip("[]"), int(port), timeout=PATIENCE)


def stays_here(family: int, peer: Any) -> bool:
    """Whether what is said to the socket address *peer* stays on this machine."""
    if family == socket.AF_UNIX:
        return True
    return ip_address(peer[0].partition("%")[0]).is_loopback


def _log_in(client: smtplib.SMTP, server: str, user: str) -> None:
    """:raises Failed: the password would leave this machine in clear."""
    assert client.sock is not None
    if client.has_extn("starttls"):
        client.starttls(context=ssl.create_default_context())
    elif not stays_here(client.sock.family, client.sock.getpeername()):
        raise Failed(NOPERM, f"{server} offers no TLS: the password is not sent")
    client.login(user, os.environ.get("MAILPROXY_SMTP_PASSWORD", ""))


def deliver(
    server: str, user: str | None, sender: str, recipients: Sequence[str], data: bytes
) -> str:
    """Hand a message in. :raises Failed: with the exit status to give."""
    try:
        with connect(server) as client:
            client.ehlo()
            if user:
                _log_in(client, server, user)
            return hand_in(client, sender, recipients, data)
    except smtplib.SMTPAuthenticationError as error:
        _check(error.smtp_code, error.smtp_error, NOPERM, "the login")
        raise
    except smtplib.SMTPNotSupportedError as error:
        raise Failed(NOPERM, str(error)) from None
    except (OSError, smtplib.SMTPException) as error:
        raise Failed(TEMPFAIL, f"{server}: {error}") from None


def local_domain() -> str:
    """What addresses without a domain are at: /etc/mailname, else the host's name."""
    try:
        return Path("/etc/mailname").read_text().strip() or socket.getfqdn()
    except OSError:
        return socket.getfqdn()


def _run(
    recipients: tuple[str, ...],
    from_headers: bool,
    ignore_dots: bool,
    sender: str | None,
    full_name: str,
    mode: str,
    options: tuple[str, ...],
    server: str,
    user: str | None,
    domain: str | None,
    verbose: bool,
) -> None:
    if mode not in ("", "m"):
        raise Failed(USAGE, f"-b{mode} is not supported: only messages are taken")
    at = domain or local_domain()
    stdin = sys.stdin.buffer.read()
    if not stdin:
        raise Failed(NOINPUT, "there is no message on the standard input")
    data = read_message(stdin, dots=not (ignore_dots or "i" in options))
    wanted = [complete(each, at) for each in recipients]
    if from_headers:
        wanted += named_in(data)
    if not wanted:
        raise Failed(USAGE, "no recipients: name them, or use -t")
    envelope = "" if sender in ("", "<>") else complete(sender or getpass.getuser(), at)
    data = with_from(data, envelope or complete(getpass.getuser(), at), full_name)
    said = deliver(server, user, envelope, list(dict.fromkeys(wanted)), data)
    if verbose:
        click.echo(said)


def run(**given: Any) -> None:
    try:
        _run(**given)
    except Failed as failed:
        click.echo(f"sendmail: {failed}", err=True)
        raise SystemExit(failed.code) from None


def _taken(*names: str) -> click.Option:
    """An option that other sendmails know, and that changes nothing here."""
    return click.Option(names, expose_value=False, hidden=True)


sendmail = click.Command(
    "sendmail",
    callback=run,
    params=[
        click.Argument(["recipients"], nargs=-1),
        click.Option(["-t", "from_headers"], is_flag=True, help="Also those of To, Cc and Bcc."),
        click.Option(["-i", "ignore_dots"], is_flag=True, help="A line with a dot ends nothing."),
        click.Option(["-f", "-r", "sender"], metavar="ADDRESS", help="The envelope sender."),
        click.Option(
            ["-F", "full_name"], default="", help="The sender's name, if From is missing."
        ),
        click.Option(["-b", "mode"], default="", hidden=True),
        click.Option(["-o", "options"], multiple=True, hidden=True),
        click.Option(["-v", "verbose"], is_flag=True, help="Print what the server said."),
        *(_taken("-B"), _taken("-N"), _taken("-R"), _taken("-V"), _taken("-L"), _taken("-q")),
        click.Option(
            ["--server"],
            default=SERVER,
            envvar="MAILPROXY_SMTP",
            show_default=True,
            show_envvar=True,
            help="HOST:PORT or unix:/PATH.",
        ),
        click.Option(
            ["--user"],
            envvar="MAILPROXY_SMTP_USER",
            show_envvar=True,
            help="Log in; the password is in MAILPROXY_SMTP_PASSWORD.",
        ),
        click.Option(["--domain"], help="Where addresses without a domain are; /etc/mailname."),
    ],
    help=(
        "Hand in the message on the standard input, as programs call sendmail.\n\n"
        "Exit status: 0 it is on the service's disk; 75 try again; 64, 65, 66, 67, 77 (sysexits.h) "
        "it was refused."
    ),
)
