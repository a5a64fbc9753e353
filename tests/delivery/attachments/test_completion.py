"""Messages whose attachments are fetched on the way, from the queue to the upstream."""

from __future__ import annotations

import hashlib

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionRefusedError
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload
from mailproxy.compose import compose
from mailproxy.delivery.attachments.completion import STORE_PAUSE, composed_size
from mailproxy.delivery.attachments.source import Trouble
from mailproxy.dispatch.stream import MOST_ASIDE
from mailproxy.errors import StoreUnavailable
from mailproxy.model import Attachment
from tests.build import account_spec, content, new_message
from tests.delivery.attachments.house import HouseCase, greylisting, lacking
from tests.delivery.peer import Server
from tests.delivery.test_courier import claimed
from tests.fakes import EPOCH, result

BUSY = Trouble("answered 503", transient=True)
GONE = Trouble("answered 404", transient=False)


class CompletionTests(HouseCase):
    def test_fetched_and_sent(self) -> None:
        """What a message lacks is fetched, and it arrives with it; the text is untouched."""
        self.source.answers["a"] = b"content of a"
        self.send("m1", lacking("a", name="ä.pdf"))
        (mail,) = self.arrived()
        self.assertEqual({"ä.pdf": b"content of a"}, self.files_of(mail))
        self.assertEqual("sent", self.stored().state)
        self.assertEqual(1, self.stored().attempts)

    def test_beside_what_came_along(self) -> None:
        """Attachments keep their order, whether they came along or were fetched."""
        self.source.answers |= {"b": b"B", "d": b""}
        inline = [Attachment(name, "text/x", part, 1) for part, name in enumerate("ac", 1)]
        self.send("m1", inline[0], lacking("b"), inline[1], lacking("d"), parts=(b"A", b"C"))
        (mail,) = self.arrived()
        expected = {"a": b"A", "b": b"B", "c": b"C", "d": b""}
        self.assertEqual(list(expected.items()), list(self.files_of(mail).items()))

    def test_no_session_while_fetching(self) -> None:
        """While an attachment is on its way nobody is connected, and no attempt has begun."""
        self.source.answers["a"] = answer = Deferred[bytes]()
        self.send("m1", lacking("a"))
        self.assertEqual(0, self.network.attempts)
        self.assertEqual(("queued", 0), (self.stored().state, self.stored().attempts))
        answer.callback(b"late")
        self.run_on()
        self.assertEqual({"a": b"late"}, self.files_of(self.arrived()[0]))

    def test_others_do_not_wait(self) -> None:
        """While one message waits for its attachment, others of its account go, also at once."""
        self.source.answers |= {"slow": Deferred(), "x": b"x"}
        self.send("slow", lacking("slow"), priority=0)
        for n in range(5):
            self.send(f"plain{n}")
        self.send("fetched", lacking("x"))
        states = self.store.states()
        self.assertEqual("queued", states.pop("slow"))
        self.assertEqual({"sent"}, set(states.values()))

    def test_many_that_hang(self) -> None:
        """Hundreds of messages that wait for a place that hangs hold nobody up."""
        self.source.answers["slow"] = Deferred()
        for n in range(300):
            self.send(f"slow{n}", lacking("slow"))
        self.send("plain")
        self.assertEqual("sent", self.store.states()["plain"])
        self.assertEqual(2, self.source.most)

    def test_so_many_that_hang(self) -> None:
        """However many wait, no more are claimed than can be kept; what is urgent goes at once."""
        self.source.answers["slow"] = Deferred()
        letter = payload.dump(content(attachments=(lacking("slow"),)))
        many = [new_message(id=f"slow{n}", payload=letter) for n in range(MOST_ASIDE + 300)]
        result(self.store.enqueue(many, self.clock.now(), 5.0))
        leased = [row for row in self.store.disk.messages.values() if row.lease is not None]
        self.assertLess(len(leased), MOST_ASIDE + 100)
        self.send("plain", priority=2)
        self.send("urgent", priority=0)
        states = self.store.states()
        self.assertEqual(("queued", "sent"), (states["plain"], states["urgent"]))
        self.source.answers["slow"] = b"x"
        self.wait(110.0)  # until the place is known to be out of reach
        self.assertEqual("sent", self.store.states()["plain"])

    def test_seen_when_it_is_carried(self) -> None:
        """A message whose lack shows only when it is read is completed all the same."""
        self.source.answers["a"] = answer = Deferred[bytes]()
        large = "x" * 40_000  # so that its content does not come with the claim
        self.completion._max_message_bytes = 100_000
        self.send("m1", lacking("a"), text=large, size=41_000)
        self.send("m2")
        self.assertEqual({"m1": "queued", "m2": "sent"}, self.store.states())
        answer.callback(b"A")
        self.run_on()
        self.assertEqual({"a": b"A"}, self.files_of(self.arrived()[1]))


