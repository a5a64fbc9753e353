"""Bounces as the standard library's parser reads them: they say what happened, and no more."""

from __future__ import annotations

import re
from email.message import Message
from email.parser import BytesParser
from email.policy import default
from typing import Any, cast

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy import payload as payloads
from mailproxy.compose import compose
from mailproxy.dsn import Dsn, OfRecipient
from mailproxy.errors import BadMessage
from mailproxy.lines import is_canonical, lines_fit
from mailproxy.model import NewMessage
from mailproxy.states import RecipientState
from mailproxy.submission.bounce import bounce, wants_failures
from mailproxy.tenancy import Bounces
from mailproxy.undelivered import Undelivered, Unreached
from tests.build import content

EVENT = "0123456789abcdef0123456789abcdef"
DATA = b"From: erp@x.org\r\nSubject: Invoice\r\n\r\nThe text.\r\n"

REFUSED = Unreached("b@y.org", RecipientState.FAILED, 550, "5.1.1", "5.1.1 no such user")
SENT = Unreached("c@y.org", RecipientState.SENT, 250, "2.0.0", "2.0.0 Ok")


def lost(*recipients: Unreached, dsn: Dsn | None = None, **fields: Any) -> Undelivered:
    """A message from erp@x.org that did not reach *recipients*."""
    values: dict[str, Any] = {
        "pk": 1,
        "event_id": EVENT,
        "tenant_id": "default",
        "bounces": Bounces(True),
        "id": "INV-7",
        "account_id": "acct",
        "message_id": "<own@x.org>",
        "envelope_from": "erp@x.org",
        "accepted_at": 1_750_000_000.0,
        "ended_at": 1_750_000_060.0,
        "content": content(raw=True, by_smtp=True, plain=None, dsn=dsn),
        "data": DATA,
        "recipients": recipients or (REFUSED,),
        "peer": "smtp.example.net:25",
    }
    return Undelivered(**{**values, **fields})


def made(found: Undelivered, host: str = "mx.example.net") -> NewMessage:
    new = bounce(found, host, 2)
    assert new is not None
    return new


def wire(new: NewMessage) -> bytes:
    """The bytes that go on the wire."""
    return compose(
        payloads.load(new.payload),
        mail_id=new.id,
        message_id=new.message_id or "",
        date=0.0,
        parts=dict(enumerate(new.parts, 1)),
    )


def parsed(found: Undelivered) -> Message:
    data = wire(made(found))
    assert is_canonical(data)
    assert lines_fit(data, 998)
    return cast("Message", BytesParser(policy=default).parsebytes(data))


def parts(mail: Message) -> list[Message]:
    return cast("list[Message]", mail.get_payload())


def groups(mail: Message) -> list[Message]:
    """The fields of the report: of the message, then of each recipient."""
    return parts(parts(mail)[1])


