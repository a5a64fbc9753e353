"""Encoded words, written and read."""

from __future__ import annotations

from email.header import decode_header, make_header

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.words import MAX_WORD, MIN_ROOM, decode_words, encode_words

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120)


class EncodeTests(SynchronousTestCase):
    def test_the_shorter_encoding_is_taken(self) -> None:
        """Mostly ASCII text stays readable, other text does not treble."""
        self.assertEqual(
            ["=?utf-8?q?Caf=C3=A9_Central_Berlin?="], encode_words("Café Central Berlin")
        )
        self.assertEqual(["=?utf-8?b?5pel5pys?="], encode_words("日本"))

    @given(texts, st.integers(0, 90))
    @settings(max_examples=300, deadline=None)
    def test_what_is_written_is_read(self, text: str, room: int) -> None:
        """Our reader and the standard library's give the text back, in words that fit."""
        words = encode_words(text, room)
        self.assertLessEqual(len(words[0]), max(room, MIN_ROOM))
        for word in words:
            self.assertLessEqual(len(word), MAX_WORD)
            self.assertTrue(word.isascii() and word.isprintable() and " " not in word)
            decode_words(word).encode("utf-8")  # each word stands for itself
        self.assertEqual(text, decode_words(" ".join(words)))
        self.assertEqual(text, str(make_header(decode_header("\r\n ".join(words)))))


class DecodeTests(SynchronousTestCase):
    def test_what_is_understood(self) -> None:
        """Charsets, both encodings, language tags and spaces between words."""
        for written, read in (
            ("=?iso-8859-1?Q?J=F6rg?= M.", "Jörg M."),
            ("=?UTF-8*de?B?SsO2cmc=?=", "Jörg"),
            ("=?utf-8?b?SsO2cmc?=", "Jörg"),  # padding left out
            ("=?utf-8?q?a?=  =?utf-8?q?b?=", "ab"),
            ("=?utf-8?q?J=C3?= =?utf-8?q?=B6rg?=", "Jörg"),  # split within a character
            ("=?utf-8?q?a?= =?iso-8859-1?q?=F6?=", "aö"),
            ("x=?utf-8?q?a_b?=y", "xa by"),
            ("=?utf-8?q?a?= b =?utf-8?q?c?=", "a b c"),
        ):
            self.assertEqual(read, decode_words(written))

    def test_what_says_nothing_stays(self) -> None:
        """Unknown charsets, codecs that are not for text, and broken payloads are left alone."""
        for text in (
            "=?klingon?q?Qapla?=",
            "=?zip?b?eJwDAAAAAAE=?=",
            "=?utf-8?q?=FF=FE?=",
            "=?utf-8?b?A?=",
            "=?utf-8?x?abc?=",
            "=?utf-8?q?a b?=",
            "2 =? 3",
            "",
        ):
            self.assertEqual(text, decode_words(text))

    @given(st.lists(st.sampled_from(["=?", "?=", "utf-8", "?q?", "?b?", "=C3", "é", " ", "A"])))
    @settings(max_examples=300, deadline=None)
    def test_any_text_is_decoded_to_something(self, pieces: list[str]) -> None:
        """No text makes it fail, and text without an encoded word is returned as it is."""
        text = "".join(pieces)
        decoded = decode_words(text)
        if "?=" not in text:
            self.assertEqual(text, decoded)
