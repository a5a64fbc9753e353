"""Accounts that the configuration declares, and keys that end by themselves, in a whole process."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.scenarios.processes import Service, SinkProcess, http, message, wait_until
from tests.scratch import scratch

ACCOUNT = """\
[account main]
host = 127.0.0.1
port = {port}
tls_mode = plain
user = relay
password_file = {secret}
allow_plaintext_auth = true
"""


class DeclaredTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = scratch(self)
        self.secret = self.directory / "secret"
        self.ini = self.directory / "config.ini"
        self.first, self.second = self.sink("first"), self.sink("second")
        self.declare(self.first, "first")
        self.service = Service(self.directory, GMP_CONFIG=str(self.ini)).start()
        self.addCleanup(self.service.end)

    def sink(self, password: str) -> SinkProcess:
        """An upstream that takes mail from who knows *password*."""
        folder = self.directory / password
        folder.mkdir()
        login = ("--user", "relay", "--password", password)
        sink = SinkProcess(folder, "--no-starttls", *login).start()
        self.addCleanup(sink.end)
        return sink

    def declare(self, sink: SinkProcess, password: str, more: str = "") -> None:
        self.secret.write_text(password)
        self.ini.write_text(ACCOUNT.format(port=sink.smtp_port, secret=self.secret) + more)

    def read_again(self, said: str) -> None:
        """SIGHUP, and wait until the log has *said* once more."""
        before = self.service.output().count(said)
        assert self.service.process is not None
        self.service.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.service.output().count(said) > before, what=said)

    def arrives(self, id: str, sink: SinkProcess) -> None:
        self.assertEqual(200, self.service.add(message(id)).status)
        wait_until(lambda: self.service.states()[id] == "sent", what=f"{id} to be sent")
        self.assertEqual(1, len(sink.get(f"/messages?id={id}")["messages"]))

    def declared(self) -> dict[str, bool]:
        """What accounts there are, and whether the configuration declares them."""
        listed = self.service.call("GET", "/accounts").body["accounts"]
        self.assertNotIn("password", {name for each in listed for name in each})
        return {each["id"]: each["declared"] for each in listed}

    def test_sighup(self) -> None:
        """
        F67: what the configuration declares is in force from the start, and, read again, at once;
        a wrong one changes nothing. The API shows it and changes none of it.
        """
        self.arrives("m1", self.first)
        self.assertEqual({"main": True}, self.declared())
        for method, path in (("POST", "/account"), ("DELETE", "/account/main")):
            body = {"id": "main", "host": "elsewhere.example", "port": 25}
            self.assertEqual(409, self.service.call(method, path, body).status, method)

        self.declare(self.second, "second", "colour = blue\n")
        self.read_again("the configuration stays as it was")
        self.declare(self.second, "second", "\n[account spare]\nhost = 127.0.0.1\nport = 1\n")
        self.read_again("read again")
        wait_until(lambda: "spare" in self.declared(), what="the new account")
        self.arrives("m2", self.second)

        self.declare(self.second, "second")
        self.read_again("read again")
        wait_until(lambda: not self.declared()["spare"], what="the account to be let go")
        self.assertEqual(200, self.service.call("DELETE", "/account/spare").status)
        for password in ("first", "second"):
            self.assertNotIn(password, Path(self.service.log).read_text())

    def test_over_a_kill(self) -> None:
        """What is declared anew while the service is down is in force when it is back."""
        self.arrives("m1", self.first)
        self.service.kill()
        self.declare(self.second, "second")
        self.service.start()
        wait_until(lambda: self.declared() == {"main": True}, what="the account")
        self.arrives("m2", self.second)


class KeyTests(SynchronousTestCase):
    def test_a_key_that_expires(self) -> None:
        """A key with an end is good until then, over a restart too; the tenant's others stay."""
        service = Service(scratch(self)).start()
        self.addCleanup(service.end)
        lasting = service.call("POST", "/tenant", {"id": "acme"}).body["api_key"]
        until = int(time.time()) + 4
        made = service.call("POST", "/v1/tenants/acme/keys", {"expires_at": until})
        self.assertEqual(until, made.body["expires_at"])

        def status(key: str) -> int:
            return http("GET", f"{service.url}/status", headers={"X-API-Token": key}).status

        short = made.body["api_key"]
        self.assertEqual((200, 200), (status(short), status(lasting)))
        service.kill()
        service.start()
        if time.time() < until - 0.5:
            self.assertEqual(200, status(short))
        wait_until(lambda: status(short) == 401, 10.0, "the end of the key")
        self.assertGreaterEqual(time.time(), until)
        self.assertEqual(200, status(lasting))
        listed = service.call("GET", "/v1/tenants/acme/keys").body["keys"]
        self.assertEqual([lasting[:8]], [each["prefix"] for each in listed])
