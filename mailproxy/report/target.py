"""The URL reports go to, as it is written on the wire."""

from __future__ import annotations

from urllib.parse import quote, unquote, urlsplit

import attrs
import idna

#: What stays as it is in a path or query: reserved characters, and escapes already made.
_SAFE = "/%:@!$&'()*+,;=~-._?"


@attrs.frozen
class Target:
    """
    A parsed URL.

    :param url: what is requested; no user info, no fragment, ASCII.
    :param name: the same without the query: what may stand in a log.
    :param user: of the user info, decoded; None if the URL had none.
    """

    url: str
    name: str
    user: str | None = None
    password: str | None = attrs.field(default=None, repr=False)


def parse_url(text: str) -> Target:
    """:raises ValueError: *text* names no place to POST to; it is not quoted."""
    try:
        parts = urlsplit(text.strip())
        host, port = parts.hostname or "", parts.port
        if not host.isascii():
            host = idna.encode(host, uts46=True).decode("ascii")
    except ValueError:
        raise ValueError("not a URL") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("not a URL that begins with http:// or https:// and names a host")
    if not quote(host, safe="[]:._~-") == host:
        raise ValueError("not a URL: look at the host")
    netloc = f"[{host}]" if ":" in host else host
    if port is not None:
        netloc += f":{port}"
    name = f"{parts.scheme}://{netloc}{quote(parts.path, safe=_SAFE) or '/'}"
    query = quote(parts.query, safe=_SAFE)
    return Target(
        url=f"{name}?{query}" if query else name,
        name=name,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )
