"""
``/v1/events`` and ``/v1/reports/replay``: what was told, for those who ask for it.

An application that cannot be called reads its events here; one that lost some has them told again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

from msgspec import Meta, Struct, json

from mailproxy.api.answers import Answer, Problem, answer, invalid
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc, Param
from mailproxy.api.shapes import Yes
from mailproxy.api.typed import LIST_BYTES, LIST_LENGTH, check_length, read_typed
from mailproxy.interfaces import IClock, InThread
from mailproxy.interfaces_tenants import IEventLog
from mailproxy.items import WireItem, fields
from mailproxy.records import MAX_BATCH, ReportItem

#: The most events in one answer.
MOST = 1000

#: The largest number an event can have.
LAST = 2**63 - 1

Number = Annotated[str, Meta(pattern=r"^[0-9]{1,19}$")]


class EventItem(WireItem, kw_only=True):
    """An item as reports bring it, with its number."""

    number: Annotated[
        Number, Meta(description="Ascends within the tenant; digits, for it may pass 2^53.")
    ]


class Events(Struct, kw_only=True):
    """Events, oldest first."""

    ok: Yes = True
    events: list[EventItem]
    next: Annotated[Number, Meta(description="What to pass as `after` to go on behind these.")]


class Replay(Struct, kw_only=True):
    """Which events: one of the two."""

    since: Annotated[
        Annotated[float, Meta(ge=0, le=253_402_300_799)] | None,
        Meta(description="All that were born at or after this Unix time."),
    ] = None
    ids: Annotated[
        list[str] | None,
        Meta(
            description="The newest final event of each of these messages.",
            extra_json_schema={"maxItems": LIST_LENGTH},
        ),
    ] = None


class Replayed(Struct, kw_only=True):
    """How many events will be reported again."""

    ok: Yes = True
    replayed: int


_replay = json.Decoder(Replay)

_EVENTS = Doc(
    about="Read what was or will be reported to a tenant. Events stay as long as their messages; "
    "one that is told again has a new number and its old `event_id`.",
    gives=Events,
    query=(
        Param("after", Number, "The number of the last event seen; 0 without it."),
        Param("limit", Annotated[int, Meta(ge=1, le=MOST)], f"At most so many ({MAX_BATCH})."),
    ),
)
_REPLAY = Doc(
    about="Have events reported again, with the same `event_id`s; also those that were given up.",
    takes=Replay,
    gives=Replayed,
    example={"ids": ["order-1"]},
)


class EventLog:
    """Shows events, and has them told again. :param in_thread: where large answers are made."""

    def __init__(self, store: IEventLog, clock: IClock, in_thread: InThread) -> None:
        self._store = store
        self._clock = clock
        self._in_thread = in_thread

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/v1/events", self.events, Need.READ, _EVENTS)
        yield Route("POST", "/v1/reports/replay", self.replay, Need.CONTROL, _REPLAY)

    async def events(self, call: Call) -> Answer:
        tenant_id = call.scope()
        if tenant_id is None:
            raise invalid([Problem(("query", "tenant_id"), "required", "missing")])
        after = _number(call)
        limit = call.number("limit", 1, MOST)
        found = await self._store.events(tenant_id, after, int(limit or MAX_BATCH))
        return await self._in_thread(_told, found, after)

    async def replay(self, call: Call) -> Answer:
        tenant_id = call.home()
        asked = read_typed(call, _replay, LIST_BYTES)
        if (asked.since is None) == (asked.ids is None):
            raise invalid([Problem(("body",), "expected one of since and ids")])
        ids = None if asked.ids is None else list(dict.fromkeys(check_length("ids", asked.ids)))
        count = await self._store.replay(tenant_id, asked.since, ids, self._clock.now())
        return answer(Replayed(replayed=count))


def _number(call: Call) -> int:
    text = call.query("after") or "0"
    if not (text.isascii() and text.isdigit() and len(text) < 20) or int(text) > LAST:
        raise invalid([Problem(("query", "after"), "expected the number of an event")])
    return int(text)


def _told(found: Sequence[ReportItem], after: int) -> Answer:
    numbers = [item.event_pks[-1] for item in found]
    return answer(
        Events(
            events=[
                EventItem(**fields(item), number=str(number))
                for item, number in zip(found, numbers, strict=True)
            ],
            next=str(numbers[-1] if numbers else after),
        )
    )
