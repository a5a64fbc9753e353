"""The fake store keeps the contract of the real ones, so that tests against it mean something."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase, TestCase

from mailproxy.interfaces import IStore
from tests.contracts import CONTRACTS, StoreContract, contract_tests
from tests.fake_store import FakeStore
from tests.fakes import FakeClock


class FakeFactory:
    """Makes fake stores; the disk outlives a kill."""

    async def make_store(self, clock: FakeClock) -> IStore:
        self.fake = FakeStore(clock)
        return self.fake

    async def reopen_store(self) -> IStore:
        self.fake = self.fake.crash()
        return self.fake

    async def add_tenant(self, tenant_id: str, *, active: bool = True) -> None:
        self.fake.add_tenant(tenant_id, active=active)


globals().update(contract_tests(FakeFactory, TestCase, __name__))


class CompleteTests(SynchronousTestCase):
    def test_every_contract_is_run(self) -> None:
        """A contract in the modules for contracts is one that every store is held to."""
        written, kinds = set[str](), [StoreContract]
        while kinds:
            kind = kinds.pop()
            # Others may be loaded beside them, for some stores only.
            shared = kind.__module__.startswith("tests.contracts")
            if shared and any(name.startswith("test_") for name in vars(kind)):
                written.add(kind.__name__)
            kinds += (each for each in kind.__subclasses__() if TestCase not in each.__mro__)
        self.assertEqual(written, {each.__name__ for each in CONTRACTS})
