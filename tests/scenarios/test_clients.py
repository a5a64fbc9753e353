"""The client, Django's backend and the examples, against a running service."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from email import message_from_bytes, policy
from email.message import EmailMessage as Read
from pathlib import Path
from types import ModuleType
from typing import Any

import requests
from django.core.mail import EmailMultiAlternatives
from django.test.utils import override_settings
from flask import Flask
from twisted.trial.unittest import SynchronousTestCase
from werkzeug.serving import make_server

from mailproxy.client import Client, Rejected, Retry, Unavailable, Untrusted
from mailproxy.proving.certificate import make
from tests.contrib.configured import configure
from tests.scenarios.processes import (
    TOKEN,
    Service,
    SinkProcess,
    account,
    free_port,
    http,
    wait_until,
)
from tests.test_architecture import ROOT

EXAMPLES = ROOT / "examples"
PAGE = ROOT / "docs" / "clients.md"

#: Where the page says that a service is.
SHOWN = "http://127.0.0.1:8000"


def blocks(section: str) -> list[str]:
    """The Python that stands on the page below a heading, before the next."""
    text = PAGE.read_text(encoding="utf-8").partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return re.findall(r"(?s)```python\n(.*?)```", text)


def load(path: Path, **environment: str) -> ModuleType:
    """An example as a module, in an environment of its own."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        spec.loader.exec_module(module)
    finally:
        os.environ.clear()
        os.environ.update(before)
    return module


