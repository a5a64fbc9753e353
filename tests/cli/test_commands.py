"""The commands that look at a running service and change it."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from email.message import EmailMessage
from typing import Any

from mailproxy.acts import HELD
from tests.cli.process import clean_env
from tests.cli.running import RunningCase
from tests.scenarios.processes import TOKEN, free_port, message, wait_until

KEY = r"^[0-9a-f]{64}$"


class MessageCases(RunningCase):
    __test__ = False

    def add(self, *ids: str, **fields: object) -> None:
        """Messages that wait for longer than any test."""
        later = {"deferred_ts": 4_000_000_000, **fields}
        self.assertEqual(200, self.service.add(*(message(id, **later) for id in ids)).status)

    def test_listed(self) -> None:
        """By state, batch and account; page by page, and all of them; and as the API has it."""
        self.add("l1", "l2", "l3", batch_code="listed")
        rows = self.rows("messages", "list", "--batch", "listed", "--state", "queued")
        self.assertEqual(["l1", "l2", "l3"], [row[1] for row in rows])
        self.assertEqual(["default", "l1", "queued", "main", "l1@example.test", "0"], rows[0][:6])
        found = self.invoke("messages", "list", "--batch", "listed", "--limit", "2")
        self.assertEqual(3, len(found.stdout.splitlines()))
        cursor = found.stderr.partition("--cursor ")[2].partition(",")[0]
        query = ("messages", "list", "--batch", "listed", "--tenant", "default")
        self.assertEqual(["l3"], [row[0] for row in self.rows(*query, "--cursor", cursor)])
        self.assertEqual(3, len(self.rows(*query, "--limit", "1", "--all")))
        answer = self.json(*query)
        self.assertEqual(["l1", "l2", "l3"], [each["id"] for each in answer["messages"]])
        self.assertEqual([], self.rows(*query, "--since", "2990-01-01"))
        self.assertEqual([], self.rows(*query, "--account", "other"))

    def test_shown(self) -> None:
        """Its fields, its recipients, and its timeline with the server's words; and its bytes."""
        self.service.add(message("shown", subject="Grüße\ttab"))
        self.wait_state("shown", "sent")
        text = self.done("messages", "show", "shown")
        self.assertIn("subject\tGrüße\\x09tab\n", text)
        self.assertIn("shown@example.test\tsent\t250\t", text)
        kinds = [line.split("\t")[1] for line in text.splitlines() if line.count("\t") == 2]
        self.assertEqual(["what", "accepted", "intent", "outcome"], kinds[-4:])
        self.assertIn("\tattempt 1 through main\n", text)
        self.assertEqual("sent", self.json("messages", "show", "shown")["message"]["state"])
        self.add("bytes")
        raw = self.invoke("messages", "show", "bytes", "--mime").stdout_bytes
        self.assertIn(b"\r\nX-Genro-Mail-ID: bytes\r\n", raw)
        self.assertIn("404 message not found", self.refused(1, "messages", "show", "nobody"))
        self.assertIn("no longer stored", self.refused(1, "messages", "show", "shown", "--mime"))

    def test_decided_over(self) -> None:
        """Held, released, cancelled; repeated it is told that nothing changed."""
        self.add("d1", "d2")
        self.assertEqual(
            "d1: held\nd2: held\n", self.done("messages", "hold", "d1", "d2", "--reason", "typo")
        )
        self.assertEqual(
            "d1: held, unchanged: it is held already\n", self.done("messages", "hold", "d1")
        )
        (row,) = [row for row in self.rows("messages", "list", "--state", "held") if row[1] == "d1"]
        self.assertEqual(f"{HELD}: typo", row[-1])
        self.assertEqual("d1: queued\n", self.done("messages", "release", "d1"))
        self.assertEqual("cancelled", self.json("messages", "cancel", "d1")["state"])
        self.done("messages", "retry", "d2")
        unsure = self.done("messages", "close", "d2", "--as", "sent")
        self.assertIn("unchanged: nothing of it is uncertain", unsure)

    def test_unknown_among_them(self) -> None:
        """Those that are there are decided over, of the other it is said, and the status is 1."""
        self.add("u1")
        result = self.invoke("messages", "hold", "nobody", "u1")
        self.assertEqual(1, result.exit_code)
        self.assertEqual("Error: nobody: message not found\n", result.stderr)
        self.assertEqual("u1: held\n", result.stdout)

    def test_batch(self) -> None:
        """A batch is decided over as a whole."""
        self.add("b1", "b2", batch_code="whole")
        held = self.done("messages", "hold", "--batch", "whole")
        self.assertEqual("whole: held; 2 waiting, 0 in flight\n", held)
        answer = self.json("messages", "release", "--batch", "whole", "--singly")
        self.assertEqual((True, False), (answer["changed"], answer["held"]))
        self.done("messages", "cancel", "--batch", "whole")
        wait_until(lambda: self.service.states()["b2"] == "cancelled", what="the cancellation")

    def test_usage(self) -> None:
        """What is not asked of the service at all."""
        self.assertIn("either the IDS", self.refused(2, "messages", "hold"))
        self.assertIn("either the IDS", self.refused(2, "messages", "hold", "x", "--batch", "y"))
        self.assertIn("--singly", self.refused(2, "messages", "release", "x", "--singly"))
        self.assertIn("'..' cannot be part", self.refused(2, "messages", "hold", ".."))
        self.assertIn("--as", self.refused(2, "messages", "close", "x"))
        self.assertIn("'soon' is no time", self.refused(2, "messages", "list", "--since", "soon"))
        self.assertIn("not one of", self.refused(2, "messages", "list", "--state", "lost"))

    def test_events(self) -> None:
        """What is reported, oldest first; behind a number, since a time, as lines of JSON."""
        for id in ("e1", "e2"):
            self.service.add(message(id))
            self.wait_state(id, "sent")
        events = [line.split("\t") for line in self.done("events", "--since", "1h").splitlines()]
        mine = [row for row in events if row[3] in ("e1", "e2")]
        self.assertEqual([["sent", "e1"], ["sent", "e2"]], [row[2:4] for row in mine])
        after = self.done("events", "--after", mine[0][0], "--limit", "1", "--json")
        self.assertEqual("e2", json.loads(after)["id"])
        self.assertEqual("", self.done("events", "--since", "2990-01-01"))
        self.assertIn("not the number", self.refused(2, "events", "--after", "x1"))
        self.assertIn("tenant", self.refused(1, "events", "--tenant", "nobody"))


