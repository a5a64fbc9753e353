"""``mailproxy explain``: what would become of a message, without sending it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import click
import msgspec

from mailproxy.cli.connection import Service, content, service_command
from mailproxy.cli.fields import names
from mailproxy.cli.group import Refused
from mailproxy.cli.output import Cell, when
from mailproxy.cli.send import addresses, parse

#: Header fields that an element has fields of its own for, or that are made anew.
_OWN = frozenset(
    ("from", "to", "cc", "bcc", "subject", "date", "message-id", "reply-to", "mime-version")
)


def explain_message(
    service: Service, file: str, id: str | None, account: str | None, mime: bool
) -> None:
    """Ask, and tell. :raises SystemExit: 1, it would be rejected."""
    raw = content(file)
    element = _element(file, raw)
    if id is not None:
        element["id"] = id
    elif "id" not in element:
        element["id"] = "explain"
    if account is not None:
        element["account_id"] = account
    answer = service.call("POST", "/v1/explain", json=element, repeatable=True)
    output = service.output
    if output.as_json:
        output.json(answer)
    elif mime:
        if answer.get("mime") is None:
            raise click.ClickException(str(answer.get("mime_reason") or answer["reason"]))
        click.echo(base64.b64decode(answer["mime"]), nl=False)
    else:
        output.fields(_told(answer))
    if not answer["accepted"]:
        raise SystemExit(1)


def _element(file: str, raw: bytes) -> dict[str, Any]:
    """An element of add-messages: as it is, or made of a message. :raises Refused: neither."""
    if raw.lstrip()[:1] == b"{":
        try:
            return msgspec.json.decode(raw, type=dict[str, Any])
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise Refused(f"{file}: not a JSON object: {error}") from None
    return _made_of(parse(raw))


def _made_of(message: EmailMessage) -> dict[str, Any]:
    element: dict[str, Any] = {
        "from": str(message.get("From", "")),
        **{name: found for name in ("to", "cc", "bcc") if (found := addresses(message, name))},
        "subject": str(message.get("Subject", "")),
    }
    for name, field in (("message_id", "Message-ID"), ("reply_to", "Reply-To")):
        if field in message:
            element[name] = str(message[field])
    for kind, name in (("plain", "body_plain"), ("html", "body_html")):
        part = message.get_body(preferencelist=(kind,))
        if isinstance(part, EmailMessage):
            element[name] = part.get_content()
    element["attachments"] = list(_attachments(message))
    element["headers"] = {
        name: str(value)
        for name, value in message.items()
        if name.lower() not in _OWN and not name.lower().startswith("content-")
    }
    return element


def _attachments(message: EmailMessage) -> Iterator[dict[str, str]]:
    for n, part in enumerate(message.iter_attachments(), 1):
        data = part.get_payload(decode=True)
        held = data if isinstance(data, bytes) else part.as_bytes()
        yield {
            "filename": part.get_filename() or f"part-{n}",
            "storage_path": "base64:" + base64.b64encode(held).decode("ascii"),
            "mime_type": part.get_content_type(),
        }


def _told(answer: dict[str, Any]) -> Iterator[tuple[str, Cell]]:
    yield "accepted", answer["accepted"]
    if answer["reason"]:
        yield "why not", answer["reason"]
    if answer.get("envelope"):
        yield "tenant", answer["tenant_id"]
        yield "sender", answer["envelope"]["sender"] or "<>"
        for each in answer["envelope"]["recipients"]:
            remarks = [word for word in ("suppressed", "paused") if each[word]]
            yield each["kind"], " ".join([each["address"], *(f"({word})" for word in remarks)])
    if answer.get("account"):
        account = answer["account"]
        yield "account", account["id"]
        yield "server", f"{account['host']}:{account['port']} ({account['tls_mode']})"
        yield "route", names(_way(each) for each in answer["routes"])
    limits = answer["limits"]
    if answer.get("size") is not None:
        yield "size", f"{answer['size']} of {limits['max_message_bytes']} bytes"
    for name in ("per_minute", "per_hour", "per_day", "tenant_hourly", "tenant_daily"):
        if limits.get(name) is not None:
            yield f"limit {name.replace('_', ' ')}", limits[name]
    if limits.get("limited_until") is not None:
        yield "waits until", f"{when(limits['limited_until'])}: {limits['limited_reason']}"
    if answer.get("deferred_ts") is not None:
        yield "not before", when(answer["deferred_ts"])
    if (stored := answer.get("stored")) is not None:
        yield "known as", f"{stored['state']}, {stored['attempts']} attempts"
        yield "would be", f"{stored['same_content']}, with other content {stored['other_content']}"
    for note in answer.get("notes") or ():
        yield "note", note


def _way(route: dict[str, Any]) -> str:
    parked = route["parked_reason"]
    return f"{route['id']} (parked: {parked})" if parked else str(route["id"])


explain = service_command(
    "explain",
    explain_message,
    "Tell what would become of a message, without sending it: whether it is accepted, its "
    "envelope, route, limits and size. The exit status is 1 if it would be rejected.\n\n"
    "FILE is an element of add-messages in JSON, or a message (RFC 5322) that such an element is "
    "made of; - is the standard input.",
    [
        click.Argument(["file"]),
        click.Option(["--id"], help="As which it would be handed in."),
        click.Option(["--account"], help="Through which."),
        click.Option(["--mime"], is_flag=True, help="Print the bytes that would be sent instead."),
    ],
    seconds=60.0,
)
