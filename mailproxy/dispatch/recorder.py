"""
Intents and outcomes on their way to the store: gathered while a call is out, and never lost.

An outcome the store does not take is kept and offered again until it is; until then no further
intent is asked for, so that the truth about what left cannot fall behind what leaves.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from mailproxy.errors import StoreError
from mailproxy.interfaces import IClock, IQueue
from mailproxy.model import Record
from mailproxy.turns import AtEnd, at_once

_log = Logger()

#: Most records in one call of the store.
MOST = 200

#: Seconds before an outcome the store did not take is offered again: at first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0


class Recorder:
    """
    Hands records to the store, several at a time.

    :param store: whose ``record`` is called, one call at a time.
    :param clock: for the pauses after a failure.
    :param at_end: of the reactor's turn: what it brought goes to the store in one call.
    """

    def __init__(self, store: IQueue, clock: IReactorTime, at_end: AtEnd = at_once) -> None:
        self._store = store
        self._at_end = at_end
        self._clock = clock
        self._waiting: list[tuple[Record, Deferred[bool]]] = []
        self._out = False
        self._pause = 0.0
        self._cleared: list[Deferred[None]] = []
        self._resting: IDelayedCall | None = None
        self._over = False

    @property
    def idle(self) -> bool:
        """Whether everything handed in has been stored."""
        return not self._waiting and not self._out

    @property
    def stuck(self) -> bool:
        """Whether the store refused the last time."""
        return self._pause > 0.0

    def add(self, record: Record) -> Deferred[bool]:
        """Store *record*; fires after the commit with whether it took effect, never fails."""
        result: Deferred[bool] = Deferred()
        self._waiting.append((record, result))
        if not self._out:
            self._out = True
            Deferred.fromCoroutine(self._run())
        return result

    def cleared(self) -> Deferred[None]:
        """Fires when the store takes outcomes (again); has fired already when it does."""
        result: Deferred[None] = Deferred()
        if self.stuck:
            self._cleared.append(result)
        else:
            result.callback(None)
        return result

    def give_up(self) -> None:
        """Offer nothing more; what was not taken is found as an open intent at the next start."""
        self._over = True
        if self._resting is not None and self._resting.active():
            self._resting.cancel()

    async def _run(self) -> None:
        while self._waiting and not self._over:
            await self.gathered()
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                took = await self._store.record([record for record, _ in batch])
            except StoreError as error:
                self._refused(error)
                self._waiting = batch + self._waiting
                await self._sleep()
            except Exception:
                _log.failure("recording {count} outcomes raised", count=len(batch))
                self._refused(None)
                self._waiting = batch + self._waiting
                await self._sleep()
            else:
                self._taken(batch, took)
        self._out = False

    def gathered(self) -> Deferred[None]:
        """Fires at the end of the turn."""
        result: Deferred[None] = Deferred()
        self._at_end(lambda: result.callback(None))
        return result

    def _refused(self, error: StoreError | None) -> None:
        if not self.stuck:
            _log.error("outcomes cannot be stored, delivery pauses: {error}", error=error)
        self._pause = min(self._pause * 2 or FIRST_PAUSE, LONGEST_PAUSE)

    def _taken(self, batch: Sequence[tuple[Record, Deferred[bool]]], took: list[bool]) -> None:
        if self.stuck:
            _log.info("outcomes are stored again, delivery goes on")
        self._pause = 0.0
        cleared, self._cleared = self._cleared, []
        for (_, result), good in zip(batch, took, strict=True):
            result.callback(good)
        for each in cleared:
            each.callback(None)

    def _sleep(self) -> Deferred[None]:
        slept: Deferred[None] = Deferred()
        if not self._over:
            self._resting = self._clock.callLater(self._pause, slept.callback, None)
        return slept


class Intents:
    """
    Asks the store for intents of one account, several at a time.

    :param account_id: for the attempts' rows.
    :param through: pk and version of that account, where the mail is another's.
    """

    def __init__(
        self,
        store: IQueue,
        recorder: Recorder,
        clock: IClock,
        account_id: str,
        through: tuple[int, int] | None = None,
    ) -> None:
        self._store = store
        self._recorder = recorder
        self._clock = clock
        self._account_id = account_id
        self._through = through
        self._waiting: list[tuple[tuple[int, int], Deferred[bool]]] = []
        self._out = False

    def ask(self, pk: int, token: int) -> Deferred[bool]:
        """
        Store an intent for (pk, token); fires after the commit.

        Fires with false when the store refused it, and equally when the store failed: nothing
        is known to stand, and the lease is given back by the caller.
        """
        result: Deferred[bool] = Deferred()
        self._waiting.append(((pk, token), result))
        if not self._out:
            self._out = True
            Deferred.fromCoroutine(self._run())
        return result

    async def _run(self) -> None:
        while self._waiting:
            if self._recorder.stuck:
                await self._recorder.cleared()
            await self._recorder.gathered()
            batch, self._waiting = self._waiting[:MOST], self._waiting[MOST:]
            try:
                granted = await self._store.begin(
                    [lease for lease, _ in batch],
                    self._account_id,
                    self._clock.now(),
                    through=self._through,
                )
            except StoreError as error:
                _log.warn("intents cannot be stored: {error}", error=error)
                granted = [False] * len(batch)
            except Exception:
                _log.failure("storing {count} intents raised", count=len(batch))
                granted = [False] * len(batch)
            for (_, result), good in zip(batch, granted, strict=True):
                result.callback(good)
        self._out = False