class BounceTests(SynchronousTestCase):
    def test_what_it_is(self) -> None:
        """A bounce goes from nobody to the sender, says that a program wrote it, and what of."""
        new = made(lost())
        self.assertEqual(("", ["erp@x.org"], f"bounce-{EVENT}", "acct", 2), (
            new.envelope_from, [each.address for each in new.recipients],
            new.id, new.account_id, new.priority,
        ))  # fmt: skip
        self.assertEqual(len(wire(new)), new.size)
        mail = parsed(lost())
        for name, value in {
            "From": "Mail delivery <MAILER-DAEMON@mx.example.net>",
            "To": "erp@x.org",
            "Date": "Sun, 15 Jun 2025 15:07:40 +0000",
            "Auto-Submitted": "auto-replied",
            "Message-ID": f"<bounce-{EVENT}@mx.example.net>",
            "In-Reply-To": "<own@x.org>",
            "X-Genro-Mail-ID": new.id,
            "MIME-Version": "1.0",
        }.items():
            self.assertEqual([value], mail.get_all(name), name)
        self.assertEqual("multipart/report", mail.get_content_type())
        self.assertEqual("delivery-status", mail.get_param("report-type"))
        self.assertEqual(
            ["text/plain", "message/delivery-status", "text/rfc822-headers"],
            [part.get_content_type() for part in parts(mail)],
        )
        self.assertEqual([], [part.defects for part in mail.walk() if part.defects])

    def test_what_it_says(self) -> None:
        """Each recipient that was not reached is named, with what its server said; no other."""
        late = Unreached("d@y.org", RecipientState.EXPIRED, reply="3 attempts failed")
        mail = parsed(lost(REFUSED, SENT, late))
        about, first, second = groups(mail)
        self.assertEqual("dns; mx.example.net", about["Reporting-MTA"])
        self.assertEqual("Sun, 15 Jun 2025 15:06:40 +0000", about["Arrival-Date"])
        self.assertEqual(
            [
                ("Final-Recipient", "rfc822; b@y.org"),
                ("Action", "failed"),
                ("Status", "5.1.1"),
                ("Remote-MTA", "dns; smtp.example.net"),
                ("Diagnostic-Code", "smtp; 550 5.1.1 no such user"),
            ],
            first.items(),
        )
        self.assertEqual(
            [
                ("Final-Recipient", "rfc822; d@y.org"),
                ("Action", "failed"),
                ("Status", "4.4.7"),
                ("Diagnostic-Code", "x-mailproxy; 3 attempts failed"),
            ],
            second.items(),
        )
        text = str(parts(mail)[0].get_payload())
        for said in ("<b@y.org>", "550 5.1.1 no such user", "<d@y.org>", "3 attempts failed"):
            self.assertIn(said, text)
        self.assertIn("for as long as it was to be tried", text)
        self.assertNotIn("c@y.org", text)
        self.assertEqual("From: erp@x.org\r\nSubject: Invoice\r\n", parts(mail)[2].get_payload())

    def test_status(self) -> None:
        """Without a status of the server's own its code says it, or the way it ended."""
        for code, enhanced, state, reply, status in (
            (554, None, "failed", "no", "5.0.0"),
            (451, None, "expired", "later", "4.0.0"),
            (550, "2.0.0", "failed", "odd", "5.0.0"),
            (None, None, "expired", "too old", "4.4.7"),
            (None, None, "failed", "account deleted", "5.0.0"),
            (None, None, "failed", "uncertain: no reply", "4.4.2"),
        ):
            each = Unreached("b@y.org", RecipientState(state), code, enhanced, reply)
            self.assertEqual(status, groups(parsed(lost(each)))[1]["Status"], reply)
        self.assertIn("Nobody knows", str(parts(parsed(lost(each)))[0].get_payload()))

    def test_no_bounce(self) -> None:
        """None to nobody, none that the tenant does not want, none of what did not come by SMTP."""
        for found in (
            lost(envelope_from=""),
            lost(bounces=Bounces()),
            lost(content=content()),
            lost(content=None),
            lost(SENT),
            lost(dsn=Dsn(("NEVER",))),
        ):
            self.assertIsNone(bounce(found, "mx.example.net", 2))

    def test_bounce_of_a_bounce(self) -> None:
        """A bounce that failed is from nobody and did not come by SMTP: it gets none."""
        new = made(lost())
        again = lost(envelope_from=new.envelope_from, content=payloads.load(new.payload))
        self.assertIsNone(bounce(again, "mx.example.net", 2))
        self.assertIsNone(bounce(attrs.evolve(again, envelope_from="erp@x.org"), "mx", 2))

    def test_settings(self) -> None:
        """The tenant says what it goes through, and whom it is from."""
        new = made(lost(bounces=Bounces(True, "bulk", "postmaster@x.org")))
        self.assertEqual("bulk", new.account_id)
        self.assertIn(b"\r\nFrom: Mail delivery <postmaster@x.org>\r\n", wire(new))
        self.assertIsNone(made(lost(account_id="")).account_id)


