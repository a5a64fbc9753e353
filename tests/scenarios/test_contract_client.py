"""A client written from the wire contract, for what the others of our clients do not use."""

from __future__ import annotations

import base64
import email
import json
import shutil
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.report.signing import verify
from tests.scenarios.endpoint import Endpoint
from tests.scenarios.processes import (
    Answer,
    Service,
    SinkProcess,
    account,
    http,
    message,
    wait_until,
)

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()


class ContractCase(SynchronousTestCase):
    """One service and one upstream for all; each test has a tenant of its own."""

    directory: ClassVar[Path]
    sink: ClassVar[SinkProcess]
    service: ClassVar[Service]

    @classmethod
    def setUpClass(cls) -> None:
        cls.directory = Path(tempfile.mkdtemp(prefix="mailproxy-contract-"))
        cls.addClassCleanup(shutil.rmtree, cls.directory, ignore_errors=True)
        cls.sink = SinkProcess(cls.directory).start()
        cls.addClassCleanup(cls.sink.end)
        cls.service = Service(cls.directory, GMP_RETRY_DELAYS="0.3").start()
        cls.addClassCleanup(cls.service.end)

    def setUp(self) -> None:
        self.endpoint = Endpoint()
        self.addCleanup(self.endpoint.stop)
        self.tenant = self.id().rpartition(".")[2][-50:]
        self.key = self.admin("POST", "/tenant", self.fields())["api_key"]
        self.call("POST", "/account", account(self.sink.smtp_port))

    def fields(self, **more: Any) -> dict[str, Any]:
        return {"id": self.tenant, "client_base_url": self.endpoint.base_url, **more}

    def ask(
        self, method: str, path: str, body: Any = None, key: str | None = None, **headers: str
    ) -> Answer:
        """A request with the tenant's key, whatever is answered."""
        return http(
            method, self.service.url + path, body, {"X-API-Token": key or self.key, **headers}
        )

    def call(self, method: str, path: str, body: Any = None, key: str | None = None) -> Any:
        """The same, which must be granted."""
        answer = self.ask(method, path, body, key)
        self.assertEqual(200, answer.status, (method, path, answer.raw))
        self.assertTrue(answer.body["ok"])
        return answer.body

    def post_bytes(self, path: str, raw: bytes, kind: str = "message/rfc822") -> Answer:
        """A request whose body is not JSON."""
        headers = {"X-API-Token": self.key, "Content-Type": kind}
        request = urllib.request.Request(self.service.url + path, raw, headers, method="POST")
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, answer.read())

    def admin(self, method: str, path: str, body: Any = None) -> Any:
        return self.call(method, path, body, self.service.settings["GMP_API_TOKEN"])

    def refused(self, status: int, detail: str, answer: Answer) -> None:
        """It is refused so, and says nothing that a client could take for *processed*."""
        self.assertEqual(status, answer.status, answer.raw)
        self.assertEqual(detail, answer.body["detail"])
        self.assertNotIn("rejected", answer.body)

    def name(self, id: str) -> str:
        """An id of this test alone: the upstream is everybody's."""
        return f"{self.tenant}-{id}"

    def add(self, *ids: str, key: str | None = None, **fields: Any) -> list[str]:
        """Submit messages. :return: their whole ids."""
        names = [self.name(id) for id in ids]
        messages = [message(name, to=["anna@example.test"], **fields) for name in names]
        body = self.call("POST", "/commands/add-messages", {"messages": messages}, key)
        self.assertEqual((len(ids), []), (body["queued"], body["rejected"]))
        return names

    def copies(self, name: str) -> list[dict[str, Any]]:
        return list(self.sink.get(f"/messages?id={quote(name)}")["messages"])

    def wait_told(self, *names: str) -> None:
        wait_until(
            lambda: set(names) <= set(self.endpoint.final()), what=f"reports of {len(names)}"
        )

    def states(self) -> dict[str, str]:
        listed = self.call("GET", "/messages")["messages"]
        return {each["id"].removeprefix(f"{self.tenant}-"): each["state"] for each in listed}


