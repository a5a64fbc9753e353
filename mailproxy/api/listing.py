"""
``GET /messages``: the queue and its past, streamed page by page.

At most one page is in memory, and the next is not read before the client has taken the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs
import msgspec
from msgspec import UNSET, UnsetType
from twisted.internet.defer import CancelledError
from twisted.logger import Logger

from mailproxy.api.answers import JSON, Problem, invalid
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.record import shown
from mailproxy.api.shapes_messages import LISTING
from mailproxy.api.streaming import AnswerStream
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, InThread, IStatus
from mailproxy.records import ListQuery, MessageRecord
from mailproxy.states import MessageState

#: Messages in an answer that does not ask for more.
DEFAULT_LIMIT = 10_000

#: Messages read from the store at once.
PAGE = 100

_STATES = frozenset(state.value for state in MessageState)

_encode = msgspec.json.Encoder().encode
_log = Logger()


class Listing:
    """Shows messages."""

    def __init__(self, store: IStatus, clock: IClock, in_thread: InThread) -> None:
        self._store = store
        self._clock = clock
        self._in_thread = in_thread

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/messages", self.messages, Need.READ, LISTING)

    async def messages(self, call: Call) -> None:
        query, limit, history = _query(call)
        try:
            page = await self._page(query, limit)
        except (ValueError, TypeError, OverflowError):
            raise invalid([Problem(("query", "cursor"), "not one of ours")]) from None
        call.request.setHeader(b"Server", b"mailproxy")
        call.request.setHeader(b"Content-Type", JSON)
        stream = AnswerStream(call.request, self._clock)
        try:
            await stream.write(b'{"ok":true,"messages":[')
            await self._stream(stream, query, limit, history, page)
        except StoreError as problem:
            # The answer has begun, so it can only be cut short: never a list that looks whole.
            _log.warn("a list of messages was cut short: {problem}", problem=str(problem))
            await stream.abort()
        except CancelledError:
            raise
        except Exception:
            _log.failure("a list of messages was cut short")
            await stream.abort()
        finally:
            stream.close()

    async def _page(self, query: ListQuery, most: int) -> Sequence[MessageRecord]:
        return await self._store.messages(attrs.evolve(query, limit=min(PAGE, most)))

    async def _stream(
        self,
        stream: AnswerStream,
        query: ListQuery,
        left: int,
        history: bool,
        page: Sequence[MessageRecord],
    ) -> None:
        """Write the list from *page* on, and what goes behind it."""
        separator = b""
        cursor = query.after
        while page and left > 0:
            left -= len(page)
            cursor = page[-1].cursor
            timelines = [await self._timeline(record) for record in page] if history else []
            await stream.write(separator + await self._in_thread(_render, page, timelines))
            separator = b","
            page = await self._page(attrs.evolve(query, after=cursor), max(1, left))
        await stream.write(b'],"next":%s}' % _encode(cursor) if page else b"]}")

    async def _timeline(self, record: MessageRecord) -> list[dict[str, Any]]:
        return await self._store.timeline(record.tenant_id, record.id)


def _query(call: Call) -> tuple[ListQuery, int, bool]:
    state = call.query("state")
    if state is not None and state not in _STATES:
        raise invalid([Problem(("query", "state"), f"expected {', '.join(sorted(_STATES))}")])
    query = ListQuery(
        tenant_id=call.scope(),
        active_only=call.flag("active_only"),
        state=state,
        account_id=call.query("account_id"),
        batch=call.query("batch_code"),
        since=call.number("since", 0, 253_402_300_799),
        after=call.query("cursor"),
    )
    limit = call.number("limit", 1, 10**9)
    return query, DEFAULT_LIMIT if limit is None else int(limit), call.flag("include_history")


def _render(page: Sequence[MessageRecord], timelines: Sequence[list[dict[str, Any]]]) -> bytes:
    """The records as JSON, separated by commas."""
    none: list[list[dict[str, Any]] | UnsetType] = [UNSET] * len(page)
    return b",".join(
        _encode(shown(record, history))
        for record, history in zip(page, timelines or none, strict=True)
    )
