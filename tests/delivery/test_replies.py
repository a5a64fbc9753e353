from __future__ import annotations

from time import process_time

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.delivery.replies import MAX_LINE, MAX_REPLY, BadReply, ReplyReader, readable
from mailproxy.model import Reply


def read(data: bytes, chunk: int | None = None) -> list[Reply]:
    reader = ReplyReader()
    found = []
    for start in range(0, len(data), chunk or len(data)):
        reader.push(data[start : start + (chunk or len(data))])
        while (reply := reader.pop()) is not None:
            found.append(reply)
    return found


class ReplyReaderTests(SynchronousTestCase):
    def test_lines_of_one_reply_are_joined(self) -> None:
        """F41: a reply of several lines keeps them all."""
        self.assertEqual([Reply(250, "first\nsecond")], read(b"250-first\r\n250 second\r\n"))

    def test_a_code_alone_is_a_reply(self) -> None:
        """A line may end after the code."""
        self.assertEqual([Reply(250, "")], read(b"250\r\n"))

    def test_replies_come_in_order(self) -> None:
        """Several replies in one segment come out one after the other."""
        data = b"250 a\r\n450-b\r\n450 c\r\n354 d\r\n"
        self.assertEqual([250, 450, 354], [reply.code for reply in read(data)])

    def test_a_strange_enhanced_code_is_only_text(self) -> None:
        """S21: an enhanced code of two numbers neither harms nor counts."""
        (reply,) = read(b"550 5.1 no\r\n")
        self.assertEqual(("5.1 no", None), (reply.text, reply.enhanced))

    def test_malformed_replies_are_refused(self) -> None:
        """F28: what is not a reply ends the stream with a reason."""
        for data in (
            b"25O ok\r\n",
            b"250 ok\n",
            b"\x00\xff\x80\r\n",
            b"99 ok\r\n",
            b"650 ok\r\n",
            b"150 ok\r\n",
            b"\r\n",
            b"250_ok\r\n",
            b"250-a\r\n251 b\r\n",
            "\u0662\u0665\u0660 ok\r\n".encode(),
        ):
            with self.subTest(data=data):
                self.assertRaises(BadReply, read, data)

    def test_an_endless_line_is_refused(self) -> None:
        """F27: a line that does not end is given up at its cap, not collected."""
        reader = ReplyReader()
        with self.assertRaises(BadReply):
            for _ in range(MAX_LINE):
                reader.push(b"250 xxxx")
                reader.pop()

    def test_an_endless_reply_is_refused(self) -> None:
        """F27: a reply of ever more lines is given up."""
        self.assertRaises(BadReply, read, b"250-more\r\n" * 101)
        self.assertRaises(BadReply, read, (b"250-" + b"x" * 8000 + b"\r\n") * 9)

    def test_control_characters_are_escaped(self) -> None:
        """S26: what a terminal would act upon is shown, not sent."""
        (reply,) = read(b"250 a\x1b[2Jb\x00\xff\tc\r\n")
        self.assertEqual("a\\x1b[2Jb\\x00\\xff\\tc", reply.text)

    def test_text_that_turns_the_line_around_is_escaped(self) -> None:
        """A character that changes the direction of writing does not reach a report."""
        self.assertEqual("gr\u00fc\u00dfe \\u202e", readable("gr\u00fc\u00dfe \u202e".encode()))

    def test_what_was_not_used_is_residue(self) -> None:
        """Bytes behind a reply are seen as such until they are read."""
        reader = ReplyReader()
        reader.push(b"220 go\r\n250")
        self.assertEqual(Reply(220, "go"), reader.pop())
        self.assertTrue(reader.residue)
        reader = ReplyReader()
        reader.push(b"220 go\r\n")
        reader.pop()
        self.assertFalse(reader.residue)

    @settings(deadline=None, max_examples=300)
    @given(
        st.lists(
            st.tuples(
                st.integers(200, 599),
                st.lists(st.binary(max_size=12), min_size=1, max_size=4),
            ),
            max_size=6,
        ),
        st.integers(1, 20),
    )
    def test_how_replies_are_cut_does_not_matter(
        self, replies: list[tuple[int, list[bytes]]], chunk: int
    ) -> None:
        """However the bytes are cut, the same replies come out."""
        data = b""
        for code, lines in replies:
            clean = [line.replace(b"\n", b"").replace(b"\r", b"") for line in lines]
            for line in clean[:-1]:
                data += b"%d-%s\r\n" % (code, line)
            data += b"%d %s\r\n" % (code, clean[-1])
        whole = read(data) if data else []
        self.assertEqual([code for code, _ in replies], [reply.code for reply in whole])
        self.assertEqual(whole, read(data, chunk) if data else [])

    def test_many_replies_at_once_cost_little(self) -> None:
        """F27: a segment full of the shortest replies is read in the time of its length."""
        data = b"250\r\n" * 200_000
        reader = ReplyReader()
        reader.push(data)
        started = process_time()
        while reader.pop() is not None:
            pass
        self.assertLess(process_time() - started, 5.0)
        self.assertEqual(0, reader.held)

    @settings(deadline=None, max_examples=1000)
    @given(
        st.lists(
            st.one_of(
                st.binary(max_size=30),
                st.sampled_from(
                    [b"250 ok\r\n", b"250-", b"\r\n", b"250-x\r\n", b"25", b"\n", b"\r"]
                ),
                st.builds(bytes.__mul__, st.binary(min_size=1, max_size=9), st.integers(1, 2000)),
            ),
            max_size=40,
        )
    )
    def test_whatever_comes_in_whatever_pieces_it_ends(self, pieces: list[bytes]) -> None:
        """F26, F27, F28: any bytes in any pieces are read without end, and never collected."""
        reader = ReplyReader()
        try:
            for piece in pieces:
                reader.push(piece)
                while (reply := reader.pop()) is not None:
                    self.assertLess(len(reply.text), 5 * MAX_REPLY)
                self.assertLessEqual(reader.held, MAX_REPLY + MAX_LINE)
        except BadReply as error:
            self.assertTrue(str(error).isprintable())

    @settings(deadline=None, max_examples=300)
    @given(st.binary(max_size=200), st.integers(1, 50))
    def test_any_bytes_are_replies_or_refused(self, data: bytes, chunk: int) -> None:
        """S21: nothing a server sends raises anything but BadReply, or comes out unprintable."""
        try:
            found = read(data, chunk) if data else []
        except BadReply as error:
            self.assertTrue(str(error).isprintable())
        else:
            for reply in found:
                self.assertTrue(200 <= reply.code < 600)
                self.assertTrue(reply.text.replace("\n", "").isprintable())
