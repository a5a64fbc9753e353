"""The API on an in-memory connection: bytes in, bytes out, through the real HTTP channel."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import attrs
import msgspec
from twisted.internet.address import IPv4Address
from twisted.internet.testing import StringTransportWithDisconnection

from mailproxy.api.root import Api, ApiOptions
from mailproxy.book import TenantBook
from mailproxy.clock import Names
from mailproxy.crypto import hash_token
from mailproxy.interfaces import InThread
from mailproxy.metrics import Metrics
from mailproxy.submitter_book import SubmitterBook
from mailproxy.tenancy import ApiKey
from mailproxy.threads import inline
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, FakeControl, result

TOKEN = "t0ken-of-the-admin-0123456789abcdef"

ACCOUNT = {"id": "smtp-main", "host": "smtp.example.net", "port": 25}


@attrs.frozen
class Reply:
    """One HTTP answer. Header names in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.body)


def read_replies(data: bytes) -> list[Reply]:
    """Every complete answer in *data*."""
    replies = []
    while data:
        head, found, data = data.partition(b"\r\n\r\n")
        if not found:
            break
        first, *lines = head.decode("latin-1").split("\r\n")
        fields = [line.partition(":") for line in lines]
        headers = {name.lower(): value.strip() for name, _, value in fields}
        if headers.get("transfer-encoding") == "chunked":
            body, data = _chunks(data)
        else:
            size = int(headers.get("content-length", "0"))
            body, data = data[:size], data[size:]
        replies.append(Reply(int(first.split()[1]), headers, body))
    return replies


def _chunks(data: bytes) -> tuple[bytes, bytes]:
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body, data = body + data[:length], data[length + 2 :]
        if not length:
            break
    return body, data


class Transport(StringTransportWithDisconnection):
    """The server's end of a connection; while *full*, every write is more than it wants."""

    full = False

    def write(self, data: bytes) -> None:
        super().write(data)
        if self.full and self.producer is not None:
            self.producer.pauseProducing()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        self.write(b"".join(data))


class Connection:
    """A client's connection; ``transport`` is the server's end of it."""

    def __init__(self, door: Door) -> None:
        self.protocol = door.site.buildProtocol(IPv4Address("TCP", "192.0.2.7", 40000))
        self.transport = Transport(peerAddress=IPv4Address("TCP", "192.0.2.7", 40000))
        self.transport.protocol = self.protocol
        self.protocol.makeConnection(self.transport)

    def send(self, data: bytes) -> None:
        """*data* arrives at the server, in pieces as a network might cut it."""
        for at in range(0, len(data), 65536):
            if self.transport.connected:
                self.protocol.dataReceived(data[at : at + 65536])

    @property
    def replies(self) -> list[Reply]:
        return read_replies(self.transport.value())

    @property
    def open(self) -> bool:
        return bool(self.transport.connected)


class Door:
    """
    An API with everything around it faked.

    :param store: the class of the store.
    :param options: those of :class:`ApiOptions`.
    """

    def __init__(
        self,
        in_thread: InThread = inline,
        *,
        store: type[FakeStore] = FakeStore,
        **options: Any,
    ) -> None:
        self.clock = FakeClock()
        self.names = Names(random.Random(7))
        self.store = store(self.clock, self.names)
        self.control = FakeControl()
        self.metrics = Metrics()
        self.book = TenantBook(self.store, self.clock)
        result(self.book.refresh())
        self.submitters = SubmitterBook(self.store, self.clock)
        self.api = Api(
            self.store,
            self.control,
            self.clock,
            self.names,
            self.metrics,
            in_thread,
            ApiOptions(**{"admin_token": TOKEN, "can_sign": lambda: True, **options}),
            self.book,
            self.submitters,
        )
        self.site = self.api.site()

    def add_key(self, tenant_id: str, token: str, **limits: Any) -> str:
        """
        Give a tenant, which is made if need be, the key *token*.

        :param limits: fields of :class:`ApiKey`.
        """
        if not self.book.exists(tenant_id):
            self.store.add_tenant(tenant_id)
        key = ApiKey(hash_token(token), token[:8], tenant_id, **limits)
        result(self.store.add_key(key, self.clock.now()))
        result(self.book.refresh())
        return token

    def connect(self) -> Connection:
        return Connection(self)

    def call(
        self,
        method: str,
        target: str,
        body: Any = None,
        token: str | None = TOKEN,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """
        Make one request; the answer must be there at once.

        :param body: bytes as they are; anything else as JSON.
        """
        connection = self.connect()
        connection.send(request(method, target, body, token, headers))
        (reply,) = connection.replies
        return reply

    def add(self, *messages: Any, query: str = "", **envelope: Any) -> Reply:
        body = {"messages": list(messages), **envelope}
        return self.call("POST", f"/commands/add-messages{query}", body)

    def put_account(self, **fields: Any) -> Reply:
        return self.call("POST", "/account", {**ACCOUNT, **fields})


def request(
    method: str,
    target: str,
    body: Any = None,
    token: str | None = TOKEN,
    headers: dict[str, str] | None = None,
) -> bytes:
    """A request as bytes."""
    fields = {"Host": "proxy.example", **(headers or {})}
    if token is not None:
        fields["X-API-Token"] = token
    entity = b""
    if body is not None:
        entity = body if isinstance(body, bytes) else msgspec.json.encode(body)
        fields.setdefault("Content-Length", str(len(entity)))
    lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in fields.items())]
    return "\r\n".join([*lines, "", ""]).encode("utf-8", "surrogateescape") + entity


def message(id: Any = "m1", **fields: Any) -> dict[str, Any]:
    """A message as clients write it."""
    base = {"id": id, "from": "Sender <sender@example.com>", "to": ["to@example.org"]}
    return {**base, "subject": "Hello", "body": "Hello, world.\n", **fields}
