"""``mailproxy events``: what became of a tenant's mail, as it is reported."""

from __future__ import annotations

import threading
import time
from contextlib import nullcontext, suppress
from typing import Any

import click

from mailproxy.cli.connection import Service, service_command
from mailproxy.cli.fields import Instant
from mailproxy.cli.output import Output, clean, shown, when
from mailproxy.clock import Names
from mailproxy.model import DEFAULT_TENANT

#: Seconds between two questions for what is new.
PAUSE = 1.0

#: The largest number an event can have.
LAST = 2**63 - 1

#: Events of one answer.
PAGE = 500


def follow_events(
    service: Service, after: str | None, since: float | None, follow: bool, limit: int | None
) -> None:
    """Print events as they come; a signal ends it."""
    if after is None:
        after = str(0 if since is None else min(max(0, Names.floor(since) - 1), LAST))
    with suppress(KeyboardInterrupt) if follow else nullcontext():
        _print_all(service, after, follow, limit)


def _print_all(service: Service, after: str, follow: bool, limit: int | None) -> None:
    tenant = service.tenant or DEFAULT_TENANT
    left = limit
    pause = threading.Event()
    while left is None or left > 0:
        most = PAGE if left is None else min(PAGE, left)
        answer = service.call(
            "GET", "/v1/events", {"tenant_id": tenant, "after": after, "limit": most}
        )
        for event in answer["events"]:
            _print(service.output, event)
        left = None if left is None else left - len(answer["events"])
        after = answer["next"]
        if len(answer["events"]) == most:
            continue
        if not follow:
            return
        pause.wait(PAUSE)


def _print(output: Output, event: dict[str, Any]) -> None:
    if output.as_json:
        output.line(event)
        return
    if event["sent_ts"] is not None:
        state, at, why = "sent", event["sent_ts"], None
    elif event["error_ts"] is not None:
        state, at, why = "failed", event["error_ts"], event["error"]
    else:
        state, at, why = "deferred", event["deferred_ts"], event["deferred_reason"]
    row = [event["number"], when(at), state, event["id"], event["account_id"], why]
    click.echo("\t".join(shown(each) for each in row))


def _number(_ctx: object, _param: object, value: str | None) -> str | None:
    if value is not None and not (value.isascii() and value.isdigit()):
        raise click.BadParameter(f"{clean(value)!r} is not the number of an event")
    return value


events = service_command(
    "events",
    follow_events,
    "Print what was or will be reported to a tenant, oldest first: number, time (of a deferral: of "
    "the next attempt), state, message, account, reason. With --json, one object a line.",
    [
        click.Option(["--after"], callback=_number, help="Only events behind this number."),
        click.Option(
            ["--since"], type=Instant(time.time), help="Only events since then: 2h, 2025-01-01, ..."
        ),
        click.Option(["-f", "--follow"], is_flag=True, help="Go on with what comes, until ^C."),
        click.Option(["--limit"], type=click.IntRange(1), help="Stop after so many."),
    ],
)
