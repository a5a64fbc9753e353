"""
A whole way for a message with attachments, in memory: store, dispatcher, courier, an upstream, and
sources that do as told.
"""

from __future__ import annotations

import random
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.delivery.attachments.cache import Cache, MemoryCache
from mailproxy.delivery.attachments.completion import Completion
from mailproxy.delivery.attachments.fetcher import Fetcher, FetchOptions
from mailproxy.delivery.attachments.large import Large
from mailproxy.delivery.attachments.uploads import Uploads
from mailproxy.delivery.courier import Courier
from mailproxy.delivery.pool import Pool
from mailproxy.dispatch.dispatcher import Dispatcher, DispatchOptions
from mailproxy.filelinks import FileLinks
from mailproxy.metrics import Metrics
from mailproxy.model import Attachment, NewMessage
from mailproxy.records import ListQuery, MessageRecord, ReportItem
from mailproxy.states import TlsMode
from mailproxy.tenancy import Tenant
from mailproxy.threads import inline
from tests.build import account_spec, content, new_message
from tests.delivery.attachments.test_fetcher import ScriptedSource
from tests.delivery.peer import Network, Server
from tests.fake_store import FakeStore
from tests.fakes import FakeClock, result


def lacking(path: str, md5: str = "", name: str = "") -> Attachment:
    return Attachment(
        name or path,
        "application/pdf",
        0,
        storage_path=path,
        fetch_mode="endpoint",
        content_md5=md5,
    )


class HouseCase(SynchronousTestCase):
    """:ivar source: where all attachments come from."""

    options = FetchOptions(max_bytes=10_000, deadline=100.0, total=4, each=2)
    max_message_bytes = 20_000

    def setUp(self) -> None:
        self.clock = FakeClock()
        self.store = FakeStore(self.clock)
        self.metrics = Metrics()
        self.source = ScriptedSource()
        self.tenants: dict[str, Tenant] = {"default": Tenant("default")}
        self.files: Any = None
        plain = account_spec(tls_mode=TlsMode.PLAIN, max_sessions=1)
        self.account = result(self.store.put_account(plain, self.clock.now()))
        self.assemble()

    def assemble(self, *servers: Any) -> None:
        """:param servers: what upstreams do; see :class:`tests.delivery.peer.Network`."""
        self.network = Network(*servers)
        cache = Cache(self.clock.now, MemoryCache(0, 0.0), None, inline)
        self.fetcher = Fetcher(
            {"endpoint": self.source}, cache, self.clock, self.metrics, self.options
        )
        links = FileLinks([b"key"])
        self.uploads = Uploads(self.store, links, self.clock, inline)
        self.completion = Completion(
            self.store,
            self.fetcher,
            Large(self.tenants.get, self.uploads),
            self.clock,
            max_message_bytes=self.max_message_bytes,
        )
        pool = Pool(self.network.connect, self.clock, "me.test", self.metrics)
        self.courier = Courier(
            pool,
            self.clock,
            self.store.contents,
            inline,
            self.metrics,
            attachments=self.completion,
        )
        self.dispatcher = Dispatcher(
            self.store,
            self.courier,
            self.clock,
            random.Random(1),
            self.metrics,
            DispatchOptions(),
        )
        self.dispatcher.startService()
        self.addCleanup(self.stop, self.dispatcher)

    def stop(self, dispatcher: Dispatcher) -> None:
        if dispatcher.running:
            done = dispatcher.stopService()
            for _ in range(60):
                self.run_on(0.02)
            self.successResultOf(done)

    # -- what happens ------------------------------------------------------------------------

    def send(self, id: str = "m1", *attachments: Attachment, **overrides: Any) -> None:
        """Submit a message; *overrides* may have ``parts``, ``text`` and ``html``."""
        texts = {"plain": overrides.pop("text", "Hello.\n"), "html": overrides.pop("html", None)}
        letter = content(attachments=attachments, **texts)
        message: NewMessage = new_message(id=id, payload=payload.dump(letter), **overrides)
        result(self.store.enqueue([message], self.clock.now(), 5.0))
        self.run_on()

    def run_on(self, seconds: float = 0.0) -> None:
        self.clock.advance(seconds)
        self.network.run()

    def wait(self, seconds: float) -> None:
        """Time passes, a little at a time."""
        until = self.clock.seconds() + seconds
        while self.clock.seconds() < until:
            self.run_on(min(5.0, until - self.clock.seconds()))

    # -- what can be seen --------------------------------------------------------------------

    def arrived(self) -> list[EmailMessage]:
        """What the upstream took, in order, parsed."""
        return [message_from_bytes(body, policy=policy.default) for body in self.bodies()]

    def bodies(self) -> list[bytes]:
        return [body for server in self.network.connected for _, _, body in server.messages]

    def files_of(self, mail: EmailMessage) -> dict[str, bytes]:
        return {
            str(part.get_filename()): part.get_payload(decode=True)  # type: ignore[misc]
            for part in mail.iter_attachments()
        }

    def stored(self, id: str = "m1") -> MessageRecord:
        found = result(self.store.messages(ListQuery()))
        return next(record for record in found if record.id == id)

    def reports(self) -> list[ReportItem]:
        return result(self.store.unreported("default", 100))

    def history(self, id: str = "m1") -> list[dict[str, Any]]:
        return result(self.store.timeline("default", id))


def greylisting() -> Server:
    """Says 451 to the first body, and takes the next."""
    return Server({"body": [b"451 4.7.1 later\r\n", b"250 2.0.0 Ok\r\n"]})
