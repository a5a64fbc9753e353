"""What came by SMTP is stored as it came, under the id and by the fields that it says."""

from __future__ import annotations

import hashlib

from twisted.trial.unittest import SynchronousTestCase

from mailproxy.compose import compose
from mailproxy.composed import Composed
from mailproxy.dsn import Dsn, OfRecipient
from mailproxy.errors import StoreBusy, StoreUnavailable
from mailproxy.model import Claimed
from mailproxy.payload import dump
from mailproxy.raw import KEPT_AS_TEXT
from mailproxy.records import AccountSpec
from mailproxy.states import TlsMode
from mailproxy.submission.visit import MAX_IDLING
from tests.fakes import result
from tests.submission.talk import MAIL, House, Talk


class IntakeCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.house = House()
        self.house.storing()
        self.put("main", is_default=True)
        self.talk: Talk = self.house.connect()
        self.talk.hello()

    def put(self, id: str, *, is_default: bool = False) -> None:
        spec = AccountSpec(
            "default", id, "smtp.example.net", 25, TlsMode.PLAIN, is_default=is_default
        )
        result(self.house.store.put_account(spec, self.house.clock.now()))

    def said(self, body: bytes = MAIL, **envelope: object) -> str:
        """Hand a message in; the reply to its end."""
        self.talk.envelope(**envelope)  # type: ignore[arg-type]
        self.talk.send(b"DATA\r\n")
        (reply,) = self.talk.send(body + b".\r\n")
        return reply

    def claimed(self) -> Claimed:
        store, now = self.house.store, self.house.clock.now()
        accounts, _ = result(store.due_accounts(now))
        (message,) = [m for pk in accounts for m in result(store.claim(pk, 10, now))]
        return message

    def leaves(self, message: Claimed) -> bytes:
        """The bytes that go on the wire."""
        stored = result(self.house.store.contents([message.pk]))[message.pk]
        return compose(
            stored.content,
            mail_id=message.id,
            message_id=message.message_id,
            date=message.accepted_at,
            parts=stored.parts,
        )


