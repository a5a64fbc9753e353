"""
The URL of a database on a server. Pure.
"""

from __future__ import annotations

import re
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs


@attrs.frozen
class DatabaseUrl:
    """
    A database on a PostgreSQL server.

    :param text: ``postgresql://user:password@host:port/database``; never shown as it is.
    """

    text: str = attrs.field(repr=False)

    @property
    def passwords(self) -> tuple[str, ...]:
        """What must not be shown: the password, as it is and as it is written in the URL."""
        parts = urlsplit(self.text)
        given = [value for name, value in parse_qsl(parts.query) if name == "password"]
        given += [parts.password] if parts.password else []
        return tuple(dict.fromkeys(form for each in given for form in (each, unquote(each))))

    def __str__(self) -> str:
        parts = urlsplit(self.text)
        user = f"{parts.username}@" if parts.username else ""
        place = parts.netloc.rpartition("@")[2]
        return f"postgresql://{user}{place}{parts.path}"


def database_url(text: str) -> DatabaseUrl:
    """:raises ValueError: what is wrong with it; nothing of it is repeated."""
    if re.search(r"[\s\x00-\x1f\x7f]", text):
        raise ValueError("a URL has no white space; in a password it is written as %20")
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        # Also a password with one of the characters that end the host.
        raise ValueError(
            "not a URL: is the port a number, and are /, ?, # and @ in the password written as "
            "%2F, %3F, %23 and %40?"
        ) from None
    if port == 0:
        raise ValueError("port 0 is none to connect to")
    if not parts.netloc and not parts.query:
        raise ValueError("the server is missing: postgresql://user:password@host/database")
    if not parts.path.strip("/"):
        raise ValueError("the database is missing: postgresql://user:password@host/database")
    if "/" in parts.path.strip("/"):
        raise ValueError("the name of the database has a slash; in a password it is written as %2F")
    return DatabaseUrl(f"postgresql:{text.partition(':')[2]}")
