"""``GET /messages``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import attrs
from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.listing import LOOKS, PAGE
from mailproxy.api.record import BODY_SHOWN
from mailproxy.api.streaming import STALLED
from mailproxy.errors import StoreUnavailable
from mailproxy.records import ListQuery, MessageRecord
from mailproxy.search import Found, Wanted, select
from tests import build
from tests.api.door import Door, Reply, message, request
from tests.fake_store import FakeStore
from tests.fakes import result


class ListingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def listed(self, query: str = "") -> list[dict[str, Any]]:
        reply = self.door.call("GET", f"/messages{query}")
        self.assertEqual((200, True), (reply.status, reply.json["ok"]), reply.body)
        self.assertNotIn("rejected", reply.json)
        messages = reply.json["messages"]
        assert isinstance(messages, list)
        return messages

    def ids(self, query: str = "") -> list[str]:
        return [one["id"] for one in self.listed(query)]

    def attempt(self, *changes: Any, **deferral: Any) -> None:
        """Let the account's due messages be tried, with this outcome for each."""
        now = self.door.clock.now()
        (account,) = result(self.door.store.accounts(None))
        claimed = result(self.door.store.claim(account.pk, 10, now))
        result(self.door.store.begin([(c.pk, c.token) for c in claimed], account.id, now))
        if deferral:
            records = [build.deferral(c, *changes, at=now, **deferral) for c in claimed]
        else:
            records = [build.record(c, *changes, at=now) for c in claimed]
        result(self.door.store.record(records))


class SearchTests(ListingTests):
    def setUp(self) -> None:
        super().setUp()
        self.door.add(
            message("order-1", to=["ann@example.org"], subject="Invoice", body="secret text"),
            message("order-2", to=["bob@example.org"], subject="For Ann"),
            message("order-3", to=["cid@example.org"]),
        )

    def test_search(self) -> None:
        """Messages are searched for by id, address and subject, alone and together."""
        self.assertEqual(["order-1", "order-2"], self.ids("?search=ANN"))
        self.assertEqual(["order-1"], self.ids("?recipient=ann%40"))
        self.assertEqual(["order-2"], self.ids("?subject=ann"))
        self.assertEqual(["order-2"], self.ids("?search=order&subject=ann&state=queued"))
        self.assertEqual([], self.ids("?search=ann&state=sent"))

    def test_brief(self) -> None:
        """What is found, or asked for in brief, comes without its text, and else as ever."""
        (whole,) = self.listed("?limit=1")
        self.assertEqual("secret text", whole["message"].pop("body"))
        whole["message"].pop("content_type")
        for query in ("?search=order-1", "?brief=true&limit=1"):
            self.assertEqual([whole], self.listed(query))

    def test_cursor(self) -> None:
        """A search that found enough goes on behind its cursor."""
        first = self.door.call("GET", "/messages?search=order&limit=2").json
        self.assertEqual(["order-1", "order-2"], [each["id"] for each in first["messages"]])
        then = self.door.call(
            "GET", f"/messages?search=order&limit=2&cursor={quote(first['next'])}"
        ).json
        self.assertEqual(["order-3"], [each["id"] for each in then["messages"]])
        self.assertNotIn("next", then)

    def test_bounded(self) -> None:
        """One answer looks at so many messages; the next goes on where it ended."""
        door = Door(store=ShortSighted)
        door.put_account()
        door.add(*(message(f"m{n}") for n in range(LOOKS)), message("needle"))
        first = door.call("GET", "/messages?search=needle").json
        self.assertEqual([], first["messages"])
        then = door.call("GET", f"/messages?search=needle&cursor={quote(first['next'])}").json
        self.assertEqual(["needle"], [each["id"] for each in then["messages"]])
        self.assertNotIn("next", then)

    def test_history(self) -> None:
        """Timelines come with what is found, if they are asked for."""
        (found,) = self.listed("?search=order-1&include_history=true")
        self.assertEqual(["accepted"], [each["kind"] for each in found["history"]])

    def test_bad_cursor(self) -> None:
        """A cursor that is none of ours is refused."""
        self.assertEqual(422, self.door.call("GET", "/messages?search=x&cursor=y").status)


class ShortSighted(FakeStore):
    """A store that looks at one message at a time."""

    async def search(self, query: ListQuery, wanted: Wanted) -> Found:
        (*page,) = await self.messages(attrs.evolve(query, limit=1))
        return select(page, wanted, query.limit)


