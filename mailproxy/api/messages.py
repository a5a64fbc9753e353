"""
``POST /commands/add-messages``: a batch is read, judged element by element, and made durable.

Every element has its own verdict; the answer comes after the commit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, BinaryIO

import attrs
import msgspec
from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from mailproxy.api.answers import (
    DRAINING,
    Answer,
    Problem,
    Refused,
    answer,
    error,
    invalid,
    ok,
    unavailable,
)
from mailproxy.api.call import SMALL_BYTES, Call, Need, Route
from mailproxy.api.elements import Judge, priority
from mailproxy.api.shapes_messages import ADD_MESSAGES
from mailproxy.api.wire import Rejected, Submission, check_weight, read_envelope
from mailproxy.clock import Names
from mailproxy.interfaces import IClock, IControl, IIntake, InThread
from mailproxy.metrics import Metrics
from mailproxy.model import Enqueued, NewMessage
from mailproxy.states import Verdict

#: Bodies up to this size, with up to so many objects and addresses, are judged in the reactor:
#: a few milliseconds.
INLINE_BYTES = SMALL_BYTES
INLINE_THINGS = 1000

#: Larger requests that are worked on at the same time; what waits lies in a file.
LARGE_AT_ONCE = 2

#: Large requests that may wait for that; more are told to come back.
LARGE_WAITING = 20

#: Seconds a batch waits for the store's writer.
STORE_SECONDS = 5.0

_log = Logger()


@attrs.frozen
class IntakeRules:
    """
    :param max_batch: elements in one request.
    :param max_message_bytes: of one composed message.
    :param max_recipients: of one message.
    :param default_priority: 0..3, for what names none.
    :param helo_name: right part of the Message-IDs made here.
    """

    max_batch: int = 10_000
    max_message_bytes: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    default_priority: int = 2
    helo_name: str = "localhost"


@attrs.frozen
class _Refusal:
    """An element that was not accepted. :param id: its id, if it has a usable one."""

    id: str | None
    reason: str

    def verdict(self) -> Enqueued:
        return Enqueued(Verdict.REJECTED, self.reason)


#: A judged request: for each element the message to be stored, or why there is none.
_Batch = list[NewMessage | _Refusal]


class Intake:
    """Takes messages in."""

    def __init__(
        self,
        store: IIntake,
        control: IControl,
        clock: IClock,
        names: Names,
        metrics: Metrics,
        in_thread: InThread,
        rules: IntakeRules,
    ) -> None:
        self._store = store
        self._control = control
        self._clock = clock
        self._names = names
        self._metrics = metrics
        self._in_thread = in_thread
        self._rules = rules
        self._large = DeferredSemaphore(LARGE_AT_ONCE)

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/commands/add-messages", self.add, Need.SEND, ADD_MESSAGES)

    async def add(self, call: Call) -> Answer:
        verbose = call.flag("verbose")
        tenant_id = call.asked_tenant()
        if self._control.draining():
            return DRAINING
        content, size = call.take_body()
        judge = partial(self._judge, tenant_id, call.tenant_exists, self._clock.now())
        if size <= INLINE_BYTES:
            body = content.read()
            if max(body.count(b"{"), body.count(b"@")) <= INLINE_THINGS:
                content.close()
                return await self._store_all(judge(body), verbose)
            content.seek(0)
        if len(self._large.waiting) >= LARGE_WAITING:
            content.close()
            return unavailable("too many large requests at once, nothing was stored")
        await self._large.acquire()
        try:
            batch = await self._in_thread(_read_and, judge, content)
            return await self._store_all(batch, verbose)
        finally:
            content.close()
            self._large.release()

    def _judge(
        self, tenant_id: str | None, tenant_exists: Callable[[str], bool], now: float, body: bytes
    ) -> _Batch:
        """Runs in a thread when the body is large, so it only reads what it is given."""
        if len(body) > INLINE_BYTES:
            check_weight(body)
        submission = read_envelope(body)
        if len(submission.elements) > self._rules.max_batch:
            raise Refused(error(413, f"more than {self._rules.max_batch} messages"))
        judge = Judge(
            tenant_id=tenant_id,
            tenant_exists=tenant_exists,
            now=now,
            default_priority=self._default_priority(submission),
            new_id=lambda: f"{self._names.rng.getrandbits(128):032x}",
            helo_name=self._rules.helo_name,
            max_bytes=self._rules.max_message_bytes,
            max_recipients=self._rules.max_recipients,
        )
        return [_judged(judge, raw) for raw in submission.elements]

    def _default_priority(self, submission: Submission) -> int:
        given = submission.default_priority
        if given is None:
            return self._rules.default_priority
        if (number := priority(given)) is None:
            raise invalid([Problem(("body", "default_priority"), "not a priority")])
        return number

    async def _store_all(self, batch: _Batch, verbose: bool) -> Answer:
        if self._control.draining():  # it may have begun while a large request was read
            return DRAINING
        messages = [one for one in batch if isinstance(one, NewMessage)]
        stored: list[Enqueued] = []
        if messages:
            stored = await self._store.enqueue(messages, self._clock.now(), STORE_SECONDS)
        enqueued = iter(stored)
        verdicts = [
            next(enqueued) if isinstance(one, NewMessage) else one.verdict() for one in batch
        ]
        self._count(verdicts)
        return _answer([one.id for one in batch], verdicts, verbose)

    def _count(self, verdicts: Sequence[Enqueued]) -> None:
        for verdict, count in Counter([one.verdict for one in verdicts]).items():
            self._metrics.accepted.labels(verdict.value).inc(count)
        differing = [one.reason for one in verdicts if one.reason].count("differs")
        if differing:
            _log.warn(
                "{count} ids that are done came again with other content; nothing was sent",
                count=differing,
            )


def _read_and(judge: Callable[[bytes], _Batch], content: BinaryIO) -> _Batch:
    with content:
        return judge(content.read())


def _judged(judge: Judge, raw: msgspec.Raw | bytes | Rejected) -> NewMessage | _Refusal:
    try:
        if isinstance(raw, Rejected):
            raise raw
        return judge.judge(raw)
    except Rejected as rejected:
        return _Refusal(rejected.id, rejected.reason)


def _item(index: int, id: str | None, reason: str) -> dict[str, Any]:
    """What is told of one element; one without a usable id is told by its place."""
    item: dict[str, Any] = {"id": id}
    if id is None:
        item["index"] = index
    if reason:
        item["reason"] = reason
    return item


def _answer(ids: Sequence[str | None], verdicts: Sequence[Enqueued], verbose: bool) -> Answer:
    rejected = [
        _item(index, ids[index], one.reason)
        for index, one in enumerate(verdicts)
        if one.verdict is Verdict.REJECTED
    ]
    extra: dict[str, Any] = {}
    if verbose:
        extra["items"] = [
            {**_item(index, ids[index], one.reason), "state": one.verdict.value}
            for index, one in enumerate(verdicts)
        ]
    if verdicts and len(rejected) == len(verdicts):
        reason = "all messages rejected"
        detail = {"error": reason, "rejected": rejected}
        fields = {"ok": False, "error": reason, "rejected": rejected, "detail": detail}
        return answer({**fields, **extra}, 400)
    return ok(queued=len(verdicts) - len(rejected), rejected=rejected, **extra)
