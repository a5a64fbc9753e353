"""
Accounts and tenants come and go in any order: no mail is lost, and none ends untold.

A state machine registers, deletes and silences a tenant and its accounts while mail is posted,
claimed, begun, recorded and reported, and the process is killed. Whatever was accepted comes to an
end, and the last that is told of it is that end.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import attrs
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from mailproxy.interfaces import IStore
from mailproxy.model import Claimed
from mailproxy.records import ListQuery, ReportItem
from mailproxy.tenancy import Tenant
from tests.build import account_spec, deferral, new_message, record, refused
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result
from tests.store.opened import Opened

IDS = st.sampled_from(["m1", "m2", "m3", "m4"])
ACCOUNTS = st.sampled_from(["a", "b"])


class LeavingMachine(RuleBasedStateMachine):
    """
    :ivar accepted: ids that were taken, each of which has to be told an end.
    :ivar told: the newest item that was taken of each id.
    :ivar begun: attempts whose outcome is not stored.
    """

    def open_store(self) -> IStore:
        raise NotImplementedError

    def kill_store(self) -> IStore:
        raise NotImplementedError

    @initialize()
    def start(self) -> None:
        self.clock = FakeClock()
        self.store = self.open_store()
        self.accepted: set[str] = set()
        self.told: dict[str, ReportItem] = {}
        self.begun: list[Claimed] = []
        self.deleted = self.inactive = False
        self.register()
        for name in ("a", "b"):
            self.put(name)

    @property
    def now(self) -> float:
        return self.clock.now()

    # What comes and goes.

    @rule(active=st.sampled_from([True, True, False]))
    def register(self, active: bool = True) -> None:
        def change(old: Tenant | None) -> Tenant:
            return attrs.evolve(old or Tenant("acme"), active=active)

        result(self.store.change_tenant("acme", change, self.now))
        self.deleted, self.inactive = False, not active

    @rule()
    def delete_tenant(self) -> None:
        assert result(self.store.delete_tenant("acme", self.now)) is not self.deleted
        self.deleted = True

    @rule(name=ACCOUNTS)
    def put(self, name: str) -> None:
        result(self.store.put_account(account_spec(tenant_id="acme", id=name), self.now))

    @rule(name=ACCOUNTS)
    def delete_account(self, name: str) -> None:
        result(self.store.delete_account("acme", name, self.now))

    # What mail does.

    @rule(name=IDS, account=ACCOUNTS, text=st.sampled_from(["x\n", "y\n"]))
    def post(self, name: str, account: str, text: str) -> None:
        message = new_message(id=name, tenant_id="acme", account_id=account, text=text)
        (answer,) = result(self.store.enqueue([message], self.now, 5.0))
        if self.deleted or self.inactive:
            wanted = "tenant not found" if self.deleted else "tenant inactive"
            assert (answer.verdict, answer.reason) == ("rejected", wanted)
        elif answer.verdict != "rejected":
            self.accepted.add(name)

    @rule(limit=st.integers(1, 3), begin=st.booleans())
    def claim(self, limit: int, begin: bool) -> None:
        for account in result(self.store.accounts("acme")):
            claimed = result(self.store.claim(account.pk, limit, self.now))
            assert not claimed or not (self.deleted or self.inactive)
            if begin:
                self.begin(claimed)
            else:
                result(self.store.release([(each.pk, each.token) for each in claimed]))

    def begin(self, claimed: list[Claimed]) -> None:
        took = result(self.store.begin([(m.pk, m.token) for m in claimed], "a", self.now))
        assert all(took)
        self.begun += claimed

    @rule(data=st.data(), how=st.sampled_from(["sent", "refused", "put off"]))
    def outcome(self, data: st.DataObject, how: str) -> None:
        if not self.begun:
            return
        claimed = self.begun.pop(data.draw(st.integers(0, len(self.begun) - 1)))
        if how == "put off":
            item = deferral(claimed, at=self.now, next_at=self.now)
        else:
            item = record(claimed, *([refused()] if how == "refused" else []), at=self.now)
        assert result(self.store.record([item])) == [True]

    @rule(taken=st.booleans())
    def report(self, taken: bool = True) -> None:
        items = result(self.store.unreported("acme", 100))
        if taken:
            self.told.update((item.id, item) for item in items)
            result(self.store.acked([pk for item in items for pk in item.event_pks], self.now))

    # What else happens.

    @rule(steps=st.integers(1, 3))
    def upkeep(self, steps: int) -> None:
        for _ in range(steps):
            result(self.store.upkeep(self.now))

    @rule()
    def settle(self) -> None:
        """All background work is done: of a deleted tenant only what is on its way is open."""
        while result(self.store.upkeep(self.now)):
            pass
        if self.deleted:
            on_its_way = {each.id for each in self.begun}
            for each in result(self.store.messages(ListQuery(tenant_id="acme", active_only=True))):
                assert each.id in on_its_way, each

    @rule(seconds=st.sampled_from([1.0, 60.0]))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule()
    def kill(self) -> None:
        self.clock.advance(1.0)
        self.store = self.kill_store()
        found = result(self.store.abandoned(self.now))
        assert sorted(each.id for each in found) == sorted(each.id for each in self.begun)
        self.begun.clear()
        for each in found:
            item = record(each, at=self.now, attempt=each.attempts)
            assert result(self.store.record([item])) == [True]

    @invariant()
    def nothing_is_lost(self) -> None:
        if hasattr(self, "store"):
            listed = result(self.store.messages(ListQuery(tenant_id="acme")))
            assert {each.id for each in listed} == self.accepted

    def teardown(self) -> None:
        """All that is left is let go, and reported."""
        if not hasattr(self, "store"):
            return
        self.register()
        for claimed in self.begun:
            assert result(self.store.record([record(claimed, at=self.now)])) == [True]
        self.begun.clear()
        self.settle()
        self.claim(100, True)
        for claimed in self.begun:
            result(self.store.record([record(claimed, at=self.now)]))
        self.settle()
        self.report()
        assert "acme" not in result(self.store.waiting_tenants())
        for each in result(self.store.messages(ListQuery(tenant_id="acme"))):
            assert each.state in ("sent", "failed", "cancelled"), each
            item = self.told[each.id]
            assert (item.sent_ts is not None) == (each.state == "sent"), (item, each)
            assert (item.error is not None) == (each.state != "sent"), (item, each)


class FakeLeaving(LeavingMachine):
    def open_store(self) -> IStore:
        self.fake = FakeStore(self.clock)
        return self.fake

    def kill_store(self) -> IStore:
        self.fake = self.fake.crash()
        return self.fake


class EmbeddedLeaving(LeavingMachine):
    """The SQLite store on a file, each work run at once."""

    def open_store(self) -> IStore:
        self.folder = tempfile.TemporaryDirectory()
        self.opened = Opened(Path(self.folder.name) / "store", self.clock, random.Random(7))
        return self.opened.store

    def kill_store(self) -> IStore:
        return self.opened.killed()

    def teardown(self) -> None:
        try:
            super().teardown()
        finally:
            if hasattr(self, "opened"):
                result(self.opened.close())
                self.folder.cleanup()


QUICK: dict[str, Any] = {
    "deadline": None,
    "max_examples": 50,
    "stateful_step_count": 30,
    "suppress_health_check": list(HealthCheck),
}

FakeLeavingTests = FakeLeaving.TestCase
FakeLeavingTests.settings = settings(**QUICK)
EmbeddedLeavingTests = EmbeddedLeaving.TestCase
# A failing series is shown as it was found: to shrink it takes minutes on a file.
EmbeddedLeavingTests.settings = settings(
    **{**QUICK, "max_examples": 20, "phases": (Phase.explicit, Phase.reuse, Phase.generate)}
)
