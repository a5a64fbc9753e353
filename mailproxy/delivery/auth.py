"""
Logging in: PLAIN and LOGIN, one try of one mechanism.

A second try with the same password would only bring an account closer to being locked. No text
made here holds a secret. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator

import attrs

from mailproxy.delivery.commands import Capabilities

#: What stands where a secret stood.
HIDDEN = "********"

#: Shorter passwords are not looked for: they would blot out parts of ordinary words.
_SHORTEST = 4

_WORD = re.compile(r"[A-Za-z0-9+/]{6,}")


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

    def hide(self, text: str) -> str:
        """
        What a server said of this login, without what was said to it.

        Some repeat the line they do not like, whole or in part.
        """
        said = [line.split()[-1].decode("ascii") for line in (*self.plain(), *self.login())]
        if len(self.password) >= _SHORTEST:
            text = text.replace(self.password, HIDDEN)
        return _WORD.sub(lambda m: HIDDEN if any(m[0] in line for line in said) else m[0], text)
