"""The store's face towards the front doors: submissions, and what is suspended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from twisted.internet.defer import CancelledError, DeferredLock
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.internet.task import deferLater

from mailproxy.errors import PartlyStored, StoreBusy, StoreError
from mailproxy.model import Enqueued, NewMessage
from mailproxy.records import Suspension
from mailproxy.store import intake, suspensions
from mailproxy.store.courtesy import Courtesy
from mailproxy.store.face import DEADLINE
from mailproxy.store.face_bodies import BodiesFace
from mailproxy.tenancy import Once

#: Seconds for which the rest of a submission is tried, once its first piece is stored; between
#: tries there are the seconds of RETRY, doubled each time, at most LONGEST.
PATIENCE = 60.0
RETRY = 0.25
LONGEST = 4.0


class IntakeFace(BodiesFace):
    """``IIntake``."""

    if TYPE_CHECKING:
        #: Requests under way, by tenant and idempotency key.
        _keys: dict[tuple[str, str], DeferredLock]
        _courtesy: Courtesy

        @property
        def closing(self) -> bool: ...

    async def enqueue(
        self,
        messages: Sequence[NewMessage],
        now: float,
        deadline: float,
        once: Once | None = None,
    ) -> list[Enqueued]:
        ends = self._clock.seconds() + deadline
        if once is None:
            return await self._enqueue(messages, now, ends, None)
        async with self._first(once, deadline):
            return await self._enqueue(messages, now, ends, once)

    @asynccontextmanager
    async def _first(self, once: Once, deadline: float) -> AsyncIterator[None]:
        """Of the requests with one key let one after the other in, so that only one is first."""
        key = (once.tenant_id, once.key)
        lock = self._keys.setdefault(key, DeferredLock())
        try:
            await lock.acquire().addTimeout(deadline, self._clock)
        except (DeferredTimeout, CancelledError):
            raise StoreBusy("another request with this key is under way") from None
        try:
            yield
        finally:
            lock.release()
            if not lock.locked:
                self._keys.pop(key, None)

    async def _enqueue(
        self, messages: Sequence[NewMessage], now: float, ends: float, once: Once | None
    ) -> list[Enqueued]:
        written: dict[int, int] = {}
        for n, message in enumerate(messages):
            if sum(map(len, message.parts)) > self._options.large_body_bytes:
                parts = dict(enumerate(message.parts, 1))
                written[n] = await self._written(parts, now, ends)
        verdicts: list[Enqueued] = []
        let_pass = self.courtesy()
        for start, end, weight in intake.cut(messages):
            bodies = {n - start: body for n, body in written.items() if start <= n < end}
            last = end == len(messages)
            piece = messages[start:end]
            call = intake.Submission(piece, now, bodies, once, verdicts, last, weight)
            if start:
                await let_pass()
                taken = await self._rest(call)
            elif last:
                with self._courtesy.passing(piece):
                    taken = await self._write(intake.ENQUEUE, call, ends - self._clock.seconds())
            else:
                taken = await self._write(intake.ENQUEUE, call, ends - self._clock.seconds())
            verdicts += taken
        return verdicts

    def courtesy(self) -> Callable[[], Awaitable[None]]:
        return self._courtesy.share().let_pass

    async def _rest(self, piece: intake.Submission) -> list[Enqueued]:
        """
        Store a piece of a submission whose first piece is stored: now or a little later.

        *Not stored* would not be true of the submission any more.
        """
        until, delay = self._clock.seconds() + PATIENCE, RETRY
        while True:
            try:
                return await self._write(intake.ENQUEUE, piece)
            except StoreError as error:
                if self.closing or self._clock.seconds() + delay > until:
                    raise PartlyStored(
                        f"{len(piece.before)} messages were taken, the others could not be: {error}"
                    ) from error
            await deferLater(self._clock, delay)
            delay = min(2 * delay, LONGEST)

    async def suspend(self, tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        scope = suspensions.Scope(tenant_id, batch, now)
        return await self._write(suspensions.SUSPEND, scope, DEADLINE)

    async def activate(self, tenant_id: str | None, batch: str | None, now: float) -> Suspension:
        scope = suspensions.Scope(tenant_id, batch, now)
        return await self._write(suspensions.ACTIVATE, scope, DEADLINE)
