"""Several tenants in one process: each is served, told and deleted without the others noticing."""

from __future__ import annotations

import time
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

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
from tests.scratch import scratch

#: Seconds within which a tenant is told of its mail's end, whatever the others' endpoints do.
PROMPT = 1.0


class Application:
    """A tenant with a key, an account, an upstream and an endpoint of its own."""

    def __init__(self, case: TenantsCase, id: str, *words: str) -> None:
        self.id = id
        self.service = case.service
        self.endpoint = Endpoint()
        case.addCleanup(self.endpoint.stop)
        folder = case.directory / id
        folder.mkdir()
        self.upstream = SinkProcess(folder, *words).start()
        case.addCleanup(self.upstream.end)
        self.register()
        self.put_account()

    def register(self) -> None:
        """Register, or say again who this is."""
        answer = self.service.call("POST", "/tenant", self.fields())
        assert answer.status == 200, answer.raw
        self.key = answer.body["api_key"]

    def fields(self) -> dict[str, Any]:
        return {"id": self.id, "client_base_url": self.endpoint.base_url}

    def put_account(self, **fields: Any) -> None:
        answer = self.call("POST", "/account", account(self.upstream.smtp_port, **fields))
        assert answer.status == 200, answer.raw

    def call(self, method: str, path: str, body: Any = None) -> Answer:
        return http(method, self.service.url + path, body, {"X-API-Token": self.key})

    def send(self, *ids: str, **fields: Any) -> None:
        messages = [message(id, **fields) for id in ids]
        answer = self.call("POST", "/commands/add-messages", {"messages": messages})
        assert answer.body["queued"] == len(ids), answer.raw

    def arrived(self) -> int:
        return int(self.upstream.get("/stats")["accepted"])

    def wait_told(self, *ids: str, patience: float = 30.0) -> None:
        wait_until(
            lambda: set(ids) <= set(self.endpoint.final()),
            patience,
            what=f"{self.id} to be told of {len(ids)} messages",
        )

    def told_in(self, id: str) -> float:
        """Seconds from the end of a message to the call that told of it."""
        item = self.endpoint.final()[id]
        return self.endpoint.heard_at(id) - float(item["sent_ts"] or item["error_ts"])


class Seed(Application):
    """A client that knows of no tenants: the admin's token, and the endpoint of the settings."""

    def register(self) -> None:
        self.key = self.service.settings["GMP_API_TOKEN"]


class TenantsCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = scratch(self)
        self.service = Service(self.directory, GMP_RETRY_DELAYS="0.3")

    def start(self) -> None:
        self.service.start()
        self.addCleanup(self.service.end)


