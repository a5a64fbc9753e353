"""
``GET /messages``: the queue and its past, streamed page by page.

At most one page is in memory, and the next is not read before the client has taken the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, cast

import attrs
import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IPushProducer, ITCPTransport
from twisted.logger import Logger
from twisted.web.server import Request
from zope.interface import implementer

from mailproxy import payload
from mailproxy.address import format_mailbox
from mailproxy.api.answers import JSON, Problem, invalid
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.shapes_messages import LISTING
from mailproxy.api.times import iso, seconds
from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, InThread, IStatus
from mailproxy.model import Content
from mailproxy.records import ListQuery, MessageRecord
from mailproxy.states import MessageState

#: Messages in an answer that does not ask for more.
DEFAULT_LIMIT = 10_000

#: Messages read from the store at once.
PAGE = 100

#: Bytes of a body that are shown.
BODY_SHOWN = 64 * 1024

#: Seconds a client may take nothing before it is given up.
STALLED = 60.0

_STATES = frozenset(state.value for state in MessageState)

#: What was sent or taken back is kept without its text.
_TEXTLESS = (MessageState.SENT, MessageState.CANCELLED)

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
        stream = _Stream(call.request, self._clock)
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
        stream: _Stream,
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


@implementer(IPushProducer)
class _Stream:
    """The answer to one request, written no faster than the client takes it."""

    def __init__(self, request: Request, clock: IClock) -> None:
        self._request = request
        self._clock = clock
        self._paused: Deferred[None] | None = None
        self._stalled: IDelayedCall | None = None
        request.registerProducer(self, True)

    async def write(self, data: bytes) -> None:
        if self._paused is not None:
            await self._paused
        self._request.write(data)

    async def abort(self) -> None:
        """Break the connection; does not return, for the request ends with it."""
        cast(ITCPTransport, self._request.transport).abortConnection()
        await Deferred()

    def close(self) -> None:
        self.resumeProducing()
        if self._request.channel is not None:
            self._request.unregisterProducer()

    def pauseProducing(self) -> None:
        if self._paused is None:
            self._paused = Deferred()
            self._stalled = self._clock.callLater(STALLED, self._give_up)

    def resumeProducing(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        paused, self._paused = self._paused, None
        if paused is not None and not paused.called:
            paused.callback(None)

    def stopProducing(self) -> None:
        """The connection is lost; whoever waits is cancelled with the request."""

    def _give_up(self) -> None:
        self._stalled = None
        cast(ITCPTransport, self._request.transport).abortConnection()


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
    rows = [_record(record) for record in page]
    for row, timeline in zip(rows, timelines, strict=False):
        row["history"] = timeline
    return b",".join(map(_encode, rows))


def _record(record: MessageRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "tenant_id": record.tenant_id,
        "account_id": record.account_id,
        "priority": record.priority,
        "batch_code": record.batch or None,
        "deferred_ts": seconds(record.not_before),
        "sent_ts": seconds(record.sent_ts),
        "error_ts": seconds(record.error_ts),
        "error": record.error,
        "deferred_reason": record.deferred_reason,
        "reported_ts": seconds(record.reported_ts),
        "created_at": iso(record.accepted_at),
        "updated_at": iso(record.updated_at),
        "state": record.state,
        "attempts": record.attempts,
        "message_id": record.message_id,
        "recipients": [
            {"address": r.address, "state": r.state, "code": r.code, "reply": r.reply}
            for r in record.recipients
        ],
        "message": _message(record),
    }


def _message(record: MessageRecord) -> dict[str, Any]:
    """What the client submitted, in its own words, as far as it is still stored."""
    message: dict[str, Any] = {
        "id": record.id,
        "account_id": record.account_id,
        "priority": record.priority,
        "deferred_ts": seconds(record.not_before),
        "batch_code": record.batch or None,
        "retry_count": _retries(record),
    }
    if record.payload is None:
        return message
    try:
        content = payload.load(record.payload)
    except ValueError:
        return message | {"damaged": True}
    message["from"] = format_mailbox(content.sender)
    for name in ("to", "cc", "bcc"):
        mailboxes = getattr(content, name)
        if mailboxes:
            message[name] = [format_mailbox(mailbox) for mailbox in mailboxes]
    if content.reply_to:
        message["reply_to"] = ", ".join(map(format_mailbox, content.reply_to))
    message["subject"] = content.subject
    if content.raw:
        message["raw"] = True
    elif record.state not in _TEXTLESS:
        message |= _bodies(content)
    if content.return_path:
        message["return_path"] = content.return_path
    if content.headers:
        message["headers"] = dict(content.headers)
    if content.attachments:
        message["attachments"] = [
            {"filename": a.filename, "mime_type": a.mime_type, "size": a.size, "sha256": a.sha256}
            for a in content.attachments
        ]
    return message


def _bodies(content: Content) -> dict[str, Any]:
    plain, html = content.plain, content.html
    if plain is not None and html is not None:
        return _cut({"body_html": html, "body_plain": plain})
    if html is not None:
        return _cut({"body": html}) | {"content_type": "html"}
    return _cut({"body": plain or ""}) | {"content_type": "plain"}


def _cut(texts: dict[str, str]) -> dict[str, Any]:
    """*texts* up to :data:`BODY_SHOWN` each, with ``body_truncated`` where that was less."""
    shown: dict[str, Any] = {}
    for name, text in texts.items():
        data = text.encode()[: BODY_SHOWN + 1] if len(text) * 4 > BODY_SHOWN else b""
        if len(data) > BODY_SHOWN:
            text = data[:BODY_SHOWN].decode("utf-8", "ignore")
            shown["body_truncated"] = True
        shown[name] = text
    return shown


def _retries(record: MessageRecord) -> int:
    """Attempts that had to be followed by another."""
    waiting = record.state in (MessageState.DEFERRED, MessageState.QUEUED)
    return record.attempts if waiting else max(0, record.attempts - 1)