class KeyTests(ContractCase):
    def test_keys_live_side_by_side(self) -> None:
        """Registering adds a key; a new one by POST ends all others; DELETE ends all."""
        second = self.admin("POST", "/tenant", self.fields())["api_key"]
        self.assertRegex(second, r"^[0-9a-f]{64}$")
        for key in (self.key, second):
            self.call("GET", "/accounts", key=key)
        third = self.admin("POST", f"/tenant/{self.tenant}/api-key")["api_key"]
        for key in (self.key, second):
            self.refused(401, "Invalid or missing API token", self.ask("GET", "/accounts", key=key))
        self.call("GET", "/accounts", key=third)
        self.admin("DELETE", f"/tenant/{self.tenant}/api-key")
        self.assertEqual(401, self.ask("GET", "/accounts", key=third).status)

    def test_a_key_is_good_for_its_scopes_and_networks(self) -> None:
        """A key for sending does not read or control; one for elsewhere opens nothing here."""
        keys = f"/v1/tenants/{self.tenant}/keys"
        send = self.admin("POST", keys, {"label": "web", "scopes": ["send"]})["api_key"]
        read = self.admin("POST", keys, {"scopes": ["read"]})["api_key"]
        far = self.admin("POST", keys, {"networks": ["192.0.2.0/24"]})["api_key"]
        (name,) = self.add("m1", key=send)
        self.wait_told(name)
        for method, path, key in (
            ("GET", "/messages", send),
            ("POST", "/commands/suspend", send),
            ("POST", "/commands/suspend", read),
        ):
            answer = self.ask(method, path, key=key)
            self.assertEqual(403, answer.status, (method, path))
            self.assertNotIn("rejected", answer.body)
        body = {"messages": [message(self.name("no"))]}
        self.assertEqual(403, self.ask("POST", "/commands/add-messages", body, read).status)
        self.call("GET", "/messages", key=read)
        self.assertIn(self.ask("GET", "/messages", key=far).status, (401, 403))
        listed = {each["label"]: each for each in self.call("GET", keys)["keys"]}
        self.assertEqual(["send"], listed["web"]["scopes"])
        self.assertNotIn(send, json.dumps(listed))
        self.admin("DELETE", f"{keys}/{send[:8]}")
        self.assertEqual(401, self.ask("POST", "/commands/run-now", key=send).status)

    def test_what_a_tenants_key_does_not_open(self) -> None:
        """Another tenant, and what is the admin's, are refused in the words of the contract."""
        answer = self.ask("GET", "/messages?tenant_id=default")
        self.refused(401, "Token not authorized for this tenant", answer)
        only = "Admin token required, tenant tokens not allowed for this operation"
        for method, path, body in (
            ("GET", "/tenants", None),
            ("POST", "/tenant", self.fields()),
            ("GET", "/command-log", None),
            ("GET", "/instance", None),
            ("POST", f"/tenant/{self.tenant}/api-key", None),
        ):
            self.refused(403, only, self.ask(method, path, body))
        self.refused(404, "Not Found", self.ask("GET", "/nowhere"))
        self.refused(405, "Method Not Allowed", self.ask("DELETE", "/messages"))

    def test_put_keeps_what_is_absent_and_clears_what_is_null(self) -> None:
        """Of a tenant only what a PUT names is changed, secrets are masked, and all is logged."""
        path = f"/tenant/{self.tenant}"
        auth = {"method": "bearer", "token": "s3cret-of-the-callback"}
        self.admin("PUT", path, {"name": "Shop", "client_auth": auth, "retention_seconds": 60})
        self.admin("PUT", path, {"retention_seconds": None})
        tenant = self.admin("GET", path)
        self.assertEqual(("Shop", None), (tenant["name"], tenant["retention_seconds"]))
        self.assertEqual(self.endpoint.base_url, tenant["client_base_url"])
        self.assertEqual("bearer", tenant["client_auth"]["method"])
        self.add("m1")
        wait_until(
            lambda: (
                "Bearer s3cret-of-the-callback"
                in [each.headers.get("authorization") for each in self.endpoint.calls]
            ),
            what="a report with the token",
        )
        log = self.admin("GET", f"/command-log?tenant_id={self.tenant}")
        self.assertIn("PUT", json.dumps(log))
        self.assertNotIn("s3cret-of-the-callback", json.dumps([tenant, log]))
        (listed,) = [t for t in self.admin("GET", "/tenants")["tenants"] if t["id"] == self.tenant]
        self.assertTrue(listed["active"])


