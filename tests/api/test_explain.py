"""``POST /v1/explain``: what would become of an element, without taking it."""

from __future__ import annotations

import json
from base64 import b64decode
from email import message_from_bytes
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.call import SMALL_BYTES
from mailproxy.compose import compose
from mailproxy.payload import load
from tests import build
from tests.api.door import TOKEN, Door, Reply, message
from tests.fakes import EPOCH, result

OTHER = "k" * 64

#: Elements of every kind, good and bad, as values or as JSON.
CORPUS: list[Any] = [
    message(),
    message(subject="è", body="x" * 5000, content_type="html", cc="Ann <ann@example.org>"),
    message(to='"Rossi, Anna" <anna@EXAMPLE.org>, b@example.org', bcc=["b@example.org"]),
    message(account_id="smtp-main"),
    message(account_id="nobody"),
    message(tenant_id="default"),
    message(tenant_id="other"),
    message(tenant_id="sleeping"),
    message(tenant_id="nobody"),
    message(priority="high", deferred_ts=1_750_000_100, batch_code="spring", test=True),
    message(headers={"X-A": 5, "Bcc": "x", "Return-Path": "<>"}),
    message(attachments=[{"filename": "a.pdf", "storage_path": "base64:JVBERi0="}]),
    message(attachments=[{"filename": "a.pdf", "storage_path": "docs/1"}]),
    message(attachments=[{"filename": "a.pdf", "storage_path": "base64:JVBERi0=", "x": 1}]),
    message(attachments=[{"filename": "a.pdf", "storage_path": "/etc/passwd"}]),
    message(None),
    message(""),
    message("a\r\nb"),
    message(5),
    message(**{"from": None}),
    message(to=[]),
    message(to="nobody"),
    message(subject="a\r\nBcc: b@example.org"),
    message(message_id="a b"),
    message(batch_code="*"),
    message(priority="soon"),
    message(deferred_ts="x"),
    message(body=5),
    message(headers={"a b": "c"}),
    message(body="x" * (SMALL_BYTES + 1)),
    message(to=[f"a{n}@example.org" for n in range(1001)]),
    {},
    None,
    5,
    "text",
    [],
    b'{"id":"m1","from":"\xff"}',
    json.dumps(message(subject="\ud800")).encode(),
    json.dumps(message(unknown="\ud800")).encode(),
    b'{"id":"m1","body":%s1%s}' % (b"[" * 500, b"]" * 500),
    b'{"id":"m1","id":"m2","from":"a@b.c","to":"d@e.f"}',
    b' {"id":"m1","from":"a@b.c","to":"d@e.f"} ',
]


class ExplainCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()

    def explain(self, element: Any, query: str = "", token: str = TOKEN) -> Reply:
        return self.door.call("POST", f"/v1/explain{query}", element, token)

    def told(self, **fields: Any) -> Any:
        reply = self.explain(message(**fields))
        self.assertEqual((200, True), (reply.status, reply.json["ok"]))
        self.assertNotIn("rejected", reply.json)
        return reply.json


