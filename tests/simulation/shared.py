"""
The store of a simulated node that is not the only one: what several nodes on one database have to
agree on, as the database would settle it.

A node lives while it renews. One that was killed, frozen or cut off from the database is taken for
dead once its time is over, and what it held is another's from then on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import attrs

from mailproxy.clock import Names
from mailproxy.interfaces import IClock
from mailproxy.records import ReportLease, Said
from mailproxy.store.postgres import CAUTION, PROMPT
from tests import fake_store_reports as reports
from tests.fake_store import FakeStore
from tests.fake_store_intake import Change
from tests.fakes import EPOCH
from tests.simulation.network import Reactor
from tests.simulation.store import Medium, SimulatedDisk, SimulatedStore

T = TypeVar("T")

#: Seconds for which a node counts as alive after it said so.
LEASE = 15.0

#: Of all notices to the other nodes, the part that is lost.
LOST = 0.1

#: Seconds a notice takes.
NOTICE = 0.005


class SharedStore(SimulatedStore):
    """Leases that live with their node, by the clock of the database, which is nobody's own."""

    quiet = ("upkeep", "keys_used")

    def __init__(
        self, clock: IClock, names: Names, disk: SimulatedDisk, reactor: Reactor, medium: Medium
    ) -> None:
        super().__init__(clock, names, disk, reactor, medium)
        self._renewed = self._line.now
        self.disk.alive[self.node_id] = self._line.now + LEASE
        self.disk.peers.append(self)
        clock.follow(EPOCH + self._line.now)

    def die(self) -> None:
        """Killed, it still counts as alive for a while."""
        started_at = self.disk.nodes.get(self.node_id)
        super().die()
        if self in self.disk.peers:
            self.disk.peers.remove(self)
        if started_at is not None:
            self.disk.nodes[self.node_id] = started_at

    def _check_last(self) -> None:
        super()._check_last()
        if self._ended.called and self in self.disk.peers:
            self.disk.peers.remove(self)

    def free_at(self) -> float:
        return max(super().free_at(), self._reactor.owner.cut_until)

    def commit(self, method: str, change: Change, work: Callable[[Change], T]) -> T:
        self.bury()
        self.names.after(self.disk.greatest)
        result = super().commit(method, change, work)
        self.disk.greatest = self.names._last
        heard = attrs.evolve(change, limited=[])
        for peer in self.disk.peers:
            if peer is not self and self._medium.rng.random() >= LOST:
                self._line.later(peer._reactor.owner, NOTICE, FakeStore._tell, peer, heard)
        return result

    def bury(self) -> None:
        """Who did not renew in time is dead."""
        for node, until in self.disk.alive.items():
            if until <= self._line.now:
                self.disk.nodes.pop(node, None)

    # -- what nodes have to agree on ------------------------------------------------------------

    async def heartbeat(self, now: float) -> None:
        asked = self._line.now

        def work(change: Change) -> float:
            self.disk.nodes.setdefault(self.node_id, now)
            self.disk.alive[self.node_id] = self._line.now + LEASE
            return EPOCH + self._line.now

        then = await self._write("heartbeat", now, work)
        self._renewed = asked
        took = self._line.now - asked
        if took <= PROMPT:
            self.clock.follow(then + took / 2)

    def cut_off(self) -> bool:
        return self._line.now - self._renewed > CAUTION * LEASE

    async def begin(
        self,
        intents: Sequence[tuple[int, int]],
        account: str,
        now: float,
        *,
        through: tuple[int, int] | None = None,
    ) -> list[bool]:
        if self.cut_off():
            return [False] * len(intents)
        return await super().begin(intents, account, now, through=through)

    async def hold_reports(self, tenant_id: str, seconds: float) -> ReportLease | None:
        if self.cut_off():
            return None

        def work(change: Change) -> ReportLease | None:
            line, held = self._line, self.disk.report_leases.get(tenant_id)
            empty_at = None if held is None else held.empty_at
            lease = reports.hold(self.disk, tenant_id, self.node_id, line.now, seconds)
            if lease is None:
                return None
            empty_in = None if empty_at is None else empty_at - line.now
            return attrs.evolve(lease, shared=True, empty_in=empty_in)

        return await self._write("hold_reports", self.clock.now(), work)

    async def release_reports(self, lease: ReportLease, said: Said) -> None:
        def work(change: Change) -> None:
            reports.release(self.disk, lease, said, self._line.now)

        await self._write("release_reports", self.clock.now(), work)
