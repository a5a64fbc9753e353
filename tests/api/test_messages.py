"""``POST /commands/add-messages`` from the client's side."""

from __future__ import annotations

from typing import Any

import attrs
import msgspec
from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.api.messages import (
    INLINE_BYTES,
    INLINE_THINGS,
    LARGE_AT_ONCE,
    LARGE_WAITING,
    SLICE,
    IntakeRules,
)
from mailproxy.api.wire import MAX_VALUES
from mailproxy.errors import PartlyStored, StoreBusy, StoreError, StoreUnavailable
from mailproxy.model import Content
from mailproxy.threads import NotRunning
from tests import build
from tests.api.door import Connection, Door, Reply, message, request
from tests.fake_store_rows import MessageRow
from tests.fakes import result

ADD = "/commands/add-messages"


def stored(door: Door, id: str = "m1") -> MessageRow:
    row = door.store.disk.find("default", id)
    assert row is not None
    return row


def content(door: Door, id: str = "m1") -> Content:
    row = stored(door, id)
    assert row.payload is not None
    return payload.load(row.payload)


class AddMessagesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def states(self, reply: Reply) -> list[str]:
        return [item["state"] for item in reply.json["items"]]

    def test_accepted(self) -> None:
        """What is accepted is stored when the answer comes."""
        reply = self.door.add(message("m1"), message("m2"))

        self.assertEqual((200, {"ok": True, "queued": 2, "rejected": []}), _told(reply))
        self.assertEqual({"m1": "queued", "m2": "queued"}, self.door.store.states())

    def test_answer_after_the_commit(self) -> None:
        """There is no answer before the commit."""
        self.door.store.stall("enqueue")
        client = self.door.connect()
        client.send(request("POST", ADD, {"messages": [message()]}))
        self.assertEqual([], client.replies)

        self.door.store.resume()

        self.assertEqual([200], [reply.status for reply in client.replies])

    def test_bad_among_good(self) -> None:
        """A bad element is rejected by itself; its neighbours are stored."""
        reply = self.door.add(message("m1"), message("m2", to=[]), message("m3"))

        self.assertEqual(200, reply.status)
        self.assertEqual(2, reply.json["queued"])
        self.assertEqual([{"id": "m2", "reason": "missing to"}], reply.json["rejected"])
        self.assertEqual({"m1": "queued", "m3": "queued"}, self.door.store.states())

    def test_without_an_id(self) -> None:
        """An element without a usable id is told by its place."""
        reply = self.door.add(message("m1"), message(""), {"from": "a@b.example"}, 7)

        self.assertEqual(
            [
                {"id": None, "index": 1, "reason": "missing id"},
                {"id": None, "index": 2, "reason": "missing id"},
                {"id": None, "index": 3, "reason": "invalid message: expected object, got int"},
            ],
            reply.json["rejected"],
        )

    def test_all_rejected(self) -> None:
        """All rejected is a 400, told in the form of older and of newer clients."""
        reply = self.door.add(message("m1", to=[]), message("m2", **{"from": None}))

        rejected = [{"id": "m1", "reason": "missing to"}, {"id": "m2", "reason": "missing from"}]
        error = "all messages rejected"
        self.assertEqual(400, reply.status)
        self.assertEqual(
            {
                "ok": False,
                "error": error,
                "rejected": rejected,
                "detail": {"error": error, "rejected": rejected},
            },
            reply.json,
        )
        self.assertEqual([], [w for w in self.door.store.writes if w == "enqueue"])

    def test_empty(self) -> None:
        """No messages are no error."""
        self.assertEqual((200, {"ok": True, "queued": 0, "rejected": []}), _told(self.door.add()))

    def test_verbose(self) -> None:
        """A verbose answer says of each element, in order, what became of it."""
        self.door.add(message("again"), message("other"))

        reply = self.door.add(
            message("new"),
            message("again"),
            message("other", subject="Another"),
            message("bad", to=[]),
            message("lost", account_id="nowhere"),
            query="?verbose=1",
        )

        self.assertEqual(
            [
                {"id": "new", "state": "queued"},
                {"id": "again", "state": "queued"},
                {"id": "other", "state": "replaced"},
                {"id": "bad", "state": "rejected", "reason": "missing to"},
                {"id": "lost", "state": "rejected", "reason": "account not found"},
            ],
            reply.json["items"],
        )
        self.assertEqual(3, reply.json["queued"])

    def test_duplicate(self) -> None:
        """An id that was sent counts as queued, and is told as a duplicate."""
        self.door.add(message("m1"), message("m2"))
        (account,) = result(self.door.store.accounts(None))
        claimed = result(self.door.store.claim(account.pk, 10, self.door.clock.now()))
        leases = [(one.pk, one.token) for one in claimed]
        result(self.door.store.begin(leases, account.id, self.door.clock.now()))
        done = [build.record(one, at=self.door.clock.now()) for one in claimed]
        result(self.door.store.record(done))

        reply = self.door.add(message("m1"), message("m2", subject="Else"), query="?verbose=true")

        self.assertEqual(["duplicate", "duplicate"], self.states(reply))
        self.assertEqual("differs", reply.json["items"][1]["reason"])
        self.assertEqual((2, []), (reply.json["queued"], reply.json["rejected"]))
        self.assertIn(
            b'mailproxy_accepted_total{verdict="duplicate"} 2.0',
            self.door.call("GET", "/metrics").body,
        )

    def test_unknown_parts_are_ignored(self) -> None:
        """Unknown query parameters and body fields do no harm."""
        body = {"messages": [message(colour="blue", nested={"a": [1]})], "other": 1}
        reply = self.door.call("POST", f"{ADD}?colour=blue", body)
        self.assertEqual(1, reply.json["queued"])

    def test_no_content_type(self) -> None:
        """What the caller says of the body's type does not matter."""
        for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data"):
            reply = self.door.call(
                "POST", ADD, {"messages": [message()]}, headers={"Content-Type": kind}
            )
            self.assertEqual(200, reply.status, kind)


