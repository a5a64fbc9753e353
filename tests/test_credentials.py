"""Credentials for the source of an attachment."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from mailproxy.credentials import authorization, open_auth, read_auth, seal_auth
from mailproxy.tenancy import ClientAuth

_anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=2),
    max_leaves=3,
)
_fields = st.dictionaries(
    st.sampled_from(("method", "token", "user", "password", "x")),
    st.sampled_from(("none", "bearer", "basic")) | _anything,
    max_size=5,
)


def seal(text: str) -> str:
    return text.encode().hex()


def unseal(text: str) -> str:
    return bytes.fromhex(text).decode()


class CredentialsTests(SynchronousTestCase):
    def test_header(self) -> None:
        """Bearer and basic have a header; where there is nothing to show there is none."""
        for auth, expected in (
            (ClientAuth(), None),
            (ClientAuth("none", token="t"), None),
            (ClientAuth("bearer"), None),
            (ClientAuth("bearer", token="abc"), b"Bearer abc"),
            (ClientAuth("basic", user="Aladdin", password="open sesame"),
             b"Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="),  # RFC 7617, section 2
            (ClientAuth("basic", user="test", password="123\u00a3"), b"Basic dGVzdDoxMjPCow=="),
        ):  # fmt: skip
            self.assertEqual(expected, authorization(auth))

    @given(_fields)
    @settings(max_examples=200, deadline=None)
    def test_anything(self, fields: dict[str, Any]) -> None:
        """Whatever a client says is either refused without its values, or comes back whole."""
        try:
            auth = read_auth(fields)
        except ValueError as error:
            for name, value in fields.items():
                if name != "method" and isinstance(value, str) and len(value) > 6:
                    self.assertNotIn(value, str(error))
            return
        self.assertEqual(auth, open_auth(seal_auth(auth, seal), unseal))
        header = authorization(auth) or b""
        self.assertFalse(set(header) & set(range(32)) or 127 in header)

    def test_nothing_in_the_clear(self) -> None:
        """Neither token nor password stands in what is shown of them."""
        auth = read_auth({"method": "basic", "user": "u", "password": "s3cret"})
        self.assertNotIn("s3cret", repr(auth))
        self.assertNotIn("s3cret", seal_auth(auth, seal))
