"""``/commands/run-now``, ``/commands/suspend`` and ``/commands/activate``."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import StoreUnavailable
from mailproxy.interfaces import IQueue
from tests.api.door import TOKEN, Door, Reply, message
from tests.fakes import result

OTHER = "k" * 64


class RunNowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()

    def test_all(self) -> None:
        """Without a tenant all tenants are meant."""
        reply = self.door.call("POST", "/commands/run-now")
        self.assertEqual((200, {"ok": True}), (reply.status, reply.json))
        self.assertEqual([None], self.door.control.runs)

    def test_one_tenant(self) -> None:
        """With a tenant, it alone is meant; whatever body there is does not matter."""
        self.door.call("POST", "/commands/run-now?tenant_id=default", b"\xff{")
        self.assertEqual(["default"], self.door.control.runs)

    def test_always(self) -> None:
        """It is remembered although nothing can be stored, all is suspended, or the end is near."""
        self.door.call("POST", "/commands/suspend")
        self.door.store.close()
        self.door.control.stopping = True
        self.assertEqual(200, self.door.call("POST", "/commands/run-now").status)
        self.assertEqual([None], self.door.control.runs)


class SuspendTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()
        self.door.add(message("m1"), message("m2", batch_code="spring"))

    def post(self, target: str) -> dict[str, object]:
        reply = self.door.call("POST", f"/commands/{target}")
        self.assertEqual(200, reply.status, reply.body)
        answer = reply.json
        assert isinstance(answer, dict)
        self.assertIs(True, answer.pop("ok"))
        self.assertNotIn("rejected", answer)
        return answer

    def due(self) -> bool:
        queue: IQueue = self.door.store
        return bool(result(queue.due_accounts(self.door.clock.now()))[0])

    def test_service(self) -> None:
        """Without a tenant the whole service is suspended, and activated again."""
        self.assertEqual(
            {
                "tenant_id": None,
                "suspended_batches": ["*"],
                "pending_messages": 2,
                "in_flight": 0,
                "active": False,
            },
            self.post("suspend"),
        )
        self.assertFalse(self.due())
        self.assertIs(False, self.door.call("GET", "/status").json["active"])
        self.assertEqual(([], True), _state(self.post("activate")))
        self.assertTrue(self.due())
        self.assertIs(True, self.door.call("GET", "/status").json["active"])

    def test_tenant(self) -> None:
        """A tenant is suspended by its name."""
        answer = self.post("suspend?tenant_id=default")
        self.assertEqual(("default", (["*"], False)), (answer["tenant_id"], _state(answer)))
        self.assertEqual(([], True), _state(self.post("activate?tenant_id=default&batch_code=*")))

    def test_batch(self) -> None:
        """One batch of the default tenant is suspended; the rest goes on."""
        answer = self.post("suspend?batch_code=spring")
        self.assertEqual(("default", "spring"), (answer["tenant_id"], answer["batch_code"]))
        self.assertEqual((["spring"], 1), (answer["suspended_batches"], answer["pending_messages"]))
        self.assertTrue(self.due())
        answer = self.post("activate?tenant_id=default&batch_code=spring")
        self.assertEqual([], answer["suspended_batches"])

    def test_one_batch_of_all(self) -> None:
        """One batch cannot be activated out of a full suspension."""
        for suspended in ("suspend?tenant_id=default", "suspend"):
            self.post(suspended)
            for tenant in ("", "tenant_id=default&"):
                reply = self.door.call("POST", f"/commands/activate?{tenant}batch_code=spring")
                self.assertEqual(400, reply.status)
                self.assertEqual(reply.json["error"], reply.json["detail"])
                self.assertNotIn("rejected", reply.json)
            self.post("activate?tenant_id=default")

    def test_bad_batch(self) -> None:
        """A batch code that no message can have is a 422."""
        for code in ("x" * 65, "a%0ab", "%ff"):
            for command in ("suspend", "activate"):
                reply = self.door.call("POST", f"/commands/{command}?batch_code={code}")
                self.assertEqual(422, reply.status)
                self.assertEqual(["query", "batch_code"], reply.json["detail"][0]["loc"])

    def test_not_stored(self) -> None:
        """A suspension that could not be stored is not one."""
        self.door.store.fail_next(StoreUnavailable("full"))
        self.assertEqual(503, self.door.call("POST", "/commands/suspend").status)
        self.assertTrue(self.due())

    def test_intake_goes_on(self) -> None:
        """While suspended, messages are taken in."""
        self.post("suspend")
        self.assertEqual(1, self.door.add(message("m3")).json["queued"])

    def test_unknown_tenant(self) -> None:
        """A tenant that there is not is a 400."""
        for command in ("suspend", "activate"):
            for batch in ("", "&batch_code=spring"):
                reply = self.door.call("POST", f"/commands/{command}?tenant_id=nobody{batch}")
                self.assertEqual((400, "tenant not found"), (reply.status, reply.json["error"]))
                self.assertEqual(reply.json["error"], reply.json["detail"])


class TenantTests(SynchronousTestCase):
    """The same with a tenant's key."""

    def setUp(self) -> None:
        self.door = Door()
        self.door.put_account()
        self.door.add_key("other", OTHER)
        self.door.call("POST", "/account", {"id": "a", "host": "smtp.example.net"}, OTHER)
        self.door.add(message("m1", batch_code="spring"))
        body = {"messages": [message("m1", batch_code="spring"), message("m2")]}
        self.door.call("POST", "/commands/add-messages", body, OTHER)

    def post(self, target: str, token: str = OTHER) -> Reply:
        return self.door.call("POST", f"/commands/{target}", token=token)

    def suspended(self, tenant_id: str | None) -> tuple[str, ...]:
        return result(self.door.store.suspension(tenant_id)).batches

    def test_its_own(self) -> None:
        """Without a tenant in the query the token's own is meant, never the service."""
        reply = self.post("suspend")
        self.assertEqual(
            {
                "ok": True,
                "tenant_id": "other",
                "suspended_batches": ["*"],
                "pending_messages": 2,
                "in_flight": 0,
                "active": False,
            },
            reply.json,
        )
        self.assertEqual(((), ("*",)), (self.suspended("default"), self.suspended("other")))
        self.assertIs(True, result(self.door.store.suspension("default")).active)
        self.assertEqual((["*"], False), _state(self.post("suspend?tenant_id=other").json))
        self.assertEqual(([], True), _state(self.post("activate").json))

    def test_its_own_batch(self) -> None:
        """A campaign is suspended for one tenant; another's of the same name goes on."""
        reply = self.post("suspend?batch_code=spring")
        self.assertEqual(("other", "spring"), (reply.json["tenant_id"], reply.json["batch_code"]))
        self.assertEqual((["spring"], 1), (reply.json["suspended_batches"],
                                           reply.json["pending_messages"]))  # fmt: skip
        self.assertEqual((), self.suspended("default"))

    def test_no_others(self) -> None:
        """Another tenant is a 401, and nothing is changed."""
        for command in ("suspend", "activate"):
            reply = self.post(f"{command}?tenant_id=default")
            self.assertEqual(401, reply.status)
        self.assertEqual((), self.suspended("default"))

    def test_the_whole_service(self) -> None:
        """What the admin suspended no tenant's key can activate."""
        self.post("suspend", TOKEN)
        self.assertEqual(([], False), _state(self.post("activate").json))
        self.assertEqual(400, self.post("activate?batch_code=spring").status)
        self.assertEqual(("*",), self.suspended(None))

    def test_out_of_a_full_suspension(self) -> None:
        """One campaign cannot be activated while its tenant is suspended as a whole."""
        self.post("suspend?batch_code=spring")
        self.post("suspend")
        self.assertEqual(400, self.post("activate?batch_code=spring").status)
        self.post("activate")
        self.assertEqual(200, self.post("activate?batch_code=spring").status)

    def test_run_now(self) -> None:
        """Run-now is for the token's tenant alone."""
        self.assertEqual({"ok": True}, self.post("run-now").json)
        self.assertEqual(["other"], self.door.control.runs)


def _state(answer: dict[str, object]) -> tuple[object, object]:
    return answer["suspended_batches"], answer["active"]