def _told(reply: Reply) -> tuple[int, Any]:
    return reply.status, reply.json


class PriorityTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door(rules=IntakeRules(default_priority=3))
        self.door.put_account()

    def test_forms(self) -> None:
        """Priorities are numbers, strings of digits or words, and are clamped."""
        for given, expected in (
            (0, 0),
            ("1", 1),
            ("low", 3),
            ("IMMEDIATE", 0),
            (" high ", 1),
            (7, 3),
            (-2, 0),
            (10**30, 3),
            ("-1", 0),
            (None, 3),
        ):
            self.door.add(message("m1", priority=given))
            self.assertEqual(expected, stored(self.door).priority, given)

    def test_default(self) -> None:
        """A batch's default is for elements that say nothing; null is nothing."""
        self.door.add(message("m1"), message("m2", priority=2), default_priority="high")
        self.door.add(message("m3"), default_priority=None)

        self.assertEqual([1, 2, 3], [stored(self.door, f"m{n}").priority for n in (1, 2, 3)])

    def test_bad(self) -> None:
        """A word that is no priority rejects its element."""
        words: list[Any] = ["urgent", "", "1.5", True, 1.5, [], {}]
        for bad in words:
            reply = self.door.add(message(priority=bad))
            self.assertIn("invalid priority: ", reply.json["rejected"][0]["reason"], bad)


class EnvelopeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door(rules=IntakeRules(max_batch=3))
        self.door.put_account()

    def refusal(self, body: bytes) -> tuple[int, Any]:
        reply = self.door.call("POST", ADD, body)
        self.assertNotIn("rejected", reply.json)
        self.assertIs(False, reply.json["ok"])
        self.assertTrue(reply.json["error"])
        return reply.status, reply.json["detail"]

    def test_not_an_envelope(self) -> None:
        """What is not JSON, or not an object with a list of messages, is a 422 that says where."""
        deep = b"[" * 100_000
        for body, loc in (
            (b"", ["body"]),
            (b"{", ["body"]),
            (b"nonsense", ["body"]),
            (b"\xff\xfe", ["body"]),
            (b"[]", ["body"]),
            (b"null", ["body"]),
            (b'"\\ud800"', ["body"]),
            (b"{}", ["body", "messages"]),
            (b'{"messages":null}', ["body", "messages"]),
            (b'{"messages":{}}', ["body", "messages"]),
            (b'{"messages":"\\ud800"}', ["body", "messages"]),
            (b'{"messages":[NaN]}', ["body"]),
            (b'{"messages":["\\ud800", NaN]}', ["body"]),
            (b'{"messages":[1e999]}x', ["body"]),
            (b'{"messages":' + deep, ["body"]),
            (b'{"messages":[],"x":' + deep + b"]" * 100_000 + b"}", ["body"]),
            (b'{"messages":["\\ud800"],"x":' + deep + b"]" * 100_000 + b"}", ["body"]),
            (b'{"messages":[{"a":' * 50_000, ["body"]),
            (b'{"messages":[],"default_priority":[]}', ["body", "default_priority"]),
            (b'{"messages":[],"default_priority":"soon"}', ["body", "default_priority"]),
            (b'{"messages":["\\ud800"],"default_priority":{}}', ["body", "default_priority"]),
        ):
            status, detail = self.refusal(body)
            self.assertEqual((422, [loc]), (status, [p["loc"] for p in detail]), body[:40])
            self.assertEqual({"type", "loc", "msg"}, set(detail[0]))

    def test_too_many(self) -> None:
        """More messages than the limit are refused together; nothing is stored."""
        body = msgspec.json.encode({"messages": [message(f"m{n}") for n in range(4)]})
        self.assertEqual((413, "more than 3 messages"), self.refusal(body))
        self.assertEqual({}, self.door.store.states())

    def test_bad_flag(self) -> None:
        """A query flag that is neither true nor false is a 422."""
        reply = self.door.call("POST", f"{ADD}?verbose=maybe", {"messages": []})
        self.assertEqual(
            (422, ["query", "verbose"]), (reply.status, reply.json["detail"][0]["loc"])
        )


class TestKeyTests(SynchronousTestCase):
    """Tests, and keys that are made for them."""

    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def claimed(self) -> list[str]:
        """The ids of what would be sent now."""
        accounts = result(self.door.store.accounts(None))
        now = self.door.clock.now()
        found = [result(self.door.store.claim(each.pk, 10, now)) for each in accounts]
        return [each.id for claimed in found for each in claimed]

    def test_test(self) -> None:
        """A test ends as sent and is reported as a test; nothing of it is ever claimed."""
        self.door.add(message("m1", test=True), message("m2"))
        self.assertEqual({"m1": "sent", "m2": "queued"}, self.door.store.states())
        (item,) = result(self.door.store.unreported("default", 10))
        self.assertEqual(("m1", True), (item.id, item.test))
        self.assertEqual(["m2"], self.claimed())

    def test_key(self) -> None:
        """Whatever comes with a key for tests is one, also what says that it is none."""
        key = self.door.add_key("other", "k" * 64, test=True)
        account = {"id": "a", "host": "smtp.example.net"}
        self.door.call("POST", "/account", account, key)
        body = {"messages": [message("m1"), message("m2", test=False)]}
        self.assertEqual(2, self.door.call("POST", ADD, body, key).json["queued"])
        raw = "/v1/messages/raw?id=m3&from=a@example.com&to=b@example.org&test=false"
        self.door.call("POST", raw, b"From: a@example.com\r\n\r\n", key)
        self.assertEqual({"m1": "sent", "m2": "sent", "m3": "sent"}, self.door.store.states())
        self.assertEqual([], self.claimed())

    def test_never_for_real_mail(self) -> None:
        """A test does not take the place of mail that waits; mail takes that of a test."""
        self.door.add(message("m1"))
        reply = self.door.add(message("m1", test=True), query="?verbose=1")
        self.assertEqual("kept", reply.json["items"][0]["state"])
        self.assertEqual(["m1"], self.claimed())
        self.door.add(message("m2", test=True))
        self.door.add(message("m2"))
        self.assertEqual(["m2"], self.claimed())


class CannotStoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def check(self, reply: Reply) -> None:
        self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))
        self.assertEqual(reply.json["error"], reply.json["detail"])
        self.assertNotIn("rejected", reply.json)

    def test_store_error(self) -> None:
        """What is known not to be stored is a 503 that says when to come back."""
        for error in (StoreBusy("x"), StoreUnavailable("/secret/path is full"), StoreError("x")):
            self.door.store.fail_next(error)
            reply = self.door.add(message("m1"), message("m2", to=[]))
            self.check(reply)
            self.assertNotIn(b"secret", reply.body)
        self.assertEqual({}, self.door.store.states())

    def test_partly_stored(self) -> None:
        """What is stored in part is no 503, which would say that nothing of it is."""
        self.door.store.fail_next(PartlyStored("500 messages were taken"))
        reply = self.door.add(message("m1"), message("m2", to=[]))
        self.assertEqual(500, reply.status)
        self.assertEqual(reply.json["error"], reply.json["detail"])
        self.assertIn("again", reply.json["error"])
        self.assertNotIn("retry-after", reply.headers)
        self.assertNotIn("rejected", reply.json)

    def test_too_late(self) -> None:
        """A batch that waits five seconds for the writer is withdrawn."""
        self.door.store.stall("enqueue")
        client = self.door.connect()
        client.send(request("POST", ADD, {"messages": [message()]}))

        self.door.clock.advance(5)

        self.check(client.replies[0])

    def test_draining(self) -> None:
        """A service that stops takes nothing more, and keeps nothing of it."""
        self.door.control.stopping = True
        self.check(self.door.add(message()))
        self.check(self.door.add())
        self.assertEqual({}, self.door.store.states())

    def test_invalid_needs_no_store(self) -> None:
        """A batch without a valid element is answered without the store."""
        self.door.store.fail_next(StoreUnavailable("full"))
        self.assertEqual(400, self.door.add(message(to=[])).status)


