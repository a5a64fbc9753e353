"""``/commands/delete-messages`` and ``/commands/cleanup-messages``: taking back, and forgetting."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct, json

from mailproxy.api.answers import Answer, Refused, answer, unavailable
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc
from mailproxy.api.shapes import Yes
from mailproxy.api.typed import LIST_BYTES, LIST_LENGTH, check_length, read_typed
from mailproxy.book import TenantBook
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock
from mailproxy.interfaces_tenants import IRemoval
from mailproxy.states import MessageState

Ids = Annotated[
    list[str],
    Meta(description="Ids of messages.", extra_json_schema={"maxItems": LIST_LENGTH}),
]


class Deletion(Struct, kw_only=True):
    """What is to be taken back."""

    ids: Ids


class Kept(Struct, kw_only=True):
    """A message that was not removed."""

    id: str
    state: MessageState


class Deleted(Struct, kw_only=True):
    """What was taken back: no further report will tell of it."""

    ok: Yes = True
    removed: Annotated[int, Meta(description="Messages that were removed.")]
    not_found: Annotated[
        list[str], Meta(description="Ids that were not: unknown, begun, or not yet reported.")
    ]
    unauthorized: Annotated[
        list[str], Meta(description="Always empty: ids of other tenants are not found.")
    ]
    detail: Annotated[list[Kept], Meta(description="Those not found that exist, by their states.")]


class Cleanup(Struct, kw_only=True):
    """How old what is to be forgotten must be."""

    older_than_seconds: Annotated[
        Annotated[int, Meta(ge=0, le=10**12)] | None,
        Meta(description="Since its end; the tenant's retention where nothing is said."),
    ] = None


class CleanedUp(Struct, kw_only=True):
    """What was forgotten."""

    ok: Yes = True
    removed: int


#: Messages that are removed in one go.
SLICE = 500

CUT_SHORT = unavailable("some were removed, and nothing is known of the others: ask again")

_deletion = json.Decoder(Deletion)
_cleanup = json.Decoder(Cleanup)

_DELETE = Doc(
    about="Take messages back that wait. This answer is the report: none follows. A message whose "
    "body has begun, or that has ended and is not yet reported, stays.",
    takes=Deletion,
    gives=Deleted,
    example={"ids": ["order-1", "order-2"]},
)
_CLEANUP = Doc(
    about="Forget messages that have ended and are reported.",
    takes=Cleanup,
    gives=CleanedUp,
    bodiless=True,
    example={"older_than_seconds": 86400},
)


class Removal:
    """
    Removes messages.

    :param retention: seconds for which ended messages are kept where a tenant says nothing else.
    """

    def __init__(self, store: IRemoval, clock: IClock, book: TenantBook, retention: float) -> None:
        self._store = store
        self._clock = clock
        self._book = book
        self._retention = retention

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/commands/delete-messages", self.delete, Need.CONTROL, _DELETE)
        yield Route("POST", "/commands/cleanup-messages", self.cleanup, Need.CONTROL, _CLEANUP)

    async def delete(self, call: Call) -> Answer:
        tenant_id = call.home()
        wanted = check_length("ids", read_typed(call, _deletion, LIST_BYTES).ids)
        ids = list(dict.fromkeys(wanted))
        removed, kept, missing = 0, dict[str, str](), set[str]()
        for start in range(0, len(ids), SLICE):
            try:
                found = await self._store.remove(
                    tenant_id, ids[start : start + SLICE], self._clock.now()
                )
            except StoreError:
                if removed:
                    raise Refused(CUT_SHORT) from None
                raise
            removed += found.removed
            kept |= dict(found.kept)
            missing |= {*found.missing, *dict(found.kept)}
        return answer(
            Deleted(
                removed=removed,
                not_found=[id for id in ids if id in missing],
                unauthorized=[],
                detail=[Kept(id=id, state=MessageState(state)) for id, state in kept.items()],
            )
        )

    async def cleanup(self, call: Call) -> Answer:
        tenant_id = call.home()
        age: float | None = read_typed(call, _cleanup, absent=Cleanup()).older_than_seconds
        if age is None:
            tenant = self._book.tenant(tenant_id)
            own = None if tenant is None else tenant.retention_seconds
            age = self._retention if own is None else own
        now = self._clock.now()
        return answer(CleanedUp(removed=await self._store.cleanup(tenant_id, now - age, now)))
