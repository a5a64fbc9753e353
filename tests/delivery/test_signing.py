"""What the courier signs, where, and what becomes of mail that cannot be signed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs
from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.compose import compose
from mailproxy.delivery.courier import Courier
from mailproxy.delivery.dkim import sign
from mailproxy.delivery.pool import Pool
from mailproxy.dkim_keys import DkimKey
from mailproxy.errors import SigningFault
from mailproxy.metrics import Metrics
from mailproxy.model import Stored
from tests.build import content, mailbox
from tests.delivery.peer import Network, account
from tests.delivery.test_courier import Feed, claimed
from tests.delivery.test_dkim import KEYS, RAW, RECORDS
from tests.delivery.verifier import need_dkim, verified
from tests.fakes import EPOCH, FakeClock


class Keyring:
    """Keys of the tenant ``default`` for ``example.com``; asked is what it was asked for."""

    def __init__(self, *keys: DkimKey) -> None:
        self.keys = keys
        self.asked: list[tuple[str, str]] = []

    def signs(self, tenant_id: str) -> bool:
        return tenant_id == "default" and bool(self.keys)

    def signing(self, tenant_id: str, domain: str) -> Sequence[DkimKey]:
        self.asked.append((tenant_id, domain))
        return self.keys if (tenant_id, domain) == ("default", "example.com") else ()


class SigningTests(SynchronousTestCase):
    def setUp(self) -> None:
        need_dkim()
        self.clock = FakeClock()
        self.keyring = Keyring(*KEYS)
        self.threaded: list[str] = []
        self.stored: dict[int, Stored] = {}
        self.network = Network()

    async def in_thread(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.threaded.append(function.__name__)
        return function(*args, **kwargs)

    def contents(self, pks: Sequence[int]) -> Deferred[dict[int, Stored]]:
        return succeed({pk: self.stored[pk] for pk in pks})

    def carry(self, feed: Feed) -> None:
        """Over sessions of its own, to the end."""
        metrics = Metrics()
        pool = Pool(self.network.connect, self.clock, "me.test", metrics)
        courier = Courier(
            pool, self.clock, self.contents, self.in_thread, metrics, signing=self.keyring
        )
        carried = Deferred.fromCoroutine(courier.carry(account(), feed))
        self.network.run()
        self.successResultOf(carried)

    def bodies(self) -> list[bytes]:
        return [body for server in self.network.connected for _, _, body in server.messages]

    def plain(self, n: int, **fields: Any) -> bytes:
        return compose(
            content(subject=f"message {n}", **fields),
            mail_id=f"m{n}",
            message_id=f"<m{n}@me.test>",
            date=EPOCH,
            parts={},
        )

    def test_signed_in_a_thread(self) -> None:
        """Small messages too are signed in a thread, each with every key, at its acceptance."""
        feed = Feed(*map(claimed, range(4)))
        self.carry(feed)
        self.assertEqual([sign(self.plain(n), KEYS, EPOCH) for n in range(4)], self.bodies())
        self.assertEqual(["_signed"] * 4, self.threaded)
        for body in self.bodies():
            self.assertEqual([True, True], verified(body, RECORDS))
        self.assertEqual([[250]] * 4, [feed.codes(n) for n in range(4)])

    def test_nobody_else_pays(self) -> None:
        """A tenant without keys is not asked for, and takes no thread."""
        self.carry(Feed(claimed(1, tenant_id="acme")))
        self.assertEqual([self.plain(1)], self.bodies())
        self.assertEqual(([], []), (self.threaded, self.keyring.asked))

    def test_other_domains(self) -> None:
        """Mail from another domain of the tenant, a subdomain too, goes as it is."""
        senders = [mailbox("me@example.org"), mailbox("me@sub.example.com")]
        letters = [content(sender=each, subject="message 1") for each in senders]
        for letter in letters:
            self.carry(Feed(claimed(1, letter)))
        self.assertEqual([self.plain(1, sender=each) for each in senders], self.bodies())
        self.assertEqual([], self.threaded)

    def test_same_bytes_every_time(self) -> None:
        """A later attempt sends the same bytes."""
        for _ in range(3):
            self.carry(Feed(claimed(1)))
            self.clock.advance(3600)
        first, *others = self.bodies()
        self.assertEqual([first] * 2, others)

    def test_size_with_signature(self) -> None:
        """The size that is announced is that of the signed message."""
        self.carry(Feed(claimed(1)))
        (server,) = self.network.connected
        (sender, _, body) = server.messages[0]
        self.assertIn(f"SIZE={len(body)}".encode(), sender)
        self.assertGreater(len(body), len(self.plain(1)))

    def test_raw(self) -> None:
        """A message that came as bytes is signed by the domain of its From."""
        letter = content(raw=True, plain=None, sender=mailbox("shop@example.com"))
        self.stored[1] = Stored(letter, {1: RAW.replace(b"SUBJECT :", b"Subject:")})
        self.carry(Feed(claimed(1, letter, payload=None)))
        (body,) = self.bodies()
        self.assertEqual([True, True], verified(body, RECORDS))

    def faulty(self, feed: Feed, number: int) -> SigningFault:
        """What *feed* was told of a message; the one after it is not kept back."""
        self.carry(feed)
        self.assertEqual(["next", "aside", "unprepared"], feed.said(number))
        fault = feed.errors[number]
        assert isinstance(fault, SigningFault)
        return fault

    def test_never_without(self) -> None:
        """What is to be signed and cannot be does not go without: it is put off."""
        self.keyring.keys = (KEYS[1], attrs.evolve(KEYS[0], private=None))
        feed = Feed(claimed(1), claimed(2, tenant_id="acme"))
        self.assertTrue(self.faulty(feed, 1).transient)
        self.assertEqual([self.plain(2)], self.bodies())

    def test_cannot_ever_be_signed(self) -> None:
        """A header that no signature can cover is the message's own fault."""
        letter = content(raw=True, plain=None, sender=mailbox("shop@example.com"))
        self.stored[1] = Stored(letter, {1: RAW})
        self.assertFalse(self.faulty(Feed(claimed(1, letter, payload=None)), 1).transient)
        self.assertEqual([], self.bodies())