@attrs.define
class _Later:
    """A thread runner whose calls wait until the test lets them go."""

    waiting: list[Any] = attrs.Factory(list)

    def __call__(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        call: Deferred[Any] = Deferred()
        self.waiting.append((call, function, args, kwargs))
        return call

    def go(self) -> None:
        call, function, args, kwargs = self.waiting.pop(0)
        try:
            value = function(*args, **kwargs)
        except Exception as error:
            call.errback(error)
        else:
            call.callback(value)

    def go_on(self) -> None:
        """Let go what waits, and what it leads to."""
        while self.waiting:
            self.go()


class LargeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.threads = _Later()
        self.door = Door(self.threads)
        self.door.put_account()

    def send(self, *messages: Any) -> Connection:
        client = self.door.connect()
        client.send(request("POST", ADD, {"messages": messages}))
        return client

    def large(self, id: str) -> Any:
        return message(id, body="x" * INLINE_BYTES)

    def test_off_the_reactor(self) -> None:
        """A large body is read and judged in a thread; a small one is not."""
        small = self.send(message("small"))
        large = self.send(self.large("large"), message("bad", to=[]))
        self.assertEqual(([200], []), ([r.status for r in small.replies], large.replies))

        self.threads.go_on()

        (reply,) = large.replies
        self.assertEqual([{"id": "bad", "reason": "missing to"}], reply.json["rejected"])
        self.assertEqual({"small", "large"}, set(self.door.store.states()))

    def test_many_small_ones(self) -> None:
        """Many messages, or many addresses, are judged in a thread however short they are."""
        self.send(*[{}] * 1001)
        self.send(message(to=["a@b.example"] * 1001))
        self.assertEqual(2, len(self.threads.waiting))

    def test_few_at_once(self) -> None:
        """Only so many large requests are worked on at once; the others wait their turn."""
        clients = [self.send(self.large(f"m{n}")) for n in range(LARGE_AT_ONCE + 1)]
        self.assertEqual(LARGE_AT_ONCE, len(self.threads.waiting))

        self.threads.go()
        self.assertEqual(LARGE_AT_ONCE, len(self.threads.waiting))
        self.threads.go_on()

        self.assertEqual([[200]] * 3, [[r.status for r in c.replies] for c in clients])

    def test_slice_by_slice(self) -> None:
        """Between slices of a large batch the reactor has its turn: small ones pass it."""
        large = self.send(*(message(f"l{n}") for n in range(INLINE_THINGS + 1)))
        turns = 0
        while self.threads.waiting:
            self.threads.go()
            turns += 1
            small = self.send(message(f"s{turns}", priority=0))
            self.assertEqual([200], [reply.status for reply in small.replies])

        self.assertGreater(turns, INLINE_THINGS // SLICE)
        self.assertEqual([INLINE_THINGS + 1], [reply.json["queued"] for reply in large.replies])

    def test_slices_let_urgent_mail_pass(self) -> None:
        """The next slice of a large batch begins when the store says that the way is free."""
        free: Deferred[None] = Deferred()
        self.patch(self.door.store, "courtesy", lambda: lambda: free)
        large = self.send(*(message(f"l{n}") for n in range(INLINE_THINGS + 1)))
        self.threads.go()
        self.threads.go()  # the first slice
        self.assertEqual([], self.threads.waiting)

        free.callback(None)

        self.threads.go_on()
        self.assertEqual([INLINE_THINGS + 1], [reply.json["queued"] for reply in large.replies])

    def test_threads_stopped(self) -> None:
        """Once the threads are stopped, a large request is known not to be stored."""

        def stopped(function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
            return fail(NotRunning("stopped"))

        self.door = Door(stopped)
        for _ in range(LARGE_AT_ONCE + 1):
            (reply,) = self.send(self.large("m1")).replies
            self.assertEqual((503, "5"), (reply.status, reply.headers["retry-after"]))

    def test_too_many_waiting(self) -> None:
        """Beyond a number of large requests that wait, the next is told to come back."""
        clients = [self.send(self.large(f"m{n}")) for n in range(LARGE_AT_ONCE + LARGE_WAITING)]
        last = self.send(self.large("last"))

        self.assertEqual([503], [reply.status for reply in last.replies])
        self.assertIn("retry-after", last.replies[0].headers)
        self.threads.go_on()
        self.assertEqual({200}, {client.replies[0].status for client in clients})

    def test_too_many_values(self) -> None:
        """A body of a million values is refused before they are made; in a text they are none."""
        count = MAX_VALUES + 1
        many = MAX_VALUES * 6 // 10
        for body, status in (
            (b'{"messages":[%s]}' % b",".join([b"0"] * count), 413),
            (b'{"messages":[{"to":["%s"]}]}' % b'","'.join([b"\\\\"] * count), 413),
            (b'{"messages":[{"headers":%s}]}' % (b"[{}]," * (count // 3)), 413),
            (msgspec.json.encode({"messages": [message(body=',[{"' * count)]}), 200),
            (msgspec.json.encode({"messages": [message(to=["x"] * many, body="," * many)]}), 400),
        ):
            client = self.door.connect()
            client.send(request("POST", ADD, body))
            self.threads.go_on()
            self.assertEqual([status], [reply.status for reply in client.replies], body[:40])

    def test_bad_envelope(self) -> None:
        """A large body that is no envelope gives its turn back."""
        for _ in range(LARGE_AT_ONCE + 1):
            client = self.door.connect()
            client.send(request("POST", ADD, b"[" * INLINE_BYTES * 2))
            self.threads.go_on()
            self.assertEqual([422], [reply.status for reply in client.replies])

    def test_draining_meanwhile(self) -> None:
        """If the service begins to stop while a large body is read, nothing of it is stored."""
        client = self.send(self.large("m1"))
        self.door.control.stopping = True

        self.threads.go_on()

        self.assertEqual([503], [reply.status for reply in client.replies])
        self.assertEqual({}, self.door.store.states())

    def test_client_gone(self) -> None:
        """A client that leaves while its large body is read is served all the same."""
        client = self.send(self.large("m1"))
        client.transport.loseConnection()

        self.threads.go_on()

        self.assertEqual({"m1": "queued"}, self.door.store.states())
