"""
URLs that clients name: taken apart once, so that what is judged is what is called. Pure.
"""

from __future__ import annotations

import re
from urllib.parse import quote, urljoin, urlsplit

import attrs

#: The most characters of a URL.
MOST = 8192

_PORTS = {"http": 80, "https": 443}
_UNUSABLE = re.compile(r"[\x00-\x20\x7f-\xa0\\\u2028\u2029]")
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]{0,252}[a-z0-9_.])?|\[[0-9a-f:.]+\]")

#: What may stand in the target of a request as it is; everything else is escaped.
_SAFE = "!#$%&'()*+,-./:;=?@_~[]"


@attrs.frozen
class Url:
    """
    :param host: as ASCII; an IPv6 address is in brackets.
    :param target: path and query, as they stand in a request.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        return self.scheme, self.host, self.port

    @property
    def bare_host(self) -> str:
        """The host as a resolver wants it."""
        return self.host.strip("[]")

    def __str__(self) -> str:
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.target}"

    def join(self, location: str) -> Url:
        """Where a redirect from here leads. :raises ValueError: nowhere we would go."""
        return parse(urljoin(str(self), location.strip()))


def parse(text: str) -> Url:
    """
    :raises ValueError: it is not a URL of HTTP, or one we would not call; the text says why,
        without what stands in it.
    """
    if len(text) > MOST:
        raise ValueError(f"longer than {MOST} characters")
    if _UNUSABLE.search(text):
        raise ValueError("a character that has to be escaped")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in _PORTS:
        raise ValueError("not a URL of http or https")
    if parts.username is not None or parts.password is not None:
        raise ValueError("credentials have no place in a URL")
    if port == 0:
        raise ValueError("not a URL")
    target = quote(parts.path or "/", safe=_SAFE.replace("?", ""))
    if parts.query:
        target += "?" + quote(parts.query, safe=_SAFE)
    return Url(parts.scheme, _ascii_host(parts.netloc), port or _PORTS[parts.scheme], target)


def origin_of(text: str | None) -> tuple[str, str, int] | None:
    """Scheme, host and port of a URL; None if it is none."""
    if text is None:
        return None
    try:
        return parse(text).origin
    except ValueError:
        return None


def _ascii_host(netloc: str) -> str:
    host = netloc.rpartition("]")[0] + "]" if netloc.startswith("[") else netloc.partition(":")[0]
    host = host.lower()
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError("not a host") from None
    if not _HOST.fullmatch(host):
        raise ValueError("not a host")
    return host
