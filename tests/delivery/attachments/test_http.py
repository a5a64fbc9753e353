"""Attachments from the web: what is fetched, from whom, and what is not."""

from __future__ import annotations

import base64

from mailproxy.credentials import seal_auth
from mailproxy.delivery.attachments.source import Trouble
from mailproxy.tenancy import ClientAuth, Tenant
from tests.delivery.attachments.web import WebCase, answer, hang, raw, redirect, seal
from tests.delivery.certificates import Authority
from tests.scenarios.processes import free_port


class FetchTests(WebCase):
    async def test_content(self) -> None:
        """The body of a 200 is the content, byte for byte, and its type is told."""
        body = bytes(range(256)) * 3
        web = self.serve(a=answer("200 OK", body, "Content-Type: Image/PNG; x=y"))
        self.assertEqual((body, "image/png"), await self.get("/a?b=%20c"))
        (asked,) = web.asked
        self.assertEqual(("GET", "/a?b=%20c", b""), (asked.method, asked.target, asked.body))
        self.assertEqual("identity", asked.headers["accept-encoding"])
        self.assertEqual({"authorization", "cookie"} & set(asked.headers), set())
        await self.all_closed(web)

    async def test_other_forms_of_an_answer(self) -> None:
        """Chunks, an end without a length, an empty 204: all are whole answers."""
        self.serve(
            chunks=raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                       b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
            until_end=raw(b"HTTP/1.0 200 OK\r\n\r\nabcde", close=True),
            empty=raw(b"HTTP/1.1 204 No Content\r\n\r\n"),
        )  # fmt: skip
        self.assertEqual((b"abcde", ""), await self.get("/chunks"))
        self.assertEqual((b"abcde", ""), await self.get("/until_end"))
        self.assertEqual((b"", ""), await self.get("/empty"))

    async def test_f65_statuses(self) -> None:
        """F65: 400, 403, 404 and 410 are for good; 503 and all else is for now."""
        for status, transient in (
            ("404 Not Found", False),
            ("403 Forbidden", False),
            ("400 Bad Request", False),
            ("410 Gone", False),
            ("401 Unauthorized", True),
            ("408 Request Timeout", True),
            ("429 Too Many Requests", True),
            ("500 Internal Server Error", True),
            ("503 Service Unavailable", True),
            ("304 Not Modified", True),
        ):
            self.serve(a=answer(status, b"no"))
            trouble = await self.trouble("/a")
            self.assertEqual((f"answered {status[:3]}", transient, False), _told(trouble))

    async def test_f65_hang(self) -> None:
        """F65: a server that does not answer, or stops in the middle, is given up in time."""
        web = self.serve(
            mute=hang,
            head=raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n"),
            middle=raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc"),
        )
        for path in ("/mute", "/head", "/middle"):
            trouble = await self.trouble(path, source=self.source(silence=0.05))
            self.assertEqual(("no answer for 0.05 s", True, True), _told(trouble))
        await self.all_closed(web)

    async def test_f65_wrong_length(self) -> None:
        """F65: an answer that ends before its length, or is cut off, is not taken for the file."""
        self.serve(
            short=raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", close=True),
            reset=raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", reset=True),
            chunk=raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", close=True),
            endless=raw(b"HTTP/1.0 200 OK\r\n\r\nabc", reset=True),
        )
        for path in ("/short", "/reset", "/chunk", "/endless"):
            trouble = await self.trouble(path)
            self.assertEqual(("the answer broke off", True, False), _told(trouble), path)

    async def test_more_than_its_length(self) -> None:
        """What comes behind the length belongs to nobody."""
        self.serve(a=raw(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcdef", close=True))
        self.assertEqual((b"abc", ""), await self.get("/a"))

    async def test_f65_too_large(self) -> None:
        """F65: 2 GB are refused when announced; what is not announced, when it is there."""
        web = self.serve(
            said=raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\nabc"),
            unsaid=raw(b"HTTP/1.0 200 OK\r\n\r\n" + b"x" * 1001),
            chunks=raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                        b"1F4\r\n" + b"x" * 500 + b"\r\n1F5\r\n" + b"y" * 501 + b"\r\n"),
        )  # fmt: skip
        for path in ("/said", "/unsaid", "/chunks"):
            trouble = await self.trouble(path)
            self.assertEqual(("larger than 1000 bytes", False, False), _told(trouble), path)
        await self.all_closed(web)

    async def test_endless_headers(self) -> None:
        """A head without end is cut off."""
        fields = b"".join(b"X-%d: %s\r\n" % (n, b"y" * 1000) for n in range(300))
        web = self.serve(a=raw(b"HTTP/1.1 200 OK\r\n" + fields))
        trouble = await self.trouble("/a")
        self.assertEqual(("the answer is too large", False), _told(trouble)[:2])
        await self.all_closed(web)

    async def test_packed(self) -> None:
        """What is compressed against our wish is not unpacked, nor taken as it is."""
        self.serve(a=answer("200 OK", b"\x1f\x8b", "Content-Encoding: gzip"))
        trouble = await self.trouble("/a")
        self.assertTrue(trouble.transient)
        self.assertIn("encoded", trouble.problem)

    async def test_not_http(self) -> None:
        """A server that speaks another protocol is no reason to fall."""
        self.serve(a=raw(b"220 mail.example.com ESMTP\r\n"))
        self.assertTrue((await self.trouble("/a")).transient)

    async def test_refused(self) -> None:
        """Nobody there, and no such name: for now, and the whole place is out of reach."""
        self.serve()
        url = f"http://127.0.0.1:{free_port()}/"
        trouble = await self.trouble(url)
        self.assertEqual(("the server refuses connections on this port", True, True),
                         _told(trouble))  # fmt: skip
        trouble = await self.trouble("http://nowhere.example/")
        self.assertEqual(("the host's name was not found", True, True), _told(trouble))

    async def test_second_address(self) -> None:
        """If one address of a name does not answer, the next one is tried."""
        self.serve(a=answer("200 OK", b"x"))
        self.names.known["two.example"] = ["127.0.0.9", "127.0.0.1"]
        source = self.source("127.0.0.0/8")
        got = await self.get(f"http://two.example:{self.port}/a", source=source)
        self.assertEqual((b"x", ""), got)


class RedirectTests(WebCase):
    async def test_followed(self) -> None:
        """Five redirects are followed, relative ones too; a sixth is not."""
        hops = {f"/{n}": redirect(f"/{n + 1}") for n in range(9)}
        self.serve({**hops, "/6": answer("200 OK", b"there")})
        self.assertEqual((b"there", ""), await self.get("/1"))
        trouble = await self.trouble("/0")
        self.assertEqual(("more than 5 redirects", False, False), _told(trouble))

    async def test_f65_to_metadata(self) -> None:
        """F65, S13: a redirect to 169.254.169.254 is not followed, however it is written."""
        for host in (
            "169.254.169.254",
            "[::ffff:169.254.169.254]",
            "[64:ff9b::a9fe:a9fe]",
            "metadata.example",
        ):
            self.names.known["metadata.example"] = ["169.254.169.254"]
            self.serve(a=redirect(f"http://{host}/latest/meta-data/"))
            trouble = await self.trouble("/a")
            self.assertEqual(
                ("its host is at an address that is not allowed", False, False), _told(trouble)
            )

    async def test_s13_to_loopback(self) -> None:
        """S13: a redirect to this machine is not followed, by name nor by number."""
        inner = self.serve(secret=answer("200 OK", b"secret"))
        port = self.port
        self.names.known |= {"localhost": ["127.0.0.2"], "0": ["0.0.0.0"], "127.1": ["127.0.0.2"]}
        for host in ("localhost", "127.0.0.2", "[::1]", "0", "127.1"):
            self.serve(a=redirect(f"http://{host}:{port}/secret"))
            self.assertIn("not allowed", (await self.trouble("/a")).problem, host)
        self.assertEqual([], inner.connections)

    async def test_elsewhere(self) -> None:
        """A redirect to what is not HTTP, or no URL, leads nowhere."""
        for to in ("file:///etc/passwd", "gopher://x/", "http://u:p@h/", "http://a b/"):
            self.serve(a=redirect(to))
            trouble = await self.trouble("/a")
            self.assertIn("redirected to what is", trouble.problem)
            self.assertFalse(trouble.transient)


class GuardedTests(WebCase):
    async def test_s13_private_addresses(self) -> None:
        """S13: a URL that leads to a private address is refused before anything is connected."""
        web = self.serve(a=answer("200 OK", b"x"))
        self.names.known |= {"inside.example": ["127.0.0.1"], "10.1": ["10.0.0.1"]}
        source = self.source("192.0.2.1")
        for host in ("inside.example", "127.0.0.1", "[::ffff:7f00:1]", "10.1"):
            trouble = await self.trouble(f"http://{host}:{self.port}/a", source=source)
            self.assertIn("not allowed", trouble.problem)
        self.assertEqual([], web.connections)

    async def test_f65_rebinding(self) -> None:
        """F65: a name is resolved once for a connection; what is judged is what is called."""
        web = self.serve(a=answer("200 OK", b"x"))
        private, allowed = ["127.0.0.1"], ["127.0.0.2"]
        self.names.known["evil.example"] = [allowed, private, private]
        trouble = await self.trouble(
            f"http://evil.example:{self.port}/a", source=self.source("127.0.0.2")
        )
        self.assertEqual(["evil.example"], self.names.asked)
        self.assertTrue(trouble.down)  # nobody is at 127.0.0.2
        trouble = await self.trouble(
            f"http://evil.example:{self.port}/a", source=self.source("127.0.0.2")
        )
        self.assertIn("not allowed", trouble.problem)
        self.assertEqual([], web.connections)

    async def test_one_bad_address_is_enough(self) -> None:
        """A name with one address that is not allowed is not called at any."""
        web = self.serve(a=answer("200 OK", b"x"))
        self.names.known["mixed.example"] = ["127.0.0.1", "10.0.0.1"]
        trouble = await self.trouble(f"http://mixed.example:{self.port}/a")
        self.assertIn("not allowed", trouble.problem)
        self.assertEqual([], web.connections)

    async def test_allowed_host(self) -> None:
        """A host that is allowed by name is called wherever it is."""
        self.serve(a=answer("200 OK", b"x"))
        self.names.known["nas.internal"] = ["127.0.0.1"]
        got = await self.get(
            f"http://nas.internal:{self.port}/a", source=self.source("nas.internal")
        )
        self.assertEqual((b"x", ""), got)

    async def test_rebound_redirect(self) -> None:
        """Each redirect is resolved and judged anew, also back to the same name."""
        web = self.serve(a=redirect("/b"), b=answer("200 OK", b"secret"))
        self.names.known["evil.example"] = [["127.0.0.1"], ["127.0.0.5"]]
        trouble = await self.trouble(f"http://evil.example:{self.port}/a")
        self.assertIn("not allowed", trouble.problem)
        self.assertEqual(1, len(web.connections))


class TlsTests(WebCase):
    def setUp(self) -> None:
        super().setUp()
        self.authority = Authority()
        self.trusted = self.authority.pem

    async def test_verified(self) -> None:
        """Over TLS the file comes from a host that proves its name, by name or by address."""
        web = self.serve_tls(
            self.authority.issue("files.example", "127.0.0.1"), a=answer("200 OK", b"x" * 900)
        )
        self.assertEqual((b"x" * 900, ""), await self.get("/a"))
        self.assertEqual((b"x" * 900, ""), await self.get(f"https://127.0.0.1:{self.port}/a"))
        await self.all_closed(web)

    async def test_not_verified(self) -> None:
        """A host that cannot prove its name gets no request, and the reason says why."""
        for certificate, why in (
            (self.authority.issue("other.example"), "it is not for files.example"),
            (self.authority.issue("files.example", expired=True), "it has expired"),
            (Authority("Stranger").issue("files.example"), "not trusted"),
        ):
            web = self.serve_tls(certificate, a=answer("200 OK", b"x"))
            trouble = await self.trouble("/a")
            self.assertIn(why, trouble.problem)
            self.assertTrue(trouble.transient)
            self.assertEqual([], web.asked)
            await self.all_closed(web)

    async def test_cut_off(self) -> None:
        """A connection that ends without TLS's own farewell does not end a body."""
        self.serve_tls(
            self.authority.issue("files.example"),
            a=raw(b"HTTP/1.0 200 OK\r\n\r\nabc", reset=True),
        )
        self.assertEqual("the answer broke off", (await self.trouble("/a")).problem)

    async def test_s13_down_to_clear(self) -> None:
        """S13: credentials are not shown in clear by a redirect from TLS."""
        clear = self.serve(a=answer("200 OK"))
        to = f"{self.url}/a"
        self.serve_tls(self.authority.issue("files.example"), b=redirect(to))
        bearer = seal_auth(ClientAuth("bearer", token="t"), seal)
        await self.get("/b", auth=bearer)
        self.assertEqual([None], [asked.headers.get("authorization") for asked in clear.asked])


class CredentialsTests(WebCase):
    BEARER = ClientAuth("bearer", token="t0ken")

    async def shown(self, path: str = "/a", **fields: object) -> list[str | None]:
        """The credentials that each request showed."""
        before = len(self.web.asked)
        await self.get(path, **fields)  # type: ignore[arg-type]
        return [asked.headers.get("authorization") for asked in self.web.asked[before:]]

    async def test_of_the_attachment(self) -> None:
        """Credentials of an attachment are shown to its URL's origin."""
        self.web = self.serve(a=answer("200 OK"), b=redirect("/a"))
        bearer = seal_auth(self.BEARER, seal)
        self.assertEqual(["Bearer t0ken"], await self.shown(auth=bearer))
        basic = seal_auth(ClientAuth("basic", user="u", password="pä"), seal)
        expected = "Basic " + base64.b64encode("u:pä".encode()).decode()
        self.assertEqual([expected, expected], await self.shown("/b", auth=basic))
        self.assertEqual([None], await self.shown())

    async def test_s13_not_for_others(self) -> None:
        """S13: a redirect to another origin goes without them, also to another port or name."""
        other = self.serve(c=answer("200 OK"))
        port = self.port
        self.web = self.serve(
            a=redirect(f"http://files.example:{port}/c"), b=redirect(f"http://b.example:{port}/c")
        )
        self.names.known["b.example"] = ["127.0.0.1"]
        for path in ("/a", "/b"):
            await self.shown(path, auth=seal_auth(self.BEARER, seal))
        self.assertEqual([None, None], [each.headers.get("authorization") for each in other.asked])

    async def test_of_the_tenant(self) -> None:
        """A tenant's credentials are shown at its own origin only, and not against its will."""
        self.web = self.serve(a=answer("200 OK"))
        self.tenants["own"] = Tenant(
            "own", client_base_url=self.url + "/app", client_auth=self.BEARER
        )
        self.tenants["far"] = Tenant(
            "far", client_base_url="http://files.example:1/", client_auth=self.BEARER
        )
        self.assertEqual(["Bearer t0ken"], await self.shown(tenant="own"))
        self.assertEqual([None], await self.shown(tenant="far"))
        self.assertEqual([None], await self.shown(tenant="unknown"))
        none = seal_auth(ClientAuth("none"), seal)
        self.assertEqual([None], await self.shown(tenant="own", auth=none))


def _told(trouble: Trouble) -> tuple[str, bool, bool]:
    return trouble.problem, trouble.transient, trouble.down
