"""The PostgreSQL store keeps the contract, on a real server, with each work run at once."""

from __future__ import annotations

import random

from twisted.trial.unittest import TestCase

from mailproxy.interfaces import IStore
from tests.contracts import contract_tests
from tests.fakes import FakeClock
from tests.store.postgres_opened import Opened


class PostgresFactory:
    """Makes stores on one database, which is emptied before each test."""

    async def make_store(self, clock: FakeClock) -> IStore:
        self.opened = Opened(clock, random.Random(7))
        self.addCleanup(self.opened.close)  # type: ignore[attr-defined]
        return self.opened.store

    async def reopen_store(self) -> IStore:
        return self.opened.killed()

    async def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        self.opened.add_tenant(tenant_id, active=active)


globals().update(contract_tests(PostgresFactory, TestCase, __name__))
