from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.errors import ReportRefused, ReportTooLarge, ReportUnanswered, SinkUnavailable
from mailproxy.report.answer import Taken, plain, read_answer, retry_after
from tests.fakes import EPOCH


def _dump(value: Any) -> bytes:
    return json.dumps(value).encode()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


class AcknowledgementTests(SynchronousTestCase):
    def test_taken(self) -> None:
        """A 2xx that is empty, or a JSON object without an error, acknowledges."""
        for status, body in (
            (200, b""),
            (204, b""),
            (202, b"{}"),
            (200, b'{"ok": true, "queued": 0}'),
            (200, b'{"error": null}'),
            (200, b'{"error": []}'),
            (200, b'{"error": ["m1", "m2"], "not_found": ["m3"]}'),
            (200, b'{"error": 0}'),
            (200, b'{"error": 3}'),
            (200, b'{"ok": null}'),
            (200, b' \r\n {"ok": 0}\n'),
            (201, b"\xef\xbb\xbf{}"),
        ):
            self.assertEqual(Taken(), read_answer(status, body), body)

    def test_not_taken(self) -> None:
        """A 2xx that reports an error, or is no JSON object, acknowledges nothing."""
        for body in (
            b'{"error": "AUTH-901 not authorised"}',
            b'{"error": ""}',
            b'{"error": true}',
            b'{"error": {"code": 1}}',
            b'{"ok": false}',
            b'{"ok": false, "error": []}',
            b"<!doctype html><title>Log in</title>",
            b"\n",
            b"null",
            b"true",
            b'"ok"',
            b"[]",
            b"7",
            b"OK",
            b'{"ok": true',
            b'{"ok": true}{}',
            b"\xff\xfe\x00",
            b"[" * 100_000,
            b'{"a":' * 100_000,
            b'{"queued": ' + b"9" * 10_000 + b"}",
        ):
            error = self.assertRaises(SinkUnavailable, read_answer, 200, body)
            self.assertIs(SinkUnavailable, type(error), body[:40])

    def test_statuses(self) -> None:
        """What a status means does not depend on the body."""
        self.assertRaises(ReportTooLarge, read_answer, 413, b"{}")
        self.assertRaises(ReportUnanswered, read_answer, 504, b"{}")
        for status in (400, 402, 405, 406, 409, 410, 411, 415, 418, 422, 431, 451, 499):
            self.assertRaises(ReportRefused, read_answer, status, b"{}")
        for status in (100, 199, 300, 301, 302, 304, 307, 308, 401, 403, 404, 408, 429):
            error = self.assertRaises(SinkUnavailable, read_answer, status, b"{}")
            self.assertIs(SinkUnavailable, type(error), status)
        for status in (500, 502, 503, 505, 599, 600, 999):
            error = self.assertRaises(SinkUnavailable, read_answer, status, b"")
            self.assertIs(SinkUnavailable, type(error), status)

    def test_queued(self) -> None:
        """``queued`` is a count; anything else there is as good as nothing."""
        for text, count in (
            ("12", 12),
            ("0", 0),
            ("-3", 0),
            ("null", 0),
            ("true", 0),
            ('"5"', 0),
            ("2.5", 0),
            ("[1]", 0),
            ("{}", 0),
            ("NaN", 0),
        ):
            answer = read_answer(200, f'{{"queued": {text}}}'.encode())
            self.assertEqual(Taken(queued=count), answer, text)

    def test_next_sync_after(self) -> None:
        """``next_sync_after`` is an instant; anything else there is as good as nothing."""
        for text, when in (
            ("1750000000", 1750000000.0),
            ("1750000000.5", 1750000000.5),
            ("0", 0.0),
            ("null", None),
            ("false", None),
            ('"2026-01-01"', None),
            ("Infinity", None),
            ("NaN", None),
            ("1" + "0" * 400, None),
            ("1e999", None),
        ):
            answer = read_answer(200, f'{{"next_sync_after": {text}}}'.encode())
            self.assertEqual(Taken(next_sync_after=when), answer, text)

    def test_reason_names_the_error(self) -> None:
        """The receiver's own words stand in the reason, on one line, and not too many."""
        error = self.assertRaises(
            SinkUnavailable, read_answer, 200, b'{"error": "AUTH-901\\r\\n\\u001b[31mno"}'
        )
        self.assertEqual(r"HTTP 200 with an error: AUTH-901\r\n\x1b[31mno", str(error))
        self.assertEqual(200, len(plain("x" * 5000)))

    @given(st.integers(100, 999), st.binary(max_size=40) | json_values.map(_dump))
    @settings(deadline=None)
    def test_any_answer(self, status: int, body: bytes) -> None:
        """Every answer is taken or a named error; it is taken only if it says so."""
        try:
            answer = read_answer(status, body)
        except SinkUnavailable:
            return
        self.assertIn(status, range(200, 300))
        self.assertGreaterEqual(answer.queued, 0)
        if body:
            told = json.loads(body)
            self.assertIsInstance(told, dict)
            self.assertIsNot(False, told.get("ok"))
            self.assertNotIsInstance(told.get("error"), str | dict | bool)


class RetryAfterTests(SynchronousTestCase):
    def test_forms(self) -> None:
        """``Retry-After`` is seconds or an HTTP date; anything else is as good as no header."""
        for value, seconds in (
            ("120", 120.0),
            (" 0 ", 0.0),
            ("9" * 400, 9999999999.0),
            ("Sun, 15 Jun 2025 15:07:40 GMT", 60.0),
            ("Sun, 15 Jun 2025 15:05:40 GMT", 0.0),
            ("soon", None),
            ("-5", None),
            ("1.5", None),
            ("", None),
            (None, None),
            ("٣", None),
        ):
            self.assertEqual(seconds, retry_after(value, EPOCH), value)

    @given(st.text(max_size=40))
    @settings(deadline=None)
    def test_any_text(self, value: str) -> None:
        """No header breaks the reading."""
        seconds = retry_after(value, EPOCH)
        self.assertTrue(seconds is None or seconds >= 0.0)