class FailureTests(HouseCase):
    def test_f65_gone(self) -> None:
        """F65: what is gone fails the message at once, in the words the application knows."""
        self.source.answers["a"] = GONE
        self.send("m1", lacking("a", name="ä.pdf"), to=("a@x.org", "b@x.org"))
        self.assertEqual("failed", self.stored().state)
        (item,) = self.reports()
        self.assertTrue(
            str(item.error).startswith("Attachment fetch failed for ä.pdf: answered 404")
        )
        self.assertIsNotNone(item.error_ts)
        self.assertEqual((0, 0), (self.network.attempts, self.stored().attempts))

    def test_f65_busy_then_there(self) -> None:
        """F65: a 503 defers the message on its own schedule; then it is fetched and sent."""
        self.source.answers["a"] = BUSY
        self.send("m1", lacking("a"))
        self.assertEqual("deferred" if self.stored().attempts else "queued", self.stored().state)
        (item,) = self.reports()
        self.assertEqual((None, None), (item.error, item.error_ts))
        self.assertIn("answered 503", item.deferred_reason or "")
        self.assertTrue(54.0 <= (item.deferred_ts or 0.0) - self.clock.now() <= 66.0)
        self.source.answers["a"] = b"A"
        self.wait(50.0)
        self.assertEqual([], self.arrived())
        self.wait(20.0)
        self.assertEqual({"a": b"A"}, self.files_of(self.arrived()[0]))
        self.assertEqual(1, self.stored().attempts)

    def test_schedule(self) -> None:
        """Each failure waits longer, as the account has it; no attempt is counted."""
        result(
            self.store.put_account(
                attrs.evolve(account_spec(), retry_delays=(10.0, 100.0)), self.clock.now()
            )
        )
        self.source.answers["a"] = BUSY
        self.send("m1", lacking("a"))
        asked = [len(self.source.asked)]
        for seconds in (15.0, 85.0, 30.0, 80.0, 30.0):
            self.wait(seconds)
            asked.append(len(self.source.asked))
        self.assertEqual([1, 2, 2, 3, 3, 4], asked)
        self.assertEqual(0, self.stored().attempts)

    def test_one_report_for_one_reason(self) -> None:
        """The same failure again is not reported again."""
        self.source.answers["a"] = BUSY
        self.send("m1", lacking("a"))
        result(self.store.acked(self.reports()[0].event_pks, self.clock.now()))
        self.wait(70.0)
        self.assertEqual(2, len(self.source.asked))
        self.assertEqual([], self.reports())

    def test_until_it_is_too_old(self) -> None:
        """A message that is too old ends with the last failure, in the same words."""
        self.source.answers["a"] = BUSY
        self.send("m1", lacking("a"))
        self.clock.advance(86_000.0)
        self.wait(500.0)
        self.assertEqual("expired", self.stored().state)
        (item,) = self.reports()
        self.assertTrue(str(item.error).startswith("Attachment fetch failed for a: answered 503"))

    def test_digest(self) -> None:
        """Content that is not what the client said is asked for again."""
        md5 = hashlib.md5(b"right").hexdigest()
        self.source.answers["a"] = b"wrong"
        self.send("m1", lacking("a", md5))
        self.source.answers["a"] = b"right"
        self.wait(70.0)
        self.assertEqual({"a": b"right"}, self.files_of(self.arrived()[0]))

    def test_too_large_in_all(self) -> None:
        """A message that would be larger than any may be fails, and says for which attachment."""
        self.source.answers |= {"a": b"x" * 6000, "b": b"y" * 9999}
        self.send("m1", lacking("a"), lacking("b"))
        error = self.reports()[0].error or ""
        self.assertTrue(error.startswith("Attachment fetch failed for b: the message"), error)

    def test_one_of_two(self) -> None:
        """One attachment that is gone fails the message, though the other one is there."""
        self.source.answers |= {"a": b"A", "b": GONE}
        self.send("m1", lacking("a"), lacking("b"))
        self.assertEqual("failed", self.stored().state)
        self.assertEqual([], self.arrived())

    def test_counted(self) -> None:
        """Operators see each deferral and the end, as they see those of attempts."""
        self.source.answers["a"] = BUSY
        self.send("m1", lacking("a"))
        labels = {"tenant_id": "default", "account_id": "acct"}
        value = self.metrics.registry.get_sample_value
        self.assertEqual(1.0, value("gmp_deferred_total", labels))


