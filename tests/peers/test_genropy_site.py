"""The stand-ins give Genropy's code what it needs, without the service at the other end."""

from __future__ import annotations

import hashlib
from typing import Any

import requests
from twisted.trial.unittest import SynchronousTestCase

from tests.peers.genropy.site import ATTACHMENTS, SYNC, Site
from tests.scenarios.processes import free_port
from tests.scratch import scratch


class SiteTests(SynchronousTestCase):
    def setUp(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        self.site = Site(scratch(self), url, "t0ken", 2).start()
        self.addCleanup(self.site.stop)
        self.client = self.site.getService("mailproxy")
        self.user, self.password = self.client._ensure_mailproxy_user()
        values = {"account_name": "main", "smtp_from_address": "shop@example.com"}
        self.account = self.site.db.table("email.account").insert(values)["id"]
        self.messages = self.site.db.table("email.message")

    def post(self, path: str, body: Any, password: str | None = None) -> requests.Response:
        auth = (self.user, password or self.password)
        return requests.post(self.site.externalUrl(path), json=body, auth=auth, timeout=10)

    def send(self, to: str) -> str:
        id = self.messages.newMessage(account_id=self.account, to_address=to, doCommit=True)["id"]
        return str(id)

    def test_refused_credentials_are_a_200(self) -> None:
        """The package answers wrong credentials with 200 and an object that names an error."""
        for path in (SYNC, ATTACHMENTS):
            answer = self.post(path, {}, "wrong")
            self.assertEqual(200, answer.status_code)
            self.assertEqual("application/json", answer.headers["Content-Type"])
            self.assertEqual(["error"], list(answer.json()))
            self.assertIn("AUTH-901", answer.json()["error"])

    def test_a_report_ends_in_the_records(self) -> None:
        """Sent and failed are stored with their time; failures are listed in the answer."""
        sent, failed = self.send("a@example.com"), self.send("b@example.com")
        self.site.db.execute("DELETE FROM email_message_to_send")
        self.site.db.commit()
        report = [
            {"id": sent, "sent_ts": 1750000000, "error_ts": None, "error": None},
            {"id": failed, "sent_ts": None, "error_ts": 1750000000, "error": "550 no"},
        ]
        answer = self.post(SYNC, {"delivery_report": report})
        self.assertEqual({"error": [failed], "queued": 0}, answer.json())
        self.assertEqual(1750000000, self.messages.record(sent)["send_date"].timestamp())
        self.assertEqual("550 no", self.messages.record(failed)["error_msg"])

    def test_submission_is_tried_inside_the_call(self) -> None:
        """A sync call submits a batch of what waits; where nobody answers, that is an error."""
        ids = [self.send(f"{name}@example.com") for name in "abc"]
        self.assertEqual(0, self.post(SYNC, {"delivery_report": []}).json()["queued"])
        errors = [self.messages.record(id)["error_msg"] or "" for id in ids]
        self.assertEqual([True, True, False], ["communication error" in e for e in errors])

    def test_an_attachment_is_given_to_who_may_have_it(self) -> None:
        """The file of the site is the answer's body; one that is not there is a 500."""
        self.site.files["home:a/b.txt"] = b"\0hello"
        answer = self.post(ATTACHMENTS, {"storage_path": "home:a/b.txt"})
        self.assertEqual((200, b"\0hello"), (answer.status_code, answer.content))
        self.assertEqual(500, self.post(ATTACHMENTS, {"storage_path": "home:c"}).status_code)
        node = self.site.storageNode("home:a/b.txt")
        self.assertEqual(hashlib.md5(b"\0hello").hexdigest(), node.md5hash)
        self.assertEqual("b.txt", node.basename)

    def test_faults_stand_before_the_page(self) -> None:
        """A lost answer is a closed connection; the page has done its work."""
        self.site.faults[SYNC] = lambda page: page() and None
        with self.assertRaises(requests.ConnectionError):
            self.post(SYNC, {"delivery_report": []})
        self.assertEqual([SYNC], self.site.calls)
