"""Every call of the client, as the API answers it."""

from __future__ import annotations

import base64

from mailproxy.client import NotFound, Refused, Rejected, attachment, envelopes, new_id
from mailproxy.states import MessageState
from tests.api.door import ACCOUNT, message
from tests.api.test_removal import RemovalCase
from tests.client.door import DoorClient

RAW = b"From: a@example.com\r\nSubject: Hi\r\nMessage-ID: <x@example.com>\r\n\r\nText.\r\n"


class CallCase(RemovalCase):
    def setUp(self) -> None:
        super().setUp()
        self.one = DoorClient(door=self.door)
        self.client = self.one.client


class SubmissionTests(CallCase):
    def test_each_is_judged(self) -> None:
        """What was taken and what not is told of each message, by the ids that were made up too."""
        added = self.client.add_messages(
            [message("m1"), {"from": "a@example.com", "to": "b@example.org"}, message("m3", to=[])],
            default_priority="high",
        )
        self.assertEqual((2, ["m3"]), (added.queued, [each.id for each in added.rejected]))
        self.assertEqual(["queued", "queued", "rejected"], [each.state for each in added.items])
        self.assertRegex(added.items[1].id or "", "^[0-9a-f]{32}$")
        self.assertEqual({1}, {each.priority for each in self.client.messages()})

    def test_none_is_taken(self) -> None:
        """That all are rejected is a result as well; a refusal of the request is an error."""
        added = self.client.add_messages([message("m1", to=[]), message("m2", priority=[])])
        self.assertEqual((0, ["m1", "m2"]), (added.queued, [each.id for each in added.items]))
        self.assertIn("missing to", added.rejected[0].reason)
        self.assertRaises(
            Refused, self.client.add_messages, [message("m1")], default_priority="never"
        )

    def test_an_answer_is_kept(self) -> None:
        """With a key the same answer comes again."""
        first = self.client.add_messages([message("m1")], idempotency_key="k1")
        self.assertEqual(first, self.client.add_messages([message("m1")], idempotency_key="k1"))
        again = self.client.add_messages([message("m1")])
        self.assertEqual(1, again.queued)

    def test_one_message(self) -> None:
        """Texts, HTML, attachments and further fields arrive as they were given."""
        item = self.client.send(
            "Shop <shop@example.com>",
            ["ann@example.org", "bob@example.org"],
            "Füße",
            "Plain.",
            html="<p>Rich.</p>",
            id="order-1",
            bcc="boss@example.com",
            batch_code="spring",
            attachments=[attachment("a.txt", b"\0\xff", "text/plain")],
        )
        self.assertEqual(("order-1", "queued"), (item.id, item.state))
        view = self.client.message("order-1", body=True)
        self.assertEqual("spring", view.message.batch_code)
        self.assertEqual(
            {"ann@example.org", "bob@example.org", "boss@example.com"},
            {each.address for each in view.message.recipients},
        )
        mime = base64.b64decode(view.mime or "").decode()
        for part in ("multipart/alternative", "Plain.", "<p>Rich.</p>", "a.txt", "AP8="):
            self.assertIn(part, mime)
        self.assertNotIn("boss", mime)

    def test_one_that_is_rejected(self) -> None:
        """A single message that is not taken is an error with its id, whichever way it came."""
        with self.assertRaises(Rejected) as caught:
            self.client.send("a@example.com", "nobody", id="m1")
        self.assertEqual("m1", caught.exception.id)
        self.assertIn("to", caught.exception.reason)
        many = [f"{number:05}@example.org" for number in range(1000)]
        with self.assertRaises(Rejected) as caught:
            self.client.send_raw(RAW, "a@example.com", many)
        self.assertIsNone(caught.exception.status)
        with self.assertRaises(Rejected) as caught:
            self.client.send_raw(b"no header", "a@example.com", "b@example.org", id="m2")
        self.assertEqual(("m2", 400), (caught.exception.id, caught.exception.status))

    def test_raw(self) -> None:
        """Finished bytes are taken with their envelope; nobody is no sender."""
        item = self.client.send_raw(RAW, "", ["b@example.org", "c@example.org"], priority=0)
        self.assertEqual("queued", item.state)
        view = self.client.message(item.id or "", body=True)
        self.assertEqual(2, len(view.message.recipients))
        self.assertIn(b"Text.", base64.b64decode(view.mime or ""))
        self.assertEqual(0, view.message.priority)

    def test_envelopes(self) -> None:
        """Recipients are parted so that each part just goes with a request."""
        many = [f"{number:05}@example.org" for number in range(1000)]
        first, *others = envelopes(many)
        self.assertEqual(many, [*first, *(each for part in others for each in part)])
        self.assertEqual("queued", self.client.send_raw(RAW, "a@example.com", first).state)
        self.assertEqual([["a@b"]], list(envelopes(["a@b"], most=1)))
        self.assertEqual([], list(envelopes([])))

    def test_explained(self) -> None:
        """What would become of a message is told, and nothing is stored."""
        told = self.client.explain(message("m1"))
        self.assertTrue(told.accepted)
        assert told.envelope is not None
        assert told.account is not None
        self.assertEqual("to@example.org", told.envelope.recipients[0].address)
        self.assertEqual(ACCOUNT["id"], told.account["id"])
        self.assertFalse(self.client.explain(message("m1", to=[])).accepted)
        self.assertEqual([], list(self.client.messages()))