class IsolationTests(TenantsCase):
    """Two tenants, and a seed client, which is the tenant ``default``."""

    def setUp(self) -> None:
        super().setUp()
        seeds = Endpoint()
        self.addCleanup(seeds.stop)
        self.service.settings["GMP_CLIENT_SYNC_URL"] = f"{seeds.base_url}/sync"
        self.start()
        self.good = Application(self, "good")
        self.bad = Application(self, "bad")
        self.seed = Seed(self, "default")
        self.seed.endpoint.stop()
        self.seed.endpoint = seeds
        self.all = (self.good, self.bad, self.seed)

    def test_each_hears_of_its_own(self) -> None:
        """The same ids in three tenants are three messages: sent and told each where it belongs."""
        for each in self.all:
            each.send("m1", "m2", body=f"For {each.id}.\n")
        for each in self.all:
            each.wait_told("m1", "m2")
            self.assertEqual(2, each.arrived())
            told = each.endpoint.items()
            self.assertEqual({each.id}, {item["tenant_id"] for item in told})
            self.assertEqual(2, len(each.endpoint.events()))
            (copy,) = each.upstream.get("/messages?id=m1")["messages"]
            raw = http("GET", f"{each.upstream.url}/messages/{copy['n']}").raw
            self.assertIn(f"For {each.id}.".encode(), raw)
        listed = self.good.call("GET", "/messages").body["messages"]
        self.assertEqual({"good"}, {item["tenant_id"] for item in listed})
        paths = {report.headers["host"] for report in self.good.endpoint.calls}
        self.assertEqual(1, len(paths))
        self.assertEqual(6, len(self.service.messages()))

    def test_an_endpoint_that_hangs(self) -> None:
        """The others are told within a second; what waits for it is told when it is back, once."""
        self.bad.endpoint.hang()
        waiting = [f"w{n}" for n in range(30)]
        self.bad.send(*waiting)
        wait_until(
            lambda: len(self.bad.endpoint.calls) > len(self.bad.endpoint.taken),
            what="the call that hangs",
        )
        for each in (self.good, self.seed):
            ids = [f"m{n}" for n in range(20)]
            each.send(*ids)
            each.wait_told(*ids, patience=10.0)
            for id in ids:
                # Instants in reports are whole seconds.
                self.assertLess(each.told_in(id), PROMPT + 1.0)
        self.assertEqual([], self.bad.endpoint.events())
        self.bad.endpoint.go_on()
        self.bad.wait_told(*waiting)
        events = self.bad.endpoint.events()
        self.assertEqual(len(set(events)), len(events))
        self.assertEqual(30, self.bad.arrived())

    def test_an_endpoint_that_hangs_over_a_kill(self) -> None:
        """Killed while one tenant is not told: after the start all are, and nothing went twice."""
        self.bad.endpoint.hang()
        self.bad.send(*(f"w{n}" for n in range(10)))
        self.good.send(*(f"m{n}" for n in range(10)))
        self.good.wait_told(*(f"m{n}" for n in range(10)))
        wait_until(lambda: self.bad.arrived() == 10, what="the mail of the one that hangs")
        self.service.kill()
        self.bad.endpoint.go_on()
        self.service.start()
        self.bad.wait_told(*(f"w{n}" for n in range(10)))
        self.seed.send("s1")
        self.seed.wait_told("s1")
        for each in self.all:
            self.assertEqual({}, each.upstream.get("/copies?min=2")["copies"])

    def test_an_upstream_that_hangs(self) -> None:
        """A server that never answers holds up its own tenant's mail alone."""
        self.bad.send(*(f"w{n}" for n in range(20)), to=["drop@example.test"])
        started = time.monotonic()
        for each in (self.good, self.seed):
            each.send("m1", priority=0)
            each.wait_told("m1", patience=10.0)
        self.assertLess(time.monotonic() - started, 10.0)
        self.assertEqual({}, self.bad.endpoint.final())

    def test_a_tenant_that_is_switched_off(self) -> None:
        """Its mail is neither taken nor sent, and the reports it is owed still come."""
        self.bad.endpoint.status = 503
        self.bad.send("told-later")
        wait_until(lambda: self.bad.arrived() == 1, what="the mail")
        self.bad.send("waits", deferred_ts=int(time.time()) + 3)
        answer = self.service.call("PUT", "/tenant/bad", {"active": False})
        self.assertEqual(200, answer.status, answer.raw)
        refused = self.bad.call("POST", "/commands/add-messages", {"messages": [message("no")]})
        self.assertEqual(400, refused.status)
        self.assertEqual([{"id": "no", "reason": "tenant inactive"}], refused.body["rejected"])
        self.bad.endpoint.status = 200
        self.bad.call("POST", "/commands/run-now")
        self.bad.wait_told("told-later")
        self.good.send("m1", deferred_ts=int(time.time()) + 4)
        self.good.wait_told("m1")
        self.assertEqual(1, self.bad.arrived())
        self.service.call("PUT", "/tenant/bad", {"active": True})
        self.bad.wait_told("waits")
        self.assertEqual(2, self.bad.arrived())


