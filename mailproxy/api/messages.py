"""
``POST /commands/add-messages``: a batch is read, judged element by element, and made durable.

Every element has its own verdict; the answer comes after the commit. The way from a request's body
to the answer, :meth:`Intake.take`, is the same for messages that come as bytes.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import BinaryIO

import attrs
import msgspec
from twisted.internet.defer import DeferredSemaphore
from twisted.logger import Logger

from mailproxy.api import once
from mailproxy.api.answers import (
    DRAINING,
    Answer,
    Problem,
    Refused,
    error,
    invalid,
    unavailable,
)
from mailproxy.api.attachments import AttachmentRules
from mailproxy.api.call import SMALL_BYTES, Call, Need, Route
from mailproxy.api.elements import Judge
from mailproxy.api.fields import priority
from mailproxy.api.shapes_messages import ADD_MESSAGES
from mailproxy.api.verdicts import Batch, Refusal, all_verdicts, told
from mailproxy.api.wire import Rejected, Submission, check_weight, read_envelope
from mailproxy.clock import Names
from mailproxy.composed import Composed
from mailproxy.errors import PartlyStored
from mailproxy.interfaces import IClock, IControl, IIntake, InThread
from mailproxy.metrics import Metrics
from mailproxy.model import Enqueued, NewMessage
from mailproxy.tenancy import Answered, KeyReused

#: Bodies up to this size, with up to so many objects and addresses, are judged in the reactor:
#: a few milliseconds.
INLINE_BYTES = SMALL_BYTES
INLINE_THINGS = 1000

#: Elements of a larger request that are judged in one go; then the reactor has its turn. Some
#: hundred microseconds: a message of somebody else needs a dozen turns until it is sent.
SLICE = 10

#: Larger requests that are worked on at the same time; what waits lies in a file.
LARGE_AT_ONCE = 2

#: Large requests that may wait for that; more are told to come back.
LARGE_WAITING = 20

#: Seconds a batch waits for the store's writer.
STORE_SECONDS = 5.0

PARTLY = error(500, "not all could be stored; submit all of it again, with the same ids")

_log = Logger()


@attrs.frozen
class IntakeRules:
    """
    :param max_batch: elements in one request.
    :param max_message_bytes: of one composed message.
    :param max_recipients: of one message.
    :param default_priority: 0..3, for what names none.
    :param helo_name: right part of the Message-IDs made here.
    :param attachments: what attachments may name.
    :param composed: where what was composed is kept until it is sent.
    """

    max_batch: int = 10_000
    max_message_bytes: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    default_priority: int = 2
    helo_name: str = "localhost"
    attachments: AttachmentRules = attrs.field(factory=AttachmentRules)
    composed: Composed | None = None


#: Judges an element, or as many as it is made of, one by one; what it reads, it was given.
Judging = Iterator[NewMessage | Refusal]

#: Begins to judge a body; runs in a thread when that is large. :raises Refused: the whole of it.
Read = Callable[[bytes], Judging]

#: Words the answer to a judged request, from the store's verdicts on its messages. Pure.
Tell = Callable[[Batch, Sequence[Enqueued]], Answer]


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
        judge = self.judge(call)

        def read(body: bytes) -> Judging:
            submission = self.read(body)
            mine = attrs.evolve(judge, default_priority=self._default_priority(submission))
            return (judged(mine, each) for each in submission.elements)

        tell = partial(told, verbose=call.flag("verbose"))
        return await self.take(call, read, once.key_of(call), tell)

    def judge(self, call: Call) -> Judge:
        """What judges the elements of *call*. :raises Refused: token and query do not agree."""
        return Judge(
            tenant_id=call.asked_tenant(),
            tenant_exists=call.tenant_exists,
            now=self._clock.now(),
            default_priority=self._rules.default_priority,
            new_id=lambda: f"{self._names.rng.getrandbits(128):032x}",
            helo_name=self._rules.helo_name,
            max_bytes=self._rules.max_message_bytes,
            max_recipients=self._rules.max_recipients,
            test=call.caller.test,
            attachments=self._rules.attachments,
            composed=self._rules.composed,
        )

    def read(self, body: bytes) -> Submission:
        """
        Take a batch apart.

        :raises Refused: 422, it is not one; 413, it is too large.
        """
        if len(body) > INLINE_BYTES:
            check_weight(body)
        submission = read_envelope(body)
        if len(submission.elements) > self._rules.max_batch:
            raise Refused(error(413, f"more than {self._rules.max_batch} messages"))
        return submission

    async def take(self, call: Call, read: Read, key: once.Key | None, tell: Tell) -> Answer:
        """Judge the body of *call* and store what is accepted of it; *tell* words the answer."""
        if self._control.draining():
            return DRAINING
        content, size = call.take_body()
        if size <= INLINE_BYTES:
            body = content.read()
            if max(body.count(b"{"), body.count(b"@")) <= INLINE_THINGS:
                content.close()
                digest = hashlib.sha256(body).digest() if key else b""
                return await self._store_all(list(read(body)), tell, key, digest)
            content.seek(0)
        if len(self._large.waiting) >= LARGE_WAITING:
            content.close()
            return unavailable("too many large requests at once, nothing was stored")
        await self._large.acquire()
        try:
            batch, digest = await self._judge_slowly(content, read, key is not None)
            return await self._store_all(batch, tell, key, digest)
        finally:
            content.close()
            self._large.release()

    async def _judge_slowly(
        self, content: BinaryIO, read: Read, hashing: bool
    ) -> tuple[Batch, bytes]:
        """In a thread, slice by slice. :return: the judged batch, and the digest of the body."""
        judging, digest = await self._in_thread(_begin, content, read, hashing)
        batch: Batch = []
        let_pass = self._store.courtesy()
        while judged := await self._in_thread(_slice, judging):
            batch += judged
            await let_pass()
        return batch, digest

    def _default_priority(self, submission: Submission) -> int:
        given = submission.default_priority
        if given is None:
            return self._rules.default_priority
        if (number := priority(given)) is None:
            raise invalid([Problem(("body", "default_priority"), "not a priority")])
        return number

    async def _store_all(
        self, batch: Batch, tell: Tell, key: once.Key | None, digest: bytes
    ) -> Answer:
        if self._control.draining():  # it may have begun while a large request was read
            return DRAINING

        messages = [one for one in batch if isinstance(one, NewMessage)]
        stored: list[Enqueued] = []
        if messages or key:
            promise = key.once(digest, partial(tell, batch)) if key else None
            try:
                stored = await self._store.enqueue(
                    messages, self._clock.now(), STORE_SECONDS, promise
                )
            except Answered as before:
                return once.from_bytes(before.answer)
            except KeyReused:
                return once.REUSED
            except PartlyStored as problem:
                _log.error("a submission is stored in part: {problem}", problem=str(problem))
                return PARTLY
        self._count(all_verdicts(batch, stored))
        return tell(batch, stored)

    def _count(self, verdicts: Sequence[Enqueued]) -> None:
        for verdict, count in Counter([one.verdict for one in verdicts]).items():
            self._metrics.accepted.labels(verdict.value).inc(count)
        differing = [one.reason for one in verdicts if one.reason].count("differs")
        if differing:
            _log.warn(
                "{count} ids that are done came again with other content; nothing was sent",
                count=differing,
            )


def _begin(content: BinaryIO, read: Read, hashing: bool) -> tuple[Judging, bytes]:
    with content:
        body = content.read()
    digest = hashlib.sha256(body).digest() if hashing else b""
    return read(body), digest


def _slice(judging: Judging) -> Batch:
    return list(islice(judging, SLICE))


def judged(judge: Judge, source: msgspec.Raw | bytes | Rejected) -> NewMessage | Refusal:
    """What becomes of one element of a batch."""
    try:
        if isinstance(source, Rejected):
            raise source
        return judge.judge(source)
    except Rejected as rejected:
        return Refusal(rejected.id, rejected.reason)
