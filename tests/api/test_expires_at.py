"""``expires_at``: an instant from which on a message is not sent any more."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from tests.api.door import Door, message
from tests.fakes import EPOCH, result


class ExpiresAtTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def shown(self, id: str = "m1") -> dict[str, Any]:
        found: dict[str, Any] = self.door.call("GET", f"/v1/messages/{id}").json["message"]
        return found

    def reason(self, **fields: Any) -> str:
        reply = self.door.add(message(**fields))
        self.assertEqual(400, reply.status)
        found: str = reply.json["rejected"][0]["reason"]
        return found

    def test_taken_and_shown(self) -> None:
        """It is kept with the message, and shown; a message has none unless it says so."""
        self.door.add(message(expires_at=EPOCH + 60), message("m2"))
        self.assertEqual(int(EPOCH) + 60, self.shown()["expires_at"])
        self.assertEqual(int(EPOCH) + 60, self.shown()["message"]["expires_at"])
        self.assertIsNone(self.shown("m2")["expires_at"])

    def test_spellings(self) -> None:
        """It is written like ``deferred_ts``; null is none."""
        for n, value in enumerate((EPOCH + 60, int(EPOCH) + 60, str(int(EPOCH) + 60))):
            self.door.add(message(f"m{n}", expires_at=value))
            self.assertEqual(int(EPOCH) + 60, self.shown(f"m{n}")["expires_at"])
        self.door.add(message("none", expires_at=None))
        self.assertIsNone(self.shown("none")["expires_at"])

    def test_wrong(self) -> None:
        """What is no instant, or none after ``deferred_ts``, rejects the message by its name."""
        expected = "invalid expires_at: expected Unix seconds"
        self.assertEqual(expected, self.reason(expires_at="soon"))
        self.assertEqual("invalid expires_at: out of range", self.reason(expires_at=10**15))
        late = self.reason(expires_at=EPOCH + 10, deferred_ts=EPOCH + 10)
        self.assertEqual("invalid expires_at: not after deferred_ts", late)
        self.assertIn("invalid expires_at", self.reason(expires_at=[]))

    def test_in_the_past(self) -> None:
        """One that has passed is taken, so that posting again what was sent rejects nothing."""
        self.assertEqual(1, self.door.add(message(expires_at=EPOCH - 60)).json["queued"])
        (account,) = result(self.door.store.accounts("default"))
        self.assertEqual([], result(self.door.store.claim(account.pk, 1, EPOCH)))
        self.assertEqual({"m1": "expired"}, self.door.store.states())

    def test_raw(self) -> None:
        """A message that comes as bytes has it in the query."""
        data = b"From: s@example.com\r\nSubject: x\r\n\r\nHello.\r\n"
        query = f"id=r1&from=s@example.com&to=t@example.org&expires_at={int(EPOCH) + 60}"
        self.assertEqual(200, self.door.call("POST", f"/v1/messages/raw?{query}", data).status)
        self.assertEqual(int(EPOCH) + 60, self.shown("r1")["expires_at"])
