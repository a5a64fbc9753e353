"""The configuration for nginx, in nginx itself, before the service."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.api.site import SiteLimits
from mailproxy.config import Settings
from tests.delivery.certificates import Authority
from tests.need import need_program
from tests.scenarios.nodes_case import NodesCase
from tests.scenarios.processes import (
    TOKEN,
    Answer,
    Process,
    Service,
    free_port,
    message,
    wait_until,
)
from tests.test_architecture import ROOT

CONF = ROOT / "deploy" / "nginx"
HOST = "mail.example.com"

#: Where the service is, in the file for one.
ALONE = "127.0.0.1:8000"

MAIN = """\
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 64; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    include {folder}/*.site;
}}
"""


class Nginx(Process):
    """
    nginx with the files as they are, but for addresses and certificates.

    :param places: for each site, where it is that the file names.
    :param upstream: the file with those places.
    """

    name = "nginx"

    def __init__(
        self, directory: Path, *places: Mapping[str, str], upstream: str = "upstream"
    ) -> None:
        super().__init__(directory)
        self.program = need_program("nginx")
        self.ports = [free_port() for _ in places]
        authority = Authority()
        self.ca = authority.pem
        pem = directory / "site.pem"
        pem.write_bytes(authority.issue(HOST))
        text = together(upstream)
        text = re.sub(r"(?m)^(\s*ssl_certificate(?:_key)?) .*;$", rf"\1 {pem};", text)
        for port, there in zip(self.ports, places, strict=True):
            site = text
            for shown, real in there.items():
                site = site.replace(f"server {shown};", f"server {real};")
            site = site.replace("listen 443", f"listen 127.0.0.1:{port}")
            site = re.sub(r"(upstream |http://)mailproxy", rf"\1mailproxy{port}", site)
            (directory / f"{port}.site").write_text(site)
        (directory / "nginx.conf").write_text(MAIN.format(folder=directory))

    def command(self) -> list[str]:
        return [self.program, "-p", str(self.directory), "-c", str(self.directory / "nginx.conf")]

    def start(self) -> Nginx:
        self.spawn()
        wait_until(self._open, what="nginx")
        return self

    def _open(self) -> bool:
        if not self.alive:
            raise AssertionError(self.output())
        try:
            for port in self.ports:
                socket.create_connection(("127.0.0.1", port), 5).close()
        except OSError:
            return False
        return True

    def connect(self, port: int, source: str = "127.0.0.1") -> http.client.HTTPConnection:
        """A connection in TLS, from the address *source*."""
        plain = socket.create_connection(("127.0.0.1", port), 30, source_address=(source, 0))
        context = ssl.create_default_context(cadata=self.ca)
        made = http.client.HTTPConnection(HOST)
        made.sock = context.wrap_socket(plain, server_hostname=HOST)
        return made

    def ask(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        token: str = TOKEN,
        source: str = "127.0.0.1",
        **headers: str,
    ) -> Answer:
        """A request to the first site."""
        connection = self.connect(self.ports[0], source)
        try:
            sent = {name.replace("_", "-"): text for name, text in headers.items()}
            connection.request(method, path, body, {"X-API-Token": token, **sent})
            got = connection.getresponse()
            return Answer(got.status, got.read(), dict(got.getheaders()))
        finally:
            connection.close()


def together(upstream: str = "upstream") -> str:
    """What nginx is given: the site, and where it leads."""
    return "".join((CONF / f"{name}.conf").read_text() for name in (upstream, "mailproxy"))


def settings(pattern: str) -> list[str]:
    """The values of a directive in the file."""
    return re.findall(rf"(?m)^\s*{pattern}\s+(\S+);$", together())


class FileTests(SynchronousTestCase):
    def test_more_than_ours(self) -> None:
        """What nginx allows is more than what we do, so that refusals are ours."""
        (size,) = settings("client_max_body_size")
        self.assertGreater(int(size.removesuffix("m")) * 2**20, Settings().max_request_bytes)
        for name in ("proxy_read_timeout", "proxy_send_timeout"):
            self.assertGreater(
                int(settings(name)[0].removesuffix("s")), Settings().client_sync_timeout
            )
        for idle in settings("keepalive_timeout"):
            self.assertLess(int(idle.removesuffix("s")), SiteLimits().idle_seconds)

    def test_several_nodes(self) -> None:
        """Before several nodes it does as before one; the console stays with one of them."""
        alone, many = (
            re.findall(r"(?m)^(?:upstream|    (?!server|#)).*$", (CONF / name).read_text())
            for name in ("upstream.conf", "upstream-compose.conf")
        )
        self.assertEqual(alone, many)
        self.assertIn("    ip_hash;", alone[alone.index("upstream mailproxy_console {") :])


class NginxTests(SynchronousTestCase):
    service: ClassVar[Service]
    nginx: ClassVar[Nginx]
    backend: ClassVar[socket.socket]

    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory(prefix="mailproxy-nginx-", ignore_cleanup_errors=True)
        cls.addClassCleanup(folder.cleanup)
        directory = Path(folder.name)
        # Workers of nginx have a user of their own if it is started as root.
        directory.chmod(0o755)
        cls.service = Service(directory, GMP_TRUSTED_PROXIES="unix", GMP_MAX_REQUEST_BYTES="100000")
        door = directory / "api.sock"
        cls.service.settings["GMP_HTTP_LISTEN"] = (
            f"unix:{door} tcp:{cls.service.port}:interface=127.0.0.1"
        )
        cls.addClassCleanup(cls.service.end)
        cls.service.start()
        door.chmod(0o666)
        cls.backend = socket.create_server(("127.0.0.1", 0))
        cls.addClassCleanup(cls.backend.close)
        other = "{}:{}".format(*cls.backend.getsockname())
        cls.nginx = Nginx(directory, {ALONE: f"unix:{door}"}, {ALONE: other})
        cls.addClassCleanup(cls.nginx.end)
        cls.nginx.start()

    def ask(self, *request: Any, **more: Any) -> Answer:
        return self.nginx.ask(*request, **more)

    def test_below_a_prefix(self) -> None:
        """Every path is served below the prefix, and nothing beside it."""
        self.assertTrue(self.ask("GET", "/mail/status").body["active"])
        self.assertEqual(200, self.ask("GET", "/mail/livez").status)
        self.assertEqual(404, self.ask("GET", "/status").status)
        self.assertEqual(403, self.ask("GET", "/mail/metrics").status)
        moved = self.ask("GET", "/mail")
        self.assertEqual(308, moved.status)
        page = self.ask("GET", "/mail/docs").raw.decode()
        self.assertIn('href="openapi.json"', page)
        self.assertEqual("./", self.ask("GET", "/mail/openapi.json").body["servers"][0]["url"])
        events = self.ask("GET", "/mail/v1/events?tenant_id=default")
        self.assertEqual(200, events.status, events.raw)

    def test_too_large(self) -> None:
        """What is too large, or from nobody, is refused by us and in our words."""
        refused = self.ask("POST", "/mail/commands/add-messages", b" " * 3_000_000)
        self.assertEqual(413, refused.status)
        self.assertIn("error", refused.body)
        refused = self.ask("POST", "/mail/commands/add-messages", b" " * 3_000_000, token="x")
        self.assertEqual(401, refused.status)
        self.assertIn("error", refused.body)

    def key(self, network: str) -> str:
        """A key of a tenant, good in one network only."""
        self.service.call("POST", "/tenant", {"id": "shop"})
        made = self.service.call("POST", "/v1/tenants/shop/keys", {"networks": [network]})
        return str(made.body["api_key"])

    def test_who_is_calling(self) -> None:
        """The address of the client is what nginx sees, for a key that is bound to it."""
        key = self.key("127.0.0.2/32")
        self.assertEqual(200, self.ask("GET", "/mail/messages", None, key, "127.0.0.2").status)
        self.assertEqual(401, self.ask("GET", "/mail/messages", None, key, "127.0.0.3").status)

    def test_who_says_to_be_calling(self) -> None:
        """What a client says of its address is not believed: neither by nginx, nor by us."""
        key = self.key("192.0.2.7/32")
        spoofed = {"X_Forwarded_For": "192.0.2.7", "X_Real_IP": "192.0.2.7"}
        self.assertEqual(401, self.ask("GET", "/mail/messages", None, key, **spoofed).status)
        direct = http.client.HTTPConnection("127.0.0.1", self.service.port, timeout=30)
        self.addCleanup(direct.close)
        headers = {"X-API-Token": key, "X-Forwarded-For": "192.0.2.7"}
        direct.request("GET", "/messages", headers=headers)
        self.assertEqual(401, direct.getresponse().status)

    def test_console(self) -> None:
        """The console works below the prefix, its session is for TLS only, and it is shown live."""
        self.assertEqual(308, self.ask("GET", "/mail/console").status)
        self.assertEqual(200, self.ask("GET", "/mail/console/").status)
        body = json.dumps({"token": TOKEN}).encode()
        login = self.ask("POST", "/mail/console/session", body, Content_Type="application/json")
        self.assertEqual(200, login.status, login.raw)
        cookie, *rest = login.headers["Set-Cookie"].split("; ")
        self.assertIn("Secure", rest)
        connection = self.nginx.connect(self.nginx.ports[0])
        self.addCleanup(connection.close)
        connection.request("GET", "/mail/console/stream", headers={"Cookie": cookie})
        answer: Any = connection.getresponse()
        self.assertEqual(
            (200, "text/event-stream"), (answer.status, answer.headers["Content-Type"])
        )
        lines = iter(answer.readline, b"")
        self.assertIn(b"event: now\n", lines)

    def test_events_as_they_come(self) -> None:
        """An event is with the client before the next one is made."""
        taken: list[bytes] = []
        let_go = threading.Event()
        self.addCleanup(let_go.set)

        def serve() -> None:
            peer, _ = self.backend.accept()
            with peer:
                taken.append(peer.recv(65536))
                peer.sendall(
                    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                    b"Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n"
                )
                let_go.wait(30)
                peer.sendall(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

        thread = threading.Thread(target=serve)
        thread.start()
        self.addCleanup(thread.join, 30)
        connection = self.nginx.connect(self.nginx.ports[1])
        self.addCleanup(connection.close)
        connection.request("GET", "/mail/console/stream", headers={"X-Forwarded-For": "1.1.1.1"})
        answer: Any = connection.getresponse()
        self.assertEqual(b"data: 1\n", answer.readline())
        let_go.set()
        self.assertEqual(b"\ndata: 2\n\n", answer.read())
        (head,) = taken
        self.assertTrue(head.startswith(b"GET /console/stream HTTP/1.1\r\n"), head)
        self.assertIn(b"X-Forwarded-For: 127.0.0.1\r\n", head)
        self.assertIn(b"X-Forwarded-Proto: https\r\n", head)
        self.assertIn(b"X-Forwarded-Prefix: /mail\r\n", head)


class NodesTests(NodesCase):
    def test_two_nodes(self) -> None:
        """
        Before two nodes mail goes on when one is killed, and the console stays with one of them.
        """
        self.directory.chmod(0o755)
        nodes = [self.node(name, GMP_TRUSTED_PROXIES="127.0.0.1") for name in ("node1", "node2")]
        for node in nodes:
            node.start()
        self.put_account(nodes[0])
        places = {
            f"node{number}:8000": f"127.0.0.1:{node.port}" for number, node in enumerate(nodes, 1)
        }
        nginx = Nginx(self.directory, places, upstream="upstream-compose")
        self.addCleanup(nginx.end)
        nginx.start()
        body = json.dumps({"token": TOKEN}).encode()
        login = nginx.ask("POST", "/mail/console/session", body, Content_Type="application/json")
        cookie = login.headers["Set-Cookie"].partition(";")[0]
        for _ in range(6):
            shown = nginx.ask("GET", "/mail/console/session", None, "", Cookie=cookie)
            self.assertTrue(shown.body["session"], shown.raw)
        sent = set[str]()
        for number in range(12):
            if number == 6:
                nodes[0].kill()
            id = f"m{number}"
            text = json.dumps({"messages": [message(id)]}).encode()
            added = nginx.ask("POST", "/mail/commands/add-messages", text)
            self.assertEqual((200, 1), (added.status, added.body["queued"]), added.raw)
            sent.add(id)
        asked = [len(re.findall(r"POST /commands/add-messages", node.output())) for node in nodes]
        self.assertGreaterEqual(min(asked), 2, asked)
        late = sent - {f"m{number}" for number in range(6)}
        wait_until(lambda: set(self.arrived()) >= late, what="the mail of the one that is left")