class SubmissionTests(ContractCase):
    def test_each_element_is_judged_on_its_own(self) -> None:
        """A batch of good and bad is taken in part; one of bad only is a 400 with both forms."""
        good = message(self.name("good"))
        bad = [
            {**good, "id": self.name("no-from"), "from": None},
            {**good, "id": self.name("no-to"), "to": []},
            {**good, "id": self.name("key"), "attachments": [{"filename": "a", "x": 1}]},
            {**good, "id": self.name("header"), "headers": {"X-A": "a\r\nBcc: x@example.test"}},
        ]
        body = {"messages": [good, *bad], "default_priority": "high"}
        said = self.call("POST", "/commands/add-messages?verbose=1", body)
        self.assertEqual(1, said["queued"])
        self.assertEqual([each["id"] for each in bad], [each["id"] for each in said["rejected"]])
        self.assertEqual("missing from", said["rejected"][0]["reason"])
        self.assertEqual(["queued"] + ["rejected"] * 4, [each["state"] for each in said["items"]])
        answer = self.ask("POST", "/commands/add-messages", {"messages": bad})
        self.assertEqual((400, False), (answer.status, answer.body["ok"]))
        self.assertEqual("all messages rejected", answer.body["error"])
        self.assertEqual(answer.body["rejected"], answer.body["detail"]["rejected"])
        self.assertEqual(0, self.call("POST", "/commands/add-messages", {"messages": []})["queued"])
        self.wait_told(good["id"])
        self.assertEqual(1, self.endpoint.final()[good["id"]]["priority"])

    def test_an_idempotency_key(self) -> None:
        """A request under a key is answered again as it was; another body under it is a 409."""
        body = {"messages": [message(self.name("m1"))]}
        path, header = "/commands/add-messages", {"Idempotency-Key": "order-17"}
        first = self.ask("POST", path, body, **header)
        again = self.ask("POST", path, body, **header)
        self.assertEqual((200, first.raw), (again.status, again.raw))
        other = self.ask("POST", path, {"messages": [message(self.name("m2"))]}, **header)
        self.assertEqual(409, other.status)
        self.assertNotIn("rejected", other.body)
        self.wait_told(self.name("m1"))
        self.assertEqual({"m1": "sent"}, self.states())

    def test_raw_and_explained(self) -> None:
        """Bytes go as they are; an explanation shows the bytes and sends nothing."""
        raw = b"From: a@example.test\r\nTo: b@example.test\r\nSubject: raw\r\n\r\nAs it is.\r\n"
        name = self.name("raw")
        query = f"id={name}&account_id=main&from=a@example.test&to=b@example.test"
        answer = self.post_bytes(f"/v1/messages/raw?{query}", raw)
        self.assertEqual(200, answer.status, answer.raw)
        self.wait_told(name)
        (copy,) = self.copies(name)
        self.assertEqual(["b@example.test"], copy["recipients"])
        text = http("GET", f"{self.sink.url}/messages/{copy['n']}").raw
        self.assertTrue(text.endswith(b"\r\n\r\nAs it is.\r\n"), text)
        told = self.call(
            "POST", "/v1/explain", message(self.name("m1"), to=["Ann <b@example.test>"])
        )
        self.assertTrue(told["accepted"])
        self.assertEqual("b@example.test", told["envelope"]["recipients"][0]["address"])
        shown = email.message_from_bytes(base64.b64decode(told["mime"]))
        self.assertEqual(self.name("m1"), shown["X-Genro-Mail-ID"])
        self.assertFalse(
            self.call("POST", "/v1/explain", message("x", **{"from": None}))["accepted"]
        )
        self.assertEqual({"raw": "sent"}, self.states())

    def test_tests_are_reported_and_not_sent(self) -> None:
        """``test: true`` is taken and told as sent; nothing of it leaves. The real one does."""
        (name,) = self.add("m1", test=True)
        self.wait_told(name)
        item = self.endpoint.final()[name]
        self.assertIsNotNone(item["sent_ts"])
        self.assertTrue(item["test"])
        self.assertEqual([], self.copies(name))
        self.add("m1")
        wait_until(lambda: len(self.copies(name)) == 1, what="the real message")

    def test_one_message_with_its_history(self) -> None:
        """A message is shown with what happened to it, its bytes while they are stored."""
        (name,) = self.add("m1", deferred_ts=int(time.time()) + 600)
        shown = self.call("GET", f"/v1/messages/{name}?body=true")
        mime = email.message_from_bytes(base64.b64decode(shown["mime"]))
        self.assertEqual("anna@example.test", mime["To"])
        self.assertEqual(("queued", "accepted"), (
            shown["message"]["state"], shown["message"]["history"][0]["kind"],
        ))  # fmt: skip
        self.assertEqual(404, self.ask("GET", "/v1/messages/unknown").status)