class ServiceCases(RunningCase):
    __test__ = False

    def test_suspended(self) -> None:
        """Suspended and activated; one batch; and what is due is looked for."""
        text = self.done("suspend", "--tenant", "default", "--batch", "x")
        self.assertIn("default: sending, but for x; ", text)
        self.assertFalse(self.json("suspend")["active"])
        self.assertIn("suspended", self.done("status"))
        self.assertIn("the service: sending", self.done("activate"))
        self.done("activate", "--tenant", "default", "--batch", "x")
        self.assertIn("due", self.done("run-now"))
        self.assertEqual({"ok": True}, self.json("run-now"))

    def test_nodes(self) -> None:
        """One that is long gone, and is told as that."""
        row = ("0123456789abcdef", 1.0, time.time() - 600.0, "0.1", "host-a")
        connection = sqlite3.connect(self.service.settings["GMP_DB_PATH"], timeout=20.0)
        connection.execute(_NODE, row).connection.commit()
        connection.close()
        rows = {each[0]: each for each in self.rows("nodes")}
        self.assertEqual(["host-a", "0.1", "no"], rows["01234567"][1:4])
        self.assertIn(row[0], {each["id"] for each in self.json("nodes")["nodes"]})

    def test_accounts(self) -> None:
        """Declared with a password from a file, shown without it, changed, held, deleted."""
        self.done("accounts", "add", "new", "--host", "smtp.example.net", "--user", "u",
                  "--port", "587", "--password-file", "-", "--set", "limit_per_hour=5",
                  stdin="s3cret-w0rd\n")  # fmt: skip
        rows = {row[1]: row for row in self.rows("accounts", "list")}
        self.assertEqual(["smtp.example.net:587", "starttls", "u", "active"], rows["new"][2:6])
        fields = self.fields("accounts", "show", "new")
        self.assertEqual("5", fields["limit_per_hour"])
        self.assertNotIn(
            "s3cret-w0rd", str(fields) + self.done("accounts", "show", "new", "--json")
        )
        body = json.dumps({"host": "smtp.example.net", "user": "u", "name": "Changed"})
        self.done("accounts", "add", "new", "--from", "-", "--port", "587", stdin=body)
        self.assertEqual("Changed", self.fields("accounts", "show", "new")["name"])
        self.assertIn("new: held; 0 waiting", self.done("accounts", "hold", "new"))
        self.assertEqual("held", {row[1]: row for row in self.rows("accounts", "list")}["new"][5])
        self.done("accounts", "release", "new")
        self.assertEqual("new: deleted\n", self.done("accounts", "delete", "new", "--yes"))
        self.assertIn("not found", self.refused(1, "accounts", "show", "new"))

    def test_accounts_refused(self) -> None:
        """Every wrong field is named, and no secret is taken from the command line."""
        text = self.refused(1, "accounts", "add", "x", "--host", "h.test", "--set", "port=zz",
                            "--set", 'auth={"method":"xoauth2"}')  # fmt: skip
        self.assertIn("port: expected an integer", text)
        self.assertIn("auth", text)
        self.assertIn("host: required", self.refused(2, "accounts", "add", "x"))
        for field in ("password=hunter2", 'auth={"method":"xoauth2","client_secret":"hunter2"}'):
            told = self.refused(2, "accounts", "add", "x", "--host", "h.test", "--set", field)
            self.assertIn("a secret", told)
            self.assertNotIn("hunter2", told)
        self.assertIn("password required", self.refused(1, "accounts", "add", "x", "--host",
                      "h.test", "--user", "u"))  # fmt: skip
        self.assertIn("FIELD=VALUE", self.refused(2, "accounts", "add", "x", "--set", "novalue"))
        result = self.invoke("accounts", "delete", "main", stdin="n\n")
        self.assertEqual(
            (1, "main"), (result.exit_code, self.fields("accounts", "show", "main")["id"])
        )

    def test_account_tried(self) -> None:
        """One that works, one that nobody listens at, one that is not there."""
        fields = self.fields("test-account", "main")
        self.assertEqual("yes", fields["works"])
        self.assertIn("PIPELINING", fields["offers"])
        port = str(free_port())
        self.done("accounts", "add", "off", "--host", "127.0.0.1", "--port", port)
        result = self.invoke("test-account", "off")
        self.assertEqual(1, result.exit_code)
        self.assertIn("ended at\tconnect", result.stdout)
        self.assertIn("not found", self.refused(1, "test-account", "nobody"))

    def test_tenants(self) -> None:
        """Registered with secrets from files, changed, tried, deleted; its key is shown once."""
        token = self.directory / "token"
        token.write_text("t0ken-of-the-shop\n")
        fields = self.fields("tenants", "add", "shop", "--base-url", self.sink.url,
                             "--sync-path", "/email/mailproxy/mp_endpoint/proxy_sync",
                             "--auth-token-file", str(token))  # fmt: skip
        self.assertRegex(fields["api key"], KEY)
        shown = self.fields("tenants", "show", "shop")
        self.assertEqual("bearer", shown["client_auth.method"])
        self.assertNotIn("t0ken", str(shown))
        self.done(
            "tenants", "update", "shop", "--name", "Shop", "--set", 'rate_limits={"hourly":9}'
        )
        self.assertEqual(
            ("Shop", "9"),
            _pick(self.fields("tenants", "show", "shop"), "name", "rate_limits.hourly"),
        )
        self.done("tenants", "update", "shop", "--set", "rate_limits=null", "--inactive")
        rows = {row[0]: row for row in self.rows("tenants", "list")}
        self.assertEqual(["Shop", "no"], rows["shop"][1:3])
        self.assertNotIn("shop", {row[0] for row in self.rows("tenants", "list", "--active")})
        self.assertEqual("yes", self.fields("test-sync", "shop")["acknowledged"])
        self.assertIn("shop", {row[0] for row in self.rows("tenants", "sync-status")})
        self.done("tenants", "delete", "shop", "--yes")
        self.assertIn("tenant not found", self.refused(1, "tenants", "show", "shop"))
        self.done("tenants", "add", "deaf", "--base-url", f"http://127.0.0.1:{free_port()}")
        result = self.invoke("test-sync", "deaf")
        self.assertEqual(1, result.exit_code)
        self.assertIn("acknowledged\tno", result.stdout)
        self.assertIn("'..' cannot", self.refused(2, "tenants", "show", ".."))
        self.assertIn("id: ", self.refused(1, "tenants", "add", "a b"))

    def test_keys(self) -> None:
        """Made, listed by their beginnings, good for what they are for, ended."""
        self.done("tenants", "add", "keyed")
        key = self.fields("keys", "add", "keyed", "--label", "web", "--scope", "read")["api key"]
        rows = {row[0]: row for row in self.rows("keys", "list", "keyed")}
        self.assertEqual(["web", "read"], rows[f"{key[:8]}..."][1:3])
        self.assertNotIn(key, str(rows))
        self.assertEqual([], self.rows("messages", "list", "--token", key))
        told = self.refused(1, "suspend", "--token", "-", stdin=f"{key}\n")
        self.assertIn("403", told)
        self.done("keys", "revoke", "keyed", key[:8])
        self.assertIn("401", self.refused(1, "messages", "list", "--token", key))
        self.assertIn("either", self.refused(2, "keys", "revoke", "keyed"))
        self.done("keys", "revoke", "keyed", "--all")
        self.assertEqual([], self.rows("keys", "list", "keyed"))
        self.assertIn("networks", self.refused(1, "keys", "add", "keyed", "--network", "x"))

    def test_credentials(self) -> None:
        """Created with a password from the standard input, changed, ended."""
        told = self.done("credentials", "add", "erp", "--password-file", "-", "--sender",
                         "@example.com", stdin="long-enough-1\n")  # fmt: skip
        self.assertEqual("erp: may log in for default, with a password\n", told)
        self.done("credentials", "add", "erp", "--network", "192.0.2.0/24", "--no-password")
        ((user, tenant, _, password, *rest),) = self.rows("credentials", "list")
        self.assertEqual(("erp", "default", "no"), (user, tenant, password))
        self.assertEqual(["yes", "@example.com", "192.0.2.0/24", "-"], rest)
        self.done("credentials", "delete", "erp")
        self.assertIn("404", self.refused(1, "credentials", "delete", "erp"))
        told = self.refused(1, "credentials", "add", "erp", "--password-file", "-", stdin="short")
        self.assertIn("password: ", told)

    def test_any_endpoint(self) -> None:
        """With a query and a body, and what is refused; the service is never named by the path."""
        answer = json.loads(self.done("call", "GET", "/messages?limit=1&state=sent&state=sent"))
        self.assertTrue(answer["ok"])
        body = json.dumps({"address": "gone@example.test"})
        added = json.loads(self.done("call", "post", "/v1/suppressions", "-", stdin=body))
        self.assertEqual(1, added["added"])
        listed = json.loads(self.done("call", "GET", "/v1/suppressions", "--tenant", "default"))
        self.assertEqual("gone@example.test", listed["suppressions"][0]["address"])
        self.assertIn("404", self.refused(1, "call", "GET", "/nothing"))
        for path in ("messages", "http://127.0.0.1:9/messages", "//127.0.0.1:9/messages"):
            self.assertIn("PATH: begins", self.refused(2, "call", "GET", path))