class DeletionTests(TenantsCase):
    """A tenant, and another one beside it."""

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.going = Application(self, "going")
        self.staying = Application(self, "staying")

    def suspend(self, tenant_id: str) -> None:
        answer = self.service.call("POST", f"/commands/suspend?tenant_id={tenant_id}")
        self.assertEqual(200, answer.status, answer.raw)

    def test_a_deleted_tenant_is_told_everything(self) -> None:
        """
        Its keys end and its intake stops at once, also if we are killed right after the answer.
        What was sent is told as sent, what had not begun as failed; then it may come back.
        """
        going = self.going
        going.endpoint.status = 503
        going.send("sent")
        wait_until(lambda: going.arrived() == 1, what="the mail")
        self.suspend("going")
        waiting = [f"w{n}" for n in range(20)]
        going.send(*waiting)
        key = going.key
        self.assertEqual(200, self.service.call("DELETE", "/tenant/going").status)
        self.service.kill()
        self.service.start()
        self.assertEqual(404, self.service.call("GET", "/tenant/going").status)
        self.assertEqual(401, going.call("GET", "/messages").status)
        refused = self.service.add(message("no", tenant_id="going"))
        self.assertEqual("tenant not found", refused.body["rejected"][0]["reason"])
        going.endpoint.status = 200
        wait_until(lambda: bool(going.endpoint.calls), what="a call of the one that goes")
        going.wait_told("sent", *waiting, patience=60.0)
        told = going.endpoint.final()
        self.assertIsNotNone(told["sent"]["sent_ts"])
        for id in waiting:
            self.assertIsNone(told[id]["sent_ts"])
            self.assertTrue(told[id]["error"])
        self.assertEqual(1, going.arrived())
        going.register()
        self.assertNotEqual(key, going.key)
        going.put_account()
        self.service.call("POST", "/commands/activate?tenant_id=going")
        going.send("sent", waiting[0])
        wait_until(lambda: going.arrived() == 2, what="what had not been sent")
        wait_until(
            lambda: going.endpoint.final()[waiting[0]]["sent_ts"] is not None, what="its report"
        )
        self.assertEqual({}, going.upstream.get("/copies?min=2")["copies"])

    def test_the_other_tenant_does_not_notice(self) -> None:
        """Accounts of the same id, keys and mail of the one that stays are as they were."""
        self.suspend("going")
        self.suspend("staying")
        self.going.send("m1", "m2")
        self.staying.send("m1", "m2")
        self.assertEqual(200, self.service.call("DELETE", "/tenant/going").status)
        self.going.wait_told("m1", "m2")
        (kept,) = self.staying.call("GET", "/accounts").body["accounts"]
        self.assertEqual("main", kept["id"])
        self.staying.call("POST", "/commands/activate")
        self.staying.wait_told("m1", "m2")
        self.assertEqual((0, 2), (self.going.arrived(), self.staying.arrived()))
        for item in self.staying.endpoint.final().values():
            self.assertIsNone(item["error"])

    def test_a_deleted_account_loses_nothing_unreported(self) -> None:
        """
        Its mail fails and is told so, also if we are killed right after the answer; the mail of
        another account goes. A new account of the id does not revive the old mail.
        """
        going = self.going
        going.put_account(id="second")
        self.suspend("going")
        lost = [f"w{n}" for n in range(20)]
        going.send(*lost)
        going.send("other", account_id="second")
        self.assertEqual(200, going.call("DELETE", "/account/main").status)
        self.service.kill()
        self.service.start()
        going.put_account()
        self.service.call("POST", "/commands/activate?tenant_id=going")
        going.wait_told(*lost, "other")
        told = going.endpoint.final()
        for id in lost:
            self.assertIn("account deleted", told[id]["error"])
        self.assertIsNotNone(told["other"]["sent_ts"])
        self.assertEqual(1, going.arrived())
        going.send(lost[0])
        wait_until(lambda: going.arrived() == 2, what="what was posted again")
