"""``mailproxy accounts`` and ``mailproxy test-account``: the servers that mail goes through."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import click

from mailproxy.cli.acts import account_acts
from mailproxy.cli.connection import Service, secret, service_command
from mailproxy.cli.fields import field_options, names, one_of, read_fields
from mailproxy.cli.group import Refused
from mailproxy.cli.output import Cell, when
from mailproxy.states import TlsMode

_INSTANTS = ("parked_since", "probe_at", "held_since", "limited_until", "created_at", "updated_at")


def list_accounts(service: Service) -> None:
    """What there is, and what does not work."""
    answer = service.call("GET", "/accounts")
    if service.output.as_json:
        service.output.json(answer)
        return
    whose = ("tenant",) if service.tenant is None else ()
    service.output.table(
        (*whose, "id", "server", "tls", "user", "state", "used", "why"),
        (
            [
                *([each["tenant_id"]] if service.tenant is None else []),
                each["id"],
                f"{each['host']}:{each['port']}",
                each["tls_mode"],
                each["user"],
                _state(each),
                names(f"{count}/{unit[4:]}" for unit, count in each["used"].items()),
                each["parked_reason"] or each["limited_reason"],
            ]
            for each in answer["accounts"]
        ),
    )


def _state(account: dict[str, Any]) -> str:
    if account["held_since"] is not None:
        return "held"
    if account["limited_until"] is not None and account["state"] == "active":
        return "limited"
    return str(account["state"])


def show_account(service: Service, id: str) -> None:
    """Every field of one account."""
    account = _found(service, id)
    if service.output.as_json:
        service.output.json(account)
        return
    service.output.fields((name, _cell(name, value)) for name, value in account.items())


def _cell(name: str, value: Any) -> Cell:
    if name in _INSTANTS:
        return when(value)
    if isinstance(value, dict):
        return names(f"{key}={each}" for key, each in value.items())
    if isinstance(value, list):
        return names(map(str, value))
    return value if value is None or isinstance(value, str | int | float) else str(value)


def _found(service: Service, id: str) -> dict[str, Any]:
    """:raises click.ClickException: there is none, or several tenants have one."""
    found = [each for each in service.call("GET", "/accounts")["accounts"] if each["id"] == id]
    if not found:
        raise click.ClickException(f"{id}: account not found")
    if len(found) > 1:
        tenants = names(str(each["tenant_id"]) for each in found)
        raise click.ClickException(f"{id}: several tenants have one, give --tenant: {tenants}")
    account: dict[str, Any] = found[0]
    return account


def add_account(
    service: Service,
    id: str,
    fields: Sequence[str],
    file: str | None,
    password_file: str | None,
    **given: Any,
) -> None:
    """Declare an account, or change it as a whole."""
    body = read_fields(fields, file, given) | {"id": id}
    if "host" not in body:
        raise Refused("host: required; give --host")
    if body.get("user") is not None and "password" not in body and "auth" not in body:
        password = secret("password (empty: keep the one that is stored)", password_file)
        if password:
            body["password"] = password
    answer = service.call("POST", "/account", json=body, repeatable=True)
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.say(f"{id}: declared; `mailproxy test-account` tries it")
    for each in answer.get("warnings") or ():
        service.output.say(f"warning: {each}")


def delete_account(service: Service, id: str, yes: bool) -> None:
    """Delete an account, after a question at a terminal."""
    from mailproxy.client import join

    if not yes:
        click.confirm(f"Delete the account {id}? Its waiting mail fails.", abort=True, err=True)
    tenant = service.tenant or _found(service, id)["tenant_id"]
    answer = service.call("DELETE", join("/account", id), {"tenant_id": tenant})
    if service.output.as_json:
        service.output.json(answer)
    else:
        service.output.say(f"{id}: deleted")


def test_account(service: Service, id: str) -> None:
    """Connect and log in. :raises SystemExit: 1, it does not work."""
    from mailproxy.client import join

    tenant = service.tenant or _found(service, id)["tenant_id"]
    answer = service.call("POST", join("/v1/accounts", id, "test"), {"tenant_id": tenant})
    if service.output.as_json:
        service.output.json(answer)
    else:
        service.output.fields(_tested(answer))
    if not answer["works"]:
        raise SystemExit(1)


def _tested(answer: dict[str, Any]) -> Iterable[tuple[str, Cell]]:
    yield "works", answer["works"]
    if not answer["works"]:
        yield "ended at", answer["phase"]
        yield "why", answer["problem"]
    else:
        yield "server", answer["peer"]
        yield "TLS", answer["tls"] or "none"
        yield "logged in", answer["logged_in"]
        yield "offers", ", ".join(answer["offers"])
    for note in answer["notes"]:
        yield "note", note
    yield "seconds", answer["seconds"]


_YES = click.Option(["--yes"], is_flag=True, help="Do not ask.")

accounts = click.Group(
    "accounts",
    help="The servers that mail goes through: see, declare, hold, try.",
    commands=[
        service_command("list", list_accounts, "List accounts, and what does not work."),
        service_command(
            "show", show_account, "Show every field of an account, but secrets.",
            [click.Argument(["id"])],
        ),
        service_command(
            "add",
            add_account,
            "Declare the account ID, or declare it anew: what is left out is as for a new one, but "
            "the password stays with the same host and user.\n\nThe password is asked for at a "
            "terminal, or read from a file; it is never an argument.",
            [
                click.Argument(["id"]),
                click.Option(["--host"], help="Name or address of the server."),
                click.Option(["--port"], type=click.IntRange(1, 65535), help="As the TLS mode."),
                click.Option(["--user"], help="To log in as."),
                click.Option(["--password-file"], help="A file with it; - for standard input."),
                click.Option(["--tls-mode"], type=one_of(TlsMode), help="How to connect."),
                click.Option(["--name"], help="For people."),
                click.Option(["--default", "is_default"], flag_value=True, default=None,
                             help="For messages that name no account."),
                click.Option(["--max-sessions"], type=int, help="Connections at once."),
                *field_options(),
            ],
        ),
        service_command(
            "delete", delete_account, "Delete an account; its waiting mail fails.",
            [click.Argument(["id"]), _YES],
        ),
        *account_acts(),
    ],
)  # fmt: skip

test = service_command(
    "test-account",
    test_account,
    "Connect to an account's server and log in - EHLO, STARTTLS, AUTH - without sending mail. The "
    "exit status is 1 if that does not work.",
    [click.Argument(["id"])],
    seconds=300.0,
)