class StoredTests(IntakeCase):
    def test_kept_as_it_came(self) -> None:
        """What leaves is what came, behind the fields put in front; nothing else differs."""
        rest = (
            b"From: a@x.org\r\nX-Odd:   kept\r\n\tas it is\r\nBcc: secret@y.org\r\n more\r\n"
            b"MIME-Version: 1.0\r\nSubject: =?utf-8?q?=C3=A4?=\r\n\r\nbody \t\r\n..\r\n\r\n \r\n"
        )
        reply = self.said(rest.replace(b"\r\n..", b"\r\n..."), to=(b"b@y.org", b"c@y.org"))
        message = self.claimed()
        self.assertEqual(f"250 2.0.0 queued as {message.id}", reply)
        self.assertEqual(["b@y.org", "c@y.org"], [each.address for each in message.recipients])
        self.assertEqual("a@x.org", message.envelope_from)

        wire = self.leaves(message)
        front, _, behind = wire.partition(b"From: ")
        kept = (b"From: " + behind).replace(b"Bcc", b"?")
        expected = rest.replace(b"Bcc: secret@y.org\r\n more\r\n", b"")
        self.assertEqual(hashlib.sha256(expected).digest(), hashlib.sha256(kept).digest())
        names = [line.partition(b":")[0] for line in front.split(b"\r\n") if line[:1].strip()]
        self.assertEqual(
            [b"X-Genro-Mail-ID", b"Date", b"Message-ID", b"Received"], sorted(names, key=_order)
        )
        self.assertEqual(message.size, len(wire))

    def test_composed_once(self) -> None:
        """What was composed to measure it is kept for the sending, unless it is large."""
        composed = Composed()
        self.house.storing(composed=composed)
        self.talk = self.house.connect()
        self.talk.hello()
        found = []
        for size in (10, KEPT_AS_TEXT):
            self.said(MAIL + b"x" * 70 + b"\r\n" * size)
            message = self.claimed()
            wire = self.leaves(message)
            stored = result(self.house.store.contents([message.pk]))[message.pk]
            taken = composed.take(
                dump(stored.content), message.id, message.message_id, message.accepted_at
            )
            found.append(taken == wire)
        self.assertEqual([True, False], found)

    def test_notifications_are_passed_on(self) -> None:
        """What MAIL and RCPT asked to be notified of is kept, for each recipient."""
        self.talk.codes(
            b"MAIL FROM:<a@x.org> RET=hdrs ENVID=a+2Bb\r\n"
            b"RCPT TO:<b@y.org> NOTIFY=success,DELAY ORCPT=rfc822;old+2Bb@y.org\r\n"
            b"RCPT TO:<c@y.org>\r\nDATA\r\n"
        )
        self.talk.send(MAIL + b".\r\n")
        stored = result(self.house.store.contents([self.claimed().pk]))
        (content,) = [each.content for each in stored.values()]
        own = OfRecipient("b@y.org", ("SUCCESS", "DELAY"), "rfc822;old+b@y.org")
        self.assertEqual(Dsn((), "HDRS", "a+b", (own,)), content.dsn)

    def test_own_date_and_id(self) -> None:
        """Its own Date and Message-ID stay, and are the only ones."""
        own = b"Date: Mon, 1 Jan 2024 00:00:00 +0000\r\nMessage-ID: <own@x.org>\r\n"
        self.said(own + MAIL)
        wire = self.leaves(self.claimed())
        self.assertEqual((1, 1), (wire.count(b"Date: "), wire.count(b"Message-ID: ")))
        self.assertIn(own, wire)

    def test_received(self) -> None:
        """Received says where it came from and how, and not who logged in."""
        self.talk.send(b"EHLO bad name (\x07)\r\n")
        self.said()
        message = self.claimed()
        received = self.leaves(message).split(b"Received: ")[1].split(b"\r\nFrom")[0]
        self.assertTrue(received.startswith(b"from unknown ([192.0.2.7])\r\n by mx.example.net"))
        self.assertIn(b"with ESMTP id " + message.id.encode() + b";", received)
        self.assertNotRegex(received, rb"\r\n(?![ \t])")

    def test_our_fields(self) -> None:
        """What add-messages has fields for is said by fields of ours, which do not leave."""
        self.put("bulk")
        fields = (
            b"X-Mailproxy-Id: INV-7\r\nX-Mailproxy-Priority: high\r\nX-Mailproxy-Batch: june\r\n"
            b"X-Mailproxy-Account: bulk\r\nx-mailproxy-not-before: 1000\r\n"
        )
        self.assertEqual("250 2.0.0 queued as INV-7", self.said(fields + MAIL))
        message = self.claimed()
        self.assertEqual(("INV-7", 1), (message.id, message.priority))
        account = result(self.house.store.account(message.account_pk))
        assert account is not None
        self.assertEqual("bulk", account.id)
        self.assertNotIn(b"mailproxy", self.leaves(message).lower())
        (row,) = self.house.store.disk.messages.values()
        self.assertEqual(("june", 1000.0), (row.batch, row.not_before))

    def test_wrong_fields(self) -> None:
        """A field of ours with a wrong value refuses the message, and names the field."""
        for field in (
            *(b"X-Mailproxy-Priority: urgent", b"X-Mailproxy-Not-Before: tomorrow"),
            *(b"X-Mailproxy-Id: " + b"x" * 256, b"X-Mailproxy-Batch: " + b"x" * 65),
        ):
            reply = self.said(field + b"\r\n" + MAIL)
            self.assertEqual("550 5.6.0 ", reply[:10])
            self.assertIn(field.partition(b":")[0].decode(), reply)

    def test_again(self) -> None:
        """The same id again is answered like the first time, and is one message."""
        body = b"X-Mailproxy-Id: one\r\n" + MAIL
        first = self.said(body)
        self.house.clock.advance(5)
        self.assertEqual(first, self.said(body))
        self.claimed()

    def test_refusals_for_good(self) -> None:
        """What cannot be sent is refused at the end of its data, and the session goes on."""
        for body, code in (
            (b"To: b@y.org\r\n\r\nno From\r\n", "550 5.6.0"),
            (b"From: a@x.org\r\nFrom: b@x.org\r\n\r\n", "550 5.6.0"),
            (b"From: nobody at all\r\n\r\n", "550 5.6.0"),
            (b"not a header\r\n\r\n", "550 5.6.0"),
            (b"From: a@x.org\r\n\r\n\0\r\n", "550 5.6.0"),
            (b"From: a@x.org\r\n\r\nbare\nline\r\n", "550 5.5.2"),
            (b"From: a@x.org\r\n\r\n" + b"x" * 999 + b"\r\n", "550 5.6.0"),
            (b"X-Mailproxy-Account: none\r\n" + MAIL, "550 5.7.1"),
        ):
            self.assertEqual(code, self.said(body)[:9], body[:40])
        self.assertEqual({}, self.house.store.states())
        self.assertEqual("250", self.said()[:3])

    def test_s20_bombs(self) -> None:
        """S20, F55: a header of ten thousand fields is refused; deep nesting is not looked into."""
        many = b"".join(b"X-%d: y\r\n" % n for n in range(10_000))
        self.assertEqual("550 5.6.0", self.said(b"From: a@x.org\r\n" + many + b"\r\n")[:9])
        deep = b"".join(
            b'Content-Type: multipart/mixed; boundary="%d"\r\n\r\n--%d\r\n' % (n, n)
            for n in range(1000)
        )
        self.assertEqual("250", self.said(b"From: a@x.org\r\n" + deep)[:3])

    def test_f55_recipients(self) -> None:
        """F55: recipients beyond the limit are put off; who goes on and on is shown out."""
        self.talk.send(b"MAIL FROM:<a@x.org>\r\n")
        lines = b"".join(b"RCPT TO:<r%d@y.org>\r\n" % n for n in range(10_000))
        codes = self.talk.codes(lines)
        self.assertEqual((1000, "421"), (codes.count("250"), codes[-1]))
        self.assertLessEqual(codes.count("452"), MAX_IDLING)

    def test_loops(self) -> None:
        """Mail that has come through too many hands goes in circles, and ends here."""
        self.assertEqual("250", self.said(b"Received: x\r\n" * 50 + MAIL)[:3])
        self.assertEqual("554 5.4.6", self.said(b"Received: x\r\n" * 51 + MAIL)[:9])

    def test_twice_in_the_envelope(self) -> None:
        """A recipient that is said twice gets it once."""
        self.said(to=(b"b@y.org", b"b@Y.ORG"))
        self.assertEqual(1, len(self.claimed().recipients))


def _order(name: bytes) -> int:
    return [b"X-Genro-Mail-ID", b"Date", b"Message-ID", b"Received"].index(name)


class TroubleTests(IntakeCase):
    def test_storage_trouble_is_temporary(self) -> None:
        """F12: what could not be stored is put off, never refused for good."""
        for error in (StoreBusy("late"), StoreUnavailable("database or disk is full")):
            self.house.store.fail_next(error)
            self.assertRegex(self.said(), r"^45[12] 4\.3\.[01] ")
        self.assertEqual("250", self.said()[:3])
        self.assertEqual(1, len(self.house.store.states()))

    def test_inactive_tenant(self) -> None:
        """Mail of an inactive tenant is put off."""
        self.house.store.add_tenant("default", active=False)
        self.assertEqual("450", self.said()[:3])

    def test_stopping(self) -> None:
        """A service that stops stores nothing any more, and says so."""
        self.talk.envelope()
        self.talk.send(b"DATA\r\n")
        self.house.control.stopping = True
        self.assertEqual("421", self.talk.send(MAIL + b".\r\n")[0][:3])
        self.assertEqual({}, self.house.store.states())