class SameJudgementTests(ExplainCase):
    def test_corpus(self) -> None:
        """Every element is judged as add-messages judges it, in the same words."""
        for element in CORPUS:
            data = element if isinstance(element, bytes) else msgspec.json.encode(element)
            door = self.door = Door()
            door.put_account()
            self._tenants()
            explained = self.explain(data)
            self.assertEqual(200, explained.status, data[:60])
            before = door.store.states()

            body = b'{"messages":[' + data + b"]}"
            added = door.call("POST", "/commands/add-messages?verbose=true", body).json

            self.assertEqual({}, before)
            (item,) = added["items"]
            self.assertEqual(
                (item["state"] != "rejected", item.get("reason"), item["id"]),
                tuple(explained.json[name] for name in ("accepted", "reason", "id")),
                data[:60],
            )
            if item["state"] != "rejected":
                self._same_mail(explained.json)

    def _tenants(self) -> None:
        self.door.add_key("other", OTHER)
        for name in ("a", "b"):
            account = {"id": name, "host": "smtp.example.net"}
            self.door.call("POST", "/account?tenant_id=other", account)
        self.door.call("POST", "/tenant", {"id": "sleeping", "active": False})

    def _same_mail(self, explained: Any) -> None:
        """What is stored is what was explained."""
        (row,) = self.door.store.disk.messages.values()
        envelope = explained["envelope"]
        self.assertEqual(
            (row.tenant_id, row.account_id, row.envelope_from, row.priority, row.test),
            (
                explained["tenant_id"],
                explained["account"]["id"],
                envelope["sender"],
                explained["priority"],
                explained["test"],
            ),
        )
        self.assertEqual(
            [(each.address, each.kind.value) for each in row.recipients],
            [(each["address"], each["kind"]) for each in envelope["recipients"]],
        )
        self.assertEqual(row.size, explained["size"])
        if explained["mime"] is None:
            self.assertEqual("attachments are not fetched yet", explained["mime_reason"])
            return
        if row.test:
            return  # the text went as it was accepted
        assert row.payload is not None
        mime = b64decode(explained["mime"])
        made = mime.split(b"\r\nMessage-ID: ")[1].split(b"\r\n")[0]
        wire = compose(
            load(row.payload),
            mail_id=row.id,
            message_id=made.decode(),
            date=row.accepted_at,
            parts=row.parts,
        )
        self.assertEqual(wire, mime)

    def test_default_accounts(self) -> None:
        """The account is the one that add-messages chooses."""
        for accounts in (
            [{"id": "b"}],
            [{"id": "b", "is_default": True}],
            [{"id": "b", "is_default": True}, {"id": "c", "is_default": True}],
            [{"id": "b", "is_default": True}, {"id": "smtp-main", "is_default": True}],
        ):
            door = self.door = Door()
            door.put_account()
            for account in accounts:
                door.clock.advance(1)
                door.put_account(**account)
            explained = self.told()
            reply = door.add(message())
            if reply.status == 400:
                self.assertEqual("account not found", explained["reason"])
                self.assertIsNone(explained["account"])
            else:
                (row,) = door.store.disk.messages.values()
                self.assertEqual(row.account_id, explained["account"]["id"])


