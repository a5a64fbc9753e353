"""A web server on loopback that does as told, and ways to call it as the program would."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import DNSLookupError
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import PrivateCertificate
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from mailproxy.delivery.attachments.exchange import Exchanges
from mailproxy.delivery.attachments.guard import Guard
from mailproxy.delivery.attachments.http import HttpSource
from mailproxy.delivery.attachments.source import Spool, Trouble
from mailproxy.delivery.tls import TlsClients
from mailproxy.model import Attachment
from mailproxy.tenancy import Tenant

#: What a server does with a request: gets its connection, its first line, headers and body.
Script = Callable[["Connection", "Asked"], None]


class Asked:
    """One request as it came in."""

    def __init__(self, head: bytes, body: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = lines[0].split(" ")
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self.body = body


def answer(status: str, body: bytes = b"", *headers: str) -> Script:
    """A whole answer with a length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return raw("\r\n".join(lines).encode() + body)


def redirect(to: str, status: str = "302 Found") -> Script:
    return answer(status, b"", f"Location: {to}")


def raw(data: bytes, *, close: bool = False, reset: bool = False) -> Script:
    """These bytes, and then the connection left open, closed, or reset."""

    def script(connection: Connection, asked: Asked) -> None:
        connection.transport.write(data)
        if close:
            connection.transport.loseConnection()
        if reset:
            connection.reset_soon()

    return script


def hang(connection: Connection, asked: Asked) -> None:
    """No answer at all."""


class Connection(Protocol):
    transport: Any
    factory: Web

    def connectionMade(self) -> None:
        self.received = b""
        self.factory.connections.append(self)

    def dataReceived(self, data: bytes) -> None:
        self.received += data
        head, end, body = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        asked = Asked(head, body)
        if len(body) >= int(asked.headers.get("content-length", "0")):
            self.received = b""
            self.factory.asked.append(asked)
            self.factory.script_for(asked.target)(self, asked)

    def reset_soon(self) -> None:
        from twisted.internet import reactor

        reactor.callLater(0.02, self.transport.abortConnection)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.factory.lost.append(self)


class Web(Factory):
    """
    :param scripts: by path; what is not there is 404.
    """

    protocol = Connection  # type: ignore[assignment]
    noisy = False

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.scripts = dict(scripts)
        self.asked: list[Asked] = []
        self.connections: list[Connection] = []
        self.lost: list[Connection] = []

    def script_for(self, target: str) -> Script:
        return self.scripts.get(target.partition("?")[0], answer("404 Not Found"))


class Names:
    """
    A resolver that knows what it is told, and counts how often it is asked.

    :param known: addresses by name; a list of lists is an answer for each time.
    """

    def __init__(self, known: Mapping[str, list[Any]]) -> None:
        self.known = dict(known)
        self.asked: list[str] = []

    async def resolve(self, name: str, port: int) -> Sequence[str]:
        self.asked.append(name)
        found = self.known.get(name, [name] if name[0].isdigit() or ":" in name else [])
        if found and isinstance(found[0], list):
            found = found.pop(0)
        if not found:
            raise DNSLookupError(name)
        return found


class WebCase(TestCase):
    """
    A server at ``self.url`` (127.0.0.1, which the guard lets pass), and a client of it.

    :ivar names: what the client's resolver knows.
    """

    timeout = 10

    #: PEM of a root that the client trusts beside the platform's.
    trusted: str | None = None

    def setUp(self) -> None:
        from twisted.internet import reactor

        self.reactor: Any = reactor
        self.names = Names({"files.example": ["127.0.0.1"]})
        self.tenants: dict[str, Tenant] = {}

    def serve(self, scripts: Mapping[str, Script] | None = None, **paths: Script) -> Web:
        web = Web({**(scripts or {}), **{f"/{name}": script for name, script in paths.items()}})
        port = self.reactor.listenTCP(0, web, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.url = f"http://files.example:{self.port}"
        return web

    def serve_tls(self, pem: bytes, **paths: Script) -> Web:
        """The same with a certificate; *pem* has its key as well."""
        web = Web({f"/{name}": script for name, script in paths.items()})
        options: Any = PrivateCertificate.loadPEM(pem).options()
        port = self.reactor.listenSSL(0, web, options, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.port = port.getHost().port
        self.url = f"https://files.example:{self.port}"
        return web

    def exchanges(self, **options: Any) -> Exchanges:
        tls = TlsClients(self.trusted)
        return Exchanges(self.reactor, self.names.resolve, tls, **options)

    def source(self, *allow: str, **options: Any) -> HttpSource:
        guard = Guard(allow or ("127.0.0.1",))
        return HttpSource(self.exchanges(**options), guard, self.tenants.get, unseal)

    async def get(
        self,
        path: str,
        *,
        source: Any = None,
        limit: int = 1000,
        tenant: str = "t1",
        **fields: Any,
    ) -> tuple[bytes, str]:
        """What is fetched from *path*, or from a whole URL, and its type."""
        url = path if "://" in path else self.url + path
        wanted = Attachment("a.bin", "x/y", 0, storage_path=url, fetch_mode="http_url", **fields)
        spool = Spool(limit)
        try:
            kind = await (source or self.source()).fetch(tenant, wanted, spool)
            return spool.read(), kind
        finally:
            spool.close()

    async def trouble(self, path: str, **more: Any) -> Trouble:
        """How fetching *path* fails."""
        try:
            await self.get(path, **more)
        except Trouble as trouble:
            return trouble
        raise AssertionError("it was fetched")

    def all_closed(self, web: Web) -> Deferred[None]:
        """Fires when no connection to *web* is left."""
        done: Deferred[None] = Deferred()

        def look() -> None:
            if len(web.lost) == len(web.connections):
                done.callback(None)
            else:
                self.reactor.callLater(0.005, look)

        look()
        return done


def seal(text: str) -> str:
    return text[::-1].encode().hex()


def unseal(text: str) -> str:
    return bytes.fromhex(text).decode()[::-1]
