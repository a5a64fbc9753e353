"""``/commands/run-now`` while it cannot be said whose token it is."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.answers import Answer, Refused, ok
from mailproxy.api.auth import NOT_READ_YET, Caller, Gate, Unjudged
from mailproxy.api.patience import PATIENCE, Patience
from mailproxy.crypto import hash_token
from tests.api.door import TOKEN, Connection, Door, request
from tests.fakes import result

RUN_NOW = "/commands/run-now"


class PatienceTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.add_key("acme", "token-of-acme", scopes=frozenset())
        self.door.add_key("acme", "office-of-acme", networks=("198.51.100.0/24",))
        self.door.book.loaded = False

    def ask(self, token: str, target: str = RUN_NOW, body: bytes | None = None) -> Connection:
        connection = self.door.connect()
        connection.send(request("POST", target, body, token))
        return connection

    def read(self) -> None:
        """The tenants are read at last."""
        result(self.door.book.refresh())

    def test_judged_in_time(self) -> None:
        """Who asks before the keys are known waits for them, and is then told what is true."""
        good, wrong, elsewhere, other = (
            self.ask("token-of-acme"),
            self.ask("nobody"),
            self.ask("office-of-acme"),
            self.ask("token-of-acme", f"{RUN_NOW}?tenant_id=other"),
        )
        self.assertEqual([], good.replies)
        self.assertEqual([], self.door.control.runs)
        self.read()
        self.assertEqual(200, good.replies[0].status)
        for each in (wrong, elsewhere, other):
            self.assertEqual(401, each.replies[0].status)
        self.assertEqual(["acme"], self.door.control.runs)

    def test_remembered(self) -> None:
        """
        Where the keys cannot be read for long, whoever asks is told yes; what good tokens asked for
        is done when they are known, once each.
        """
        asked = [self.ask(token) for token in ("token-of-acme", "nobody", "token-of-acme")]
        self.door.clock.advance(PATIENCE)
        self.assertEqual([200] * 3, [each.replies[0].status for each in asked])
        self.assertEqual([], self.door.control.runs)
        self.read()
        self.assertEqual(["acme"], self.door.control.runs)
        self.read()
        self.assertEqual(["acme"], self.door.control.runs)

    def test_no_more_than_may_be(self) -> None:
        """Beyond a limit nothing is remembered, and that is said; what is known already is."""
        book, clock, made = self.door.book, self.door.clock, list[str | None]()
        waiting = Patience(Gate(TOKEN, book=book), book, clock, most=2)

        async def run_now(caller: Caller) -> Answer:
            made.append(caller.tenant_id)
            return ok()

        def ask(token: str) -> Deferred[Answer | None]:
            unjudged = Unjudged(hash_token(token), "192.0.2.7")
            asked = Deferred.fromCoroutine(waiting.serve(unjudged, None, run_now))
            clock.advance(PATIENCE)
            return asked

        for token in ("one", "token-of-acme", "one"):
            self.assertEqual(ok(), self.successResultOf(ask(token)))
        self.assertIs(NOT_READ_YET, self.failureResultOf(ask("three"), Refused).value.answer)
        self.read()
        self.assertEqual(["acme"], made)

    def test_who_leaves(self) -> None:
        """A client that does not wait for the answer is served all the same, and leaves nothing."""
        self.ask("token-of-acme").transport.loseConnection()
        self.read()
        self.assertEqual(["acme"], self.door.control.runs)

    def test_no_body(self) -> None:
        """Nothing large is taken from whom nobody knows."""
        reply = self.ask("token-of-acme", body=b"x" * 300_000).replies[0]
        self.assertEqual(503, reply.status)
        small = self.ask("token-of-acme", body=b"{}")
        self.read()
        self.assertEqual(200, small.replies[0].status)

    def test_admin(self) -> None:
        """The admin's token needs no keys."""
        self.assertEqual(200, self.ask(TOKEN).replies[0].status)
        self.assertEqual([None], self.door.control.runs)
