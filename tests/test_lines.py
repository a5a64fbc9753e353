"""Line ends and dots, for whole bodies and for every way of cutting them into chunks."""

from __future__ import annotations

import itertools
import re

from hypothesis import example, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.lines import (
    Canonicaliser,
    Stuffer,
    Unstuffer,
    canonical,
    is_canonical,
    stuff,
)

# What matters is how CR, LF and dots fall together: bodies are made mostly of them.
_PIECES = (b"\r", b"\n", b".", b"\r\n", b"\r\n.", b".\r\n", b"\r\n.\r\n", b"a", b"MAIL FROM:<x@y>")
bodies = st.lists(st.sampled_from(_PIECES) | st.binary(max_size=4), max_size=24).map(b"".join)
cuts = st.lists(st.integers(0, 80), max_size=6)

_BARE = re.compile(rb"\r(?!\n)|(?<!\r)\n")


def chunked(data: bytes, places: list[int]) -> list[bytes]:
    """*data* cut at *places*; equal places give empty chunks."""
    edges = [0, *sorted(min(place, len(data)) for place in places), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(edges)]


def lines_slowly(data: bytes) -> bytes:
    """The canonical form, one byte at a time: the definition, written down."""
    out = bytearray()
    last = 0
    for byte in data:
        if byte == 0x0D or (byte == 0x0A and last != 0x0D):
            out += b"\r\n"
        elif byte != 0x0A:
            out.append(byte)
        last = byte
    return bytes(out)


def unstuff_slowly(wire: bytes) -> tuple[bytes, bytes] | None:
    """The body and what follows it, line by CRLF-line; None if the data does not end."""
    body = b""
    while True:
        line, end, wire = wire.partition(b"\r\n")
        if not end:
            return None
        if line == b".":
            return body, wire
        body += line.removeprefix(b".") + end


class CanonicalTests(SynchronousTestCase):
    def test_every_line_end_becomes_crlf(self) -> None:
        """CRLF, a bare CR and a bare LF each end one line."""
        self.assertEqual(b"a\r\nb\r\nc\r\nd", canonical(b"a\r\nb\rc\nd"))
        self.assertEqual(b"\r\n\r\n", canonical(b"\n\r"))
        self.assertEqual(b"\r\n\r\n", canonical(b"\r\r\n"))
        self.assertEqual(b"", canonical(b""))

    def test_a_canonical_body_is_not_copied(self) -> None:
        """What is canonical comes back as the same object."""
        body = b"a\r\nb\r\n"
        self.assertIs(body, canonical(body))

    @given(bodies)
    @settings(max_examples=400, deadline=None)
    def test_agrees_with_the_definition(self, body: bytes) -> None:
        """The canonical form is what reading one byte at a time gives, and is stable."""
        result = canonical(body)
        self.assertEqual(lines_slowly(body), result)
        self.assertTrue(is_canonical(result))
        self.assertIsNone(_BARE.search(result))
        self.assertEqual(_BARE.search(body) is None, is_canonical(body))

    @given(bodies, cuts)
    @settings(max_examples=400, deadline=None)
    def test_chunks_change_nothing(self, body: bytes, places: list[int]) -> None:
        """A body gives the same canonical bytes however it is cut."""
        one = Canonicaliser()
        self.assertEqual(canonical(body), b"".join(map(one.feed, chunked(body, places))))


