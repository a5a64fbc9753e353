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
from mailproxy.search import Found, Wanted
from mailproxy.states import MessageState

#: Messages in an answer that does not ask for more.
DEFAULT_LIMIT = 10_000

#: Messages read from the store at once.
PAGE = 100

#: How often the store is asked to look on for one answer to a search.
LOOKS = 20

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
        asked = _asked(call)
        try:
            found = await self._page(asked, asked.query.after, asked.most)
        except (ValueError, TypeError, OverflowError):
            raise invalid([Problem(("query", "cursor"), "not one of ours")]) from None
        call.request.setHeader(b"Server", b"mailproxy")
        call.request.setHeader(b"Content-Type", JSON)
        stream = AnswerStream(call.request, self._clock)
        try:
            await stream.write(b'{"ok":true,"messages":[')
            await self._stream(stream, asked, found)
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

    async def _page(self, asked: _Asked, after: str | None, most: int) -> Found:
        query = attrs.evolve(asked.query, after=after, limit=max(1, min(PAGE, most)))
        if asked.wanted is not None:
            return await self._store.search(query, asked.wanted)
        page = await self._store.messages(query)
        return Found(page, page[-1].cursor if page else None)

    async def _stream(self, stream: AnswerStream, asked: _Asked, found: Found) -> None:
        """Write the list from what was *found* on, and what goes behind it."""
        separator, left, looks, after = b"", asked.most, 1, None
        while found.after is not None:
            if left <= 0:  # there is more, and it was not asked for
                after = after if found.records else None
                break
            if page := found.records:
                timelines = [await self._timeline(each) for each in page] if asked.history else []
                rendered = await self._in_thread(_render, page, timelines, asked.brief)
                await stream.write(separator + rendered)
                separator = b","
                left -= len(page)
            after = found.after
            if asked.wanted is not None and (left <= 0 or looks >= LOOKS):
                break
            looks += 1
            found = await self._page(asked, after, left)
        else:
            after = None
        await stream.write(b'],"next":%s}' % _encode(after) if after is not None else b"]}")

    async def _timeline(self, record: MessageRecord) -> list[dict[str, Any]]:
        return await self._store.timeline(record.tenant_id, record.id)


@attrs.frozen
class _Asked:
    """
    :param most: messages in the answer.
    :param history: whether with timelines.
    :param wanted: what they are searched for, if they are, or are to come without their texts.
    """

    query: ListQuery
    most: int
    history: bool
    wanted: Wanted | None

    @property
    def brief(self) -> bool:
        return self.wanted is not None


def _asked(call: Call) -> _Asked:
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
    wanted = Wanted(*(call.query(name) or "" for name in ("search", "recipient", "subject")))
    limit = call.number("limit", 1, 10**9)
    return _Asked(
        query,
        DEFAULT_LIMIT if limit is None else int(limit),
        call.flag("include_history"),
        wanted if call.flag("brief") or wanted != Wanted() else None,
    )


def _render(
    page: Sequence[MessageRecord], timelines: Sequence[list[dict[str, Any]]], brief: bool
) -> bytes:
    """The records as JSON, separated by commas."""
    none: list[list[dict[str, Any]] | UnsetType] = [UNSET] * len(page)
    return b",".join(
        _encode(shown(record, history, brief=brief))
        for record, history in zip(page, timelines or none, strict=True)
    )
