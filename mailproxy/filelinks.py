"""
Links to large files that this service gives out itself: made when a message is rewritten, and
judged when somebody follows one. The signature is all that opens a file.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence
from urllib.parse import quote

#: Where such links lead, below the service's public URL.
PATH = "/v1/files"


class FileLinks:
    """
    :param keys: secrets; the first signs, all open.
    :raises ValueError: there is none.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ValueError("at least one key is needed")
        self._keys = tuple(hmac.digest(key, b"links to large files", "sha256") for key in keys)

    def number(self, *of: object) -> int:
        """A number that stands for *of*, the same each time, and that nobody guesses; 62 bits."""
        text = "\0".join(map(str, of)).encode("utf-8", "surrogatepass")
        return int.from_bytes(hmac.digest(self._keys[0], text, "sha256")[:8], "big") >> 2

    def link(self, base: str, pk: int, name: str, expires: int) -> str:
        """
        :param base: the service's URL as the world sees it.
        :param name: shown in the link; it opens nothing.
        :param expires: Unix seconds.
        """
        path = f"{base.rstrip('/')}{PATH}/{pk}/{quote(name, safe='')}"
        return f"{path}?expires={expires}&signature={_signature(self._keys[0], pk, expires)}"

    def opens(self, pk: int, expires: int, signature: str, now: float) -> bool:
        """Whether a link to *pk* with this signature is ours and still good."""
        given = signature.encode("utf-8", "surrogatepass")
        good = [
            hmac.compare_digest(_signature(key, pk, expires).encode(), given) for key in self._keys
        ]
        return any(good) and now < expires


def _signature(key: bytes, pk: int, expires: int) -> str:
    return hmac.new(key, f"{pk} {expires}".encode(), hashlib.sha256).hexdigest()
