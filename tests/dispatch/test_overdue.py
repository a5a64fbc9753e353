"""Mail behind an account that never works comes to its end, with dispatcher and caretaker."""

from __future__ import annotations

from mailproxy.dispatch.caretaker import Caretaker
from mailproxy.errors import AccountFault
from tests.contracts_overdue import FAULT_MAX_AGE
from tests.dispatch.test_dispatcher import DispatchCase
from tests.fakes import result


class OverdueTests(DispatchCase):
    def test_an_account_that_never_works(self) -> None:
        """All its mail is given up at the limit for faulty accounts, not only what was claimed."""
        caretaker = Caretaker(self.store, self.clock)
        caretaker.startService()
        self.addCleanup(caretaker.stopService)
        self.courier.fault = AccountFault("auth", "535 no", 535)
        self.add(*(f"m{n}" for n in range(15)))
        steps = int(FAULT_MAX_AGE // 600)
        for _ in range(steps - 2):
            self.clock.advance(600.0)
        self.assertEqual({"queued"}, set(self.store.states().values()))
        self.add("later")
        self.clock.pump([60.0] * 25)
        states = self.store.states()
        self.assertEqual("queued", states.pop("later"))
        self.assertEqual({"expired"}, set(states.values()))
        told = {each.id: each.error for each in result(self.store.unreported("default", 500))}
        self.assertTrue(all("535 no" in (told[f"m{n}"] or "") for n in range(15)), told)