class ExplanationTests(ExplainCase):
    def test_nothing_is_stored(self) -> None:
        """Nothing is written, whatever is asked."""
        writes = list(self.door.store.writes)
        for element in CORPUS:
            self.explain(element if isinstance(element, bytes) else msgspec.json.encode(element))
        self.assertEqual(writes, self.door.store.writes)

    def test_account(self) -> None:
        """The account is told without its secrets."""
        self.door.put_account(user="ann", password="canary", tls_mode="starttls", port=587)
        answer = self.told()
        self.assertEqual(
            {
                "id": "smtp-main",
                "host": "smtp.example.net",
                "port": 587,
                "tls_mode": "starttls",
                "login": True,
                "parked_reason": None,
            },
            answer["account"],
        )
        self.assertNotIn("canary", str(answer))

    def test_routes(self) -> None:
        """The accounts that may carry it are told in the order in which they are tried."""
        self.assertEqual([{"id": "smtp-main", "parked_reason": None}], self.told()["routes"])
        for name in ("b", "c"):
            self.door.put_account(id=name)
        self.door.put_account(fallback=["c", "missing", "b"], is_default=True)
        store = self.door.store
        (b,) = [each for each in result(store.accounts("default")) if each.id == "b"]
        result(store.park_account(b.pk, b.version, "auth: 535 no", EPOCH + 60, EPOCH))
        self.assertEqual(
            [
                {"id": "smtp-main", "parked_reason": None},
                {"id": "c", "parked_reason": None},
                {"id": "b", "parked_reason": "auth: 535 no"},
            ],
            self.told()["routes"],
        )
        self.assertEqual([], self.told(account_id="nobody")["routes"])

    def test_shares(self) -> None:
        """Where accounts share the mail, each id has its own first account."""
        self.door.put_account(id="b")
        self.door.put_account(weights={"smtp-main": 1, "b": 1}, is_default=True)
        routes = [[r["id"] for r in self.told(id=f"m{n}")["routes"]] for n in range(40)]
        self.assertEqual({("smtp-main", "b"), ("b", "smtp-main")}, set(map(tuple, routes)))

    def test_limits(self) -> None:
        """The limits are those of service, account and tenant."""
        self.door.put_account(limit_per_minute=5, limit_per_day="100")
        self.door.call("POST", "/tenant", {"id": "default", "rate_limits": {"hourly": 50}})
        self.assertEqual(
            {
                "max_message_bytes": 50 * 1024 * 1024,
                "max_recipients": 1000,
                "per_minute": 5,
                "per_hour": None,
                "per_day": 100,
                "tenant_hourly": 50,
                "tenant_daily": None,
                "limited_until": None,
                "limited_reason": None,
            },
            self.told()["limits"],
        )

    def test_limited(self) -> None:
        """A limit that is met now is told, and until when; another account's is not."""
        self.door.put_account(limit_per_day=1, is_default=True)
        self.door.put_account(id="other")
        store = self.door.store
        result(store.enqueue([build.new_message(id="m1", account_id="smtp-main")], EPOCH, 5.0))
        account = result(store.accounts(None))[1]
        (claimed,) = result(store.claim(account.pk, 10, EPOCH))
        result(store.begin([(claimed.pk, claimed.token)], account.id, EPOCH))
        limits = self.told()["limits"]
        self.assertEqual(
            (EPOCH + 86_400, "rate limit exceeded (per day)"),
            (limits["limited_until"], limits["limited_reason"]),
        )
        self.assertIsNone(self.told(account_id="other")["limits"]["limited_until"])

    def test_suppressed_and_paused(self) -> None:
        """Recipients that would fail, or wait, are marked."""
        self.door.call("POST", "/v1/suppressions", {"address": "a@example.org"})
        self.door.call("POST", "/v1/destinations/example.net/pause")
        told = self.told(to=["a@example.org", "b@example.org", "c@EXAMPLE.net"])
        self.assertEqual(
            [
                ("a@example.org", True, False),
                ("b@example.org", False, False),
                ("c@example.net", False, True),
            ],
            [
                (each["address"], each["suppressed"], each["paused"])
                for each in told["envelope"]["recipients"]
            ],
        )
        self.assertIs(True, told["accepted"])

    def test_message_id_is_kept(self) -> None:
        """The mail of an id that is known would keep its Message-ID."""
        self.door.add(message())
        row = self.door.store.disk.find("default", "m1")
        assert row is not None
        mime = b64decode(self.told(body="other")["mime"])
        self.assertIn(f"\r\nMessage-ID: {row.message_id}\r\n".encode(), mime)

    def test_large(self) -> None:
        """A large element is judged in a thread, one that is too large is a 413."""
        self.assertGreater(self.told(body="x" * SMALL_BYTES)["size"], SMALL_BYTES)

    def test_no_element(self) -> None:
        """What is not one JSON value is a 422."""
        for body in (
            b"",
            b" ",
            b"{",
            b"{},{}",
            b"{}] ,",
            b'{}],"messages":[{}',
            b"\xff",
            b"[" * 100_000,
            b"]",
            b"nul",
        ):
            reply = self.explain(body)
            self.assertEqual(422, reply.status, body[:20])
            self.assertNotIn("rejected", reply.json)

    def test_tenants(self) -> None:
        """A tenant asks for itself; the admin for whom it names."""
        self.door.add_key("other", OTHER)
        reply = self.explain(message(tenant_id="default"), token=OTHER)
        self.assertEqual(
            "invalid tenant_id: not the tenant of the token or the query", reply.json["reason"]
        )
        reply = self.explain(message(), token=OTHER)
        self.assertEqual(
            ("other", "account not found"), (reply.json["tenant_id"], reply.json["reason"])
        )
        self.assertEqual(401, self.explain(message(), "?tenant_id=default", OTHER).status)

    def test_test_key(self) -> None:
        """With a key for tests everything is one."""
        self.door.add_key("other", OTHER, test=True)
        self.assertIs(True, self.explain(message(), token=OTHER).json["test"])


