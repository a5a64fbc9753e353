"""
Sees to it that senders are told: turns the notes that stand beside failed messages into bounces.

The note was written with the end of its message, and goes in the transaction that takes its bounce
into the queue: whenever the process dies, there is one or the other.
"""

from __future__ import annotations

from twisted.logger import Logger

from mailproxy.errors import BadMessage
from mailproxy.interfaces import IClock, InThread
from mailproxy.interfaces_tenants import IBounces
from mailproxy.metrics import Metrics
from mailproxy.model import NewMessage
from mailproxy.rounds import Rounds
from mailproxy.states import Verdict
from mailproxy.submission.bounce import bounce
from mailproxy.undelivered import INACTIVE, Undelivered

#: Seconds between two looks, and notes that are read at once.
INTERVAL, STEP = 1.0, 10

#: Bytes of a message up to which its bounce is made where it is, larger ones in a thread.
INLINE_BYTES = 64 * 1024

_log = Logger()


class Bouncer(Rounds):
    """
    :param host: our name, as bounces say it.
    :param priority: 0 to 3, of bounces.
    """

    about = "bounces"
    interval = INTERVAL

    def __init__(
        self,
        store: IBounces,
        clock: IClock,
        metrics: Metrics,
        in_thread: InThread,
        host: str,
        priority: int,
    ) -> None:
        super().__init__("bouncer", clock)
        self._store = store
        self._clock = clock
        self._metrics = metrics
        self._in_thread = in_thread
        self._host = host
        self._priority = priority

    async def round(self) -> None:
        while self.running and (found := await self._store.undelivered(STEP)):
            settled = [await self._answer(each) for each in found]
            if not any(settled):
                return

    async def _answer(self, found: Undelivered) -> bool:
        """Whether the note is settled."""
        try:
            made = await self._made(found)
        except Exception as error:  # one message must not keep the others' senders waiting
            if not isinstance(error, BadMessage):
                _log.failure("making the bounce of {id} raised", id=found.id)
            return await self._give_up(found, str(error))
        answer = await self._store.bounce(found.pk, made, self._clock.now())
        if made is None:
            self._metrics.bounces.labels("nothing").inc()
        elif answer is not None and answer.verdict is Verdict.REJECTED:
            self._tell(found, answer.reason)
            return answer.reason != INACTIVE
        elif answer is not None:
            self._metrics.bounces.labels("bounce").inc()
        return True

    async def _made(self, found: Undelivered) -> NewMessage | None:
        if len(found.data) <= INLINE_BYTES:
            return bounce(found, self._host, self._priority)
        return await self._in_thread(bounce, found, self._host, self._priority)

    async def _give_up(self, found: Undelivered, reason: str) -> bool:
        await self._store.bounce(found.pk, None, self._clock.now())
        self._tell(found, reason)
        return True

    def _tell(self, found: Undelivered, reason: str) -> None:
        self._metrics.bounces.labels("none").inc()
        _log.warn(
            "the sender of {id} of {tenant} gets no bounce: {reason}",
            id=found.id,
            tenant=found.tenant_id,
            reason=reason,
        )
