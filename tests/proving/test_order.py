"""However bytes arrive and replies are delayed: replies in order, and no message ends early."""

from __future__ import annotations

import random

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from mailproxy.lines import canonical, stuff
from mailproxy.proving.ledger import Copy
from tests.proving.talk import Talk, Transport

END = b"\r\n.\r\n"

#: What the sink answers to each recipient, and to the message if it is the only one.
AT_RCPT = {"b": "250", "reject": "550", "full": "452", "slow": "250", "dataerr": "250"}
AT_END = {"b": "250", "slow": "250", "dataerr": "554"}


@attrs.frozen
class Mail:
    recipients: list[str]
    body: bytes

    def wire(self) -> bytes:
        rcpts = b"".join(b"RCPT TO:<%b@y.org>\r\n" % each.encode() for each in self.recipients)
        body = stuff(self.body) if self.accepted else b""
        return b"MAIL FROM:<a@x.org>\r\n" + rcpts + b"DATA\r\n" + body + b"RSET\r\n"

    @property
    def accepted(self) -> list[str]:
        return [each for each in self.recipients if AT_RCPT[each] == "250"]

    def codes(self) -> list[str]:
        rcpts = [AT_RCPT[each] for each in self.recipients]
        if not self.accepted:
            return ["250", *rcpts, "503", "250"]
        end = "554" if "dataerr" in self.accepted else "250"
        return ["250", *rcpts, "354", end, "250"]


BODIES = st.lists(st.sampled_from([b"a", b".", b"\r\n", b"QUIT", b"\r", b"\n"]), max_size=8).map(
    b"".join
)
MAILS = st.builds(Mail, st.lists(st.sampled_from(sorted(AT_RCPT)), min_size=1, max_size=4), BODIES)


class OrderTests(SynchronousTestCase):
    @settings(deadline=None, max_examples=150)
    @given(st.lists(MAILS, max_size=5), st.integers(0, 2**32))
    def test_replies_in_order(self, mails: list[Mail], seed: int) -> None:
        """
        However the client's bytes are cut, and however long replies are delayed, each command
        gets its own reply, in order, and each accepted message arrives as it was.
        """
        rng = random.Random(seed)
        talk = Talk(delay=(0.0, 0.05), seed=seed)
        talk.hello()
        wire = b"".join(mail.wire() for mail in mails)
        codes: list[str] = []
        while wire:
            cut = rng.choice((1, 2, 5, 40, 400))
            codes += talk.codes(wire[:cut])
            wire = wire[cut:]
            if rng.random() < 0.3:
                talk.clock.advance(rng.random() / 10)
                codes += [line[:3] for line in talk.replies()]
        talk.clock.pump([5.1] * (len(mails) + 1))
        codes += [line[:3] for line in talk.replies()]

        self.assertEqual([code for mail in mails for code in mail.codes()], codes)
        kept = [mail for mail in mails if mail.accepted and "dataerr" not in mail.accepted]
        self.assertEqual(
            [(canonical_end(mail.body), [f"{each}@y.org" for each in mail.accepted])
             for mail in kept],
            [(body, copy.recipients) for copy, body in talk.ledger.messages()],
        )  # fmt: skip


def canonical_end(body: bytes) -> bytes:
    """The body as it arrives: canonical, its last line ended."""
    body = canonical(body)
    return body if not body or body.endswith(b"\r\n") else body + b"\r\n"