class SameIdTests(ExplainCase):
    """What is told of an id that is known is what add-messages then does."""

    def setUp(self) -> None:
        super().setUp()
        self.to = ["a@example.org", "b@example.org"]
        self.door.add(message("m1", to=self.to))

    def check(self, state: str, *others: dict[str, Any]) -> None:
        """The element that is stored, and *others*, fare as was told."""
        self.assertEqual({"m1": state}, self.door.store.states())
        for name, fields in (("same_content", {}), *(("other_content", f) for f in others)):
            stored = self.told(**{"id": "m1", "to": self.to, **fields})["stored"]
            self.assertEqual(state, stored["state"])
            reply = self.door.add(
                message(**{"id": "m1", "to": self.to, **fields}), query="?verbose=1"
            )
            self.assertEqual(stored[name], reply.json["items"][0]["state"], (state, fields))
            if self.door.store.states() != {"m1": state}:
                return

    def begin(self, *changes: Any, **record: Any) -> None:
        (account,) = result(self.door.store.accounts("default"))
        (claimed,) = result(self.door.store.claim(account.pk, 1, EPOCH))
        begun = self.door.store.begin([(claimed.pk, claimed.token)], "smtp-main", EPOCH)
        self.assertEqual([True], result(begun))
        if changes:
            told = build.record(claimed, *changes, at=EPOCH, **record)
            result(self.door.store.record([told]))

    def test_unknown(self) -> None:
        """Of an id that is not known nothing is told."""
        self.assertIsNone(self.told(id="m2")["stored"])

    def test_queued(self) -> None:
        """Waiting without an attempt."""
        self.check("queued", {"body": "other"})

    def test_in_flight(self) -> None:
        """Under way."""
        self.begin()
        self.check("in_flight", {"body": "other"})

    def test_deferred(self) -> None:
        """Waiting after an attempt."""
        self.begin(build.put_off(0), build.put_off(1), next_at=EPOCH + 60)
        self.check("deferred", {"body": "other"})

    def test_sent(self) -> None:
        """Sent."""
        self.begin(build.accepted(0), build.accepted(1))
        self.check("sent", {"body": "other"}, {"to": ["new@example.org"]})

    def test_failed(self) -> None:
        """Failed: those who have it do not get it again."""
        self.begin(build.accepted(0), build.refused(1))
        self.to = ["a@example.org"]
        self.check("failed")
        self.to = ["a@example.org", "b@example.org"]
        self.check("failed")

    def remove(self) -> None:
        """It is reported, and cleaned up."""
        result(self.door.store.ack_all("default", EPOCH))
        self.assertEqual(1, result(self.door.store.cleanup("default", EPOCH, EPOCH)))

    def test_removed(self) -> None:
        """Removed: what is remembered of it says who has it, and what it was called."""
        self.begin(build.accepted(0), build.refused(1))
        before = self.mime_of(self.told(id="m1", to=self.to))["Message-ID"]
        self.remove()
        for to, expected in (
            (["a@example.org", "c@example.org"], "queued"),
            (self.to, "queued"),
            (["a@example.org"], "duplicate"),
        ):
            told = self.told(id="m1", to=to)
            stored = told["stored"]
            self.assertEqual(
                ("failed", True, 0), tuple(stored[n] for n in ("state", "removed", "attempts"))
            )
            self.assertEqual([expected] * 2, [stored["same_content"], stored["other_content"]])
            self.assertEqual(before, self.mime_of(told)["Message-ID"])
        test = self.told(id="m1", to=self.to, test=True)["stored"]
        self.assertEqual("duplicate", test["same_content"])
        self.to = ["a@example.org"]
        reply = self.door.add(message("m1", to=self.to), query="?verbose=1")
        self.assertEqual("duplicate", reply.json["items"][0]["state"])
        self.assertFalse(self.told(id="m1", to=self.to)["stored"]["removed"])

    def test_removed_and_back(self) -> None:
        """Who had it before it was removed is remembered also when it is there again."""
        self.begin(build.accepted(0), build.refused(1))
        self.remove()
        self.door.add(message("m1", to=["c@example.org"]))
        self.begin(build.refused(0))
        self.to = ["a@example.org"]
        self.check("failed")

    @staticmethod
    def mime_of(told: Any) -> Any:
        return message_from_bytes(b64decode(told["mime"]))

    def test_tests(self) -> None:
        """A test leaves real mail alone; real mail comes in the place of a test."""
        self.check("queued", {"test": True})
        self.begin(build.accepted(0), build.accepted(1))
        self.check("sent", {"test": True})
        self.door.add(message("t", test=True))
        for fields, expected in (({"test": True}, "duplicate"), ({}, "queued")):
            stored = self.told(id="t", **fields)["stored"]
            self.assertEqual(("sent", expected), (stored["state"], stored["same_content"]))
            reply = self.door.add(message("t", **fields), query="?verbose=1")
            self.assertEqual(expected, reply.json["items"][0]["state"])

    def test_uncertain(self) -> None:
        """Nobody knows."""
        self.begin(build.unknown(0), build.unknown(1))
        self.check("uncertain", {"body": "other"})
