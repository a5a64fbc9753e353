"""``mailproxy keys`` and ``mailproxy credentials``: who may use the service, over HTTP and SMTP."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from mailproxy.cli.connection import Service, secret, service_command
from mailproxy.cli.fields import names, one_of
from mailproxy.cli.group import Refused
from mailproxy.cli.output import when
from mailproxy.cli.tenants import ANY, path
from mailproxy.tenancy import Scope


def list_keys(service: Service, tenant_id: str) -> None:
    """What is known of a tenant's keys; never the keys."""
    answer = service.call("GET", path("/v1/tenants", tenant_id, "keys"), ANY)
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.table(
        ("key", "label", "scopes", "networks", "test", "made", "used", "ends"),
        (
            [
                each["prefix"] + "...",
                each["label"],
                names(each["scopes"]),
                names(each["networks"]),
                each["test"],
                when(each["created_at"]),
                when(each["used_at"]),
                when(each["expires_at"]),
            ]
            for each in answer["keys"]
        ),
    )


def add_key(
    service: Service, tenant_id: str, scopes: Sequence[str], networks: Sequence[str], **given: Any
) -> None:
    """Make a key, and print it."""
    body = {name: value for name, value in given.items() if value is not None}
    body |= {"scopes": list(scopes)} if scopes else {}
    body |= {"networks": list(networks)} if networks else {}
    answer = service.call("POST", path("/v1/tenants", tenant_id, "keys"), ANY, body)
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.fields([("tenant", tenant_id), ("api key", answer["api_key"])])
    click.echo("The key is shown this once.", err=True)


def revoke_key(service: Service, tenant_id: str, prefix: str | None, every: bool) -> None:
    """End one key, or all."""
    if every == (prefix is not None):
        raise Refused("give either the PREFIX of a key or --all")
    if prefix is None:
        answer = service.call("DELETE", path("/tenant", tenant_id, "api-key"), ANY)
    else:
        short = prefix.removesuffix("...")
        answer = service.call("DELETE", path("/v1/tenants", tenant_id, "keys", short), ANY)
    if service.output.as_json:
        service.output.json(answer)
    else:
        service.output.say(f"{tenant_id}: {'all keys' if every else prefix} ended")


def list_credentials(service: Service) -> None:
    """Who may log in by SMTP."""
    answer = service.call("GET", "/v1/credentials")
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.table(
        ("user", "tenant", "account", "password", "active", "senders", "networks", "label"),
        (
            [
                each["user"],
                each["tenant_id"],
                each["account_id"],
                each["has_password"],
                each["active"],
                names(each["senders"]),
                names(each["networks"]),
                each["label"],
            ]
            for each in answer["credentials"]
        ),
    )


def add_credential(
    service: Service,
    user: str,
    password_file: str | None,
    no_password: bool,
    senders: Sequence[str],
    networks: Sequence[str],
    **given: Any,
) -> None:
    """Create or change a credential; what is left out stays."""
    body: dict[str, Any] = {"user": user}
    body |= {name: value for name, value in given.items() if value is not None}
    body |= {"senders": list(senders)} if senders else {}
    body |= {"networks": list(networks)} if networks else {}
    if no_password:
        body["password"] = None
    elif (password := secret("password (empty: as it is)", password_file)) is not None:
        body["password"] = password
    answer = service.call("POST", "/v1/credentials", json=body)
    if service.output.as_json:
        service.output.json(answer)
    else:
        has = "with a password" if answer["has_password"] else "by its network alone"
        service.output.say(f"{user}: may log in for {answer['tenant_id']}, {has}")


def delete_credential(service: Service, user: str) -> None:
    """End it."""
    answer = service.call("DELETE", path("/v1/credentials", user))
    if service.output.as_json:
        service.output.json(answer)
    else:
        service.output.say(f"{user}: ended")


_TENANT = click.Argument(["tenant_id"], metavar="TENANT")
_NETWORK = click.Option(["--network", "networks"], multiple=True, help="CIDR block; repeatable.")
_LABEL = click.Option(["--label"], help="For people.")

keys = click.Group(
    "keys",
    help="The keys of tenants for the API.",
    commands=[
        service_command("list", list_keys, "List a tenant's keys, by their beginnings.", [_TENANT]),
        service_command(
            "add",
            add_key,
            "Make a further key for a tenant, and show it, this once.",
            [
                _TENANT,
                _LABEL,
                click.Option(
                    ["--scope", "scopes"], multiple=True, type=one_of(Scope),
                    help="What it is good for; repeatable.  [default: all]",
                ),
                _NETWORK,
                click.Option(["--ttl"], type=click.IntRange(1), help="Seconds it is good for."),
                click.Option(["--test", "test"], flag_value=True, default=None,
                             help="Mail of it is taken and reported, never sent."),
            ],
        ),
        service_command(
            "revoke",
            revoke_key,
            "End a key, by its beginning as `list` shows it.",
            [
                _TENANT,
                click.Argument(["prefix"], required=False),
                click.Option(["--all", "every"], is_flag=True, help="All of the tenant's."),
            ],
        ),
    ],
)  # fmt: skip

credentials = click.Group(
    "credentials",
    help="Who may hand mail in by SMTP.",
    commands=[
        service_command("list", list_credentials, "List credentials; never passwords."),
        service_command(
            "add",
            add_credential,
            "Create or change the credential of USER; what is left out stays. The password is "
            "asked for at a terminal, or read from a file.",
            [
                click.Argument(["user"]),
                click.Option(["--password-file"], help="A file with it; - for standard input."),
                click.Option(["--no-password"], is_flag=True, help="Its networks alone admit."),
                click.Option(["--account", "account_id"], help="Its mail goes through this one."),
                click.Option(["--sender", "senders"], multiple=True,
                             help="Address, or @example.com; repeatable.  [default: any]"),
                _NETWORK,
                _LABEL,
                click.Option(["--active/--inactive"], default=None, help="Whether it is good now."),
            ],
        ),
        service_command(
            "delete", delete_credential, "End a credential.", [click.Argument(["user"])]
        ),
    ],
)  # fmt: skip
