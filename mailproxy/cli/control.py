"""``mailproxy suspend``, ``activate``, ``run-now`` and ``nodes``: the service as a whole."""

from __future__ import annotations

from typing import Any

import click

from mailproxy.cli.connection import Service, service_command
from mailproxy.cli.output import when


def _sending(verb: str) -> Any:
    def run(service: Service, batch: str | None) -> None:
        query = {"batch_code": batch}
        answer = service.call("POST", f"/commands/{verb}", query, repeatable=True)
        if service.output.as_json:
            service.output.json(answer)
            return
        suspended = answer["suspended_batches"]
        state = "everything is suspended" if "*" in suspended else "sending"
        if suspended and "*" not in suspended:
            state += f", but for {' '.join(suspended)}"
        service.output.say(
            f"{answer['tenant_id'] or 'the service'}: {state}; {answer['pending_messages']} "
            f"waiting, {answer['in_flight']} in flight"
        )

    return run


def run_now(service: Service) -> None:
    """Look for due mail."""
    answer = service.call("POST", "/commands/run-now", repeatable=True)
    if service.output.as_json:
        service.output.json(answer)
    else:
        service.output.say("done: what is due is looked for, and a report is sent")


def list_nodes(service: Service) -> None:
    """The processes that are this service."""
    answer = service.call("GET", "/v1/nodes", {"tenant_id": None})
    if service.output.as_json:
        service.output.json(answer)
        return
    service.output.table(
        ("node", "host", "version", "alive", "started", "heard of until", "claims"),
        (
            [
                each["id"][:8],
                each["host"],
                each["version"],
                each["alive"],
                when(each["started_at"]),
                when(each["alive_until"]),
                each["claims"],
            ]
            for each in answer["nodes"]
        ),
    )


_BATCH = click.Option(["--batch"], help="Only this batch code of the tenant.")

suspend = service_command(
    "suspend",
    _sending("suspend"),
    "Begin no more mail, also after a restart: of the service, of --tenant, or of one batch.",
    [_BATCH],
)
activate = service_command("activate", _sending("activate"), "Undo suspend.", [_BATCH])
run = service_command(
    "run-now",
    run_now,
    "Look for due mail, and send a report, now. Times of retries stay what they are.",
)
nodes = service_command("nodes", list_nodes, "Show the processes that are this service.")
