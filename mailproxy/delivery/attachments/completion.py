"""
Completes messages for the courier: what is missing is fetched, what is too large is seen to, and
the message is stored as it will be sent, so that every attempt at it is the same.

It is done beside the sessions: while one message waits for its attachments, others go.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

import attrs
from twisted.internet.defer import CancelledError, Deferred, DeferredList
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from mailproxy.compose import compose
from mailproxy.delivery.attachments.fetcher import Fetcher
from mailproxy.delivery.attachments.large import Large
from mailproxy.delivery.attachments.source import Spool
from mailproxy.delivery.budget import Budget
from mailproxy.errors import AttachmentFault, StoreError
from mailproxy.interfaces import IAttachments, IClock, IFeed, IQueue
from mailproxy.model import Attachment, Claimed, Content, Stored
from mailproxy.payload import dump, load

_log = Logger()

#: Seconds before a message is tried again that the store could not give or take.
STORE_PAUSE = 1.0

#: Bytes of content in memory at once, on the way from where it came from to the store.
MAX_BYTES = 64 * 1024 * 1024


@attrs.frozen
class Complete:
    """
    A message as it will be sent.

    :param parts: contents that are new, by ``Attachment.part``.
    """

    content: Content
    parts: Mapping[int, bytes]


@implementer(IAttachments)
class Completion:
    """
    :param store: gives contents, and takes them completed.
    :param large: what tenants want done with large attachments.
    :param max_message_bytes: of a composed message.
    """

    def __init__(
        self,
        store: IQueue,
        fetcher: Fetcher,
        large: Large,
        clock: IClock,
        *,
        max_message_bytes: int = 50 * 1024 * 1024,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._store = store
        self._fetcher = fetcher
        self._large = large
        self._clock = clock
        self._max_message_bytes = max_message_bytes
        self._budget = Budget(max_bytes)
        self._running: set[Deferred[None]] = set()

    # -- IAttachments ----------------------------------------------------------------------------

    def lacks(self, message: Claimed, content: Content) -> bool:
        if not content.attachments:
            return False
        return any(not each.part for each in content.attachments) or self._large.concerns(
            message, content
        )

    def notes(self, message: Claimed, content: Content) -> Sequence[str]:
        return self._large.notes(message.tenant_id, content) if content.attachments else ()

    def complete(self, message: Claimed, feed: IFeed) -> None:
        feed.aside(message)
        work = Deferred.fromCoroutine(self._complete(message, feed))
        self._running.add(work)
        work.addBoth(self._ended, work)

    async def close(self) -> None:
        running = list(self._running)
        for work in running:
            work.cancel()
        await DeferredList(running)

    def _ended(self, result: Failure | None, work: Deferred[None]) -> None:
        self._running.discard(work)
        if isinstance(result, Failure) and not result.check(CancelledError):
            _log.failure("completing a message raised", result)

    # -- one message -----------------------------------------------------------------------------

    async def _complete(self, message: Claimed, feed: IFeed) -> None:
        try:
            completed = await self._completed(message)
        except AttachmentFault as fault:
            await feed.unprepared(message, fault)
        except StoreError as error:
            _log.warn("{pk} cannot be completed: {error}", pk=message.pk, error=error)
            await self._pause()
            feed.ready(message)
        except CancelledError:
            raise
        except Exception as error:
            await feed.broken(message, error)
        else:
            if completed is None:
                feed.dropped(message)
            else:
                feed.ready(completed)

    async def _completed(self, message: Claimed) -> Claimed | None:
        """
        The message, stored complete; None if it is no longer ours.

        :raises AttachmentFault: it cannot be.
        :raises StoreError: the store does not take part in it now.
        """
        content = (await self._contents(message)).content
        missing = [each for each in content.attachments if not each.part]
        spools = await self._fetcher.fetch(message.tenant_id, missing) if missing else []
        try:
            size = sum(spool.size for spool in spools) or 1
            await self._budget.wait(size)
            try:
                return await self._stored(message, _filled(content, spools))
            finally:
                self._budget.give(size)
        finally:
            for spool in spools:
                spool.close()

    async def _contents(self, message: Claimed) -> Stored:
        if message.payload is not None:
            return Stored(load(message.payload))
        found = await self._store.contents([message.pk])
        if message.pk not in found:
            raise ValueError("the stored content is damaged")
        return found[message.pk]

    async def _stored(self, message: Claimed, complete: Complete) -> Claimed | None:
        if self._large.concerns(message, complete.content):
            content, parts = await self._large.relieved(
                message, complete.content, complete.parts, self._read_part(message)
            )
            complete = Complete(content, parts)
        size = composed_size(message, complete.content)
        if size > self._max_message_bytes:
            largest = max(complete.content.attachments, key=lambda each: each.size)
            text = f"the message would be larger than {self._max_message_bytes} bytes"
            raise AttachmentFault(largest.filename, text, transient=False)
        payload = dump(complete.content)
        if not await self._store.prepared(message.pk, message.token, payload, complete.parts, size):
            return None
        return attrs.evolve(message, payload=None, size=size)

    def _read_part(self, message: Claimed) -> Callable[[int], Awaitable[bytes]]:
        async def read(part: int) -> bytes:
            return (await self._contents(message)).parts[part]

        return read

    def _pause(self) -> Deferred[None]:
        paused: Deferred[None] = Deferred()
        self._clock.callLater(STORE_PAUSE, paused.callback, None)
        return paused


def _filled(content: Content, spools: Sequence[Spool]) -> Complete:
    """*content* with what was fetched in its place, as parts with numbers of their own."""
    number = max((each.part for each in content.attachments), default=0)
    fetched = iter(spools)
    attachments: list[Attachment] = []
    parts: dict[int, bytes] = {}
    for each in content.attachments:
        if not each.part:
            spool, number = next(fetched), number + 1
            parts[number] = spool.read()
            # The credentials have served their turn.
            each = attrs.evolve(each, part=number, size=spool.size, sha256=spool.sha256, auth="")
        attachments.append(each)
    return Complete(attrs.evolve(content, attachments=tuple(attachments)), parts)


def composed_size(message: Claimed, content: Content) -> int:
    """
    Bytes of the composed message, from the sizes of its attachments.

    Base64 in lines of 76: four characters for three bytes, a CRLF for each line.
    """
    frame = compose(
        content,
        mail_id=message.id,
        message_id=message.message_id,
        date=message.accepted_at,
        parts=dict.fromkeys((each.part for each in content.attachments), b""),
    )
    encoded = sum(4 * -(-each.size // 3) + 2 * -(-each.size // 57) for each in content.attachments)
    return len(frame) + encoded
