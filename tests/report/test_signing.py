"""Signatures of reports (S23)."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.report.signing import (
    ID,
    SIGNATURE,
    TIMESTAMP,
    TOLERANCE,
    BadSignature,
    key_of,
    report_id,
    sign,
    signature_headers,
    verify,
)

VECTORS = Path(__file__).parents[2] / "docs" / "reference" / "signature-vectors.json"
NOW = 1_750_000_000.0


def secret(fill: int, size: int = 32) -> str:
    return "whsec_" + base64.b64encode(bytes([fill]) * size).decode()


ONE, TWO = secret(1), secret(2)
BODY = b'{"delivery_report":[]}'


class VectorTests(SynchronousTestCase):
    def test_vectors(self) -> None:
        """Every published vector is what we would sign, and is verified or refused as it says."""
        vectors: list[dict[str, Any]] = json.loads(VECTORS.read_text(encoding="utf-8"))["vectors"]
        for each in vectors:
            body = each["body"].encode()
            headers = {
                ID: each["webhook-id"],
                TIMESTAMP: str(each["webhook-timestamp"]),
                SIGNATURE: each["webhook-signature"],
            }
            with self.subTest(each["says"]):
                if each["good"]:
                    made = sign(each["secret"], headers[ID], each["webhook-timestamp"], body)
                    self.assertIn(made, headers[SIGNATURE].split())
                    self.assertEqual(
                        headers[ID], verify(body, headers, each["secret"], each["now"])
                    )
                else:
                    with self.assertRaises(BadSignature):
                        verify(body, headers, each["secret"], each["now"])
        self.assertEqual({True, False}, {each["good"] for each in vectors})


class SignatureTests(SynchronousTestCase):
    def headers(self, **changes: Any) -> dict[str, str]:
        given: dict[str, Any] = {"secret": ONE, "event_ids": ["e1"], "now": NOW, "body": BODY}
        given |= changes
        return signature_headers(**given)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=200), st.lists(st.text(min_size=1, max_size=20), max_size=5))
    def test_what_was_signed_is_verified(self, body: bytes, event_ids: list[str]) -> None:
        """Whatever a report says, its own signature is good."""
        headers = self.headers(event_ids=event_ids, body=body)
        self.assertEqual(headers[ID], verify(body, headers, ONE, NOW + 3.0))

    @settings(deadline=None, max_examples=100)
    @given(st.data())
    def test_any_change_is_found(self, data: st.DataObject) -> None:
        """A report that was changed in any byte of body, id, time or signature is refused."""
        headers = self.headers()
        part = data.draw(st.sampled_from(["body", ID, TIMESTAMP, SIGNATURE]))
        old = BODY if part == "body" else headers[part].encode()
        at = data.draw(st.integers(0, len(old) - 1))
        new = old[:at] + bytes([data.draw(st.integers(33, 126))]) + old[at + 1 :]
        if new == old:
            return
        body = new if part == "body" else BODY
        if part != "body":
            headers[part] = new.decode()
        with self.assertRaises(BadSignature):
            verify(body, headers, ONE, NOW)

    @settings(deadline=None, max_examples=200)
    @given(
        st.dictionaries(
            st.sampled_from([ID, TIMESTAMP, SIGNATURE, "Webhook-ID", "other"]),
            st.text(st.characters(codec=None), max_size=30)
            | st.sampled_from(["v1,", "1750000000", "v1,AAAA v1a,x", "٣٤٥"]),
        )
    )
    def test_any_headers(self, headers: dict[str, str]) -> None:
        """Whatever a stranger sends, the answer is a refusal, never a crash."""
        with self.assertRaises(BadSignature):
            verify(BODY, headers, [ONE, TWO], NOW)

    def test_names_in_any_case(self) -> None:
        """Receivers may hand the header's names over in any case."""
        headers = {name.title(): value for name, value in self.headers().items()}
        verify(BODY, headers, ONE, NOW)

    def test_several_secrets(self) -> None:
        """While secrets are exchanged, both are good; with only the other one nothing is."""
        for order in ([ONE, TWO], [TWO, ONE]):
            verify(BODY, self.headers(), order, NOW)
        with self.assertRaises(BadSignature):
            verify(BODY, self.headers(), TWO, NOW)

    def test_several_signatures(self) -> None:
        """One good signature among several is enough; versions that are unknown are passed over."""
        headers = self.headers()
        headers[SIGNATURE] = f"v1a,AAAA {sign(TWO, 'x', 1, b'')} {headers[SIGNATURE]}"
        verify(BODY, headers, ONE, NOW)

    def test_tolerance(self) -> None:
        """A report that is too old, or from the future, is refused however well it is signed."""
        for now in (NOW + TOLERANCE, NOW - TOLERANCE):
            verify(BODY, self.headers(), ONE, now)
        for now in (NOW + TOLERANCE + 1, NOW - TOLERANCE - 1):
            with self.assertRaises(BadSignature) as caught:
                verify(BODY, self.headers(), ONE, now)
            self.assertIn(TIMESTAMP, str(caught.exception))

    def test_no_secret(self) -> None:
        """Checking with no secret at all is an error, not a success."""
        with self.assertRaises(ValueError):
            verify(BODY, self.headers(), [], NOW)

    def test_secrets(self) -> None:
        """A secret is ``whsec_`` and 24 to 64 bytes in base64; what is not is not shown."""
        self.assertEqual(b"\1" * 24, key_of(secret(1, 24)))
        for wrong in ("", "hunter2", "whsec_", "whsec_!!!!", secret(1, 23), secret(1, 65),
                      "whsec_ü", ONE.removeprefix("whsec_")):  # fmt: skip
            with self.assertRaises(ValueError) as caught:
                key_of(wrong)
            self.assertNotIn("hunter2", str(caught.exception))


class ReportIdTests(SynchronousTestCase):
    def test_the_same_events_have_the_same_id(self) -> None:
        """A report that is offered again has its id again, whenever and in whatever order."""
        self.assertEqual(report_id(["a", "b"], 1.0), report_id(["b", "a"], 2.0))
        self.assertNotEqual(report_id(["a"], 1.0), report_id(["a", "b"], 1.0))
        self.assertRegex(report_id(["a"], 1.0), r"^report_[0-9a-f]{32}$")

    def test_empty_reports_differ(self) -> None:
        """Empty reports carry nothing to be known by: each is one of its own."""
        self.assertNotEqual(report_id([], 1.0), report_id([], 1.5))
