"""``mailproxy messages``: looked at, decided over, handed in."""

from __future__ import annotations

import base64
import sys
import time
from collections.abc import Iterator
from typing import Any

import click

from mailproxy.cli.acts import message_acts
from mailproxy.cli.connection import Service, service_command
from mailproxy.cli.fields import Instant, one_of
from mailproxy.cli.group import Refused
from mailproxy.cli.output import Cell, when
from mailproxy.cli.send import send
from mailproxy.states import MessageState

#: Messages of a page, where all are asked for.
PAGE = 1000

#: What a step of a timeline says by itself, and is not repeated in its line.
_PLAIN = ("recipients", "notes", "attempt", "next_at")


def list_messages(
    service: Service,
    state: str | None,
    account: str | None,
    batch: str | None,
    active: bool,
    since: float | None,
    limit: int,
    cursor: str | None,
    every: bool,
) -> None:
    """One page of what there is, or all pages."""
    query: dict[str, Any] = {
        "state": state,
        "account_id": account,
        "batch_code": batch,
        "active_only": active or None,
        "since": since,
        "limit": PAGE if every else limit,
        "cursor": cursor,
    }
    answer = service.call("GET", "/messages", query)
    found = answer["messages"]
    while every and answer.get("next"):
        answer = service.call("GET", "/messages", query | {"cursor": answer["next"]})
        found += answer["messages"]
    if service.output.as_json:
        service.output.json(answer | {"messages": found})
        return
    heading = ("id", "state", "account", "to", "tries", "updated", "why")
    whose = ("tenant",) if service.tenant is None else ()
    service.output.table((*whose, *heading), (_row(each, service.tenant) for each in found))
    if answer.get("next"):
        click.echo(f"there are more: --cursor {answer['next']}, or --all", err=True)


def _row(message: dict[str, Any], tenant: str | None) -> list[Cell]:
    to = [each["address"] for each in message["recipients"]]
    more = f" +{len(to) - 1}" if len(to) > 1 else ""
    return [
        *([message["tenant_id"]] if tenant is None else []),
        message["id"],
        message["state"],
        message["account_id"],
        (to[0] if to else "") + more,
        message["attempts"],
        when(message["updated_at"]),
        message["error"] or message["deferred_reason"],
    ]


def show_message(service: Service, id: str, mime: bool) -> None:
    """All that is known of one message: its fields, its recipients, its timeline."""
    from mailproxy.client import join

    try:
        path = join("/v1/messages", id)
    except ValueError as error:
        raise Refused(str(error)) from None
    answer = service.call("GET", path, {"body": True} if mime else {})
    output = service.output
    if mime and not output.as_json:
        if answer.get("mime") is None:
            raise click.ClickException(f"{id}: {answer.get('mime_reason')}")
        sys.stdout.buffer.write(base64.b64decode(answer["mime"]))
        return
    if output.as_json:
        output.json(answer)
        return
    message = answer["message"]
    output.fields(_fields(message))
    click.echo()
    output.table(
        ("recipient", "state", "code", "reply"),
        (
            [each["address"], each["state"], each["code"], each["reply"]]
            for each in message["recipients"]
        ),
    )
    click.echo()
    output.table(("when", "what", "says"), _timeline(message.get("history") or []))


def _fields(message: dict[str, Any]) -> list[tuple[str, Cell]]:
    content = message["message"]
    return [
        ("id", message["id"]),
        ("tenant", message["tenant_id"]),
        ("account", message["account_id"]),
        ("state", message["state"]),
        ("why", message["error"] or message["deferred_reason"]),
        ("attempts", message["attempts"]),
        ("priority", message["priority"]),
        ("batch", message["batch_code"]),
        ("from", content.get("from")),
        ("subject", content.get("subject")),
        ("Message-ID", message["message_id"]),
        ("handed in", when(message["created_at"])),
        ("not before", when(message["deferred_ts"])),
        ("not after", when(message["expires_at"])),
        ("ended", when(message["sent_ts"] or message["error_ts"])),
        ("reported", when(message["reported_ts"])),
    ]


def _timeline(history: list[dict[str, Any]]) -> Iterator[list[Cell]]:
    for event in history:
        yield [when(event["at"]), event["kind"], "; ".join(_says(event))]


def _says(event: dict[str, Any]) -> Iterator[str]:
    data, attempt = event.get("data") or {}, event.get("attempt") or {}
    if event["kind"] == "intent" and attempt:
        yield f"attempt {attempt['n']} through {attempt['account']}"
        return
    if attempt:
        if attempt.get("error"):
            yield str(attempt["error"])
        if attempt.get("peer"):
            yield " ".join(filter(None, (attempt["peer"], attempt.get("tls"))))
    if event.get("reason"):
        yield str(event["reason"])
    for each in data.get("recipients") or ():
        said = [each.get("address"), each.get("state"), each.get("code"), each.get("reply")]
        yield " ".join(str(word) for word in said if word not in (None, ""))
    if data.get("next_at"):
        yield f"again {when(data['next_at'])}"
    yield from map(str, data.get("notes") or ())
    yield from (f"{key} {value}" for key, value in data.items() if key not in _PLAIN)


LIST = service_command(
    "list",
    list_messages,
    "List messages: unfinished ones first, by priority and age, then the others, newest first.",
    [
        click.Option(["--state"], type=one_of(MessageState), help="Of this state only."),
        click.Option(["--account"], help="Of this account only."),
        click.Option(["--batch"], help="Of this batch code only."),
        click.Option(["--active"], is_flag=True, help="Only what has not ended."),
        click.Option(
            ["--since"], type=Instant(time.time), help="Changed since then: 2h, 2025-01-01, ..."
        ),
        click.Option(
            ["--limit"], type=click.IntRange(1, 10_000), default=50, show_default=True,
            help="At most so many.",
        ),
        click.Option(["--cursor"], help="Go on where the list before ended."),
        click.Option(["--all", "every"], is_flag=True, help="All of them, page by page."),
    ],
)  # fmt: skip

SHOW = service_command(
    "show",
    show_message,
    "Show one message, its recipients, and its timeline with every reply.",
    [
        click.Argument(["id"]),
        click.Option(["--mime"], is_flag=True, help="Print the bytes that are sent instead."),
    ],
)

messages = click.Group(
    "messages",
    commands=[LIST, SHOW, send, *message_acts()],
    help="See what is stuck or failing, decide over it, hand mail in.",
)
