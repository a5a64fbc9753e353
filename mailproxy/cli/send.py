"""``mailproxy messages send``: hands in messages that are files."""

from __future__ import annotations

from collections.abc import Sequence
from email import message_from_bytes
from email.errors import MessageError
from email.message import EmailMessage
from email.policy import default as policy
from typing import Any

import attrs
import click

from mailproxy.cli.connection import Service, content, service_command
from mailproxy.cli.group import Refused
from mailproxy.cli.output import clean, progress

_TO = ("To", "Cc", "Bcc")


@attrs.frozen
class Letter:
    """A message that was read from a file. :param source: its name."""

    source: str
    raw: bytes
    sender: str
    to: Sequence[str]


def parse(raw: bytes) -> EmailMessage:
    """What *raw* says; of a damaged message, as much as can be read."""
    message = message_from_bytes(raw, policy=policy)
    assert isinstance(message, EmailMessage)
    return message


def addresses(message: EmailMessage, *fields: str) -> list[str]:
    """The addresses in header fields, each once. :raises Refused: a field cannot be read."""
    found: list[str] = []
    for field in fields:
        try:
            for header in message.get_all(field, []):
                found += [each.addr_spec for each in header.addresses]
        except (MessageError, ValueError, AttributeError, IndexError):
            raise Refused(f"{field}: cannot be read; give the addresses as options") from None
    return list(dict.fromkeys(found))


def send_messages(
    service: Service, files: Sequence[str], sender: str | None, to: Sequence[str], **fields: Any
) -> None:
    """Hand in each file, as it is; go on after one that is refused."""
    if fields.get("id") is not None and len(files) > 1:
        raise Refused("--id: for one FILE only")
    letters = [_letter(each, sender, to) for each in files]
    results = []
    with progress("handing in", "messages", service.output) as bar:
        for n, letter in enumerate(letters, 1):
            results.append(_hand_in(service, letter, fields))
            bar.to(n, len(letters))
    for letter, taken, said in results:
        if not taken:
            click.echo(f"Error: {clean(letter.source)}: {clean(said)}", err=True)
        elif not service.output.as_json:
            service.output.say(f"{letter.source}: {said}")
    if not all(taken for _, taken, _ in results):
        raise SystemExit(1)


def _letter(source: str, sender: str | None, to: Sequence[str]) -> Letter:
    raw = content(source)
    message = parse(raw)
    if sender is None:
        found = addresses(message, "From")
        if not found:
            raise Refused(f"{source}: it has no From; give --from")
        sender = found[0]
    recipients = list(to) or addresses(message, *_TO)
    if not recipients:
        raise Refused(f"{source}: it has no recipients; give --to")
    return Letter(source, raw, "" if sender == "<>" else sender, recipients)


def _hand_in(service: Service, letter: Letter, fields: dict[str, Any]) -> tuple[Letter, bool, str]:
    from mailproxy.client import Rejected

    try:
        item = service.client.send_raw(letter.raw, letter.sender, letter.to, **fields)
    except Rejected as error:
        return letter, False, error.reason
    if service.output.as_json:
        service.output.line({"file": letter.source, "id": item.id, "state": item.state})
    return letter, True, f"{item.id} {item.state}"


send = service_command(
    "send",
    send_messages,
    "Hand in messages from FILES (RFC 5322; - is the standard input), as they are.\n\n"
    "Envelope and recipients are those of the header unless options say otherwise; Bcc is cut. "
    "Each gets a new id, which is printed, unless --id names one: an id that is known is not sent "
    "twice.",
    [
        click.Argument(["files"], nargs=-1, required=True),
        click.Option(["--from", "sender"], help="Of the envelope; <> for none."),
        click.Option(["--to"], multiple=True, help="Instead of the header's; may be repeated."),
        click.Option(["--id"], help="For one FILE."),
        click.Option(["--account", "account_id"], help="To be sent through."),
        click.Option(["--batch", "batch_code"], help="Batch code."),
        click.Option(["--priority"], type=click.IntRange(0, 3), help="0 is sent first."),
        click.Option(["--test", "test"], flag_value=True, default=None,
                     help="Taken and reported, never sent."),
    ],
    seconds=60.0,
)  # fmt: skip