class Place:
    """One service and one upstream for all tests of this module."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="mailproxy-clients-"))
        self.sink = SinkProcess(self.directory, "--quiet")
        self.service = Service(self.directory)

    def end(self) -> None:
        self.service.end()
        self.sink.end()
        shutil.rmtree(self.directory, ignore_errors=True)


_place: list[Place] = []


def setUpModule() -> None:
    configure()
    place = Place()
    _place.append(place)
    place.sink.start()
    place.service.start()


def tearDownModule() -> None:
    _place.pop().end()


class UserCase(SynchronousTestCase):
    """Each test has a tenant of its own."""

    def setUp(self) -> None:
        (place,) = _place
        self.directory, self.sink, self.service = place.directory, place.sink, place.service
        self.admin = self.made(Client(self.service.url, TOKEN))
        self.tenant = self.id().rpartition(".")[2][-50:]
        self.key = self.admin.add_tenant(self.tenant).api_key
        self.client = self.made(Client(self.service.url, self.key))
        self.client.add_account(**account(self.sink.smtp_port))

    def made(self, client: Client) -> Client:
        self.addCleanup(client.close)
        return client

    def environment(self) -> dict[str, str]:
        """What the examples are told."""
        return {"MAILPROXY_URL": self.service.url, "MAILPROXY_TOKEN": self.key}

    def wait_for(self, id: str, state: str = "sent") -> None:
        wait_until(
            lambda: self.client.message(id).message.state == state, what=f"{id} to be {state}"
        )

    def arrived(self, id: str) -> tuple[Read, list[str]]:
        """What arrived of a message, and at whom."""
        self.wait_for(id)
        (copy,) = self.sink.get(f"/messages?id={id}")["messages"]
        raw = http("GET", f"{self.sink.url}/messages/{copy['n']}").raw
        return message_from_bytes(raw, policy=policy.default), copy["recipients"]

    def run_python(self, *argv: object, cwd: Path = ROOT, **more: str) -> str:
        """What a program prints. :raises AssertionError: it failed."""
        done = subprocess.run(
            [sys.executable, *map(str, argv)],
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | self.environment() | more,
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertEqual(0, done.returncode, done.stdout + done.stderr)
        return done.stdout


class ClientTests(UserCase):
    def test_sent(self) -> None:
        """What is handed in is sent, and told as an event."""
        tried = self.client.test_account("main")
        self.assertEqual((True, ""), (tried.works, tried.problem))
        item = self.client.send("a@example.com", "b@example.org", "Hi", "Text", id=self.tenant)
        self.assertEqual("queued", item.state)
        read, recipients = self.arrived(self.tenant)
        self.assertEqual(("Hi", ["b@example.org"]), (read["Subject"], recipients))
        self.assertEqual([self.tenant], [each.id for each in self.client.all_events()])

    def test_the_service_comes_back(self) -> None:
        """A message handed in while the service is down is taken when it is up again."""
        directory = Path(tempfile.mkdtemp(prefix="mailproxy-clients-"))
        self.addCleanup(shutil.rmtree, directory, ignore_errors=True)
        service = Service(directory)
        self.addCleanup(service.end)
        slept: list[float] = []

        def sleep(seconds: float) -> None:
            slept.append(seconds)
            service.start()

        client = self.made(Client(service.url, TOKEN, sleep=sleep))
        client.add_account(**account(self.sink.smtp_port))
        self.assertEqual(1, len(slept))
        self.assertTrue(client.status().active)
        once = self.made(Client(service.url, TOKEN, retry=Retry(attempts=1)))
        service.end()
        with self.assertRaises(Unavailable) as caught:
            once.status()
        self.assertFalse(caught.exception.uncertain)

    def test_no_proxy_and_no_netrc(self) -> None:
        """Proxies and passwords of the environment are not for the service."""
        home = self.directory / "home"
        home.mkdir(exist_ok=True)
        (home / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
        nowhere = f"http://127.0.0.1:{free_port()}"
        program = (
            "import os; from mailproxy.client import Client, Retry\n"
            "c = Client(os.environ['MAILPROXY_URL'], os.environ['MAILPROXY_TOKEN'],"
            " retry=Retry(attempts=1))\n"
            "print(c.status().active)"
        )
        said = self.run_python(
            "-c", program, HOME=str(home), http_proxy=nowhere, HTTP_PROXY=nowhere, no_proxy=""
        )
        self.assertEqual("True\n", said)

    def test_certificates(self) -> None:
        """A certificate that nobody vouches for is not trusted, and is told nothing."""
        identity = make(time.time())
        certificate, key = self.directory / "cert.pem", self.directory / "key.pem"
        certificate.write_text(identity.certificate)
        key.write_text(identity.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        answers = Flask("answers")
        answers.get("/health")(lambda: {"ok": True, "status": "ok"})
        server = make_server("127.0.0.1", 0, answers, threaded=True, ssl_context=context)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"https://127.0.0.1:{server.server_port}"
        with self.assertRaises(Untrusted) as caught:
            self.made(Client(url, TOKEN)).health()
        self.assertIn("self-signed", caught.exception.reason)
        session = requests.Session()
        session.trust_env = False
        session.verify = str(certificate)
        self.assertTrue(self.made(Client(url, TOKEN, session=session)).health())

    def test_a_connection_that_breaks(self) -> None:
        """A service that hangs up in the middle leaves it open whether the call was done."""
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)

        def hang_up() -> None:
            peer, _ = listener.accept()
            peer.recv(65536)
            peer.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        client = self.made(Client(url, TOKEN, retry=Retry(attempts=1)))
        with self.assertRaises(Unavailable) as caught:
            client.run_now()
        thread.join(10)
        self.assertTrue(caught.exception.uncertain)
        self.assertNotIn(TOKEN, str(caught.exception))


class DjangoTests(UserCase):
    def test_a_message(self) -> None:
        """What Django makes of a message arrives as it is, at all recipients; bcc is not seen."""
        message = EmailMultiAlternatives(
            "Größe €",
            "Grüße\n.\n",
            "Müller <shop@example.com>",
            ["Änne <anne@example.org>"],
            cc=["carl@example.org"],
            bcc=["boss@example.net"],
            reply_to=["help@example.com"],
            headers={"X-Mailproxy-Id": self.tenant, "X-Shop": "17"},
        )
        message.attach_alternative("<p>Grüße</p>", "text/html")
        message.attach("Füße.bin", bytes(range(256)) * 9, "application/octet-stream")
        with override_settings(**self.environment()):
            self.assertEqual(1, message.send())
        read, recipients = self.arrived(self.tenant)
        self.assertEqual(
            ["anne@example.org", "boss@example.net", "carl@example.org"], sorted(recipients)
        )
        self.assertNotIn("boss", str(read))
        self.assertNotIn("x-mailproxy", str(read).lower())
        self.assertEqual(
            ("Größe €", "17", "help@example.com"),
            (read["Subject"], read["X-Shop"], str(read["Reply-To"])),
        )
        plain, html = read.get_body(("plain",)), read.get_body(("html",))
        assert plain is not None
        assert html is not None
        self.assertEqual(["Grüße", "."], plain.get_content().split())
        self.assertIn("<p>Grüße</p>", html.get_content())
        (binary,) = read.iter_attachments()
        self.assertEqual("Füße.bin", binary.get_filename())
        self.assertEqual(bytes(range(256)) * 9, binary.get_content())

    def test_refused_and_away(self) -> None:
        """A message that is refused raises; a service that is away raises, or is silent."""
        bad = EmailMultiAlternatives(
            "S", "T", to=["a@example.org"], headers={"X-Mailproxy-Priority": "soon"}
        )
        loud, silent = (EmailMultiAlternatives("S", "T", to=["a@example.org"]) for _ in range(2))
        with override_settings(**self.environment()):
            self.assertRaises(Rejected, bad.send)
        away = {"MAILPROXY_URL": f"http://127.0.0.1:{free_port()}", "MAILPROXY_ATTEMPTS": 1}
        with override_settings(**away):
            self.assertRaises(Unavailable, loud.send)
            with self.assertLogs("mailproxy.contrib.django"):
                self.assertEqual(0, silent.send(fail_silently=True))


class ExampleTests(UserCase):
    def test_requests(self) -> None:
        """The script sends, waits for the outcome, and sends nothing twice."""
        for _ in range(2):
            said = self.run_python(
                EXAMPLES / "send_with_requests.py", self.tenant, "a@example.com", "ann@example.org"
            )
            self.assertIn(f"order-{self.tenant}: sent\n  ann@example.org: sent (250", said)
        self.arrived(f"order-{self.tenant}")
        with self.assertRaises(AssertionError) as caught:
            self.run_python(EXAMPLES / "send_with_requests.py", "o2", "a@example.com", "nobody")
        self.assertIn("refused: [", str(caught.exception))

    def test_flask(self) -> None:
        """The application sends, is told what became of it, and believes nobody else."""
        environment = self.environment() | {"REPORT_TOKEN": "r" * 32}
        app = load(EXAMPLES / "flask_app.py", **environment).app
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.admin.change_tenant(
            self.tenant,
            client_base_url=f"http://127.0.0.1:{server.server_port}",
            client_auth={"method": "bearer", "token": "r" * 32},
        )
        browser = app.test_client()
        order, refused = f"/orders/{self.tenant}", "/orders/x/confirmation"
        self.assertEqual({"state": "under way"}, browser.get(order).json)
        for _ in range(2):
            answer = browser.post(f"{order}/confirmation", data={"email": "ann@example.org"})
            self.assertEqual(202, answer.status_code)
        self.assertEqual(422, browser.post(refused, data={"email": "nobody"}).status_code)
        wait_until(lambda: browser.get(order).json == {"state": "sent"}, what="the report")
        read, _ = self.arrived(f"order-{self.tenant}")
        self.assertEqual(["order.txt"], [each.get_filename() for each in read.iter_attachments()])
        self.assertEqual(401, browser.post("/mail-proxy/sync", json={}).status_code)

    def test_django_site(self) -> None:
        """The site sends its confirmation once, and tells what is refused."""
        site = EXAMPLES / "django_site"
        program = (
            "import os, django\n"
            "os.environ['DJANGO_SETTINGS_MODULE'] = 'shop.settings'\n"
            "django.setup()\n"
            "from django.test import Client\n"
            "client = Client(SERVER_NAME='localhost')\n"
            f"url = '/orders/{self.tenant}/confirmation'\n"
            "for email in ('ann@example.org', 'ann@example.org', 'nobody'):\n"
            "    answer = client.post(url, {'email': email})\n"
            "    print(answer.status_code, sorted(answer.json()))\n"
            "print(client.get(url).status_code)\n"
        )
        said = self.run_python("-c", program, cwd=site, PYTHONPATH=f"{ROOT}{os.pathsep}{site}")
        self.assertEqual("202 ['id']\n202 ['id']\n422 ['error']\n405\n", said)
        read, recipients = self.arrived(f"order-{self.tenant}")
        self.assertEqual(["ann@example.org", "orders@example.com"], sorted(recipients))
        self.assertNotIn("orders@", str(read))
        self.run_python("manage.py", "sendtestemail", "me@example.org", cwd=site)
        self.assertEqual(2, len(list(self.client.messages())))


class PageTests(UserCase):
    def sections(self) -> Iterator[str]:
        yield from re.findall(r"(?m)^## (.*)$", PAGE.read_text(encoding="utf-8"))

    def run_blocks(self, found: list[str]) -> dict[str, Any]:
        names: dict[str, Any] = {"token": self.key, "print": lambda *args: None}
        for block in found:
            exec(compile(block.replace(SHOWN, self.service.url), str(PAGE), "exec"), names)
        return names

    def test_the_client(self) -> None:
        """Everything on the page that the client does is done as it stands there."""
        sections = ["Sending", "What became of it", "Deciding", "Errors"]
        found = [block for section in sections for block in blocks(section)]
        self.assertEqual(8, len(found))
        names = self.run_blocks(found)
        self.addCleanup(names["client"].close)
        self.assertEqual("order-17", names["item"].id)
        self.assertEqual(100, names["added"].queued)
        self.wait_for("invoice-17")
        self.wait_for("order-17")

    def test_all_of_it(self) -> None:
        """The rest of the client's section, for a tenant that is named."""
        self.client.send("a@example.com", "b@example.org", id="order-17")
        found = [each.replace('"default"', repr(self.tenant)) for each in blocks("All of it")]
        self.assertEqual(2, len(found))
        self.assertIn("mime", self.run_blocks(found)["answer"])

    def test_django(self) -> None:
        """The settings and the message of the page."""
        settings, message = blocks("Django")
        names = self.run_blocks([settings])
        told = {name: value for name, value in names.items() if name.isupper()}
        self.assertEqual({"EMAIL_BACKEND", "MAILPROXY_URL", "MAILPROXY_TOKEN"}, set(told))
        with override_settings(**told):
            self.run_blocks([message])
        _, recipients = self.arrived("order-18")
        self.assertEqual({"ann@example.org", "orders@example.com"}, set(recipients))

    def test_examples_are_quoted(self) -> None:
        """What is quoted from an example stands there so."""
        for section, name in (("Flask", "flask_app"), ("Anything else", "send_with_requests")):
            (quoted,) = blocks(section)
            self.assertIn(quoted, (EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))

    def test_none_is_left_out(self) -> None:
        """Every block of the page is one of these, and every call that is named is there."""
        text = PAGE.read_text(encoding="utf-8")
        found = [block for section in self.sections() for block in blocks(section)]
        self.assertEqual(text.count("```python\n"), len(found))
        self.assertEqual(14, len(found))
        table = text.partition("## All of it")[2].partition("Whatever else")[0]
        named = set(re.findall(r"`([a-z_]+)`", table)) - {"session"}
        calls = {each for each in dir(Client) if not each.startswith("_")}
        plumbing = {"ask", "call", "close", "entries", "exchange", "paged"}
        self.assertEqual(calls - plumbing, named)
