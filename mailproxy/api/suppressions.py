"""``/v1/suppressions``: addresses that get no mail of a tenant."""

from __future__ import annotations

import binascii
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterable
from typing import Annotated

from msgspec import UNSET, Meta, MsgspecError, Struct, UnsetType, json

from mailproxy.address import parse_mailbox
from mailproxy.api.answers import Answer, Problem, Refused, answer, error, invalid
from mailproxy.api.bodies import Place
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc, Param
from mailproxy.api.shapes import Unix, Yes
from mailproxy.api.typed import LIST_BYTES, LIST_LENGTH, check_length, read_typed
from mailproxy.errors import BadAddress
from mailproxy.interfaces import IClock
from mailproxy.interfaces_tenants import IRemoval
from mailproxy.tenancy import Suppression

#: Entries in an answer that does not ask for another number, and the most of them.
DEFAULT_LIMIT = 1000
MAX_LIMIT = 10_000

#: Characters of a reason.
MAX_REASON = 500

#: Wrong entries that an answer names.
MOST_PROBLEMS = 100

NOT_ON_IT = error(404, "this address is not suppressed")

_control = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]").search


class Entry(Struct, kw_only=True):
    """An address that is to get no mail."""

    address: str
    reason: Annotated[
        str | None,
        Meta(description="For people.", extra_json_schema={"maxLength": MAX_REASON}),
    ] = None


class Addition(Struct, kw_only=True):
    """One address, or many in ``entries``."""

    address: str | None = None
    reason: str | None = None
    entries: Annotated[list[Entry] | None, Meta(extra_json_schema={"maxItems": LIST_LENGTH})] = None


class SuppressionsAdded(Struct, kw_only=True):
    """How the list has grown."""

    ok: Yes = True
    added: Annotated[int, Meta(description="Addresses that are new on the list.")]
    known: Annotated[int, Meta(description="Addresses that were on it, and stay as they were.")]


class Taken(Struct, kw_only=True):
    """The address gets mail again."""

    ok: Yes = True
    removed: int


class Suppressed(Struct, kw_only=True):
    """An address on a list."""

    tenant_id: str
    address: str
    reason: str
    source: Annotated[str, Meta(description="`manual`, `import` or `refused` (by itself).")]
    since: Unix


class Suppressions(Struct, kw_only=True):
    """Entries by tenant and address."""

    ok: Yes = True
    suppressions: list[Suppressed]
    next: Annotated[
        str | UnsetType, Meta(description="What to pass as `cursor` to go on; absent at the end.")
    ] = UNSET


_addition = json.Decoder(Addition)
_cursor = json.Decoder(tuple[str, str])

_LIST = Doc(
    about="The suppression list.",
    gives=Suppressions,
    query=(
        Param("cursor", str, "`next` of the answer before."),
        Param(
            "limit",
            Annotated[int, Meta(ge=1, le=MAX_LIMIT)],
            f"At most so many ({DEFAULT_LIMIT}).",
        ),
    ),
)
_ADD = Doc(
    about="Suppress addresses: mail to them fails at once, with the reason `suppressed`.",
    takes=Addition,
    gives=SuppressionsAdded,
    example={"entries": [{"address": "gone@example.org", "reason": "asked to be left alone"}]},
)
_TAKE = Doc("Let an address have mail again.", gives=Taken)


class SuppressionLists:
    """Shows and changes suppression lists."""

    def __init__(self, store: IRemoval, clock: IClock) -> None:
        self._store = store
        self._clock = clock

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/v1/suppressions", self.all, Need.READ, _LIST)
        yield Route("POST", "/v1/suppressions", self.add, Need.CONTROL, _ADD)
        one = "/v1/suppressions/<path:address>"
        yield Route("DELETE", one, self.take, Need.CONTROL, _TAKE)

    async def all(self, call: Call) -> Answer:
        tenant_id, after = call.scope(), _read_cursor(call.query("cursor"))
        limit = int(call.number("limit", 1, MAX_LIMIT) or DEFAULT_LIMIT)
        found = await self._store.suppressions(tenant_id, after, limit + 1)
        shown = [
            Suppressed(
                tenant_id=each.tenant_id,
                address=each.address,
                reason=each.reason,
                source=each.source,
                since=int(each.since),
            )
            for each in found[:limit]
        ]
        more = len(found) > limit
        return answer(
            Suppressions(suppressions=shown, next=_cursor_of(shown[-1]) if more else UNSET)
        )

    async def add(self, call: Call) -> Answer:
        tenant_id, now = call.home(), self._clock.now()
        given = read_typed(call, _addition, LIST_BYTES)
        problems: list[Problem] = []
        entries: dict[str, Suppression] = {}
        for place, entry in _listed(given):
            try:
                address, reason = read_entry(entry.address, entry.reason or "")
            except BadEntry as bad:
                problems.append(Problem((*place, bad.field), bad.problem))
            else:
                entries.setdefault(address, Suppression(tenant_id, address, reason, since=now))
        if problems:
            raise invalid(problems[:MOST_PROBLEMS])
        added = await self._store.suppress(list(entries.values()), now)
        return answer(SuppressionsAdded(added=added, known=len(entries) - added))

    async def take(self, call: Call) -> Answer:
        tenant_id = call.home()
        try:
            address, _ = read_entry(call.path["address"], "")
        except BadEntry as bad:
            raise invalid([Problem(("path", "address"), bad.problem)]) from None
        removed = await self._store.unsuppress(tenant_id, [address])
        if not removed:
            raise Refused(NOT_ON_IT)
        return answer(Taken(removed=removed))


def _listed(given: Addition) -> list[tuple[Place, Entry]]:
    """The entries with their places. :raises Refused: 422, it is neither one nor many."""
    if (given.address is None) == (given.entries is None):
        raise invalid([Problem(("body",), "expected one of address and entries")])
    if given.address is not None:
        return [(("body",), Entry(address=given.address, reason=given.reason))]
    entries = check_length("entries", given.entries or [])
    return [(("body", "entries", n), entry) for n, entry in enumerate(entries)]


class BadEntry(Exception):
    """
    An entry is not one.

    :param field: ``address`` or ``reason``.
    :param problem: what is wrong with it, without its value.
    """

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(field, problem)
        self.field = field
        self.problem = problem


def read_entry(address: str, reason: str) -> tuple[str, str]:
    """
    An entry as it is stored: the address as recipients have it.

    :raises BadEntry: one of the two is not acceptable.
    """
    try:
        mailbox = parse_mailbox(address)
    except BadAddress as problem:
        raise BadEntry("address", str(problem)) from None
    if mailbox.display:
        raise BadEntry("address", "a display name does not belong here")
    if len(reason) > MAX_REASON:
        raise BadEntry("reason", f"longer than {MAX_REASON} characters")
    if _control(reason):
        raise BadEntry("reason", "a control character")
    return mailbox.addr, reason


def _cursor_of(entry: Suppressed) -> str:
    return urlsafe_b64encode(json.encode((entry.tenant_id, entry.address))).decode().rstrip("=")


def _read_cursor(text: str | None) -> tuple[str, str] | None:
    if text is None:
        return None
    try:
        return _cursor.decode(urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    except (binascii.Error, ValueError, MsgspecError):
        raise invalid([Problem(("query", "cursor"), "not one of ours")]) from None
