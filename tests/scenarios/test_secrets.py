"""
Nothing that is secret gets out: not by the log at DEBUG, not by an answer, not by a metric (I8).

Every secret is a canary, a word that stands nowhere else. The service is led along its good ways
and its bad ones, and everything it wrote is searched for each canary in every form it may have.
"""

from __future__ import annotations

import base64
import json
import smtplib
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from typing import Any
from urllib.parse import quote

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.crypto import new_key
from tests.scenarios.echo import Echo
from tests.scenarios.processes import (
    SinkProcess,
    account,
    free_port,
    http,
    message,
    wait_until,
)
from tests.scenarios.test_crashpoints import Crasher
from tests.scratch import scratch

TOKEN = "canary-api-token-2f1c9a7be05d4b3386"
OTHER_TOKEN = "canary-mistyped-token-77aa01c5d9e2"
METRICS = "canary-metrics-token-5b2e8f"
SYNC_TOKEN = "canary-sync-token-90cc4d1e"
SYNC_PASSWORD = "canary-sync-pass:'\"\\word-31"
PASSWORD = "canary-'pass\"word\\-é-64d0"
WRONG = "canary-'wrong\"password\\-è-11b8"
KEY = new_key()
BODY = "canary-body-è-'\"\\-c0ffee"
CLIENT_SECRET = "canary-client-'secret\"\\-3c7e"
REFRESH_TOKEN = "canary-refresh-'token\"\\-90ad"
CONTENT = "canary-content-è-'\"\\-facade"
UNFIT = "canary unfit è 5e"
SUBMITTER = "canary-submitter-'\"\\-77d1"

SECRETS = (TOKEN, OTHER_TOKEN, METRICS, SYNC_TOKEN, SYNC_PASSWORD, PASSWORD, WRONG, KEY,
           BODY, CONTENT, CLIENT_SECRET, REFRESH_TOKEN, SUBMITTER, UNFIT)  # fmt: skip


def forms(secret: str) -> Iterator[str]:
    """*secret* as code may write it: plain, escaped, in base64 wherever it begins within it."""
    data = secret.encode()
    yield from (secret, repr(secret)[1:-1], ascii(secret)[1:-1], repr(data)[2:-1])
    yield from (json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1])
    yield quote(secret)
    for before in range(3):
        # Without the characters that depend on what stands around it.
        encoded = base64.b64encode(b"x" * before + data).decode().rstrip("=")
        yield encoded[(0, 2, 3)[before] : len(encoded) - 1]


class SecretTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = scratch(self)
        self.sink = SinkProcess(self.directory, "--user", "joe", "--password", PASSWORD).start()
        self.addCleanup(self.sink.end)
        self.echo = Echo()
        self.addCleanup(self.echo.close)
        self.answers: list[str] = []

    def start(self, **settings: str) -> None:
        self.smtp_port = free_port()
        self.service = Crasher(
            self.directory,
            GMP_SMTP_LISTEN=f"tcp:{self.smtp_port}:interface=127.0.0.1",
            GMP_SMTP_PLAINTEXT_AUTH="127.0.0.1",
            GMP_API_TOKEN=TOKEN,
            GMP_METRICS_TOKEN=METRICS,
            GMP_ENCRYPTION_KEY=KEY,
            GMP_LOG_LEVEL="DEBUG",
            GMP_LOG_DELIVERY_ACTIVITY="true",
            GMP_RETRY_DELAYS="0.2",
            GMP_OAUTH_ALLOW="127.0.0.1",
            **settings,
        )
        self.service.start()
        self.addCleanup(self.service.end)

    def ask(
        self, method: str, path: str, body: Any = None, token: str = TOKEN, keep: bool = True
    ) -> Any:
        """The decoded answer; kept for the search unless it may hold what was submitted."""
        data = body if isinstance(body, bytes) else None if body is None else _json(body)
        headers = {"X-API-Token": token, "Authorization": f"Bearer {token}"}
        request = urllib.request.Request(self.service.url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                raw, head = answer.read(), str(answer.headers)
        except urllib.error.HTTPError as error:
            raw, head = error.read(), str(error.headers)
        if keep:
            self.answers.append(head + raw.decode())
        return json.loads(raw) if raw[:1] == b"{" else raw

    def put(self, id: str, port: int, password: str) -> None:
        fields = account(port, user="joe", password=password, allow_plaintext_auth=True)
        self.assertTrue(self.ask("POST", "/account", {**fields, "id": id})["ok"])

    def put_by_token(self, **auth: str) -> dict[str, Any]:
        """An account that logs in with a token; its authorization server speaks no TLS."""
        whole = {
            "method": "xoauth2",
            "grant": "refresh_token",
            "token_url": f"https://127.0.0.1:{self.echo.http_port}/token",
            "client_id": "c",
            "client_secret": CLIENT_SECRET,
            "refresh_token": REFRESH_TOKEN,
        }
        fields = account(self.echo.smtp_port, user="joe", id="token", auth={**whole, **auth})
        answer: dict[str, Any] = self.ask("POST", "/account", fields)
        return answer

    def letter(self, id: str, account_id: str, **fields: Any) -> dict[str, Any]:
        content = base64.b64encode(CONTENT.encode()).decode()
        attachment = {"filename": "a.txt", "storage_path": f"base64:{content}"}
        return message(
            id, **{"account_id": account_id, "body": BODY, "attachments": [attachment], **fields}
        )

    def good_and_bad_ways(self) -> None:
        """Mail that arrives, that cannot log in, that is refused, and requests that are wrong."""
        self.put("good", self.sink.smtp_port, PASSWORD)
        self.put("bad", self.sink.smtp_port, WRONG)
        self.put("echo", self.echo.smtp_port, PASSWORD)
        self.assertTrue(self.put_by_token()["ok"])
        letters = [
            self.letter("arrives", "good"),
            self.letter("html", "good", content_type="html", to=["reject@x.test", "ok@x.test"]),
            self.letter("locked", "bad"),
            self.letter("echoed", "echo"),
            self.letter("tokenless", "token"),
            self.letter("broken", "good", attachments=[{"filename": CONTENT, "foo": CONTENT}]),
            self.letter("bent", "good", subject=f"{BODY}\n", headers={"X-A": f"{BODY}\r\n"}),
            {**self.letter("x", "good"), "from": f"{BODY} <", "priority": BODY},
            {"id": [BODY], "body": BODY},
            BODY,
        ]
        answer = self.ask("POST", "/commands/add-messages?verbose=1", {"messages": letters})
        self.assertEqual(5, answer["queued"], answer)
        self.wrong_requests()

        def told() -> bool:
            found = self.ask("GET", "/messages", keep=False)["messages"]
            by_id = {each["id"]: each for each in found}
            return (
                by_id["arrives"]["state"] == "sent"
                and by_id["html"]["state"] == "failed"
                and all(by_id[id]["deferred_reason"] for id in ("locked", "echoed", "tokenless"))
            )

        wait_until(told, what="every message to have got somewhere")

    def wrong_requests(self) -> None:
        fields = {"id": "w", "host": "h", "user": "joe", "password": WRONG}
        self.ask("POST", "/account", {**fields, "port": WRONG, "tls_mode": WRONG, "ca_pem": WRONG})
        self.ask("POST", "/account", {**fields, "password": [WRONG], "timeout": WRONG})
        self.ask("POST", "/account", _json(fields)[:-1])
        self.assertFalse(self.put_by_token(scope=f"{CLIENT_SECRET}\n")["ok"])
        self.assertFalse(self.put_by_token(grant=REFRESH_TOKEN, token_url=REFRESH_TOKEN)["ok"])
        self.ask("POST", "/account", {**fields, "id": "good", "password": None, "host": "other"})
        self.ask("POST", "/commands/add-messages", _json({"messages": BODY, BODY: BODY}))
        self.ask("POST", "/commands/add-messages", _json({"messages": [{"body": BODY}]})[:-1])
        self.ask("POST", "/commands/add-messages", BODY.encode("latin-1"))
        self.ask("GET", f"/status?token={quote(OTHER_TOKEN)}", token=OTHER_TOKEN)
        self.ask("GET", f"/status?tenant_id={quote(BODY)}")
        self.ask("GET", f"/messages?cursor={quote(BODY)}&state={quote(BODY)}")
        self.ask("GET", f"/messages?cursor={quote(BODY)}")
        self.ask("POST", f"/commands/suspend?batch_code={quote(BODY * 3)}")

    def damage(self) -> None:
        """A stored message that can no longer be read, while its account is at work."""
        self.ask("POST", "/commands/suspend")
        self.ask("POST", "/commands/add-messages", {"messages": [self.letter("torn", "good")]})
        with closing(sqlite3.connect(self.directory / "mail.db", timeout=10)) as db, db:
            db.execute(
                "UPDATE payloads SET json=? WHERE body_pk="
                "(SELECT body_pk FROM messages WHERE id='torn')",
                (_json({"plain": BODY, "sender": [BODY]}),),
            )
        self.ask("POST", "/commands/activate")

        def held() -> bool:
            found = self.ask("GET", "/messages?state=held", keep=False)["messages"]
            return [each["id"] for each in found] == ["torn"]

        wait_until(held, what="the damaged message to be put aside")

    def submit_by_smtp(self) -> None:
        """A program logs in, wrongly at first; its mail comes back to it as a bounce."""
        given = {"user": "erp", "password": SUBMITTER}
        self.ask("POST", "/v1/credentials", given)
        self.ask("POST", "/v1/credentials", {**given, "user": SUBMITTER, "senders": [SUBMITTER]})
        self.ask("PUT", "/tenant/default", {"bounces": {"enabled": True, "account_id": "good"}})
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=20) as client:
            with self.assertRaises(smtplib.SMTPAuthenticationError) as refused:
                client.login("erp", OTHER_TOKEN)
            self.answers.append(repr(refused.exception))
            client.login("erp", SUBMITTER)
            mail = f"From: erp@x.test\nX-Mailproxy-Account: good\n\n{BODY}\n".encode()
            client.sendmail("erp@x.test", ["reject@x.test"], mail.replace(b"\n", b"\r\n"))

        def bounces() -> list[str]:
            copies = [each["n"] for each in self.sink.get("/messages")["messages"]]
            raws = [http("GET", f"{self.sink.url}/messages/{n}").raw.decode() for n in copies]
            return [raw for raw in raws if "Auto-Submitted: auto-replied" in raw]

        wait_until(lambda: bool(bounces()), what="the bounce")
        self.answers += bounces()

    def crash(self) -> None:
        """Killed while it works, then refused for a wrong setting."""
        self.service.point = "enqueue-commit"
        self.service.terminate()
        self.service.start()
        with self.assertRaises(OSError):
            self.ask("POST", "/commands/add-messages", {"messages": [self.letter("last", "good")]})
        wait_until(lambda: not self.service.alive, what="the crash")
        self.service.point = ""
        self.service.settings["GMP_API_TOKEN"] = UNFIT
        self.service.spawn()
        assert self.service.process is not None
        self.assertNotEqual(0, self.service.process.wait(30))
        self.assertIn("GMP_API_TOKEN", self.service.output().splitlines()[-1])

    def look_around(self) -> None:
        """Everything there is to ask for; bodies are shown only while they are still needed."""
        described = self.ask("GET", "/openapi.json")["paths"]
        plain = [path for path, verbs in described.items() if "get" in verbs and "{" not in path]
        self.assertGreater(len(plain), 15)
        for path in (*plain, "/nowhere", "/tenant/default", "/v1/tenants/default/keys",
                     "/console", "/console/"):  # fmt: skip
            self.ask("GET", path, keep=path != "/messages")
        self.ask("POST", "/console/session", {"token": OTHER_TOKEN})
        self.answers.append(json.dumps(self.sink.get("/reports"), ensure_ascii=False))
        self.ask("GET", "/metrics", token=METRICS)
        self.ask("GET", "/metrics", token=OTHER_TOKEN)
        self.ask("GET", "/messages?state=sent&include_history=1")
        listed = self.ask("GET", "/messages?include_history=1", keep=False)
        listed["one"] = self.ask("GET", "/v1/messages/html", keep=False)["message"]
        for each in (*listed["messages"], listed["one"]):
            each["message"].pop("body", None)
        self.answers.append(json.dumps(listed, ensure_ascii=False))

    def search(self) -> None:
        self.service.terminate()
        log = self.service.output()
        self.assertIn("AUTH", log)
        self.assertIn("attempt 1 ", log)
        for secret in SECRETS:
            for form in dict.fromkeys(forms(secret)):
                for text in (log, *self.answers):
                    at = text.find(form)
                    self.assertEqual(-1, at, f"{form}: {text[max(0, at - 300) : at + 100]}")

    def test_bearer(self) -> None:
        """S16: with a token for reports; the receiver refuses them and repeats the token."""
        self.start(
            GMP_CLIENT_SYNC_URL=f"http://127.0.0.1:{self.echo.http_port}/",
            GMP_CLIENT_SYNC_TOKEN=SYNC_TOKEN,
            GMP_LOG_FORMAT="json",
        )
        self.good_and_bad_ways()
        self.damage()
        self.look_around()
        self.search()

    def test_basic(self) -> None:
        """S16: with user and password for reports, which are taken at first, then refused."""
        credentials = {"GMP_CLIENT_SYNC_USER": "sync", "GMP_CLIENT_SYNC_PASSWORD": SYNC_PASSWORD}
        credentials["GMP_LOG_FORMAT"] = "text"
        self.start(GMP_CLIENT_SYNC_URL=self.sink.sync_url, **credentials)
        self.good_and_bad_ways()
        self.submit_by_smtp()
        self.look_around()
        self.crash()
        self.start(GMP_CLIENT_SYNC_URL=f"http://127.0.0.1:{self.echo.http_port}/", **credentials)
        self.ask("POST", "/commands/run-now")
        wait_until(lambda: "bad credentials" in self.service.output(), what="the refused report")
        self.look_around()
        self.search()

    def test_the_search_finds(self) -> None:
        """A canary is found plain, escaped and within any base64."""
        word = base64.b64encode(f"\0joe\0{PASSWORD}".encode()).decode()
        for text in (
            PASSWORD,
            repr(f"x{PASSWORD}"),
            repr(PASSWORD.encode()),
            json.dumps([PASSWORD]),
            word,
            base64.b64encode(f"12{PASSWORD}34".encode()).decode(),
            base64.b64encode(f"1{PASSWORD}2".encode()).decode(),
        ):
            self.assertTrue(any(form in text for form in forms(PASSWORD)), text)


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()
