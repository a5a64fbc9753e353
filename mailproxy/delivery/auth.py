"""
Logging in: PLAIN and LOGIN, one try of one mechanism.

A second try with the same password would only bring an account closer to being locked. No text
made here holds a secret. Pure.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator

import attrs

from mailproxy.delivery.commands import Capabilities


@attrs.frozen
class Login:
    """Credentials and what they look like on the wire. *password* is never shown."""

    user: str
    password: str = attrs.field(repr=False)

    def plain(self) -> Iterator[bytes]:
        """The lines of AUTH PLAIN (RFC 4616), initial response included."""
        user, password = self.user.encode(), self.password.encode()
        yield b"AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0" + password)

    def login(self) -> Iterator[bytes]:
        """The lines of AUTH LOGIN; each but the first answers a 334, whatever that asks."""
        yield b"AUTH LOGIN"
        yield base64.b64encode(self.user.encode())
        yield base64.b64encode(self.password.encode())

    def lines(self, offered: Capabilities) -> Iterator[bytes] | None:
        """The lines of the best mechanism the server offers; None if it offers none of ours."""
        if "PLAIN" in offered.auth:
            return self.plain()
        if "LOGIN" in offered.auth:
            return self.login()
        return None