class StatusCases(RunningCase):
    """0: done, 1: the service refused, failed or is not there, 2: it was not even asked."""

    __test__ = False

    def test_not_there(self) -> None:
        """Nobody listens, or somebody else does."""
        url = f"http://127.0.0.1:{free_port()}"
        told = self.refused(1, "messages", "list", "--url", url)
        self.assertIn(url, told)
        self.assertIn("refused", told)
        told = self.refused(1, "nodes", "--url", f"{self.sink.url}/nothing", "--timeout", "5")
        self.assertIn(self.sink.url, told)

    def test_wrong_token(self) -> None:
        """A token that is not good, given in every way, is shown in none."""
        path = self.directory / "wrong"
        path.write_text("wrong-token-0123456789abcdef012345\n")
        for arguments in (("--token", "wrong-token"), ("--api-token-file", str(path))):
            told = self.refused(1, "accounts", "list", *arguments)
            self.assertIn("401 Invalid or missing API token", told)
            self.assertNotIn("wrong-token", told)
        path.write_text(f"{TOKEN}\n")
        self.done("accounts", "list", "--api-token-file", str(path), GMP_API_TOKEN="x" * 40)

    def test_called_wrongly(self) -> None:
        """Options, settings and files that cannot be."""
        for arguments in (
            ("--url", "ftp://x"),
            ("--url", "http://user:pw@x"),
            ("--token", "with space"),
            ("--timeout", "0"),
            ("--api-token-file", "/nonexistent/token"),
            ("--nonsense",),
        ):
            self.assertNotEqual("", self.refused(2, "nodes", *arguments))
        self.assertIn("GMP_PORT", self.refused(2, "nodes", GMP_PORT="many"))
        told = self.refused(2, "credentials", "add", "x", "--password-file", "/nonexistent/pw")
        self.assertIn("password", told)

    def test_completion(self) -> None:
        """Each shell gets its script."""
        for shell in ("bash", "zsh", "fish"):
            self.assertIn("_MAILPROXY_COMPLETE", self.done("completion", shell))
        self.refused(2, "completion", "cmd.exe")


