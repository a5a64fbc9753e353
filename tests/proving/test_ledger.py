"""What the sink keeps, and its bounds."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.proving import ledger as ledger_module
from mailproxy.proving.ledger import Copy, JsonLines, Ledger, header
from tests.scratch import scratch


def add(ledger: Ledger, body: bytes = b"x\r\n", **facts: Any) -> Copy:
    """Keep a copy with these facts; the others are of no interest."""
    return ledger.add(
        body,
        **{
            **dict.fromkeys(("peer", "helo", "tls", "user", "sender", "message_id"), ""),
            "time": 0.0,
            "connection": 1,
            "recipients": ["b@y.org"],
            "options": [],
            "mail_id": "m",
            **facts,
        },
    )


class LedgerTests(SynchronousTestCase):
    def test_totals(self) -> None:
        """Totals count every copy, its recipients and bytes, whether it is still kept or not."""
        ledger = Ledger(keep=1)
        add(ledger, b"12345", recipients=["a", "b"])
        add(ledger, b"123")

        self.assertEqual(
            (2, 3, 8, 1), (ledger.accepted, ledger.recipients, ledger.bytes, ledger.kept)
        )

    def test_facts(self) -> None:
        """Copies are told of by either id, also when their bodies are gone, up to a bound."""
        self.patch(ledger_module, "MAX_FACTS", 3)
        ledger = Ledger(keep=1)
        for mail_id, message_id in (("a", "<1>"), ("b", "<1>"), ("a", "a"), ("c", "<2>")):
            add(ledger, mail_id=mail_id, message_id=message_id)

        found = {
            key: [copy.n for copy in ledger.facts(key)] for key in ("a", "b", "<1>", "<2>", "x")
        }

        self.assertEqual({"a": [3], "b": [2], "<1>": [2], "<2>": [4], "x": []}, found)
        ledger.forget()
        self.assertEqual([], ledger.facts("a"))

    def test_newest_are_kept(self) -> None:
        """Beyond the number to keep, the oldest go; numbers stay."""
        ledger = Ledger(keep=2)
        for _ in range(4):
            add(ledger)

        self.assertEqual([3, 4], [copy.n for copy, _ in ledger.messages()])
        self.assertEqual(
            [False, False, True, True, False],
            [ledger.message(n) is not None for n in (0, 2, 3, 4, 5)],
        )

    def test_bytes_are_bounded(self) -> None:
        """Beyond the bytes to keep, the oldest go; the newest is kept however large it is."""
        ledger = Ledger(keep_bytes=10)
        add(ledger, b"x" * 6)
        add(ledger, b"x" * 4)
        self.assertEqual(2, ledger.kept)

        add(ledger, b"x" * 1)
        self.assertEqual([2, 3], [copy.n for copy, _ in ledger.messages()])
        add(ledger, b"x" * 100)

        self.assertEqual([4], [copy.n for copy, _ in ledger.messages()])

    def test_filters(self) -> None:
        """Messages are found by either id and by recipient."""
        ledger = Ledger()
        add(ledger, mail_id="m1", message_id="<1@x>", recipients=["a@y.org"])
        add(ledger, mail_id="m2", message_id="<2@x>", recipients=["a@y.org", "b@y.org"])

        def found(**by: str) -> list[int]:
            return [copy.n for copy, _ in ledger.messages(**by)]

        self.assertEqual([[1], [2]], [found(mail_id="m1"), found(mail_id="<2@x>")])
        self.assertEqual([[1, 2], [2]], [found(recipient="a@y.org"), found(recipient="b@y.org")])
        self.assertEqual([], found(mail_id="m1", recipient="b@y.org"))

    def test_copies(self) -> None:
        """Copies are counted by id, also of messages no longer kept."""
        ledger = Ledger(keep=1)
        for mail_id in ("m1", "m2", "m1"):
            add(ledger, mail_id=mail_id)

        self.assertEqual((2, 1, 0), tuple(ledger.copies(each) for each in ("m1", "m2", "m3")))
        self.assertEqual({"m1": 2}, ledger.all_copies(at_least=2))

    def test_forget(self) -> None:
        """Forgetting empties what is kept and the copies; totals and numbers go on."""
        ledger = Ledger()
        add(ledger)
        add(ledger)

        self.assertEqual(2, ledger.forget())
        self.assertEqual((0, {}, 2), (ledger.kept, ledger.all_copies(), ledger.accepted))
        self.assertEqual(3, add(ledger).n)
        self.assertIsNotNone(ledger.message(3))

    def test_digest(self) -> None:
        """A copy carries the size and digest of its bytes, and whether they are ASCII."""
        copy = add(Ledger(), b"abc")

        self.assertEqual(
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", copy.sha256
        )
        self.assertEqual((3, True), (copy.size, copy.ascii))
        self.assertFalse(add(Ledger(), "ä".encode()).ascii)

    def test_written_down(self) -> None:
        """Each copy is a JSON line in the file before ``add`` returns; a file is continued."""
        path = scratch(self) / "ledger"
        for mail_id in ("m1", "m2"):
            lines = JsonLines(str(path))
            add(Ledger(lines=lines), mail_id=mail_id, sender="ä@x.org")
            written = [json.loads(line) for line in path.read_bytes().splitlines()]
            lines.close()

        self.assertEqual(["m1", "m2"], [copy["mail_id"] for copy in written])
        self.assertEqual(["ä@x.org"] * 2, [copy["sender"] for copy in written])
        self.assertEqual(set(Copy.__struct_fields__), set(written[0]))


class HeaderTests(SynchronousTestCase):
    def test_value(self) -> None:
        """The first header of that name counts, in any case; a name inside another does not."""
        head = b"X-Message-ID: no\r\nmessage-id:<1@x>\r\nMessage-ID: <2@x>\r\nTo: b\r\n"

        self.assertEqual("<1@x>", header(head, b"message-id"))
        self.assertEqual("b", header(head, b"to"))
        self.assertEqual("", header(head, b"cc"))

    def test_folded(self) -> None:
        """A folded value is unfolded; the last line needs no end."""
        self.assertEqual("<1@x>", header(b"Message-ID:\r\n <1@x>\r\nTo: b\r\n", b"message-id"))
        self.assertEqual("a b c", header(b"To: a\r\n b\r\n\tc".replace(b"\t", b" "), b"to"))

    @settings(deadline=None)
    @given(st.lists(st.tuples(st.sampled_from(["A", "a-b", "B"]), st.text("xyz: ,", max_size=9))))
    def test_any_head(self, fields: list[tuple[str, str]]) -> None:
        """In any head the value found is that of the first field of the name."""
        head = "".join(f"{name}: {value}\r\n" for name, value in fields).encode()
        first: dict[str, str] = {}
        for name, value in fields:
            first.setdefault(name.lower(), value.strip())

        for name in ("a", "a-b", "b"):
            self.assertEqual(first.get(name, ""), header(head, name.encode()))