class StoredTests(HouseCase):
    def test_fetched_once(self) -> None:
        """What was fetched is stored: the next attempt asks nobody, and is the same to the byte."""
        bodies: list[bytes] = []
        self.stop(self.dispatcher)
        self.assemble(greylisting, Server)
        self.source.answers["a"] = b"content"
        self.send("m1", lacking("a"))
        self.assertEqual("deferred", self.stored().state)
        self.source.answers["a"] = b"another content"
        self.wait(70.0)
        self.assertEqual(["a"], self.source.asked)
        bodies = self.bodies()
        self.assertEqual(1, len(set(bodies)))
        self.assertEqual({"a": b"content"}, self.files_of(self.arrived()[-1]))

    def test_fetched_once_though_the_upstream_is_away(self) -> None:
        """An upstream that is away does not have attachments fetched again and again."""
        self.stop(self.dispatcher)
        self.assemble(ConnectionRefusedError(), ConnectionRefusedError(), greylisting, Server)
        self.source.answers["a"] = b"content"
        self.send("m1", lacking("a"))
        self.wait(1000.0)
        self.assertEqual(["a"], self.source.asked)
        self.assertEqual("sent", self.stored().state)

    def test_credentials_go(self) -> None:
        """The credentials of an attachment are not kept once it is there."""
        self.stop(self.dispatcher)
        self.assemble(greylisting, Server)
        self.source.answers["a"] = b"content"
        self.send("m1", attrs.evolve(lacking("a"), auth="sealed"))
        (row,) = self.store.disk.messages.values()
        self.assertNotIn(b"sealed", row.payload or b"")

    def test_store_away(self) -> None:
        """What the store does not take now is done again soon."""
        self.source.answers["a"] = b"content"
        self.store.fail_next(StoreUnavailable("disk full"), "prepared")
        self.send("m1", lacking("a"))
        self.assertEqual([], self.arrived())
        self.run_on(STORE_PAUSE)
        self.assertEqual(1, len(self.arrived()))

    def test_lease_lost(self) -> None:
        """A message that was replaced meanwhile goes as its client wants it now."""
        self.source.answers |= {"a": (answer := Deferred[bytes]()), "b": b"B"}
        self.send("m1", lacking("a"))
        self.send("m1", lacking("b"))
        answer.callback(b"A")
        self.wait(2.0)
        self.assertEqual([{"b": b"B"}], [self.files_of(mail) for mail in self.arrived()])

    def test_deleted_meanwhile(self) -> None:
        """A message that was taken back while it was fetched is not sent."""
        self.source.answers["a"] = answer = Deferred[bytes]()
        self.send("m1", lacking("a"))
        result(self.store.remove("default", ["m1"], self.clock.now()))
        answer.callback(b"A")
        self.wait(2.0)
        self.assertEqual([], self.bodies())

    def test_damaged(self) -> None:
        """What raises while it is completed is held after three times."""
        self.source.answers.clear()  # the source raises KeyError
        self.send("m1", lacking("a"))
        self.wait(2.0)
        self.assertEqual("held", self.stored().state)


class StoppingTests(HouseCase):
    def test_broken_off(self) -> None:
        """A service that stops breaks fetches off, and gives their messages back."""
        self.source.answers["a"] = Deferred()
        self.send("m1", lacking("a"))
        self.stop(self.dispatcher)
        self.assertEqual(0, self.source.open)
        (row,) = self.store.disk.messages.values()
        self.assertIsNone(row.lease)
        self.source.answers["a"] = b"A"
        self.assemble()
        self.run_on()
        self.assertEqual({"a": b"A"}, self.files_of(self.arrived()[0]))

    def test_account_away(self) -> None:
        """A message completed while its account is parked waits for the account's probe."""
        self.stop(self.dispatcher)
        self.assemble(ConnectionRefusedError(), Server)
        self.source.answers["a"] = answer = Deferred[bytes]()
        self.send("m1", lacking("a"))
        self.send("m2")
        self.assertEqual(1, self.network.attempts)
        answer.callback(b"A")
        self.run_on()
        self.assertEqual(1, self.network.attempts)
        self.wait(200.0)
        self.assertEqual({"m1": "sent", "m2": "sent"}, self.store.states())


class SizeTests(SynchronousTestCase):
    @given(st.lists(st.integers(0, 400), min_size=1, max_size=4), st.text("ab\n", max_size=200))
    @settings(max_examples=100, deadline=None)
    def test_composed_size(self, sizes: list[int], text: str) -> None:
        """The size that is stored is that of the composed message, to the byte."""
        files = tuple(
            Attachment(f"ü{n}.pdf", "application/pdf", n, size) for n, size in enumerate(sizes, 1)
        )
        letter = content(attachments=files, plain=text, html="<p>ü")
        parts = {each.part: b"x" * each.size for each in files}
        composed = compose(letter, mail_id="m1", message_id="<m1@me.test>", date=EPOCH, parts=parts)
        self.assertEqual(len(composed), composed_size(claimed(1, letter), letter))