_NODE = "INSERT INTO nodes (id, started_at, alive_until, version, host) VALUES (?, ?, ?, ?, ?)"

EML = (
    b"From: Shop <shop@example.test>\nTo: Ann <ann@example.test>, bob@example.test\n"
    b"Bcc: eve@example.test\nSubject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=\nX-Own: 1\n"
    b"Message-ID: <own@example.test>\n\nHello.\n"
)


class HandingInCases(RunningCase):
    __test__ = False

    def file(self, name: str, data: bytes) -> str:
        path = self.directory / name
        path.write_bytes(data)
        return str(path)

    def test_sent(self) -> None:
        """A file leaves as it is, to those of its header; several at once; JSON on lines."""
        told = self.done("messages", "send", self.file("a.eml", EML), "--id", "s1")
        self.assertEqual(f"{self.directory}/a.eml: s1 queued\n", told)
        self.wait_state("s1", "sent")
        message = self.json("messages", "show", "s1")["message"]
        to = {each["address"] for each in message["recipients"]}
        self.assertEqual({"ann@example.test", "bob@example.test", "eve@example.test"}, to)
        self.assertIn(
            "duplicate", self.done("messages", "send", self.file("a.eml", EML), "--id", "s1")
        )
        two = (self.file("b.eml", EML), self.file("c.eml", EML))
        lines = self.done("messages", "send", *two, "--to", "x@example.test", "--test", "--json")
        ids = {json.loads(line)["id"] for line in lines.splitlines()}
        self.assertEqual(2, len(ids))
        self.assertLessEqual(ids, set(self.service.states()))

    def test_send_refused(self) -> None:
        """One that the service rejects is told, and the others are handed in."""
        bad = self.file("bad.eml", EML.replace(b"From: ", b"From: a@example.test\nFrom: "))
        good = self.file("good.eml", EML)
        result = self.invoke("messages", "send", bad, good, "--from", "a@example.test")
        self.assertEqual(1, result.exit_code)
        self.assertIn(f"Error: {bad}: ", result.stderr)
        self.assertIn("good.eml: ", result.stdout)
        for why, *arguments in (
            ("for one FILE", good, good, "--id", "x"),
            ("no recipients", self.file("d.eml", b"From: a@example.test\n\nx\n")),
            ("no From", self.file("e.eml", b"To: a@example.test\n\nx\n")),
            ("cannot read", str(self.directory / "missing.eml")),
        ):
            self.assertIn(why, self.refused(2, "messages", "send", *arguments))

    def test_explained(self) -> None:
        """A message and an element: envelope, route and size; the bytes; why it is rejected."""
        fields = self.fields("explain", self.file("f.eml", EML))
        self.assertEqual("shop@example.test", fields["sender"])
        self.assertEqual("main", fields["route"])
        self.assertRegex(fields["size"], r"^\d+ of 52428800 bytes$")
        raw = self.invoke("explain", self.file("f.eml", EML), "--mime").stdout_bytes
        self.assertIn(b"\r\nX-Own: 1\r\n", raw)
        element = json.dumps(message("f1", to=[]))
        result = self.invoke("explain", "-", stdin=element)
        self.assertEqual((1, ""), (result.exit_code, result.stderr))
        self.assertIn("accepted\tno\nwhy not\tmissing to\n", result.stdout)
        told = self.json("explain", "-", "--account", "main", stdin=json.dumps(message("f1")))
        self.assertTrue(told["accepted"])
        result = self.invoke("explain", "-", "--account", "none", stdin=json.dumps(message("f1")))
        self.assertIn("account not found", result.stdout)
        self.assertIn("JSON", self.refused(2, "explain", "-", stdin="{"))
        self.assertNotIn("f1", self.service.states())

    def test_attachments_explained(self) -> None:
        """A message with parts is explained with its text, its page and its attachment."""
        made = EmailMessage()
        made["From"], made["To"], made["Subject"] = "a@example.test", "b@example.test", "Parts"
        made.set_content("plain text\n")
        made.add_alternative("<p>page</p>\n", subtype="html")
        made.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="a.pdf")
        mime = self.invoke("explain", self.file("g.eml", bytes(made)), "--mime").stdout_bytes
        for part in (b"plain text", b"<p>page</p>", b"a.pdf", b"JVBER"):
            self.assertIn(part, mime)


