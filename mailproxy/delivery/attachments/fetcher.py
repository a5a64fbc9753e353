"""
Fetches the attachments that a message lacks: from the cache, else from their sources.

Each message has its turn and its deadline. What came is compared with the client's digest, if it
gave one; an error that came in place of content is not taken for it. A source that is out of reach
is left alone for a while, so that what waits for it learns so at once, and gives way.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import attrs
import msgspec
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger

from mailproxy.delivery.attachments.cache import Cache
from mailproxy.delivery.attachments.source import Source, Spool, Trouble
from mailproxy.delivery.attachments.turns import Turns
from mailproxy.errors import AttachmentFault, MailProxyError
from mailproxy.interfaces import IClock
from mailproxy.log import HIDDEN
from mailproxy.metrics import Metrics
from mailproxy.model import Attachment

_log = Logger()

#: Seconds for which a source that is out of reach is not asked again.
OUT_OF_REACH = 30.0

#: The largest answer that may be an error in JSON.
_MOST_ERROR = 64 * 1024

_decode = msgspec.json.Decoder().decode


@attrs.frozen
class FetchOptions:
    """
    :param max_bytes: of one attachment.
    :param max_message_bytes: of all attachments of one message.
    :param deadline: seconds for all attachments of one message, once it has its turn.
    :param total: messages that are fetched for at once.
    :param each: of these, for one tenant.
    """

    max_bytes: int = 25 * 1024 * 1024
    max_message_bytes: int = 50 * 1024 * 1024
    deadline: float = 300.0
    total: int = 32
    each: int = 4


class Fetcher:
    """
    :param sources: by ``Attachment.fetch_mode``.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        cache: Cache,
        clock: IClock,
        metrics: Metrics,
        options: FetchOptions,
    ) -> None:
        self._sources = sources
        self._cache = cache
        self._clock = clock
        self._metrics = metrics
        self._options = options
        self._turns = Turns(options.total, options.each)
        self._down: dict[tuple[str, str], tuple[float, str]] = {}

    async def fetch(self, tenant_id: str, attachments: Sequence[Attachment]) -> list[Spool]:
        """
        The content of each, in order; the caller closes the spools.

        :raises AttachmentFault: one of them cannot be had.
        """
        await self._turns.take(tenant_id)
        spools: list[Spool] = []
        try:
            await self._in_time(tenant_id, attachments, spools)
        except BaseException:
            for spool in spools:
                spool.close()
            raise
        finally:
            self._turns.give(tenant_id)
        return spools

    async def _in_time(
        self, tenant_id: str, attachments: Sequence[Attachment], spools: list[Spool]
    ) -> None:
        seconds = self._options.deadline
        work = Deferred.fromCoroutine(self._all(tenant_id, attachments, spools))
        late = self._clock.callLater(seconds, work.cancel)
        try:
            await work
        except CancelledError:
            if late.active():
                raise
            raise self._too_late(tenant_id, attachments[max(0, len(spools) - 1)]) from None
        finally:
            if late.active():
                late.cancel()

    def _too_late(self, tenant_id: str, unfinished: Attachment) -> AttachmentFault:
        problem = f"not complete within {self._options.deadline:g} s"
        source = self._sources.get(unfinished.fetch_mode)
        where = None if source is None else source.where(tenant_id, unfinished)
        if where is not None:
            self._out_of_reach((tenant_id, where), problem)
        self._count(unfinished, "later")
        return AttachmentFault(unfinished.filename, problem, transient=True)

    async def _all(
        self, tenant_id: str, attachments: Sequence[Attachment], spools: list[Spool]
    ) -> None:
        room = self._options.max_message_bytes
        for attachment in attachments:
            spool = Spool(min(self._options.max_bytes, room))
            spools.append(spool)
            try:
                await self._one(tenant_id, attachment, spool)
            except Trouble as trouble:
                self._count(attachment, "later" if trouble.transient else "failed")
                raise AttachmentFault(
                    attachment.filename, trouble.problem, transient=trouble.transient
                ) from None
            room -= spool.size

    async def _one(self, tenant_id: str, attachment: Attachment, spool: Spool) -> None:
        """:raises Trouble: it cannot be had."""
        source = self._sources.get(attachment.fetch_mode)
        if source is None:
            raise Trouble(f"{attachment.fetch_mode} is not set up here", transient=True)
        cacheable = bool(attachment.content_md5) and attachment.fetch_mode != "filesystem"
        if cacheable:
            found = await self._cache.find(tenant_id, attachment.content_md5)
            if found is not None:
                spool.fill(found.data, attachment.content_md5, found.sha256)
                self._count(attachment, "cached")
                return
        kind = await self._ask(source, tenant_id, attachment, spool)
        _verify(attachment, kind, spool)
        self._count(attachment, "fetched")
        if cacheable:
            await self._cache.keep(tenant_id, spool.md5, spool.sha256, spool.read())

    async def _ask(
        self, source: Source, tenant_id: str, attachment: Attachment, spool: Spool
    ) -> str:
        where = source.where(tenant_id, attachment)
        place = None if where is None else (tenant_id, where)
        if place is not None and place in self._down:
            until, problem = self._down[place]
            if self._clock.seconds() < until:
                raise Trouble(problem, transient=True)
            del self._down[place]
        try:
            return await source.fetch(tenant_id, attachment, spool)
        except Trouble as trouble:
            if trouble.down and place is not None:
                self._out_of_reach(place, trouble.problem)
            raise
        except MailProxyError as error:  # credentials that cannot be opened
            raise Trouble(str(error), transient=True) from None

    def _out_of_reach(self, place: tuple[str, str], problem: str) -> None:
        now = self._clock.seconds()
        self._down = {each: since for each, since in self._down.items() if since[0] > now}
        self._down[place] = (now + OUT_OF_REACH, problem)
        _log.warn(
            "attachments of tenant {tenant} cannot be had now: {problem}",
            tenant=place[0],
            problem=problem,
        )

    def forget(self, tenant_id: str) -> None:
        """The tenant said anew where its attachments are: ask again at once."""
        self._down = {each: since for each, since in self._down.items() if each[0] != tenant_id}

    def _count(self, attachment: Attachment, result: str) -> None:
        self._metrics.attachments.labels(attachment.fetch_mode, result).inc()


def _verify(attachment: Attachment, kind: str, spool: Spool) -> None:
    """:raises Trouble: what came is not the attachment."""
    expected = attachment.content_md5
    if expected and spool.md5 == expected:
        return
    if said := _error_in(kind, spool):
        raise Trouble(f"an error came in its place{said}", transient=True)
    if expected:
        raise Trouble("the content does not match its digest", transient=True)


def _error_in(kind: str, spool: Spool) -> str:
    """What a JSON object with an error says; "" if there is none."""
    if kind != "application/json" and not kind.endswith("+json"):
        return ""
    if spool.size > _MOST_ERROR:
        return ""
    try:
        answer: Any = _decode(spool.read())
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
    error = answer.get("error") if isinstance(answer, dict) else None
    if error is None or error is False or error == "":
        return ""
    if not isinstance(error, str):
        return ": an object with an error"
    for secret in spool.shown:
        error = error.replace(secret, HIDDEN)
    return ": " + "".join(c if c.isprintable() else " " for c in error)[:200]
