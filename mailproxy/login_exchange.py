"""One AUTH exchange as a server sees it, PLAIN or LOGIN (RFC 4954, RFC 4616)."""

from __future__ import annotations

from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from typing import Any

from twisted.mail._except import IllegalClientResponse
from twisted.mail.imap4 import PLAINCredentials
from twisted.mail.smtp import LOGINCredentials

from mailproxy.crypto import same
from mailproxy.errors import BadCommand

_MECHANISMS: dict[bytes, Any] = {b"PLAIN": PLAINCredentials, b"LOGIN": LOGINCredentials}


class Exchange:
    """
    The challenges and responses of one try.

    :param mechanism: its name, in any case.
    :raises BadCommand: no such mechanism.
    """

    def __init__(self, mechanism: bytes) -> None:
        make = _MECHANISMS.get(mechanism.upper())
        if make is None:
            raise BadCommand(504, b"5.5.4 Unknown mechanism")
        self._credentials = make()

    def challenge(self) -> bytes:
        """The next challenge, in base64."""
        return b64encode(self._credentials.getChallenge())

    def respond(self, line: bytes) -> bool:
        """
        Take the client's response to the last challenge.

        :return: whether there is another challenge.
        :raises BadCommand: it is malformed, or cancels (``*`` is not base64 either).
        """
        try:
            self._credentials.setResponse(b64decode(line, validate=True))
        except (NotBase64, IllegalClientResponse):
            raise BadCommand(501, b"5.5.2 Authentication cancelled") from None
        return bool(self._credentials.moreChallenges())

    def said(self) -> tuple[str, str]:
        """The user and the password that the responses were; what is not UTF-8 fits nobody."""
        given = self._credentials
        return given.username.decode("utf-8", "replace"), given.password.decode("utf-8", "replace")

    def proves(self, user: str, password: str) -> bool:
        """Whether the responses were *user* and *password*."""
        said = self.said()
        return all([same(said[0], user), same(said[1], password)])
