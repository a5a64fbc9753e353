"""
Logging in: PLAIN and LOGIN with a password, XOAUTH2 with a token; one try of one mechanism.

A second try with the same password would only bring an account closer to being locked. No text
made here holds a secret. Pure.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from typing import Protocol

import attrs

from mailproxy.delivery.commands import Capabilities

#: What stands where a secret stood.
HIDDEN = "********"

#: Shorter secrets are not looked for: they would blot out parts of ordinary words.
_SHORTEST = 4

_WORD = re.compile(r"[A-Za-z0-9+/]{6,}")


class Credentials(Protocol):
    """What an account logs in with, and what that looks like on the wire."""

    @property
    def mechanisms(self) -> tuple[str, ...]:
        """Those that will do, the best first."""

    def lines(self, offered: Capabilities) -> Iterator[bytes] | None:
        """
        The lines of the best mechanism the server offers; None if it offers none of ours.

        Each but the first answers a 334.
        """

    def hide(self, text: str) -> str:
        """What a server said of this login, without what was said to it."""


@attrs.frozen
class Login:
    """
    User and password. *password* is never shown.

    :param method: the mechanism the account insists on, lower case; "" for the best.
    """

    user: str
    password: str = attrs.field(repr=False)
    method: str = ""

    def plain(self) -> Iterator[bytes]:
        """The lines of AUTH PLAIN (RFC 4616), initial response included."""
        user, password = self.user.encode(), self.password.encode()
        yield b"AUTH PLAIN " + base64.b64encode(b"\0" + user + b"\0" + password)

    def login(self) -> Iterator[bytes]:
        """The lines of AUTH LOGIN; each but the first answers a 334, whatever that asks."""
        yield b"AUTH LOGIN"
        yield base64.b64encode(self.user.encode())
        yield base64.b64encode(self.password.encode())

    @property
    def mechanisms(self) -> tuple[str, ...]:
        return (self.method.upper(),) if self.method else ("PLAIN", "LOGIN")

    def lines(self, offered: Capabilities) -> Iterator[bytes] | None:
        known = {"PLAIN": self.plain, "LOGIN": self.login}
        for name in self.mechanisms:
            if name in offered.auth and name in known:
                return known[name]()
        return None

    def hide(self, text: str) -> str:
        """Some servers repeat the line they do not like, whole or in part."""
        return _hide(text, self.password, *self.plain(), *self.login())


@attrs.frozen
class TokenLogin:
    """A user, and the token that an authorization server gave for its mailbox."""

    user: str
    token: str = attrs.field(repr=False)

    @property
    def mechanisms(self) -> tuple[str, ...]:
        return ("XOAUTH2",)

    def lines(self, offered: Capabilities) -> Iterator[bytes] | None:
        return self._xoauth2() if "XOAUTH2" in offered.auth else None

    def _xoauth2(self) -> Iterator[bytes]:
        """
        A refusal comes in two steps: a 334 with the reason as JSON, and after an empty line of
        ours the final 535.
        """
        said = f"user={self.user}\x01auth=Bearer {self.token}\x01\x01"
        yield b"AUTH XOAUTH2 " + base64.b64encode(said.encode())
        yield b""

    def hide(self, text: str) -> str:
        return _hide(text, self.token, next(self._xoauth2()))


def _hide(text: str, secret: str, *lines: bytes) -> str:
    said = [line.split()[-1].decode("ascii") for line in lines]
    if len(secret) >= _SHORTEST:
        text = text.replace(secret, HIDDEN)
    return _WORD.sub(lambda m: HIDDEN if any(m[0] in line for line in said) else m[0], text)
