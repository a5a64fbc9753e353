"""One AUTH exchange with a token, as a server sees it: XOAUTH2 or OAUTHBEARER (RFC 7628)."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error as NotBase64

from mailproxy.errors import BadCommand
from mailproxy.login_exchange import Exchange

#: The mechanisms.
BEARERS = (b"XOAUTH2", b"OAUTHBEARER")

_USER = re.compile(r"(?:^|,)(?:user|a)=([^,\x01]*)")
_TOKEN = re.compile(r"\x01auth=Bearer ([^\x01]*)\x01", re.IGNORECASE)


class Bearer(Exchange):
    """An exchange of one message."""

    def __init__(self) -> None:
        self._said = ("", "")

    def challenge(self) -> bytes:
        return b""  # there is nothing to ask

    def respond(self, line: bytes) -> bool:
        """
        Take the client's message; there is never another challenge.

        :raises BadCommand: it is malformed, or cancels.
        """
        try:
            text = b64decode(line, validate=True).decode("utf-8", "replace")
        except NotBase64:
            raise BadCommand(501, b"5.5.2 Authentication cancelled") from None
        user, token = _USER.search(text), _TOKEN.search(text)
        if token is None:
            raise BadCommand(501, b"5.5.2 No token")
        self._said = (user.group(1) if user is not None else "", token.group(1))
        return False

    def said(self) -> tuple[str, str]:
        """The user and the token."""
        return self._said
