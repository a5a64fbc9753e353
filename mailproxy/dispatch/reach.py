"""
Whether one account's upstream can be reached, and over how many sessions: parked, probed, resumed.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailproxy.dispatch.retry import probe_delay
from mailproxy.dispatch.shared import Shared
from mailproxy.dispatch.unbegun import not_reached
from mailproxy.dispatch.ways import Ways
from mailproxy.errors import StoreError
from mailproxy.model import Account, Claimed

_log = Logger()

#: Sessions a stream starts out with at most, whatever its account allows.
MOST_SLOTS = 1000

#: After this many finished attempts a stream that was refused sessions tries one more.
REGAIN = 64


class Reach:
    """
    :ivar probing: whether the account is parked: then one message at a time tries it.
    :ivar slots: the most sessions that shall be in use at once.
    :ivar probe_at: when a parked account is tried again, in Unix seconds.
    :ivar shut: whether nothing of its mail is claimed, since none of several accounts can carry it.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self.probing = False
        self.slots = MOST_SLOTS
        self.probe_at = 0.0
        self.shut = False
        self._reason = ("", "")
        self._failures = 0
        self._finished = 0

    def know(self, account: Account) -> None:
        """The account was read from the store, where it may be parked."""
        self.probing = bool(account.parked_reason)
        self.probe_at = account.probe_at or 0.0
        self.shut = self.shut and self.probing
        self._failures = self._failures if self.probing else 0
        metrics = self._shared.metrics
        metrics.know(account.tenant_id, account.id)
        metrics.accounts_parked.labels(account.tenant_id, account.id).set(self.probing)

    def shrinks(self, phase: str, sessions: int) -> bool:
        """
        Whether a fault in *phase* only takes one of the *sessions* in use.

        Others of this account still have sessions then: let them take what is ready.
        """
        if sessions > 1 and not self.probing and phase != "auth":
            self.slots = sessions - 1
            return True
        return False

    async def park(
        self,
        account: Account,
        phase: str,
        reason: str,
        leaving: Sequence[Claimed],
        ways: Ways | None = None,
    ) -> None:
        """
        The account cannot be reached: park it, and tell those that were about to leave.

        :param ways: of its mail through other accounts; those that go there are not told.
        """
        shared, now = self._shared, self._shared.clock.now()
        self._failures += 1
        delays = account.retry_delays or shared.rules.delays
        self.probe_at = now + probe_delay(self._failures, delays[0])
        self.probing = True
        text = f"{phase}: {reason}"
        if self._failures == 1:
            _log.error(
                "account {tenant}/{id} is parked: {reason}",
                tenant=account.tenant_id,
                id=account.id,
                reason=text,
            )
        shared.metrics.accounts_parked.labels(account.tenant_id, account.id).set(1)
        self._reason = text, phase
        if ways is not None:
            leaving = [message for message in leaving if not ways.take(message)]
        if ways is None or leaving or not ways.work:
            await self.close(account, leaving, ways)
        else:
            await self.open(account)
        if ways is not None:
            ways.start()

    async def close(
        self, account: Account, leaving: Sequence[Claimed], ways: Ways | None = None
    ) -> None:
        """Nobody can carry its mail, until it is probed or one of the others takes mail."""
        shared, now = self._shared, self._shared.clock.now()
        self.shut = ways is not None
        until = self.probe_at if ways is None else min(self.probe_at, ways.opens_at)
        await self._park(account, until, closed=True)
        text, phase = self._reason
        for message in leaving:
            record = not_reached(
                message, text or account.parked_reason, phase, until, now, shared.rules
            )
            shared.metrics.deferred.labels(account.tenant_id, account.id).inc()
            shared.recorder.add(record)

    async def open(self, account: Account) -> None:
        """Others carry its mail."""
        self.shut = False
        await self._park(account, self.probe_at, closed=False)

    async def _park(self, account: Account, until: float, *, closed: bool) -> None:
        store, now = self._shared.store, self._shared.clock.now()
        text = self._reason[0] or account.parked_reason
        try:
            await store.park_account(account.pk, account.version, text, until, now, closed=closed)
        except StoreError as error:
            _log.warn("parking account {id}: {error}", id=account.id, error=error)

    def reached(self, account: Account) -> Deferred[None] | None:
        """
        A session of the account is there: it is not parked (any more).

        :return: fires when that is stored; None if it was not parked.
        """
        self._finished += 1
        if self._finished % REGAIN == 0 and self.slots < MOST_SLOTS:
            self.slots += 1
        if not self._failures and not self.probing:
            return None
        self._failures, self.probing, self.shut = 0, False, False
        self.slots = MOST_SLOTS
        self._shared.metrics.accounts_parked.labels(account.tenant_id, account.id).set(0)
        _log.info("account {tenant}/{id} works again", tenant=account.tenant_id, id=account.id)
        return Deferred.fromCoroutine(self._unpark(account))

    async def _unpark(self, account: Account) -> None:
        try:
            await self._shared.store.unpark_account(account.pk)
        except StoreError as error:
            _log.warn("resuming account {id}: {error}", id=account.id, error=error)
