"""``mailproxy tenants`` and ``mailproxy test-sync``: the applications that hand mail in."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from mailproxy.cli.connection import Service, secret, service_command
from mailproxy.cli.fields import field_options, read_fields
from mailproxy.cli.output import Cell, when

#: Registering and reading tenants is about no other tenant than the one that is named.
ANY: dict[str, Any] = {"tenant_id": None}


def path(*parts: str) -> str:
    """:raises Refused: one cannot be part of a path."""
    from mailproxy.cli.group import Refused
    from mailproxy.client import join

    try:
        return join(*parts)
    except ValueError as error:
        raise Refused(str(error)) from None


def list_tenants(service: Service, active: bool) -> None:
    """What there is."""
    answer = service.call("GET", "/tenants", ANY | {"active_only": active or None})
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.table(
        ("id", "name", "active", "reports to", "hourly", "daily"),
        (
            [
                each["id"],
                each["name"],
                each["active"],
                _reports_to(each),
                each["rate_limits"]["hourly"],
                each["rate_limits"]["daily"],
            ]
            for each in answer["tenants"]
        ),
    )


def _reports_to(tenant: dict[str, Any]) -> str | None:
    if tenant["client_sync_url"]:
        return str(tenant["client_sync_url"])
    base = tenant["client_base_url"]
    return f"{base}{tenant['client_sync_path'] or ''}" if base else None


def show_tenant(service: Service, id: str) -> None:
    """Every field, secrets masked."""
    answer = service.call("GET", path("/tenant", id), ANY)
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.fields(_lines(answer))


def _lines(fields: dict[str, Any], before: str = "") -> list[tuple[str, Cell]]:
    found: list[tuple[str, Cell]] = []
    for name, value in fields.items():
        if isinstance(value, dict):
            found += _lines(value, f"{before}{name}.")
        elif name in ("created_at", "updated_at"):
            found.append((name, when(value)))
        elif name != "ok":
            found.append((before + name, value))
    return found


def add_tenant(service: Service, id: str, **given: Any) -> None:
    """Register a tenant, and print the key that the answer has."""
    answer = service.call("POST", "/tenant", ANY, {"id": id, **_body(given)})
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.fields([("tenant", id), ("api key", answer["api_key"])])
    click.echo("The key is shown this once.", err=True)


def update_tenant(service: Service, id: str, **given: Any) -> None:
    """Change what is given, and leave the rest."""
    _done(service, service.call("PUT", path("/tenant", id), ANY, _body(given)), f"{id}: changed")


def _body(given: dict[str, Any]) -> dict[str, Any]:
    fields, file = given.pop("fields"), given.pop("file")
    auth_user, password = given.pop("auth_user"), given.pop("auth_password_file")
    token, signing = given.pop("auth_token_file"), given.pop("signing_secret_file")
    body = read_fields(fields, file, given, clears=True)
    if token is not None:
        body["client_auth"] = {"method": "bearer", "token": secret("auth token", token)}
    elif auth_user is not None:
        asked = secret("auth password", password)
        body["client_auth"] = {"method": "basic", "user": auth_user, "password": asked}
    if signing is not None:
        body["signing_secret"] = secret("signing secret", signing)
    return body


def delete_tenant(service: Service, id: str, yes: bool) -> None:
    """Delete a tenant, after a question at a terminal."""
    if not yes:
        click.confirm(
            f"Delete the tenant {id}? Its keys end, and its mail that has not begun is cancelled.",
            abort=True,
            err=True,
        )
    answer = service.call("DELETE", path("/tenant", id), ANY)
    _done(service, answer, f"{id}: deleted; its reports are tried for 24 hours more")


def sync_status(service: Service) -> None:
    """How reporting stands."""
    answer = service.call("GET", "/tenants/sync-status", ANY)
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.table(
        ("tenant", "active", "last call", "next call", "quiet", "problem"),
        (
            [
                each["id"],
                each["active"],
                when(each["last_sync_ts"]),
                when(each["next_sync_due"]),
                each["in_dnd"],
                each.get("last_error"),
            ]
            for each in answer["tenants"]
        ),
    )


def test_sync(service: Service, id: str) -> None:
    """Post an empty report. :raises SystemExit: 1, the answer would not count."""
    answer = service.call("POST", path("/v1/tenants", id, "test-sync"), ANY)
    if service.output.as_json:
        service.output.json(answer)
    else:
        service.output.fields(
            [
                ("acknowledged", answer["acknowledged"]),
                ("why not", answer["problem"]),
                ("seconds", answer["seconds"]),
            ]
        )
    if not answer["acknowledged"]:
        raise SystemExit(1)


def _done(service: Service, answer: dict[str, Any], text: str) -> None:
    if service.output.as_json:
        service.output.json(answer)
    else:
        service.output.say(text)


def _settings() -> Sequence[click.Parameter]:
    return [
        click.Argument(["id"]),
        click.Option(["--name"], help="For people."),
        click.Option(["--active/--inactive"], default=None, help="Whether it may hand mail in."),
        click.Option(["--base-url", "client_base_url"], help="Of the application."),
        click.Option(["--sync-path", "client_sync_path"], help="Where it takes reports."),
        click.Option(["--auth-token-file"], help="A file with the token for it; - for stdin."),
        click.Option(["--auth-user"], help="The user for it, with a password."),
        click.Option(["--auth-password-file"], help="A file with it; asked for at a terminal."),
        click.Option(["--signing-secret-file"], help="A file with what reports are signed with."),
        *field_options(),
    ]


_ID = click.Argument(["id"])

tenants = click.Group(
    "tenants",
    help="The applications that hand mail in, and are told what became of it.",
    commands=[
        service_command(
            "list",
            list_tenants,
            "List tenants.",
            [click.Option(["--active"], is_flag=True, help="Only those that may hand mail in.")],
        ),
        service_command("show", show_tenant, "Show a tenant, its secrets masked.", [_ID]),
        service_command(
            "add",
            add_tenant,
            "Register the tenant ID, and show a key for it, this once.\n\nOne that is there is "
            "changed, and gets a further key. FIELD=null clears a field.",
            _settings(),
        ),
        service_command(
            "update",
            update_tenant,
            "Change a tenant: what is left out stays; FIELD=null clears. No new key.",
            _settings(),
        ),
        service_command(
            "delete",
            delete_tenant,
            "Delete a tenant: its keys and its intake end at once.",
            [_ID, click.Option(["--yes"], is_flag=True, help="Do not ask.")],
        ),
        service_command("sync-status", sync_status, "Show how reporting to each tenant stands."),
    ],
)

test = service_command(
    "test-sync",
    test_sync,
    "Post an empty report to a tenant. The exit status is 1 if its answer would not count as one "
    "that took it.",
    [click.Argument(["id"], metavar="TENANT")],
    seconds=300.0,
)