class RemovalTests(ContractCase):
    def test_the_answer_to_delete_is_the_truth(self) -> None:
        """What waits is removed and not reported; what is done but not yet told stays."""
        self.endpoint.status = 503
        (done,) = self.add("done")
        wait_until(lambda: self.states() == {"done": "sent"}, what="the mail")
        self.call("POST", "/commands/suspend")
        waiting = self.add("w1", "w2")
        said = self.call(
            "POST", "/commands/delete-messages", {"ids": [waiting[0], done, "unknown"]}
        )
        self.assertEqual((1, [done, "unknown"]), (said["removed"], said["not_found"]))
        self.assertEqual([], said["unauthorized"])
        self.assertEqual([{"id": done, "state": "sent"}], said["detail"])
        self.endpoint.status = 200
        self.call("POST", "/commands/activate")
        self.call("POST", "/commands/run-now")
        self.wait_told(done, waiting[1])
        self.assertNotIn(waiting[0], self.endpoint.final())
        self.assertEqual([], self.copies(waiting[0]))

    def test_cleanup_forgets_what_is_reported(self) -> None:
        """Finished and reported messages go; their ids are still remembered."""
        (name,) = self.add("m1")
        self.wait_told(name)
        wait_until(
            lambda: (
                self.call("POST", "/commands/cleanup-messages", {"older_than_seconds": 0})[
                    "removed"
                ]
                == 1
            ),
            what="the message to be forgotten",
        )
        self.assertEqual({}, self.states())
        self.add("m1")
        wait_until(
            lambda: self.endpoint.events().count(self.event(name)) == 2, what="it told again"
        )
        self.assertEqual(1, len(self.copies(name)))

    def event(self, name: str) -> str:
        return str(self.endpoint.final()[name]["event_id"])


class ControlTests(ContractCase):
    def test_suspension_of_tenant_and_batch(self) -> None:
        """A batch, or all of a tenant, waits over a restart; one batch cannot be freed of all."""
        said = self.call("POST", "/commands/suspend?batch_code=news")
        self.assertEqual(["news"], said["suspended_batches"])
        names = self.add("n1", "n2", batch_code="news")
        (free,) = self.add("m1")
        self.wait_told(free)
        self.assertEqual({"n1": "queued", "n2": "queued", "m1": "sent"}, self.states())
        said = self.call("POST", "/commands/suspend")
        self.assertEqual((["*"], 2, False), (
            said["suspended_batches"], said["pending_messages"], said["active"],
        ))  # fmt: skip
        self.assertEqual(400, self.ask("POST", "/commands/activate?batch_code=news").status)
        token = self.service.settings["GMP_API_TOKEN"]
        unknown = self.ask("POST", "/commands/suspend?tenant_id=nobody", key=token)
        self.refused(400, "tenant not found", unknown)
        self.service.terminate()
        self.service.start()
        self.assertEqual(200, self.ask("POST", "/commands/run-now").status)
        self.assertEqual("queued", self.states()["n1"])
        self.assertTrue(self.call("POST", "/commands/activate")["active"])
        self.wait_told(*names)

    def test_a_paused_domain(self) -> None:
        """Recipients in a paused domain wait; the others of the same message are served."""
        self.call("POST", "/v1/destinations/slow.example/pause")
        paused = self.call("GET", "/v1/destinations")["destinations"]
        self.assertEqual(["slow.example"], [each["domain"] for each in paused])
        name = self.name("m1")
        both = message(name, to=["a@slow.example", "b@fast.example"])
        self.call("POST", "/commands/add-messages", {"messages": [both]})
        wait_until(lambda: len(self.copies(name)) == 1, what="the one that may go")
        self.assertEqual(["b@fast.example"], self.copies(name)[0]["recipients"])
        self.assertNotIn(name, self.endpoint.final())
        self.call("POST", "/v1/destinations/slow.example/resume")
        self.wait_told(name)
        self.assertEqual(
            ["a@slow.example", "b@fast.example"],
            sorted(address for copy in self.copies(name) for address in copy["recipients"]),
        )

    def test_the_suppression_list(self) -> None:
        """A suppressed recipient fails at once with that reason; taken off, it gets mail."""
        list_ = "/v1/suppressions"
        self.call("POST", list_, {"address": "anna@example.test", "reason": "asked us to"})
        lines = b"address,reason\nbert@example.test,bounced\nnot an address,\n"
        imported = self.post_bytes(f"{list_}/import", lines, "text/csv")
        self.assertEqual((1, 1), (imported.body["added"], imported.body["invalid"]))
        found = self.call("GET", list_)["suppressions"]
        self.assertEqual(
            [("anna@example.test", "manual"), ("bert@example.test", "import")],
            [(each["address"], each["source"]) for each in found],
        )
        (name,) = self.add("m1")
        self.wait_told(name)
        self.assertIn("suppressed", self.endpoint.final()[name]["error"])
        self.assertEqual([], self.copies(name))
        self.call("DELETE", f"{list_}/anna@example.test")
        self.add("m1")
        wait_until(lambda: len(self.copies(name)) == 1, what="the mail")


