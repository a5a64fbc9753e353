"""Genropy's own mail code, as it is installed, lives with the service through good and bad days."""

from __future__ import annotations

import base64
import datetime
import email
from typing import Any

from werkzeug.wrappers import Response

from tests.peers.genropy.site import ATTACHMENTS, SYNC
from tests.scenarios.genropy_case import BATCH, GenropyCase, once
from tests.scenarios.processes import wait_until

#: Messages of the campaign.
MANY = 1200


def maintenance(page: Any) -> Response:
    """What stands in front of a site that is being worked at."""
    return Response("<html><body>Back soon.</body></html>", mimetype="text/html")


def lost(page: Any) -> None:
    """The page does its work, and nobody hears of it."""
    page()


def unavailable(page: Any) -> Response:
    return Response("Service Unavailable", 503)


class RegisteredTests(GenropyCase):
    """The site registered itself with one account."""

    def setUp(self) -> None:
        super().setUp()
        self.main = self.account()
        self.assertEqual({"ok": True, "synced": 1, "failed": 0}, self.said(self.register()))

    def said(self, result: dict[str, Any]) -> dict[str, Any]:
        return {key: result.get(key) for key in ("ok", "synced", "failed")}

    def suspend(self) -> None:
        """An operator lets the site's mail wait."""
        answer = self.service.call("POST", "/commands/suspend?tenant_id=shop")
        self.assertEqual(200, answer.status, answer.raw)

    def activate(self) -> None:
        answer = self.service.call("POST", "/commands/activate?tenant_id=shop")
        self.assertEqual(200, answer.status, answer.raw)

    def wait_taken(self, *ids: str) -> None:
        """Wait until the site knows that the service has these messages."""
        wait_until(
            lambda: all(self.row(id)["proxy_ts"] or self.row(id)["error_ts"] for id in ids),
            what="the submission",
        )

    def forget_password(self) -> None:
        """The user that the service calls as gets another password, and nobody tells it."""
        with self.site.db.table("adm.user").recordToUpdate(username="mailproxy") as user:
            user["md5pwd"] = "another one"
        self.site.db.commit()

    def test_accounts_follow_the_sites(self) -> None:
        """Accounts come, change and go with the site's records; secrets are not told back."""
        other = self.account("other", smtp_username="me", smtp_password="geheim-1", smtp_tls=True)
        found = {each["id"]: each for each in self.client.list_accounts()["accounts"]}
        self.assertEqual({self.main, other}, set(found))
        self.assertEqual(("me", True), (found[other]["user"], found[other]["use_tls"]))
        accounts = self.site.db.table("email.account")
        with accounts.recordToUpdate(other) as record:
            record["smtp_host"], record["smtp_port"] = "localhost", 2525
        self.site.db.commit()
        (changed,) = [a for a in self.client.list_accounts()["accounts"] if a["id"] == other]
        self.assertEqual(("localhost", 2525), (changed["host"], changed["port"]))
        with accounts.recordToUpdate(other) as record:
            record["save_output_message"] = False
        self.site.db.commit()
        self.assertEqual([self.main], [a["id"] for a in self.client.list_accounts()["accounts"]])
        tenant = self.client.get_tenant()
        self.assertEqual("shop", tenant["id"])
        (user,) = self.site.db.table("adm.user").query().fetch()
        told = repr(self.client.list_accounts()) + repr(tenant) + self.service.output()
        for secret in ("geheim-1", user["md5pwd"], self.client.tenant_token):
            self.assertNotIn(secret, told)

    def test_a_campaign_is_pulled(self) -> None:
        """A commit wakes us; we pull all in batches inside our calls; all arrive, once each."""
        ids = [
            self.write(f"reader{n}@example.com", self.main, batch_code="news", html=n % 2 == 0)
            for n in range(MANY)
        ]
        self.site.db.commit()
        self.wait_settled(*ids, patience=120.0)
        self.assert_sent(*ids[:3], *ids[-3:])
        rows = self.messages.query(where="$send_date IS NOT NULL").fetch()
        self.assertEqual(set(ids), {row["id"] for row in rows})
        self.assertEqual(MANY, self.sink.get("/stats")["accepted"])
        self.assertGreaterEqual(self.site.calls.count(SYNC), MANY // BATCH)
        self.assertEqual([], self.client.pending_messages()["pending"])

    def test_each_ends_as_its_upstream_says(self) -> None:
        """Sent, refused, put off and then sent, refused in part, never acceptable: each is told."""
        sent = self.send("anna@example.com", self.main, cc_address="carl@example.com")
        refused = self.send("reject@refused.example.com", self.main)
        later = self.send("later@example.com", self.main)
        partly = self.send("reject@part.example.com, dora@example.com", self.main)
        nobody = self.send("nobody", self.main)
        private = self.account("private", save_output_message=False)
        unknown = self.send("emil@example.com", private)
        self.wait_settled(sent, refused, later, partly, nobody, unknown)
        self.assert_sent(sent, later)
        self.assert_failed(refused, "reject@refused.example.com", "550")
        self.assert_failed(partly, "reject@part.example.com", "550", "dora@example.com")
        self.assertEqual(["dora@example.com"], self.copies(partly)[0]["recipients"])
        self.assertNotEqual("", self.row(nobody)["error_msg"])
        self.assert_failed(unknown, "account not found")
        self.assertEqual([], self.copies(refused) + self.copies(nobody) + self.copies(unknown))
        head = email.message_from_bytes(self.text(sent))
        self.assertEqual("anna@example.com", head["To"])
        self.assertEqual("carl@example.com", head["Cc"])
        self.assertEqual("shop@example.com", head["From"])

    def test_a_deferred_message_waits(self) -> None:
        """A message for later is shown as deferred, not as failed, and does not go now."""
        later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=1)
        id = self.send("anna@example.com", self.main, deferred_ts=later)
        now = self.send("bert@example.com", self.main)
        self.wait_settled(now)
        self.wait_taken(id)
        (deferred,) = self.client.list_deferred()["deferred"]
        self.assertEqual(id, deferred["id"])
        self.assertEqual([], self.copies(id))
        self.assertEqual(later, self.row(id)["deferred_ts"])

    def test_attachments_are_fetched(self) -> None:
        """An attachment is fetched from the site; while the site cannot give it, the mail waits."""
        self.site.files |= {
            "home:docs/a.pdf": b"%PDF-1.7 one",
            "home:docs/b.bin": bytes(range(256)),
        }
        self.site.faults[ATTACHMENTS] = once(unavailable, times=2)
        id = self.send("anna@example.com", self.main, attachments=list(self.site.files))
        self.wait_settled(id)
        self.assert_sent(id)
        self.assertGreaterEqual(self.site.calls.count(ATTACHMENTS), 3)
        parts = email.message_from_bytes(self.text(id)).walk()
        found = {part.get_filename(): part.get_payload(decode=True) for part in parts}
        self.assertEqual(b"%PDF-1.7 one", found["a.pdf"])
        self.assertEqual(bytes(range(256)), found["b.bin"])

    def test_credentials_that_are_refused(self) -> None:
        """
        ``200 {"error": ...}`` on both callbacks is neither an acknowledgement nor an attachment.

        When the site registers again, all is reported, and the attachment is fetched.
        """
        self.site.files["home:a.txt"] = b"the real thing"
        self.suspend()
        plain = self.send("anna@example.com", self.main)
        attached = self.send("bert@example.com", self.main, attachments=["home:a.txt"])
        refused = self.send("reject@example.com", self.main)
        self.wait_taken(plain, attached, refused)
        self.forget_password()
        self.activate()
        self.wait_calls(ATTACHMENTS)
        self.wait_calls(SYNC)
        wait_until(lambda: len(self.copies(plain)) == 1, what="the mail without attachment")
        self.assertFalse(self.settled([plain]) or self.settled([refused]))
        listed = {each["id"]: each for each in self.client.list_messages()["messages"]}
        self.assertEqual([None] * 3, [each["reported_ts"] for each in listed.values()])
        self.assertEqual([], self.copies(attached))
        self.register()
        self.wait_settled(plain, attached, refused)
        self.assert_sent(plain, attached)
        self.assert_failed(refused, "550")
        self.assertIn(base64.b64encode(b"the real thing"), self.text(attached))
        self.assertNotIn(b"AUTH-901", self.text(attached))

    def test_maintenance_and_lost_answers(self) -> None:
        """A maintenance page acknowledges nothing; what was done though its answer was lost too."""
        self.site.faults[SYNC] = once(maintenance, times=2)
        first = [self.send(f"anna{n}@example.com", self.main) for n in range(5)]
        self.wait_calls(SYNC)
        self.client.run_now()
        self.wait_settled(*first)
        self.assert_sent(*first)
        self.site.faults[SYNC] = once(lost, times=3)
        second = [self.send(f"bert{n}@example.com", self.main) for n in range(5)]
        second.append(self.send("reject@example.com", self.main))
        self.wait_settled(*second)
        self.assert_sent(*first, *second[:-1])
        self.assert_failed(second[-1], "550")

        def all_reported() -> bool:
            self.client.run_now()  # or we rest longer after each call that failed
            listed = self.client.list_messages()["messages"]
            return all(each["reported_ts"] for each in listed)

        wait_until(all_reported, what="the acknowledgement of everything", step=0.2)

    def test_a_failed_message_is_tried_again(self) -> None:
        """The mail of a deleted account fails; tried again under its id, it is sent, once."""
        self.suspend()
        id = self.send("anna@example.com", self.main)
        self.wait_taken(id)
        accounts = self.site.db.table("email.account")
        with accounts.recordToUpdate(self.main) as record:
            record["save_output_message"] = False
        self.site.db.commit()
        self.wait_settled(id)
        self.assert_failed(id, "account deleted")
        with accounts.recordToUpdate(self.main) as record:
            record["save_output_message"] = True
        self.site.db.commit()
        self.activate()
        self.messages.retrySendMessage(id)
        self.site.db.commit()
        self.wait_settled(id)
        self.assert_sent(id)

    def test_a_dashboard_takes_mail_back(self) -> None:
        """What waits is listed; what is deleted is not sent, nor reported; the rest goes."""
        self.suspend()
        kept = self.send("anna@example.com", self.main)
        taken_back = self.send("bert@example.com", self.main)
        self.wait_taken(kept, taken_back)
        pending = {each["id"]: each for each in self.client.pending_messages()["pending"]}
        self.assertEqual({kept, taken_back}, set(pending))
        self.assertEqual("anna@example.com", pending[kept]["to_addr"])
        self.assertEqual("To anna@example.com", pending[kept]["subject"])
        self.assertEqual(1, self.client.delete_messages([taken_back, "unknown"])["removed"])
        self.activate()
        self.wait_settled(kept)
        self.assert_sent(kept)
        self.assertEqual([], self.copies(taken_back))
        self.assertFalse(self.settled([taken_back]))
        wait_until(
            lambda: self.client.cleanup_messages(older_than_seconds=0)["removed"] == 1,
            what="the reported message to be cleaned up",
        )
        self.assertEqual([], self.client.list_messages()["messages"])

    def test_unregistered_and_registered_again(self) -> None:
        """
        Mail that waits when the site leaves comes to an end, and the site is told so.

        Registered again, the site has its accounts back, and what it tries again is sent.
        """
        self.suspend()
        waiting = [self.send(f"anna{n}@example.com", self.main) for n in range(3)]
        self.wait_taken(*waiting)
        token = self.client.tenant_token
        self.assertTrue(self.client.deactivateService()["ok"])
        self.site.db.commit()
        self.assertIsNone(self.client.get_tenant())
        self.wait_settled(*waiting)
        for id in waiting:
            self.assertIsNone(self.row(id)["send_date"])
            self.assertEqual([], self.copies(id))
        self.assertEqual({"ok": True, "synced": 1, "failed": 0}, self.said(self.register()))
        self.assertNotEqual(token, self.client.tenant_token)
        self.activate()
        for id in waiting:
            self.messages.retrySendMessage(id)
        self.site.db.commit()
        fresh = self.send("bert@example.com", self.main)
        self.wait_settled(*waiting, fresh)
        self.assert_sent(*waiting, fresh)