class ProcessCases(RunningCase):
    """As processes of their own: signals, pipes, a terminal."""

    __test__ = False

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        settings = {"GMP_HOST": "127.0.0.1", "GMP_PORT": str(self.service.port)}
        made = subprocess.Popen(
            [sys.executable, "-m", "mailproxy", *arguments],
            env=clean_env(settings | {"GMP_API_TOKEN": TOKEN}),
            # What was started in the background of a shell hears no ^C, nor would this.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            **{"stdin": subprocess.DEVNULL, "stderr": subprocess.PIPE, **options},
        )
        if made.stderr is not None:
            self.addCleanup(made.stderr.close)
        self.addCleanup(made.kill)
        return made

    def test_followed(self) -> None:
        """Events come as they happen; ^C ends that, and is no error."""
        following = self.start("events", "-f", "--since", "1h", stdout=subprocess.PIPE)
        assert following.stdout is not None
        enough = threading.Timer(60.0, following.kill)
        enough.start()
        self.addCleanup(enough.cancel)
        self.service.add(message("followed"))
        line = following.stdout.readline()
        while b"followed" not in line:
            line = following.stdout.readline()
            self.assertNotEqual(b"", line)
        following.send_signal(signal.SIGINT)
        rest, said = following.communicate(timeout=20)
        self.assertEqual((0, b"", b""), (following.returncode, rest, said))

    def test_nobody_reads(self) -> None:
        """Where nobody reads what is printed, it ends without a word."""
        self.service.add(message("piped"))
        self.wait_state("piped", "sent")
        for arguments in (("messages", "list"), ("events",), ("accounts", "list", "--json")):
            reader, writer = os.pipe()
            os.close(reader)
            ended = self.start(*arguments, stdout=writer)
            os.close(writer)
            _, said = ended.communicate(timeout=20)
            self.assertEqual((1, b""), (ended.returncode, said), arguments)

    def terminal(self) -> tuple[int, int]:
        """A new terminal: our end, and that of a process."""
        master, slave = pty.openpty()
        self.addCleanup(os.close, master)
        return master, slave

    def test_at_a_terminal(self) -> None:
        """There a table is aligned, and a bar is drawn while a copy is made."""
        master, slave = self.terminal()
        listed = self.start("accounts", "list", stdout=slave)
        database = self.service.settings["GMP_DB_PATH"]
        copied = self.start(
            *("backup", str(self.directory / "copy.db"), "--db-path", database),
            stdout=subprocess.DEVNULL,
            stderr=slave,
        )
        self.assertEqual((0, 0), (listed.wait(20), copied.wait(20)))
        os.close(slave)
        text = _all(master)
        self.assertIn("SERVER", text)
        self.assertIn("copying", text)
        self.assertNotIn("\t", text)

    def test_asked_for(self) -> None:
        """A password is asked for at a terminal, and not shown there."""
        master, slave = self.terminal()
        arguments = ("accounts", "add", "asked", "--host", "h.test", "--user", "u")
        adding = self.start(
            *arguments, stdin=slave, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        text = ""
        while "password" not in text:
            text += os.read(master, 4096).decode()
        os.write(master, b"s3cret-w0rd\n")
        text += _all(master)
        self.assertEqual(0, adding.wait(20), text)
        self.assertNotIn("s3cret", text)
        self.assertEqual("u", self.fields("accounts", "show", "asked")["user"])


def _all(terminal: int) -> str:
    """What is written to a terminal until all processes have closed it."""
    text = b""
    with contextlib.suppress(OSError):  # that is how it ends
        while more := os.read(terminal, 65536):
            text += more
    return text.decode()


class CommandTests(MessageCases, ServiceCases, StatusCases, HandingInCases, ProcessCases):
    """All of them with one service: each has ids of its own."""

    __test__ = True


def _pick(fields: dict[str, str], *names: str) -> tuple[str, ...]:
    return tuple(fields[name] for name in names)