class SmugglingTests(SynchronousTestCase):
    def deliver(self, content: bytes, cuts: list[int]) -> list[tuple[Copy, bytes]]:
        """Send *content*, raw, in a message, cut at *cuts*; the replies must be those of one."""
        talk = Talk()
        talk.hello()
        talk.send(b"MAIL FROM:<a@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\n")
        wire = content + END
        codes: list[str] = []
        for start, stop in zip([0, *cuts], [*cuts, len(wire)], strict=True):
            codes += talk.codes(wire[start:stop])
        assert len(codes) == 1, codes
        assert codes[0] in ("250", "550"), codes
        # The session is where it should be: a new transaction works.
        assert talk.mail(body=b"next\r\n")[-1] == "250"
        return list(talk.ledger.messages())

    def test_known_probes(self) -> None:
        """Everything that some server took for the end of a message is not one here."""
        evil = b"MAIL FROM:<evil@x.org>\r\nRCPT TO:<b@y.org>\r\nDATA\r\nevil\r\n"
        for probe in (
            *(b"\n.\n", b"\n.\r\n", b"\r\n.\n", b"\r.\r", b"\r.\r\n", b"\r\n.\r", b"\n.\r"),
            *(b"\r.\n", b"\r\r\n.\r\r\n", b"\r\n\0.\r\n", b"\r\n.\0\r\n", b"\r\n.\r\r\n"),
            *(b"\r\n.\n\r\n", b"\r\n..\r\n", b"\r\n. \r\n", b"\n\n.\r\n", b"\r\n\x0c.\r\n"),
        ):
            kept = self.deliver(b"x" + probe + evil, [])
            self.assertNotIn("evil@x.org", [copy.sender for copy, _ in kept], probe)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.sampled_from([b"\r", b"\n", b".", b"\r\n", b"\0", b"a", b"MAIL FROM:<evil@x.org>"]),
            max_size=30,
        ).map(b"".join),
        st.data(),
    )
    def test_only_crlf_dot_crlf_ends(self, content: bytes, data: st.DataObject) -> None:
        """Bytes without CRLF.CRLF among them are one message, however they are cut."""
        end = (b"\r\n" + content + END).find(END)
        content = content[: max(0, end - 2)]
        size = len(content) + len(END)
        cuts = sorted(data.draw(st.lists(st.integers(0, size), max_size=4)))

        kept = self.deliver(content, cuts)

        self.assertNotIn("evil@x.org", [copy.sender for copy, _ in kept])


class TlsTransport(Transport):
    """A transport that can be asked for TLS, as TCP connections can."""

    def startTLS(self, context: object) -> None:
        self.tls = context


class StartTlsTests(SynchronousTestCase):
    def setUp(self) -> None:
        from twisted.internet.interfaces import ITLSTransport

        self.context = object()
        self.talk = Talk(tls=self.context)
        self.protocol = self.talk.protocol
        self.talk.transport = TlsTransport()
        directlyProvides(self.talk.transport, ITLSTransport)
        self.talk.transport.protocol = self.protocol
        self.protocol.makeConnection(self.talk.transport)
        self.talk.replies()

    def test_offered_once(self) -> None:
        """STARTTLS is offered in clear, taken, and not offered again."""
        self.assertIn("250 STARTTLS", self.talk.send(b"EHLO me\r\n"))

        self.assertEqual(["220"], self.talk.codes(b"STARTTLS\r\n"))

        self.assertIs(self.context, self.talk.transport.tls)
        self.assertNotIn("STARTTLS", " ".join(self.talk.send(b"EHLO me\r\n")))
        self.assertEqual(["503"], self.talk.codes(b"STARTTLS\r\n"))

    def test_new_session(self) -> None:
        """Nothing said before the handshake counts after it."""
        self.talk.send(b"EHLO me\r\nMAIL FROM:<a@x.org>\r\n")
        self.talk.send(b"STARTTLS\r\n")

        self.assertEqual(
            ["503", "503"], self.talk.codes(b"RCPT TO:<b@y.org>\r\nMAIL FROM:<a@x.org>\r\n")
        )

    def test_commands_in_clear_behind_it(self) -> None:
        """What follows STARTTLS in clear ends the connection; it is never carried out."""
        for residue in (b"NOOP\r\n", b"N", b"\r\n"):
            self.setUp()
            self.assertEqual(["554"], self.talk.codes(b"STARTTLS\r\n" + residue))
            self.assertIsNone(self.talk.transport.tls)
            self.assertTrue(self.talk.closed)

    def test_argument(self) -> None:
        """STARTTLS takes no argument."""
        self.assertEqual(["501"], self.talk.codes(b"STARTTLS now\r\n"))

    def test_not_available(self) -> None:
        """Without a certificate there is no STARTTLS."""
        talk = Talk()

        self.assertEqual(["503"], talk.codes(b"STARTTLS\r\n"))
