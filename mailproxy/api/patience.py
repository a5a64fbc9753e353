"""
Calls with a token that cannot be judged yet: they wait for the tenants' keys, and are made then.

Only for endpoints that tell every good token the same. Who cannot be judged for long is told that,
too, and what was asked for is done when the keys are there, if the token is good.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout
from twisted.logger import Logger

from mailproxy.api.answers import Answer, Refused, ok
from mailproxy.api.auth import NOT_READ_YET, Caller, Gate, Unjudged
from mailproxy.book import TenantBook
from mailproxy.interfaces import IClock

#: Seconds that a caller waits to be judged.
PATIENCE = 5.0

#: Calls that are remembered at the same time.
MOST = 1000

_log = Logger()

Perform = Callable[[Caller], Awaitable[Answer | None]]


class Patience:
    """
    :param gate: judges tokens once *book* is loaded.
    :param most: calls that are remembered; further ones are told to come back.
    """

    def __init__(self, gate: Gate, book: TenantBook, clock: IClock, most: int = MOST) -> None:
        self._gate = gate
        self._book = book
        self._clock = clock
        self._most = most
        self._remembered: dict[tuple[Unjudged, str | None], Perform] = {}

    async def serve(self, token: Unjudged, asked: str | None, perform: Perform) -> Answer | None:
        """
        Judge *token*, and make its call.

        :param asked: the tenant that the query names; with the token it tells calls apart.
        :raises Refused: the token is not good; or more is remembered than may be.
        """
        ready = Deferred.fromCoroutine(self._book.ready())
        try:
            await ready.addTimeout(PATIENCE, self._clock)
        except DeferredTimeout:
            self._remember((token, asked), perform)
            return ok()
        return await perform(self._gate.judge(token))

    def _remember(self, call: tuple[Unjudged, str | None], perform: Perform) -> None:
        if call not in self._remembered and len(self._remembered) >= self._most:
            raise Refused(NOT_READ_YET)
        first = not self._remembered
        self._remembered[call] = perform
        if first:
            Deferred.fromCoroutine(self._make_up())

    async def _make_up(self) -> None:
        """Make the calls that are remembered, once it can be said who they are from."""
        await self._book.ready()
        calls, self._remembered = self._remembered, {}
        for (token, _), perform in calls.items():
            try:
                await perform(self._gate.judge(token))
            except Refused:
                continue
            except Exception:
                _log.failure("a call that had to wait failed")
