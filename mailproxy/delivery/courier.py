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

from mailproxy.composed import Composed
from mailproxy.delivery.budget import Budget
from mailproxy.delivery.carry import Carry, Means
from mailproxy.delivery.dkim import SigningKeys
from mailproxy.delivery.pool import Pool
from mailproxy.delivery.trial import Trials
from mailproxy.interfaces import IAttachments, ICourier, IFeed, InThread
from mailproxy.metrics import Metrics
from mailproxy.model import Account, Claimed, Stored
from mailproxy.payload import load
from mailproxy.records import AccountTest

#: Bytes of bodies in memory at once.
MAX_BODY_BYTES = 64 * 1024 * 1024

#: In the payload of a message that has no attachments.
_BARE = b'"attachments":[]'

Contents = Callable[[Sequence[int]], Awaitable[dict[int, Stored]]]


@implementer(ICourier)
class Courier:
    """
    :param contents: fetches what a claim did not bring: ``IQueue.contents`` of the store.
    :param in_thread: where large messages are composed.
    :param max_body_bytes: bodies in memory at once, over all accounts; one is always let in.
    :param attachments: completes messages that lack some; None: nothing is ever lacking.
    :param signing: the keys that sign mail; None: there are none.
    :param composed: what need not be composed again; None: there is nothing.
    """

    def __init__(
        self,
        pool: Pool,
        clock: IReactorTime,
        contents: Contents,
        in_thread: InThread,
        metrics: Metrics,
        max_body_bytes: int = MAX_BODY_BYTES,
        attachments: IAttachments | None = None,
        signing: SigningKeys | None = None,
        composed: Composed | None = None,
    ) -> None:
        self._pool = pool
        self._attachments = attachments
        self._trials = Trials(pool, clock)
        self._means = Means(
            pool,
            clock,
            contents,
            in_thread,
            metrics,
            Budget(max_body_bytes),
            attachments,
            signing,
            composed,
        )

    def completes(self, message: Claimed, feed: IFeed) -> bool:
        """See :meth:`mailproxy.interfaces.ICourier.completes`."""
        if self._attachments is None or message.payload is None or _BARE in message.payload:
            return False
        try:
            content = load(message.payload)
        except ValueError:
            return False  # to be told when it is to be sent
        if not self._attachments.lacks(message, content):
            return False
        self._attachments.complete(message, feed)
        return True

    async def carry(self, account: Account, feed: IFeed) -> None:
        """See :meth:`mailproxy.interfaces.ICourier.carry`."""
        await Carry(self._means, account, feed).run()

    async def test(self, account: Account) -> AccountTest:
        """Try whether mail of *account* could begin; none is sent."""
        return await self._trials.run(account)

    async def close(self, deadline: float) -> None:
        """See :meth:`mailproxy.interfaces.ICourier.close`."""
        if self._attachments is not None:
            await self._attachments.close()
        await self._pool.close(deadline)