class NotificationTests(SynchronousTestCase):
    """What the sender said at the door (RFC 3461)."""

    def test_notify(self) -> None:
        """Only who is to be told of failures is, for each recipient; unsaid, everybody is."""
        for said, wanted in (
            ((), True),
            (("NEVER",), False),
            (("SUCCESS", "DELAY"), False),
            (("DELAY", "FAILURE"), True),
        ):
            own = Dsn(recipients=(OfRecipient("b@y.org", said, "rfc822;x"),))
            self.assertEqual(wanted, wants_failures(own, "b@y.org"), said)
            self.assertEqual(wanted, wants_failures(Dsn(said), "b@y.org"), said)
            self.assertTrue(wants_failures(own, "c@y.org"))
        never = Dsn(recipients=(OfRecipient("b@y.org", ("NEVER",)),))
        other = attrs.evolve(REFUSED, address="c@y.org")
        mail = parsed(lost(REFUSED, other, dsn=never))
        self.assertEqual(2, len(groups(mail)))
        self.assertNotIn(b"b@y.org", wire(made(lost(REFUSED, other, dsn=never))))

    def test_names(self) -> None:
        """The envelope's own id and the recipient's original address come back."""
        own = (OfRecipient("b@y.org", (), "rfc822;old+b@y.org"),)
        about, one = groups(parsed(lost(dsn=Dsn((), "", "batch=7", own))))
        self.assertEqual("batch=7", about["Original-Envelope-Id"])
        self.assertEqual("rfc822; old+b@y.org", one["Original-Recipient"])

    def test_full(self) -> None:
        """The whole message comes back where that is wanted and it is there, else its header."""
        full = Dsn((), "FULL")
        returned = parts(parsed(lost(dsn=full)))[2]
        self.assertEqual("message/rfc822", returned.get_content_type())
        self.assertIn(DATA, wire(made(lost(dsn=full))))
        (inner,) = parts(returned)
        self.assertEqual("Invoice", inner["Subject"])
        for found in (lost(dsn=full, whole=False), lost(dsn=Dsn((), "HDRS")), lost()):
            self.assertEqual("text/rfc822-headers", parts(parsed(found))[2].get_content_type())
            self.assertNotIn(b"The text.", wire(made(found)))

    def test_eight_bits(self) -> None:
        """Eight bits in a text come back as they are, in a header quoted."""
        full = Dsn((), "FULL")
        data = b"From: erp@x.org\r\n\r\nGr\xc3\xbc\xc3\x9fe\r\n"
        returned = parts(parsed(lost(dsn=full, data=data)))[2]
        self.assertEqual("8bit", returned["Content-Transfer-Encoding"])
        self.assertIn(data, wire(made(lost(dsn=full, data=data))))
        data = "From: ä@x.org\r\nX: =3D\r\n\r\n".encode()
        returned = parts(parsed(lost(dsn=full, data=data)))[2]
        self.assertEqual("message/global-headers", returned.get_content_type())
        quoted = wire(made(lost(dsn=full, data=data)))
        self.assertTrue(quoted.isascii())
        self.assertIn(b"From: =C3=A4@x.org\r\nX: =3D3D\r\n", quoted)

    def test_international(self) -> None:
        """An address outside ASCII is of the type utf-8, and written in ASCII (RFC 6533)."""
        each = attrs.evolve(REFUSED, address="jörg+1@y.org", reply="5.1.1 unbekannt: jörg")
        mail = parsed(lost(each))
        one = groups(mail)[1]
        self.assertEqual("utf-8; j\\x{F6}rg\\x{2B}1@y.org", one["Final-Recipient"])
        self.assertEqual("smtp; 550 5.1.1 unbekannt: j\\x{F6}rg", one["Diagnostic-Code"])
        self.assertIn("jörg+1@y.org", str(parts(mail)[0].get_content()))  # type: ignore[attr-defined]


# Anything a server or a client may have said.
_said = st.text(max_size=300) | st.lists(
    st.sampled_from(
        ["\r\n", "\n\n", "Bcc: x@y", "--=_" + EVENT, "é", "x" * 1200, " ", "\0", "\x85"]
    )
).map("".join)
_locals = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"], exclude_characters='<>"\\'),
    min_size=1,
    max_size=64,
)
_known = {
    "original-recipient", "final-recipient", "action", "status", "remote-mta", "diagnostic-code",
}  # fmt: skip


class AnythingTests(SynchronousTestCase):
    @settings(max_examples=60)
    @given(
        _said,
        _said,
        _said,
        _said,
        st.none() | st.integers(200, 599),
        _locals,
        _locals,
    )
    def test_nothing_becomes_a_field(
        self, reply: str, envid: str, orcpt: str, enhanced: str, code: int | None, to: str, by: str
    ) -> None:
        """S21: whatever was said, the fields are ours, each once, and the parts are three."""
        each = Unreached(f"{to}@y.org", RecipientState.FAILED, code, enhanced, reply)
        own = OfRecipient(each.address, (), f"rfc822;{orcpt}")
        found = lost(
            each, dsn=Dsn((), "", envid, (own,)), envelope_from=f"{by}@x.org", message_id=reply
        )
        mail = parsed(found)
        self.assertEqual(3, len(parts(mail)))
        names = [name.lower() for name in mail]
        self.assertEqual(len(names), len(set(names)))
        self.assertNotIn("bcc", names)
        about, one = groups(mail)
        self.assertLessEqual(
            {name.lower() for name in about},
            {"original-envelope-id", "reporting-mta", "arrival-date"},
        )
        fields = [name.lower() for name in one]
        self.assertEqual(len(fields), len(set(fields)))
        self.assertLessEqual(set(fields), _known)
        self.assertRegex(one["Status"], re.compile(r"\A[45]\.\d{1,3}\.\d{1,3}\Z"))
        self.assertTrue(parts(mail)[1].as_bytes().isascii())
        self.assertEqual(wire(made(found)), wire(made(found)))

    def test_a_name_that_cannot_be(self) -> None:
        """A From that no header can hold is refused, not sent."""
        wrong = lost(bounces=Bounces(True, None, "a b@x.org"))
        self.assertRaises(BadMessage, bounce, wrong, "mx.example.net", 2)
