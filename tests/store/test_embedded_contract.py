"""The SQLite store keeps the contract, on a real file, with each work run at once."""

from __future__ import annotations

import random

from twisted.trial.unittest import TestCase

from mailproxy.interfaces import IStore
from tests.contracts import contract_tests
from tests.fakes import FakeClock
from tests.store.opened import Opened, fresh


class EmbeddedFactory:
    """Makes stores in a directory that is removed after the test."""

    async def make_store(self, clock: FakeClock) -> IStore:
        self.opened = Opened(fresh(self), clock, random.Random(7))  # type: ignore[arg-type]
        self.addCleanup(self.opened.close)  # type: ignore[attr-defined]
        return self.opened.store

    async def reopen_store(self) -> IStore:
        return self.opened.killed()

    async def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        self.opened.add_tenant(tenant_id, active=active)


globals().update(contract_tests(EmbeddedFactory, TestCase, __name__))