class StuffTests(SynchronousTestCase):
    def test_what_goes_out(self) -> None:
        """A leading dot is doubled, a missing CRLF added, and one final dot ends it."""
        for body, wire in (
            (b"", b".\r\n"),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r\n", b"a\r\n.\r\n"),
            (b".", b"..\r\n.\r\n"),
            (b".\r\n", b"..\r\n.\r\n"),
            (b"a\r\n.b\r\n..\r\n", b"a\r\n..b\r\n...\r\n.\r\n"),
            (b"\r\n", b"\r\n.\r\n"),
        ):
            self.assertEqual(wire, stuff(body), body)

    def test_nothing_bare_goes_out(self) -> None:
        """A dot between bare line ends cannot end the data for a lenient receiver."""
        for body in (b"a\n.\nb", b"a\r.\rb", b"a\n.\r\nb", b"a\r\n.\nb", b"a\r.\r\nb"):
            self.assertEqual(b"a\r\n..\r\nb\r\n.\r\n", stuff(body), body)

    @given(bodies)
    @example(b".\nMAIL FROM:<ceo@example.org>")
    @settings(max_examples=500, deadline=None)
    def test_exactly_one_end_of_data(self, body: bytes) -> None:
        """Whatever the body, the first end of data is the last byte, and the body comes back."""
        wire = stuff(body)
        expected = canonical(body)
        if expected and not expected.endswith(b"\r\n"):
            expected += b"\r\n"
        self.assertEqual((expected, b""), unstuff_slowly(wire))
        self.assertIsNone(_BARE.search(wire))

    @given(bodies, cuts)
    @settings(max_examples=500, deadline=None)
    def test_chunks_change_nothing(self, body: bytes, places: list[int]) -> None:
        """A body gives the same wire bytes however it is cut."""
        stuffer = Stuffer()
        wire = b"".join([*map(stuffer.feed, chunked(body, places)), stuffer.finish()])
        self.assertEqual(stuff(body), wire)

    def test_every_split_of_an_awkward_body(self) -> None:
        """No place to cut in two, and no chunk size, lets a lone dot out."""
        body = b".\r\n..\r\n\r\n.\r\nMAIL FROM:<a@b>\r\n.\rx\n.\n.\r\n.."
        expected = stuff(body)
        for place in range(len(body) + 1):
            stuffer = Stuffer()
            wire = stuffer.feed(body[:place]) + stuffer.feed(body[place:]) + stuffer.finish()
            self.assertEqual(expected, wire, place)
        for size in range(1, len(body)):
            stuffer = Stuffer()
            starts = range(0, len(body), size)
            wire = b"".join(stuffer.feed(body[at : at + size]) for at in starts)
            self.assertEqual(expected, wire + stuffer.finish(), size)


class UnstuffTests(SynchronousTestCase):
    @given(bodies, cuts, bodies)
    @settings(max_examples=500, deadline=None)
    def test_reads_back_what_was_stuffed(
        self, body: bytes, places: list[int], after: bytes
    ) -> None:
        """A stuffed body comes back, whatever follows it is handed over, nothing is flagged."""
        wire = stuff(body) + after
        unstuffer = Unstuffer()
        read = b""
        for chunk in chunked(wire, places):
            if unstuffer.done:
                unstuffer.rest += chunk
            else:
                read += unstuffer.feed(chunk)
        self.assertEqual(unstuff_slowly(stuff(body)), (read, b""))
        self.assertEqual(after, unstuffer.rest)
        self.assertFalse(unstuffer.bare)

    @given(bodies, cuts)
    @settings(max_examples=500, deadline=None)
    def test_any_wire_bytes(self, wire: bytes, places: list[int]) -> None:
        """What ends the data, and what is flagged, does not depend on how the bytes come."""
        expected = unstuff_slowly(wire)
        unstuffer = Unstuffer()
        read = b""
        for chunk in chunked(wire, places):
            if unstuffer.done:
                unstuffer.rest += chunk
            else:
                read += unstuffer.feed(chunk)
        self.assertEqual(expected is not None, unstuffer.done)
        if expected is not None:
            self.assertEqual(expected, (read, unstuffer.rest))
            raw = wire[: len(wire) - len(unstuffer.rest)]
            self.assertEqual(_BARE.search(raw) is not None, unstuffer.bare)

    def test_only_crlf_dot_crlf_ends_it(self) -> None:
        """Dots between bare CRs or LFs are content, and are flagged."""
        for wire in (b"a\n.\n", b"a\r.\r", b"a\n.\r\n", b"a\r\n.\n", b"\r\n.\r.\r\n"):
            unstuffer = Unstuffer()
            unstuffer.feed(wire)
            self.assertFalse(unstuffer.done, wire)
            unstuffer.feed(b"x\r\n.\r\nQUIT\r\n")
            self.assertTrue(unstuffer.done)
            self.assertTrue(unstuffer.bare, wire)
            self.assertEqual(b"QUIT\r\n", unstuffer.rest)

    def test_nothing_is_fed_after_the_end(self) -> None:
        """What follows the end of the data belongs to whoever reads commands."""
        unstuffer = Unstuffer()
        self.assertEqual(b"", unstuffer.feed(b".\r\nNOOP\r\n"))
        self.assertTrue(unstuffer.done)
        self.assertRaises(ValueError, unstuffer.feed, b"x")
