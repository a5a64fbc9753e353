"""``/v1/batches/{code}/hold``, ``/v1/accounts/{id}/hold`` and their like."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.api.door import Door, Reply, message
from tests.build import record, refused
from tests.fakes import EPOCH, result

OTHER = "k" * 64


class GroupActTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()
        self.door.add(message(batch_code="spring"), message("m2"))

    def act(self, target: str, body: Any = None, **options: Any) -> Reply:
        return self.door.call("POST", f"/v1/{target}", body, **options)

    def claim(self) -> list[Any]:
        (account,) = result(self.door.store.accounts("default"))
        return result(self.door.store.claim(account.pk, 10, self.door.clock.now()))

    def test_batch(self) -> None:
        """A batch is held and released, and the answer says what that means."""
        reply = self.act("batches/spring/hold", {"reason": "typo"})
        self.assertEqual(
            {
                "ok": True,
                "tenant_id": "default",
                "batch_code": "spring",
                "act": "hold",
                "changed": True,
                "held": True,
                "waiting": 1,
                "in_flight": 0,
                "reason": "",
            },
            reply.json,
        )
        listed = self.door.call("GET", "/v1/holds").json["holds"]
        shown = {"tenant_id": "default", "batch_code": "spring", "since": int(EPOCH)}
        self.assertEqual([{**shown, "reason": "typo"}], listed)
        self.assertEqual(["m2"], [each.id for each in self.claim()])
        self.assertFalse(self.act("batches/spring/release").json["held"])
        self.assertEqual(["m1"], [each.id for each in self.claim()])

    def test_account(self) -> None:
        """An account is held, which is seen of it, and released."""
        reply = self.act("accounts/smtp-main/hold").json
        self.assertEqual(
            ("smtp-main", True, 2), (reply["account_id"], reply["held"], reply["waiting"])
        )
        self.assertEqual([], self.claim())
        (shown,) = self.door.call("GET", "/accounts").json["accounts"]
        self.assertEqual(int(EPOCH), shown["held_since"])
        (held,) = self.door.call("GET", "/v1/holds").json["holds"]
        self.assertEqual("smtp-main", held["account_id"])
        self.act("accounts/smtp-main/release")
        self.assertEqual(2, len(self.claim()))

    def test_cancel(self) -> None:
        """A batch is cancelled; repeated, there is nothing left to do."""
        self.assertTrue(self.act("batches/spring/cancel").json["changed"])
        again = self.act("batches/spring/cancel").json
        self.assertEqual((False, "nothing of it is open"), (again["changed"], again["reason"]))
        self.assertEqual({"m1": "cancelled", "m2": "queued"}, self.door.store.states())

    def test_singly(self) -> None:
        """A release lets go what is held one by one if it is told to."""
        self.act("messages/m1/hold")
        self.act("batches/spring/release")
        self.assertEqual("held", self.door.store.states()["m1"])
        self.act("batches/spring/release", {"singly": True})
        self.assertEqual("queued", self.door.store.states()["m1"])

    def test_since(self) -> None:
        """Only what ended since then is requeued, if one says since when."""
        claimed = self.claim()
        now = self.door.clock.now()
        leases = [(each.pk, each.token) for each in claimed]
        result(self.door.store.begin(leases, "smtp-main", now))
        result(self.door.store.record([record(each, refused(), at=now) for each in claimed]))
        self.act("accounts/smtp-main/requeue", {"since": now + 1})
        self.assertEqual({"m1": "failed", "m2": "failed"}, self.door.store.states())
        self.act("accounts/smtp-main/requeue", {"since": now})
        self.assertEqual({"m1": "queued", "m2": "queued"}, self.door.store.states())

    def test_bad_bodies(self) -> None:
        """What is not as described is refused, and nothing is done."""
        before = list(self.door.store.writes)
        wrong: list[tuple[str, Any]] = [
            ("requeue", {"since": "x"}),
            ("requeue", {"since": -1}),
            ("release", {"singly": 1}),
            ("hold", {"reason": 1}),
            ("close", {}),
            ("close", {"end": "x"}),
        ]
        for act, body in wrong:
            self.assertEqual(422, self.act(f"batches/spring/{act}", body).status, (act, body))
        for code in ("x" * 65, "%00", "*"):
            self.assertEqual(422, self.act(f"batches/{code}/hold").status, code)
        self.assertEqual(before, self.door.store.writes)

    def test_not_found(self) -> None:
        """An account that is not there, or another tenant's, is not found."""
        self.door.add_key("acme", OTHER)
        self.assertEqual(404, self.act("accounts/nobody/hold").status)
        self.assertEqual(404, self.act("accounts/smtp-main/hold", token=OTHER).status)

    def test_others_batch(self) -> None:
        """A batch of the same name is another tenant's own."""
        self.door.add_key("acme", OTHER)
        self.assertEqual(0, self.act("batches/spring/hold", token=OTHER).json["waiting"])
        self.assertEqual(2, len(self.claim()))
        self.assertEqual(1, len(self.door.call("GET", "/v1/holds", token=OTHER).json["holds"]))
        self.assertEqual([], self.door.call("GET", "/v1/holds?tenant_id=default").json["holds"])
