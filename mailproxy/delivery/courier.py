"""
The courier: messages of an account, composed and handed to its upstream.

``Courier(pool, clock, contents, in_thread, metrics, max_body_bytes=64 MiB)`` is the
:class:`~mailproxy.interfaces.ICourier`; what happens in one of its calls is in
:mod:`mailproxy.delivery.carry`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from twisted.internet.interfaces import IReactorTime
from zope.interface import implementer

from mailproxy.delivery.budget import Budget
from mailproxy.delivery.carry import Carry, Means
from mailproxy.delivery.pool import Pool
from mailproxy.interfaces import ICourier, IFeed, InThread
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Stored

#: Bytes of bodies in memory at once.
MAX_BODY_BYTES = 64 * 1024 * 1024

Contents = Callable[[Sequence[int]], Awaitable[dict[int, Stored]]]


@implementer(ICourier)
class Courier:
    """
    :param contents: fetches what a claim did not bring: ``IQueue.contents`` of the store.
    :param in_thread: where large messages are composed.
    :param max_body_bytes: bodies in memory at once, over all accounts; one is always let in.
    """

    def __init__(
        self,
        pool: Pool,
        clock: IReactorTime,
        contents: Contents,
        in_thread: InThread,
        metrics: Metrics,
        max_body_bytes: int = MAX_BODY_BYTES,
    ) -> None:
        self._pool = pool
        self._means = Means(pool, clock, contents, in_thread, metrics, Budget(max_body_bytes))

    async def carry(self, account: Account, feed: IFeed) -> None:
        """See :meth:`mailproxy.interfaces.ICourier.carry`."""
        await Carry(self._means, account, feed).run()

    async def close(self, deadline: float) -> None:
        """See :meth:`mailproxy.interfaces.ICourier.close`."""
        await self._pool.close(deadline)
