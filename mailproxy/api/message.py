"""``GET /v1/messages/{id}``: one message, all that happened to it, and how it goes on the wire."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, Struct
from twisted.internet.defer import DeferredSemaphore

from mailproxy.api.answers import Answer, Refused, answer, error
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc, Param
from mailproxy.api.record import TEXTLESS, shown
from mailproxy.api.shapes import Yes
from mailproxy.api.shapes_messages import ShownMessage
from mailproxy.compose import compose
from mailproxy.errors import BadMessage
from mailproxy.interfaces import InThread, IStore
from mailproxy.model import Stored
from mailproxy.records import MessageRecord

#: Whole messages that are composed to be shown at the same time.
AT_ONCE = 2

GONE = "the text is no longer stored"
NOT_FETCHED = "attachments are not fetched yet"
DAMAGED = "what is stored of it is damaged"

NOT_FOUND = error(404, "message not found")


class OneMessage(Struct, kw_only=True):
    """A message with its events."""

    ok: Yes = True
    message: ShownMessage
    mime: Annotated[
        str | None,
        Meta(description="With `body`: the exact bytes that are sent, in base64; else null."),
    ] = None
    mime_reason: Annotated[
        str | None, Meta(description="With `body`: why there are none, if there are none.")
    ] = None


_DOC = Doc(
    about="Show a message with its events, and, with `body`, as it goes on the wire.",
    gives=OneMessage,
    query=(Param("body", bool, "With the message as it is sent, in `mime`."),),
)


class OneMessageView:
    """Shows one message. :param in_thread: where it is composed."""

    def __init__(self, store: IStore, in_thread: InThread) -> None:
        self._store = store
        self._in_thread = in_thread
        self._composing = DeferredSemaphore(AT_ONCE)

    def routes(self) -> Iterable[Route]:
        yield Route("GET", "/v1/messages/<path:id>", self.show, Need.READ, _DOC)

    async def show(self, call: Call) -> Answer:
        tenant_id, body = call.scope(), call.flag("body")
        record = await self._store.message(tenant_id, call.path["id"])
        if record is None:
            raise Refused(NOT_FOUND)
        history = await self._store.timeline(record.tenant_id, record.id)
        told = OneMessage(message=shown(record, history))
        if not body:
            return answer(told)
        await self._composing.acquire()
        try:
            stored = await self._content(record)
            return await self._in_thread(_with_mime, told, record, stored)
        finally:
            self._composing.release()

    async def _content(self, record: MessageRecord) -> Stored | str:
        """What is stored of it, or why nothing is."""
        if record.state not in TEXTLESS:
            stored = await self._store.contents([record.pk])
            if record.pk in stored:
                return stored[record.pk]
            now = await self._store.message(record.tenant_id, record.id)
            if now is not None and now.state not in TEXTLESS:
                return DAMAGED
        return GONE


def _with_mime(told: OneMessage, record: MessageRecord, stored: Stored | str) -> Answer:
    if isinstance(stored, str):
        told.mime_reason = stored
    elif any(not attachment.part for attachment in stored.content.attachments):
        told.mime_reason = NOT_FETCHED
    else:
        try:
            told.mime = b64encode(_composed(record, stored)).decode()
        except BadMessage:
            told.mime_reason = DAMAGED
    return answer(told)


def _composed(record: MessageRecord, stored: Stored) -> bytes:
    """The bytes of every attempt."""
    return compose(
        stored.content,
        mail_id=record.id,
        message_id=record.message_id,
        date=record.accepted_at,
        parts=stored.parts,
    )
