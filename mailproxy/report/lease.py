"""
The right of this node to call one tenant: taken before each call, given back after it.

Calls of several nodes to a tenant never overlap: the right is good for longer than a call may take,
and a call whose right may soon be another's is ended here first.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger

from mailproxy.errors import StoreError
from mailproxy.records import ReportLease, Said
from mailproxy.report.calls import Parts

#: Seconds for which the right is good beyond the time that a call may take.
MARGIN = 30.0

#: Of these, seconds that may pass from asking for the right to the beginning of the call.
HANDLING = 10.0

#: Of these, seconds that are left when a call is ended that is still open.
RESERVE = 10.0

#: Seconds between two looks at an open call's right.
LOOK = 2.0

#: Seconds between two tries to take it for a call that waits.
AGAIN = 1.0

_log = Logger()


class Right:
    """
    The right to call *tenant_id*.

    :param parts: what the reporter's streams share.

    :ivar said: what the answer to the call means for the next one, to be told with the right's end.
    """

    def __init__(self, tenant_id: str, parts: Parts) -> None:
        self._tenant_id = tenant_id
        self._store = parts.store
        self._clock = parts.clock
        self._length = parts.timeout + MARGIN
        self._lease: ReportLease | None = None
        self._asked = 0.0
        self._timer: IDelayedCall | None = None
        self.said = Said()

    @property
    def lease(self) -> ReportLease | None:
        """What is decided by the call under way is decided under this."""
        return self._lease

    async def take(self) -> ReportLease | None:
        """
        Take it, or renew it.

        :return: None: another node has it, or nobody may call now.
        :raises StoreError: it was not taken.
        """
        self._asked = self._clock.seconds()
        self._lease = await self._store.hold_reports(self._tenant_id, self._length)
        return self._lease

    async def wait(self, patience: float, closed: Callable[[], bool]) -> bool:
        """
        Take it as soon as it is free.

        :param patience: seconds to wait at most.
        :param closed: whether there is no use in waiting any more.
        :return: whether a call may be begun now.
        """
        until = self._clock.seconds() + patience
        while await self.take() is None:
            if closed() or self._clock.seconds() >= until:
                return False
            await deferLater(self._clock, AGAIN)
        return self.fresh() and not closed()

    def fresh(self) -> bool:
        """Whether a call that is begun now ends before the right does."""
        lease = self._lease
        return lease is not None and (not lease.shared or self._age() <= HANDLING)

    async def give(self) -> None:
        """Give it back, if it is held."""
        lease, self._lease = self._lease, None
        said, self.said = self.said, Said()
        if lease is None:
            return
        try:
            await self._store.release_reports(lease, said)
        except StoreError as error:
            _log.warn(
                "giving back the reports of {tenant}: {error}", tenant=self._tenant_id, error=error
            )

    def watch(self, end: Callable[[], None]) -> None:
        """Have *end* called in time if the right to the call that is open now may be lost."""
        if self._lease is not None and self._lease.shared:
            self._timer = self._clock.callLater(LOOK, self._look, end)

    def unwatch(self) -> None:
        """The call is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self, end: Callable[[], None]) -> None:
        self._timer = None
        if self._store.cut_off() or self._age() > self._length - RESERVE:
            _log.warn(
                "a report call to {tenant} is ended: another node may begin one soon",
                tenant=self._tenant_id,
            )
            end()
        else:
            self.watch(end)

    def _age(self) -> float:
        return self._clock.seconds() - self._asked