class MessageTests(CallCase):
    def test_lists_come_in_pages(self) -> None:
        """All messages come, page by page; or as many as are asked for."""
        ids = [f"m{number:04}" for number in range(1001)]
        self.client.add_messages(message(id) for id in ids)
        made = len(self.one.adapter.made)
        self.assertEqual(ids, sorted(each.id for each in self.client.messages()))
        self.assertEqual(3, len(self.one.adapter.made) - made)
        self.assertEqual(501, len(list(self.client.messages(limit=501))))
        self.assertEqual([], list(self.client.messages(limit=0)))

    def test_selected(self) -> None:
        """Lists are of a state, an account, a batch, and come with the history."""
        self.client.add_messages([message("m1", batch_code="a"), message("m2")])
        self.send(*self.claim())
        self.client.add_messages([message("m3")])
        ids = [each.id for each in self.client.messages(state=MessageState.QUEUED)]
        self.assertEqual(["m3"], ids)
        self.assertEqual(["m3"], [each.id for each in self.client.messages(active_only=True)])
        (one,) = self.client.messages(batch_code="a", account_id="smtp-main", include_history=True)
        assert one.history is not None
        self.assertEqual((MessageState.SENT, "accepted"), (one.state, one.history[0].kind))
        self.assertIsNone(next(self.client.messages(since=0)).history)

    def test_removed(self) -> None:
        """What waits is taken back; what ended and is told is forgotten."""
        self.client.add_messages([message("m1"), message("m2")])
        deleted = self.client.delete_messages(["m1", "nobody"])
        self.assertEqual((1, ["nobody"]), (deleted.removed, deleted.not_found))
        self.send(*self.claim())
        self.assertEqual("sent", self.client.delete_messages(["m2"]).detail[0].state)
        self.report()
        self.assertEqual(0, self.client.cleanup())
        self.assertEqual(1, self.client.cleanup(0))
        self.assertRaises(NotFound, self.client.message, "m2")

    def test_acts_on_a_message(self) -> None:
        """Each act is done, and tells how it stands."""
        self.client.add_messages([message("a/b")])
        acts = self.client.on_message("a/b")
        for told, state, changed in (
            (acts.hold("typo"), "held", True),
            (acts.hold(), "held", False),
            (acts.release(), "queued", True),
            (acts.retry(), "queued", False),
            (acts.cancel("wrong"), "cancelled", True),
            (acts.requeue(), "cancelled", False),
            (acts.resend(), "cancelled", False),
            (acts.close("sent"), "cancelled", False),
        ):
            self.assertEqual((state, changed), (told.state, told.changed), told)
        self.assertRaises(NotFound, self.client.on_message("nobody").hold)

    def test_acts_on_many(self) -> None:
        """Batches and accounts are held, listed as such, and let go."""
        self.client.add_messages([message("m1", batch_code="spring"), message("m2")])
        batch, account = self.client.on_batch("spring"), self.client.on_account("smtp-main")
        self.assertEqual((True, 1), (batch.hold("typo").held, batch.hold().waiting))
        self.assertTrue(account.hold().changed)
        self.assertEqual(
            [("spring", None, "typo"), (None, "smtp-main", "")],
            [(each.batch_code, each.account_id, each.reason) for each in self.client.holds()],
        )
        self.assertFalse(account.release(singly=True).held)
        for told in (batch.release(), batch.retry(), batch.requeue(since=0.0), batch.resend()):
            self.assertFalse(told.held)
        batch.close("failed")
        self.assertTrue(batch.cancel().changed)

    def test_domains(self) -> None:
        """A domain is paused, listed, and resumed."""
        self.assertTrue(self.client.pause_domain("Slow.example").paused)
        self.assertEqual(["slow.example"], [each.domain for each in self.client.destinations()])
        self.assertFalse(self.client.resume_domain("slow.example").paused)
        self.assertEqual([], self.client.destinations())

    def test_suppressions(self) -> None:
        """Addresses go on the list, one by one or as a file, and come off."""
        added = self.client.suppress("a@example.org", "b@example.org", reason="asked")
        self.assertEqual((2, 0), (added.added, added.known))
        imported = self.client.import_suppressions(b"b@example.org,again\nc@example.org,\nnobody\n")
        self.assertEqual((1, 1, 1), (imported.added, imported.known, imported.invalid))
        self.assertEqual([3], [each.line for each in imported.errors])
        self.client.unsuppress("a@example.org")
        self.assertEqual(
            [("b@example.org", "manual"), ("c@example.org", "import")],
            [(each.address, each.source) for each in self.client.suppressions()],
        )
        self.assertRaises(NotFound, self.client.unsuppress, "a@example.org")

    def test_events(self) -> None:
        """Events are read on from the last that was dealt with, and told again when asked."""
        client = self.one.with_token(self.door.add_key("default", new_id() * 2)).client
        for id in ("m1", "m2", "m3"):
            client.add_messages([message(id)])
            self.send(*self.claim())
        page = client.events(limit=2)
        self.assertEqual(["m1", "m2"], [each.id for each in page.events])
        (third,) = client.all_events(page.next)
        self.assertEqual(("m3", "sent"), (third.id, third.recipients[0].state))
        self.assertEqual([], client.events(third.number).events)
        self.assertEqual(1, client.replay(ids=["m1"]))
        self.assertEqual(3, client.replay(since=0))
        self.assertEqual({"m1", "m2", "m3"}, {each.id for each in client.all_events()})


