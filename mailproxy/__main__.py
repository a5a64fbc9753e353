"""The command ``mailproxy``; ``python -m mailproxy`` is the same."""

from __future__ import annotations

from mailproxy import __version__
from mailproxy.cli.group import LazyGroup

#: Each command with where it is and what it is for.
COMMANDS = {
    "serve": ("mailproxy.cli.serve:serve", "Run the relay: HTTP in, SMTP out, reports back."),
    "container": (
        "mailproxy.cli.container:container",
        "The same in a container, where the data must outlast it.",
    ),
    "healthcheck": (
        "mailproxy.cli.healthcheck:healthcheck",
        "Ask the service on this machine whether it lives.",
    ),
    "token": ("mailproxy.cli.token:token", "Show the API token."),
    "status": ("mailproxy.cli.status:status", "Ask a running service how it is."),
    "messages": (
        "mailproxy.cli.messages:messages",
        "See what is stuck or failing, decide over it, hand mail in.",
    ),
    "accounts": (
        "mailproxy.cli.accounts:accounts",
        "The servers that mail goes through: see, declare, hold, try.",
    ),
    "tenants": (
        "mailproxy.cli.tenants:tenants",
        "The applications that hand mail in, and are told what became of it.",
    ),
    "keys": ("mailproxy.cli.keys:keys", "The keys of tenants for the API."),
    "credentials": ("mailproxy.cli.keys:credentials", "Who may hand mail in by SMTP."),
    "suspend": ("mailproxy.cli.control:suspend", "Begin no more mail."),
    "activate": ("mailproxy.cli.control:activate", "Undo suspend."),
    "run-now": ("mailproxy.cli.control:run", "Look for due mail, and send a report, now."),
    "nodes": ("mailproxy.cli.control:nodes", "Show the processes that are this service."),
    "events": ("mailproxy.cli.events:events", "Print what is reported to a tenant."),
    "explain": (
        "mailproxy.cli.explain:explain",
        "Tell what would become of a message, without sending it.",
    ),
    "test-account": (
        "mailproxy.cli.accounts:test",
        "Log in to an account's server, without sending mail.",
    ),
    "test-sync": ("mailproxy.cli.tenants:test", "Post an empty report to a tenant."),
    "call": ("mailproxy.cli.call:call", "Call any endpoint of the API."),
    "completion": (
        "mailproxy.cli.completion:completion",
        "Print what makes a shell complete our commands.",
    ),
    "migrate": ("mailproxy.service_migrate:migrate", "Bring the database to another schema."),
    "copy": ("mailproxy.service_copy:copy", "Move the whole queue to another database."),
    "backup": ("mailproxy.service_backup:backup", "Copy the database, also while it is used."),
    "restore": (
        "mailproxy.service_backup:restore",
        "Put such a copy back; what is unfinished is held.",
    ),
    "sendmail": (
        "mailproxy.cli.sendmail:sendmail",
        "Hand in a message, as programs call sendmail.",
    ),
    "sink": (
        "mailproxy.proving.command:sink",
        "A mail server and report receiver to try things against.",
    ),
    "torture": (
        "mailproxy.proving.torture_command:torture",
        "Kill the service again and again, and prove that nothing was lost.",
    ),
}


def group() -> LazyGroup:
    """The whole command line."""
    import click

    made = LazyGroup(
        COMMANDS,
        name="mailproxy",
        help="A mail relay: applications hand mail over, and are told what became of it.",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    return click.version_option(__version__, prog_name="mailproxy")(made)


def main() -> None:
    group()(prog_name="mailproxy")


if __name__ == "__main__":
    main()
