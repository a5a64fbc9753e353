"""What the digest of a submission is made of: SHA-256 over everything, however long it is."""

from __future__ import annotations

import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.digests import content_digest, raw_digest
from mailproxy.model import Content, Mailbox, NewRecipient
from mailproxy.states import RecipientKind

#: Around the sizes at which it is cut, and at which it is not cut any more.
SIZES = (0, 1, 2046, 2047, 2048, 4094, 4095, 262_143, 262_144, 262_145)


def of_raw(data: bytes) -> bytes:
    anna = NewRecipient("anna@example.test", RecipientKind.TO)
    return raw_digest(data, "shop@example.test", [anna], None, False)


def expected(data: bytes) -> bytes:
    told = (
        f'{{"raw":"{hashlib.sha256(data).hexdigest()}","return_path":"shop@example.test",'
        '"to":["anna@example.test"]}'
    )
    return hashlib.sha256(told.encode()).digest()


class DigestTests(SynchronousTestCase):
    def test_sizes(self) -> None:
        """It is that of the whole, also where that is hashed in pieces."""
        for size in SIZES:
            data = (b"0123456789abcdef" * (size // 16 + 1))[:size]
            self.assertEqual(expected(data), of_raw(data), size)

    @settings(max_examples=50, deadline=None)
    @given(st.binary(max_size=100), st.integers(1, 120))
    def test_any(self, data: bytes, times: int) -> None:
        """The same for whatever is repeated how often."""
        self.assertEqual(expected(data * times), of_raw(data * times))

    def test_the_last_octet_counts(self) -> None:
        """Two texts that differ at their end only are two submissions."""
        sender = Mailbox("", "shop", "example.test")
        for size in SIZES[1:]:
            digests = {
                content_digest(Content(sender, plain="x" * (size - 1) + end), None, None, False)
                for end in "ab"
            }
            self.assertEqual(2, len(digests), size)
