"""What an operator decides, over single messages, a batch, or the mail of an account."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from mailproxy.cli.connection import Service, service_command
from mailproxy.cli.group import Refused
from mailproxy.cli.output import clean

#: Each act with what it does.
ACTS = {
    "hold": "Begin nothing of it until it is released.",
    "release": "Let go what is held.",
    "retry": "Try now what waits for its next attempt.",
    "cancel": "End what has not been sent; it is reported as cancelled.",
    "requeue": "Send once more what failed or expired, to those who have not accepted it.",
    "resend": "Send once more where nobody knows whether it arrived; there may be two copies.",
    "close": "End what nobody knows of as what it turned out to be.",
}

_END = click.Option(
    ["--as", "end"],
    type=click.Choice(["sent", "failed"]),
    required=True,
    help="What it turned out to be.",
)
_REASON = click.Option(["--reason"], help="Why, in up to 200 characters, for the timeline.")
_SINGLY = click.Option(
    ["--singly"], is_flag=True, help="Of a batch or an account: also what is held one by one."
)


def message_acts() -> list[click.Command]:
    """Commands on messages by their ids, or on a whole batch."""
    return [service_command(act, _on_messages(act), _help(act), _params(act)) for act in ACTS]


def account_acts() -> list[click.Command]:
    """Commands on the mail of an account."""
    return [
        service_command(
            act,
            _on_account(act),
            f"{says} All the mail of an account.",
            [click.Argument(["id"]), *_options(act), *([_SINGLY] if act == "release" else [])],
        )
        for act, says in ACTS.items()
    ]


def _help(act: str) -> str:
    return f"{ACTS[act]} Messages by their ids, or a whole batch."


def _params(act: str) -> list[click.Parameter]:
    return [
        click.Argument(["ids"], nargs=-1),
        click.Option(["--batch"], help="All of this batch code, in place of IDS."),
        *_options(act),
        *([_SINGLY] if act == "release" else []),
    ]


def _options(act: str) -> list[click.Parameter]:
    return [_END, _REASON] if act == "close" else [_REASON]


def _on_messages(act: str) -> Any:
    def run(
        service: Service, ids: Sequence[str], batch: str | None, singly: bool = False, **given: Any
    ) -> None:
        if bool(ids) == (batch is not None):
            raise Refused("give either the IDS of messages or --batch")
        if batch is not None:
            _on_group(service, "/v1/batches", batch, act, singly, given)
            return
        if singly:
            raise Refused("--singly is for --batch")
        failed = [each for each in ids if not _one(service, each, act, given)]
        if failed:
            raise SystemExit(1)

    return run


def _one(service: Service, id: str, act: str, given: dict[str, Any]) -> bool:
    """:return: whether there is such a message; else it is said."""
    from mailproxy.client import NotFound, join

    try:
        answer = service.call("POST", _path(join, "/v1/messages", id, act), json=_body(given))
    except NotFound as error:
        click.echo(f"Error: {clean(id)}: {clean(error.reason)}", err=True)
        return False
    if service.output.as_json:
        service.output.line(answer)
    else:
        service.output.say(_said(answer))
    return True


def _said(answer: dict[str, Any]) -> str:
    line = f"{answer['id']}: {answer['state']}"
    if not answer["changed"]:
        line += f", unchanged: {answer['reason']}"
    if answer["begun"]:
        line += "; a body is on its way and comes to its own outcome"
    return line


def _on_account(act: str) -> Any:
    def run(service: Service, id: str, singly: bool = False, **given: Any) -> None:
        _on_group(service, "/v1/accounts", id, act, singly, given)

    return run


def _on_group(
    service: Service, path: str, name: str, act: str, singly: bool, given: dict[str, Any]
) -> None:
    from mailproxy.client import join

    body = _body(given) | ({"singly": True} if singly else {})
    answer = service.call("POST", _path(join, path, name, act), json=body)
    if service.output.as_json:
        service.output.json(answer)
        return
    line = f"{name}: {'held' if answer['held'] else 'not held'}"
    if not answer["changed"]:
        line += f", unchanged: {answer['reason']}"
    service.output.say(f"{line}; {answer['waiting']} waiting, {answer['in_flight']} in flight")


def _path(join: Any, *parts: str) -> str:
    """:raises Refused: an id that cannot stand in a path."""
    try:
        return str(join(*parts))
    except ValueError as error:
        raise Refused(str(error)) from None


def _body(given: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if value is not None}