class RecordTests(ListingTests):
    def test_queued(self) -> None:
        """A waiting message is shown with what the client wrote, in the client's words."""
        self.door.add(
            message(
                "m1",
                account_id="smtp-main",
                to=['"Rossi, Anna" <anna@example.org>', "b@example.org"],
                cc="c@example.org",
                bcc="d@example.org",
                reply_to="R <r@example.com>, s@example.com",
                return_path="p@example.com",
                headers={"X-A": "1"},
                priority=1,
                batch_code="spring",
                deferred_ts=1_750_000_500,
            )
        )
        (shown,) = self.listed()
        self.assertEqual(("m1", "default", "smtp-main"), _three(shown))
        self.assertEqual(("queued", 0, 1), (shown["state"], shown["attempts"], shown["priority"]))
        self.assertEqual(("spring", 1_750_000_500), (shown["batch_code"], shown["deferred_ts"]))
        for name in ("sent_ts", "error_ts", "error", "deferred_reason", "reported_ts"):
            self.assertIsNone(shown[name], name)
        self.assertEqual("2025-06-15T15:06:40+00:00", shown["created_at"])
        self.assertEqual(
            {
                "id": "m1",
                "account_id": "smtp-main",
                "priority": 1,
                "deferred_ts": 1_750_000_500,
                "expires_at": None,
                "batch_code": "spring",
                "retry_count": 0,
                "from": "Sender <sender@example.com>",
                "to": ['"Rossi, Anna" <anna@example.org>', "b@example.org"],
                "cc": ["c@example.org"],
                "bcc": ["d@example.org"],
                "reply_to": "R <r@example.com>, s@example.com",
                "subject": "Hello",
                "body": "Hello, world.\n",
                "content_type": "plain",
                "return_path": "p@example.com",
                "headers": {"X-A": "1"},
            },
            shown["message"],
        )

    def test_submitted_again(self) -> None:
        """What is shown can be submitted again, and is the same content."""
        self.door.add(
            message("m1", body_html="<b>x</b>", body_plain="x", body="", headers={"A": "b"})
        )
        (shown,) = self.listed()
        (row,) = self.door.store.disk.messages.values()
        digest = row.digest
        again = {name: v for name, v in shown["message"].items() if name != "account_id"}
        reply = self.door.add(again, query="?verbose=1")
        self.assertEqual([{"id": "m1", "state": "queued"}], reply.json["items"])
        self.assertEqual(digest, row.digest)

    def test_texts(self) -> None:
        """The text is shown under the name that says what it is."""
        self.door.add(
            message("m1", body="x", content_type="html"),
            message("m2", body_html="h", body_plain="p", body=""),
            message("m3", body=None),
        )
        shown = {one["id"]: one["message"] for one in self.listed()}
        self.assertEqual(("x", "html"), (shown["m1"]["body"], shown["m1"]["content_type"]))
        self.assertEqual(("h", "p"), (shown["m2"]["body_html"], shown["m2"]["body_plain"]))
        self.assertNotIn("body", shown["m2"])
        self.assertEqual(("", "plain"), (shown["m3"]["body"], shown["m3"]["content_type"]))

    def test_long_text(self) -> None:
        """A long text is cut at 64 kB, between two characters; a text of just that is not."""
        for text, cut in (
            ("x" * BODY_SHOWN, False),
            ("x" * (BODY_SHOWN + 1), True),
            ("€" * BODY_SHOWN, True),
            ("€" * (BODY_SHOWN // 3), False),
        ):
            self.door.add(message("m1", body=text))
            (shown,) = self.listed()
            got = shown["message"]["body"]
            self.assertTrue(text.startswith(got))
            self.assertLessEqual(len(got.encode()), BODY_SHOWN)
            self.assertEqual(cut, shown["message"].get("body_truncated", False))
            self.assertEqual(cut, got != text)

    def test_attachments(self) -> None:
        """Of an attachment size and digest are shown, not the content."""
        file = {"filename": "a.txt", "storage_path": "base64:Y29udGVudA=="}
        self.door.add(message(attachments=[file]))
        (shown,) = self.listed()
        digest = hashlib.sha256(b"content").hexdigest()
        self.assertEqual(
            [{"filename": "a.txt", "mime_type": "text/plain", "size": 7, "sha256": digest}],
            shown["message"]["attachments"],
        )

    def test_attachments_to_be_fetched(self) -> None:
        """What is not here yet has no size, and where it comes from is not shown."""
        self.door.add(message(attachments=[{"filename": "a.pdf", "storage_path": "docs/1"}]))
        (shown,) = self.listed()
        self.assertEqual(
            [{"filename": "a.pdf", "mime_type": "application/pdf", "size": None, "sha256": None}],
            shown["message"]["attachments"],
        )

    def test_sent(self) -> None:
        """A sent message shows when it was sent, and what each recipient's server said."""
        self.door.add(message())
        self.attempt()
        (shown,) = self.listed()
        self.assertEqual(("sent", 1_750_000_000), (shown["state"], shown["sent_ts"]))
        self.assertEqual((1, 0), (shown["attempts"], shown["message"]["retry_count"]))
        self.assertIsNone(shown["error"])
        (recipient,) = shown["recipients"]
        self.assertEqual(("to@example.org", "sent", 250), _recipient(recipient))

    def test_deferred(self) -> None:
        """A deferral is no error: its reason is told apart."""
        self.door.add(message())
        self.attempt(next_at=self.door.clock.now() + 60)
        (shown,) = self.listed()
        self.assertEqual(("deferred", 1), (shown["state"], shown["message"]["retry_count"]))
        self.assertEqual((None, None), (shown["error"], shown["error_ts"]))
        self.assertEqual("451 4.2.0 greylisted", shown["deferred_reason"])

    def test_failed(self) -> None:
        """What has finally failed shows the error and when it was."""
        self.door.add(message())
        self.attempt(build.refused())
        (shown,) = self.listed()
        self.assertEqual(("failed", 1_750_000_000), (shown["state"], shown["error_ts"]))
        self.assertIn("5.1.1 no such user", shown["error"])

    def test_content_gone(self) -> None:
        """A message whose content is no longer stored is shown without it; so is a damaged one."""
        self.door.add(message("m1"), message("m2"))
        one, two = self.door.store.disk.messages.values()
        one.payload, two.payload = None, b"{"
        shown = {record["id"]: record["message"] for record in self.listed()}
        self.assertNotIn("subject", shown["m1"])
        self.assertEqual((0, True), (shown["m1"]["retry_count"], shown["m2"]["damaged"]))

    def test_text_gone(self) -> None:
        """Of a message that was sent everything is shown but its text."""
        self.door.add(message("m1", to="b@example.org", subject="Yours", body="my secret"))
        self.assertIn("body", self.listed()[0]["message"])
        self.attempt()
        (shown,) = self.listed()
        self.assertEqual(
            ("sent", ["b@example.org"], "Yours"),
            (shown["state"], shown["message"]["to"], shown["message"]["subject"]),
        )
        self.assertNotIn("body", shown["message"])
        self.assertNotIn("content_type", shown["message"])

    def test_history(self) -> None:
        """With its history a message shows every event."""
        self.door.add(message())
        self.attempt()
        (shown,) = self.listed("?include_history=true")
        self.assertEqual(["accepted", "intent", "outcome"], [e["kind"] for e in shown["history"]])
        self.assertNotIn("history", self.listed()[0])


def _three(shown: dict[str, Any]) -> tuple[Any, ...]:
    return shown["id"], shown["tenant_id"], shown["account_id"]


def _recipient(shown: dict[str, Any]) -> tuple[Any, ...]:
    return shown["address"], shown["state"], shown["code"]


class QueryTests(ListingTests):
    def test_order(self) -> None:
        """The unfinished come first, by priority and age; then the finished, newest first."""
        self.door.add(message("done"))
        self.attempt()
        self.door.clock.advance(1)
        self.door.add(message("low", priority=3), message("high", priority=0))
        self.assertEqual(["high", "low", "done"], self.ids())

    def test_filters(self) -> None:
        """Each filter leaves out what does not fit."""
        self.door.put_account(id="other", is_default=False)
        self.door.add(message("done", account_id="smtp-main"))
        (row,) = self.door.store.disk.messages.values()
        claimed = result(self.door.store.claim(row.account_pk, 1, self.door.clock.now()))
        lease = [(claimed[0].pk, claimed[0].token)]
        result(self.door.store.begin(lease, "smtp-main", self.door.clock.now()))
        result(self.door.store.record([build.record(claimed[0], at=self.door.clock.now())]))
        self.door.clock.advance(100)
        self.door.add(
            message("a", account_id="other"), message("b", account_id="smtp-main", batch_code="c")
        )
        for query, expected in (
            ("", ["a", "b", "done"]),
            ("?active_only=true", ["a", "b"]),
            ("?active_only=false", ["a", "b", "done"]),
            ("?state=sent", ["done"]),
            ("?state=queued", ["a", "b"]),
            ("?account_id=other", ["a"]),
            ("?batch_code=c", ["b"]),
            ("?since=1750000050", ["a", "b"]),
            ("?tenant_id=default", ["a", "b", "done"]),
            ("?limit=1", ["a"]),
            ("?state=&limit=&unknown=1", ["a", "b", "done"]),
        ):
            self.assertEqual(expected, self.ids(query), query)

    def test_tenants(self) -> None:
        """A tenant lists its own, whatever it filters by; the admin one tenant's or all."""
        key = "k" * 64
        self.door.add(message("ours", batch_code="spring"))
        self.door.add_key("other", key)
        account = {"id": "smtp-main", "host": "smtp.example.net"}
        self.door.call("POST", "/account", account, key)
        body = {"messages": [message("a"), message("theirs", batch_code="spring")]}
        self.door.call("POST", "/commands/add-messages", body, key)
        for query, expected in (
            ("", ["a", "theirs"]),
            ("?tenant_id=other", ["a", "theirs"]),
            ("?batch_code=spring", ["theirs"]),
            ("?account_id=smtp-main", ["a", "theirs"]),
            ("?active_only=true&state=queued", ["a", "theirs"]),
            ("?since=1750000001", []),
        ):
            found = self.door.call("GET", f"/messages{query}", token=key).json["messages"]
            self.assertEqual({"other"} if expected else set(), {one["tenant_id"] for one in found})
            self.assertEqual(expected, sorted(one["id"] for one in found), query)
        everything = self.door.call("GET", "/messages?account_id=smtp-main").json["messages"]
        self.assertEqual({"default", "other"}, {one["tenant_id"] for one in everything})
        self.assertEqual(
            401, self.door.call("GET", "/messages?tenant_id=default", token=key).status
        )
        self.assertEqual(400, self.door.call("GET", "/messages?tenant_id=nobody").status)

    def test_bad_query(self) -> None:
        """A query that makes no sense is a 422 that names the parameter."""
        for query, name in (
            ("state=gone", "state"),
            ("limit=0", "limit"),
            ("limit=x", "limit"),
            ("limit=nan", "limit"),
            ("limit=1e400", "limit"),
            ("since=yesterday", "since"),
            ("since=-1", "since"),
            ("active_only=perhaps", "active_only"),
            ("include_history=perhaps", "include_history"),
            ("cursor=nonsense", "cursor"),
        ):
            reply = self.door.call("GET", f"/messages?{query}")
            self.assertEqual(422, reply.status, query)
            self.assertEqual(["query", name], reply.json["detail"][0]["loc"])
            self.assertNotIn("rejected", reply.json)

    def test_pages(self) -> None:
        """The cursor of a limited answer leads on to the rest, and there is none at the end."""
        self.door.add(*[message(f"m{n:03}") for n in range(PAGE * 2 + 5)])
        for limit in (1000, PAGE * 2 + 5, PAGE * 2 + 4, PAGE, 7):
            seen: list[str] = []
            cursor = ""
            while True:
                reply = self.door.call("GET", f"/messages?limit={limit}{cursor}")
                page = [one["id"] for one in reply.json["messages"]]
                self.assertLessEqual(len(page), limit)
                seen += page
                if "next" not in reply.json:
                    break
                cursor = f"&cursor={_quoted(reply.json['next'])}"
            self.assertEqual([f"m{n:03}" for n in range(PAGE * 2 + 5)], seen, limit)


def _quoted(text: str) -> str:
    return "".join(f"%{byte:02x}" for byte in text.encode())


class FussyStore(FakeStore):
    """A store that fails when a list gets to its second page, or gives short pages."""

    error: Exception | None = None
    most = 1000
    pages = 0

    async def messages(self, query: ListQuery) -> list[MessageRecord]:
        self.pages += 1
        if self.error is not None and query.after is not None:
            raise self.error
        return await super().messages(attrs.evolve(query, limit=min(query.limit, self.most)))


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door(store=FussyStore)
        self.store = self.door.store
        assert isinstance(self.store, FussyStore)
        self.fussy = self.store
        self.door.put_account()
        self.door.add(*[message(f"m{n:03}") for n in range(PAGE * 3)])
        self.client = self.door.connect()

    def producer(self) -> Any:
        return IPushProducer(self.client.transport.producer)

    def ids(self, replies: Sequence[Reply]) -> list[str]:
        (reply,) = replies
        return [one["id"] for one in reply.json["messages"]]

    def test_no_faster_than_the_client(self) -> None:
        """While the client takes nothing, no further page is written."""
        self.client.transport.full = True
        self.client.send(request("GET", "/messages"))

        read: list[int] = []
        written: list[int] = []
        while not self.client.transport.value().endswith(b"\r\n0\r\n\r\n"):
            read.append(self.fussy.pages)
            written.append(len(self.client.transport.value()))
            self.producer().resumeProducing()

        self.assertEqual([1, 2, 3, 4], read)
        self.assertEqual(sorted(set(written)), written)
        self.assertEqual(PAGE * 3, len(self.ids(self.client.replies)))

    def test_stalled(self) -> None:
        """A client that takes nothing for a minute is given up."""
        clock = self.door.clock
        transport = self.client.transport
        self.client.transport.full = True
        self.client.send(request("GET", "/messages"))
        written = len(transport.value())
        clock.advance(STALLED - 1)
        self.assertTrue(self.client.open)

        clock.advance(1)

        self.assertFalse(self.client.open)
        self.assertEqual(written, len(transport.value()))

    def test_client_leaves(self) -> None:
        """When the client leaves, no further page is read, and nothing is logged as an error."""
        self.client.transport.full = True
        timers = set(self.door.clock.getDelayedCalls())
        self.client.send(request("GET", "/messages"))
        pages = self.fussy.pages

        self.client.transport.loseConnection()

        self.assertEqual(pages, self.fussy.pages)
        self.assertLess(set(self.door.clock.getDelayedCalls()), timers)

    def test_cursor_the_store_does_not_like(self) -> None:
        """However the store refuses a cursor, it is the client's mistake."""
        for error in (ValueError(), TypeError(), OverflowError()):
            self.fussy.error = error
            self.client.send(request("GET", "/messages?cursor=u:0:1"))
        self.assertEqual([422] * 3, [reply.status for reply in self.client.replies])

    def test_fails_at_once(self) -> None:
        """A store that cannot be read at all is a 503."""
        self.store.close()
        self.client.send(request("GET", "/messages"))
        (reply,) = self.client.replies
        self.assertEqual(503, reply.status)

    def test_fails_halfway(self) -> None:
        """A list that cannot be read to its end is cut off, never made to look whole."""
        self.fussy.error = StoreUnavailable("gone")
        self.client.send(request("GET", "/messages"))

        self.assertFalse(self.client.open)
        self.assertNotIn(b"0\r\n\r\n", self.client.transport.value()[-20:])
        self.assertNotIn(b'"ok":false', self.client.transport.value())

    def test_breaks_halfway(self) -> None:
        """The same goes for what nobody foresaw, which is logged."""
        self.fussy.error = ZeroDivisionError()
        self.client.send(request("GET", "/messages"))

        self.assertFalse(self.client.open)
        self.assertNotIn(b'"ok":false', self.client.transport.value())
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))

    def test_short_pages(self) -> None:
        """A store may give shorter pages than asked for; only an empty one is the end."""
        self.fussy.most = 7
        self.client.send(request("GET", "/messages?limit=200"))
        self.assertEqual([f"m{n:03}" for n in range(200)], self.ids(self.client.replies))
        self.assertIn("next", self.client.replies[0].json)

    def test_used_again(self) -> None:
        """After a list the connection serves the next request."""
        self.client.send(request("GET", "/messages?limit=3") + request("GET", "/livez"))
        self.assertEqual([200, 200], [reply.status for reply in self.client.replies])

    def test_head(self) -> None:
        """HEAD of a list has no body."""
        self.client.send(request("HEAD", "/messages") + request("GET", "/livez"))
        first, _, rest = self.client.transport.value().partition(b"\r\n\r\n")
        self.assertTrue(first.startswith(b"HTTP/1.1 200"))
        self.assertTrue(rest.startswith(b"HTTP/1.1 200"), rest[:50])
