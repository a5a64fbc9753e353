"""``/command-log``: what was changed, by whom and when."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from mailproxy.api.answers import Answer, Problem, answer, invalid
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc, Param
from mailproxy.api.shapes import Iso, Unix, Yes
from mailproxy.api.times import iso
from mailproxy.interfaces_tenants import ITenants
from mailproxy.tenancy import CommandEntry

#: Lines in an answer, unless it was said how many; and the most.
USUAL, MOST = 100, 1000


class Command(Struct, kw_only=True):
    """One line of the command log."""

    id: int
    at: Iso
    command_ts: Unix
    tenant_id: Annotated[str | None, Meta(description="The tenant it was about.")]
    command: Annotated[str, Meta(description="The verb and the pattern of the path.")]
    who: Annotated[str, Meta(description="`admin`, or `tenant:<id>:<prefix of its key>`.")]
    detail: Annotated[dict[str, Any], Meta(description="What was asked for, without secrets.")]


class Commands(Struct, kw_only=True):
    """Lines of the command log, newest first."""

    ok: Yes = True
    commands: list[Command]
    next: Annotated[
        str | UnsetType, Meta(description="The `cursor` of what comes next, if there is more.")
    ] = UNSET


class CommandLog:
    """Shows the command log."""

    def __init__(self, store: ITenants) -> None:
        self._store = store

    def routes(self) -> Iterable[Route]:
        doc = Doc(
            "Show what was changed, by whom and when; newest first.",
            gives=Commands,
            query=(
                Param("limit", int, f"Lines, 1 to {MOST} ({USUAL})."),
                Param("cursor", str, "From the answer before."),
            ),
        )
        yield Route("GET", "/command-log", self.list, Need.ADMIN, doc)

    async def list(self, call: Call) -> Answer:
        limit = int(call.number("limit", 1, MOST) or USUAL)
        found = await self._store.commands(call.asked_tenant(), _cursor(call), limit + 1)
        more = len(found) > limit
        return answer(
            Commands(
                commands=[_shown(entry) for entry in found[:limit]],
                next=str(found[limit - 1].pk) if more else UNSET,
            )
        )


def _cursor(call: Call) -> int | None:
    text = call.query("cursor")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) < 2**63):
        raise invalid([Problem(("query", "cursor"), "not a cursor")])
    return int(text)


def _shown(entry: CommandEntry) -> Command:
    return Command(
        id=entry.pk,
        at=iso(entry.at),
        command_ts=int(entry.at),
        tenant_id=entry.tenant_id,
        command=entry.command,
        who=entry.who,
        detail=msgspec.json.decode(entry.detail, type=dict[str, Any]),
    )
