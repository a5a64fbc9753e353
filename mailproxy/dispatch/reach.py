"""
Whether one account's upstream can be reached, and over how many sessions: parked, probed, resumed.

What the account's attempts say goes to its :class:`~mailproxy.dispatch.breaker.Breaker` and its
:class:`~mailproxy.dispatch.concurrency.Concurrency`; what these come to is put into the store, the
metrics and the log here.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from mailproxy.dispatch.breaker import SLOWER, STRIKE, Breaker, State
from mailproxy.dispatch.concurrency import Concurrency
from mailproxy.dispatch.faults import Standing
from mailproxy.dispatch.retry import LONGEST_HINT, hint_in, probe_delay
from mailproxy.dispatch.shared import Shared
from mailproxy.dispatch.unbegun import not_reached
from mailproxy.dispatch.ways import Ways
from mailproxy.errors import StoreError
from mailproxy.model import Account, Claimed, Outcome, Reply

_log = Logger()

_POINTS = {Standing.SLOWER: SLOWER, Standing.STRIKE: STRIKE}

#: What the metric shows of each state.
_SHOWN = {State.CLOSED: 0, State.PROBING: 1, State.OPEN: 2}


class Reach:
    """
    :ivar probing: whether the account is parked: then one message at a time tries it.
    :ivar slots: the most sessions that shall be in use at once.
    :ivar probe_at: when a parked account is tried again, in Unix seconds.
    :ivar shut: whether nothing of its mail is claimed, since none of several accounts can carry it.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._breaker = Breaker()
        self._concurrency = Concurrency()
        self._by_strikes = False
        self._untold = 0
        self.probing = False
        self.slots = self._concurrency.target
        self.probe_at = 0.0
        self.shut = False
        self._reason = ("", "")

    def know(self, account: Account) -> None:
        """The account was read from the store, where it may be parked."""
        if not account.parked_reason:
            self._breaker.close()
        elif self._breaker.closed:
            self._breaker.found_open(account.probe_at or 0.0)
        self._concurrency.all()
        self._shared.metrics.know(account.tenant_id, account.id)
        self._show(account)

    def disagrees(self, parked: bool) -> bool:
        """Whether the store says otherwise, and that is not only because it was not told yet."""
        return parked != self.probing and not self._untold

    # -- what went wrong -------------------------------------------------------------------

    def shrinks(self, phase: str, sessions: int) -> bool:
        """
        Whether a fault in *phase* only takes one of the *sessions* in use.

        Others of this account still have sessions then: let them take what is ready.
        """
        if sessions > 1 and not self.probing and phase != "auth":
            self._concurrency.refused(sessions - 1)
            self.slots = self._concurrency.target
            return True
        return False

    def struck(
        self, account: Account, standing: Standing, pause: float | None, sessions: int
    ) -> bool:
        """
        An attempt said that the account is slow or not well. :return: whether it is to be parked.

        :param pause: seconds the server wants us to wait.
        :param sessions: in use now.
        """
        clock = self._shared.clock
        if self._concurrency.troubled(sessions, clock.seconds()):
            self._show(account)
        parks = self._breaker.strike(_POINTS[standing], clock.now())
        if pause is not None and standing is Standing.STRIKE and self._breaker.closed:
            parks = True
        self._by_strikes = self._by_strikes or parks
        return parks

    async def park(
        self,
        account: Account,
        phase: str,
        reason: str,
        leaving: Sequence[Claimed],
        ways: Ways | None = None,
        pause: float | None = None,
    ) -> None:
        """
        Leave the account alone for a while, and tell those that were about to leave.

        :param ways: of its mail through other accounts; those that go there are not told.
        :param pause: seconds the server wants us to wait at least.
        """
        breaker, now = self._breaker, self._shared.clock.now()
        if breaker.state(now) is not State.OPEN:
            self._reason = f"{phase}: {reason}", phase
            breaker.open(now, self._pause(account, reason, pause))
            self._show(account)
            if breaker.failures == 1:
                _log.error(
                    "account {tenant}/{id} is parked: {reason}",
                    tenant=account.tenant_id,
                    id=account.id,
                    reason=self._reason[0],
                )
        if ways is not None:
            leaving = [message for message in leaving if not ways.take(message)]
        if ways is None or leaving or not ways.work:
            await self.close(account, leaving, ways)
        else:
            await self.open(account)
        if ways is not None:
            ways.start()

    def _pause(self, account: Account, reason: str, asked: float | None) -> float:
        """Seconds until the next probe: longer each time, spread, and no less than was asked."""
        delays = account.retry_delays or self._shared.rules.delays
        jitter = self._shared.rng.uniform(-1.0, 1.0)
        pause = probe_delay(self._breaker.failures + 1, delays[0], jitter)
        hint = hint_in(reason)
        if reason[:3].isdigit():
            reply = Reply(int(reason[:3]), reason[4:])
            rule = self._shared.rules.replies.find(account.host, reply)
            if rule is not None:
                asked = max(asked or 0.0, rule.seconds)
        return max(pause, asked or 0.0, min(hint, LONGEST_HINT) if hint is not None else 0.0)

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
        self._untold += 1
        try:
            await store.park_account(account.pk, account.version, text, until, now, closed=closed)
        except StoreError as error:
            _log.warn("parking account {id}: {error}", id=account.id, error=error)
        finally:
            self._untold -= 1

    # -- what went well --------------------------------------------------------------------

    def reached(self, account: Account, outcome: Outcome) -> Deferred[None] | None:
        """
        An attempt came to *outcome*, which shows that the account is not parked (any more).

        :return: fires when that is stored; None if it was not parked.
        """
        concurrency, breaker = self._concurrency, self._breaker
        timings = outcome.timings if concurrency.limited else ()
        if timings and concurrency.well(timings[-1][1], account.max_sessions):
            self._show(account)
        if breaker.closed:
            breaker.forgive()
            return None
        if not breaker.works(self._shared.clock.now()):
            return None
        if self._by_strikes:
            concurrency.restart(account.max_sessions)
        else:
            concurrency.all()
        self._by_strikes = False
        self._show(account)
        _log.info("account {tenant}/{id} works again", tenant=account.tenant_id, id=account.id)
        return Deferred.fromCoroutine(self._unpark(account))

    async def _unpark(self, account: Account) -> None:
        self._untold += 1
        try:
            await self._shared.store.unpark_account(account.pk)
        except StoreError as error:
            _log.warn("resuming account {id}: {error}", id=account.id, error=error)
        finally:
            self._untold -= 1

    # -- what others see -------------------------------------------------------------------

    def probed(self, account: Account) -> None:
        """A message is about to try a parked account."""
        self._show(account)

    def _show(self, account: Account) -> None:
        """Bring what others read of it up to date."""
        breaker = self._breaker
        self.probing = not breaker.closed
        self.probe_at = breaker.until if self.probing else 0.0
        self.shut = self.shut and self.probing
        self.slots = self._concurrency.target
        metrics, names = self._shared.metrics, (account.tenant_id, account.id)
        metrics.accounts_parked.labels(*names).set(self.probing)
        state = breaker.state(self._shared.clock.now())
        metrics.account_breaker.labels(*names).set(_SHOWN[state])
        metrics.account_sessions_target.labels(*names).set(min(self.slots, account.max_sessions))