class ServiceTests(CallCase):
    def test_how_it_is(self) -> None:
        """Health, status, metrics, processes, name and log."""
        self.assertTrue(self.client.health())
        status = self.client.status()
        self.assertEqual((True, 0), (status.active, (status.queue or {})["queued"]))
        self.assertEqual("mailproxy", self.client.instance().name)
        self.client.change_instance(name="post", active=False)
        self.assertEqual(
            ("post", False), (self.client.instance().name, self.client.status().active)
        )
        self.assertEqual("PUT /instance", next(self.client.command_log(limit=1)).command)
        (node,) = self.client.nodes()
        self.assertTrue(node.alive)

    def test_sending(self) -> None:
        """A campaign, or everything, is suspended and let go; a round is begun at once."""
        self.client.run_now()
        self.assertEqual(["spring"], self.client.suspend("spring").suspended_batches)
        self.assertTrue(self.client.activate("spring").active)
        self.assertFalse(self.client.suspend().active)
        self.assertRaises(Refused, self.client.activate, "spring")
        self.assertTrue(self.client.activate().active)

    def test_accounts(self) -> None:
        """An account is declared, changed, tried, and deleted."""
        self.client.add_account("other", "smtp.example.org", 587, user="u", password="p")
        self.client.add_account("other", "smtp.example.org", 587, user="u", limit_per_hour=5)
        by_id = {each.id: each for each in self.client.accounts()}
        self.assertEqual({"other", "smtp-main"}, set(by_id))
        other = by_id["other"]
        self.assertEqual((587, "starttls", 5), (other.port, other.tls_mode, other.limit_per_hour))
        self.assertTrue(self.client.test_account("other").works)
        self.client.delete_account("other")
        self.assertRaises(NotFound, self.client.test_account, "other")
        self.assertEqual(["smtp-main"], [each.id for each in self.client.accounts()])
        bound = self.one.with_token(self.door.add_key("default", "k" * 64)).client
        self.assertRaises(NotFound, bound.delete_account, "other")

    def test_tenants(self) -> None:
        """A tenant is registered, changed, tried and deleted."""
        key = self.client.add_tenant("shop", client_base_url="https://shop.example")
        self.assertNotIn(key.api_key, f"{key!r}{key!s}")
        bound = self.one.with_token(key.api_key, tenant_id="shop").client
        self.assertEqual(0, bound.status().pending_messages)
        self.client.change_tenant("shop", name="The shop", active=False)
        self.assertEqual("The shop", self.client.tenant("shop").name)
        self.assertNotIn("shop", [each.id for each in self.client.tenants(active_only=True)])
        self.assertIn("shop", [each.id for each in self.client.tenants()])
        self.assertIn("shop", [each.id for each in self.client.sync_status().tenants])
        self.assertIsInstance(self.client.test_sync("shop").acknowledged, bool)
        self.client.delete_tenant("shop")
        self.assertNotIn("shop", [each.id for each in self.client.tenants()])

    def test_a_bound_admin(self) -> None:
        """An admin's client for one tenant still manages the others."""
        bound = DoorClient(door=self.door, tenant_id="default").client
        bound.add_tenant("shop")
        self.assertEqual("shop", bound.tenant("shop").id)
        self.assertEqual(1, len(bound.keys("shop")))

    def test_keys(self) -> None:
        """Keys are made, listed by their beginnings, and ended."""
        made = self.client.add_key("default", label="web", scopes=["send"], ttl=60)
        (shown,) = self.client.keys("default")
        self.assertEqual(("web", ["send"]), (shown.label, shown.scopes))
        self.assertTrue(made.api_key.startswith(shown.prefix))
        self.client.delete_key("default", shown.prefix)
        self.assertEqual([], self.client.keys("default"))
        self.assertNotEqual(made.api_key, self.client.rotate_keys("default").api_key)
        self.client.delete_keys("default")
        self.assertEqual([], self.client.keys("default"))

    def test_credentials(self) -> None:
        """An SMTP credential is made, listed and ended."""
        made = self.client.add_credential("erp", password="correct horse", label="the ERP")
        self.assertEqual([made], self.client.credentials())
        self.assertTrue(made.has_password)
        self.client.delete_credential("erp")
        self.assertRaises(NotFound, self.client.delete_credential, "erp")

    def test_dkim(self) -> None:
        """A key is made, published, used, and removed."""
        made = self.client.add_dkim_key("example.com", "m1", algorithm="ed25519")
        self.assertEqual("m1._domainkey.example.com", made.dns.name.rstrip("."))
        self.assertTrue(self.client.activate_dkim_key("example.com", "m1").active)
        self.assertFalse(self.client.deactivate_dkim_key("example.com", "m1").active)
        self.assertEqual(["m1"], [each.selector for each in self.client.dkim_keys()])
        self.client.delete_dkim_key("example.com", "m1")
        self.assertEqual([], self.client.dkim_keys())