class EventTests(ContractCase):
    def test_events_are_pulled(self) -> None:
        """Events have ascending numbers, and are there for who asks though nobody takes reports."""
        self.endpoint.status = 503
        names = self.add("m1", "m2", "m3")
        wait_until(lambda: set(self.states().values()) == {"sent"}, what="the mail")
        first = self.call("GET", "/v1/events?limit=2")
        rest = self.call("GET", f"/v1/events?after={first['next']}")
        items = first["events"] + rest["events"]
        self.assertEqual(sorted(names), sorted(item["id"] for item in items))
        numbers = [int(item["number"]) for item in items]
        self.assertEqual(sorted(set(numbers)), numbers)
        after = self.call("GET", f"/v1/events?after={rest['next']}")
        self.assertEqual([], after["events"])

    def test_events_are_replayed(self) -> None:
        """Told again, an event has the same ``event_id``, by id and by time."""
        names = self.add("m1", "m2")
        self.wait_told(*names)
        self.assertEqual(
            1, self.call("POST", "/v1/reports/replay", {"ids": [names[0]]})["replayed"]
        )
        wait_until(lambda: len(self.endpoint.events()) == 3, what="one event again")
        self.assertEqual(2, self.call("POST", "/v1/reports/replay", {"since": 0})["replayed"])
        wait_until(lambda: len(self.endpoint.events()) == 5, what="both events again")
        self.assertEqual(2, len(set(self.endpoint.events())))

    def test_signed_reports(self) -> None:
        """A report is signed as Standard Webhooks says, with the tenant's secret."""
        self.admin("PUT", f"/tenant/{self.tenant}", {"signing_secret": SECRET})
        (name,) = self.add("m1")
        self.wait_told(name)
        (report,) = [each for each in self.endpoint.calls if name.encode() in each.raw]
        self.assertTrue(verify(report.raw, report.headers, SECRET, time.time()))
        shown = self.admin("GET", f"/tenant/{self.tenant}")
        self.assertNotIn(SECRET, json.dumps(shown))

    def test_the_endpoint_is_tried(self) -> None:
        """test-sync says whether the answer would count; sync-status how it stands."""
        path = f"/v1/tenants/{self.tenant}/test-sync"
        self.assertTrue(self.admin("POST", path)["acknowledged"])
        self.endpoint.body = {"error": "AUTH-901: no"}
        tried = self.admin("POST", path)
        self.assertFalse(tried["acknowledged"])
        self.assertTrue(tried["problem"])
        status = self.admin("GET", "/tenants/sync-status")
        (mine,) = [each for each in status["tenants"] if each["id"] == self.tenant]
        self.assertEqual((True, False), (mine["active"], mine["in_dnd"]))
        self.assertIsNotNone(mine["last_sync_ts"])
