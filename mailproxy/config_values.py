"""
The kinds of values a setting may have: how each is read from text, and how it is described.

A kind's ``read`` takes the text as it was given, stripped, never empty, and raises ``ValueError``
with a problem that fits behind the variable's name. The text itself is quoted only by
:func:`shown`, and not at all by kinds that may carry a secret.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import attrs

from mailproxy.config_database import DatabaseUrl, database_url
from mailproxy.crypto import Sealer
from mailproxy.reply_rules import Rule, read_rules

_DOMAIN = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)"
    r"(?:\.[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*\Z"
)

_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})


class Kind(Protocol):
    """One kind of value."""

    @property
    def says(self) -> str:
        """What the documentation says of it: a few words."""

    def read(self, text: str, base: Path) -> Any:
        """
        The value that *text* stands for.

        :param base: the directory that relative paths start from.
        :raises ValueError: the problem, to be printed behind the variable's name.
        """


def shown(text: str, limit: int = 60) -> str:
    """*text* as a message may quote it: short, in quotes, nothing in it but printable ASCII."""
    return ascii(text if len(text) <= limit else text[: limit - 3] + "...")


@attrs.frozen
class Whole:
    """A whole number from *low* to *high*."""

    low: int
    high: int

    @property
    def says(self) -> str:
        return f"whole number, {self.low} to {self.high}"

    def read(self, text: str, base: Path) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,19}", text):
            raise ValueError(f"{shown(text)} is not a whole number")
        number = int(text)
        if not self.low <= number <= self.high:
            raise ValueError(f"{number} is not within {self.low} to {self.high}")
        return number


@attrs.frozen
class Port:
    """A port, or 0 for any free one."""

    says: str = "whole number, 0 to 65535"

    def read(self, text: str, base: Path) -> int:
        if re.fullmatch(r"(tcp|udp|sctp)://\S+", text):
            raise ValueError(
                f"{shown(text)} is not a port; Kubernetes sets it for a Service of that name: "
                "call that another, or set enableServiceLinks: false"
            )
        return Whole(0, 65535).read(text, base)


@attrs.frozen
class Seconds:
    """A duration from *low* to *high* seconds; fractions are allowed."""

    low: float
    high: float

    @property
    def says(self) -> str:
        return f"seconds, {self.low:g} to {self.high:.0f}"

    def read(self, text: str, base: Path) -> float:
        try:
            number = float(text) if "_" not in text else math.nan
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise ValueError(f"{shown(text)} is not a number of seconds")
        if not self.low <= number <= self.high:
            raise ValueError(f"{number:g} is not within {self.low:g} to {self.high:.0f} seconds")
        return number


@attrs.frozen
class Delays:
    """A comma-separated list of durations, each as :class:`Seconds` allows."""

    each: Seconds

    @property
    def says(self) -> str:
        return f"list of {self.each.says}"

    def read(self, text: str, base: Path) -> tuple[float, ...]:
        return tuple(self.each.read(part.strip(), base) for part in text.split(","))


@attrs.frozen
class Switch:
    says: str = "boolean (1, true, yes, on or 0, false, no, off)"

    def read(self, text: str, base: Path) -> bool:
        word = text.lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise ValueError(f"{shown(text)} is neither true nor false")


@attrs.frozen
class Word:
    """One of a few words, in any case; kept as it stands in *words*."""

    words: Sequence[str]

    @property
    def says(self) -> str:
        return f"one of {', '.join(self.words)}"

    def read(self, text: str, base: Path) -> str:
        for word in self.words:
            if text.lower() == word.lower():
                return word
        raise ValueError(f"{shown(text)} is not {self.says}")


@attrs.frozen
class Directory:
    """A path; relative ones start where the service is started."""

    says: str = "directory"

    def read(self, text: str, base: Path) -> Path:
        return _path(text, base)


@attrs.frozen
class ReplyRules:
    """A file of rules for replies."""

    says: str = "path of a TOML file"

    def read(self, text: str, base: Path) -> tuple[Rule, ...]:
        path = _path(text, base)
        try:
            return read_rules(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "not UTF-8"
            raise ValueError(f"cannot read {shown(str(path), 200)}: {why}") from None


@attrs.frozen
class File:
    """A file that can be read."""

    says: str = "path of a file"

    def read(self, text: str, base: Path) -> Path:
        path = _path(text, base)
        try:
            with path.open("rb") as file:
                file.read(1)
        except OSError as error:
            name = shown(str(path), 200)
            raise ValueError(f"cannot read {name}: {error.strerror}") from None
        return path


@attrs.frozen
class DatabasePath:
    """The file of an SQLite database, or the URL of one on a PostgreSQL server."""

    says: str = "path of a file, or postgresql://"

    def read(self, text: str, base: Path) -> Path | DatabaseUrl:
        scheme = re.match(r"([a-z][a-z0-9+]*):", text, re.IGNORECASE)
        if scheme and scheme[1].lower() in ("postgresql", "postgres"):
            return database_url(text)
        if scheme or text.startswith(":"):
            raise ValueError("the path of an SQLite file or a postgresql:// URL is needed here")
        path = _path(text, base)
        if text.endswith("/") or path.is_dir():
            raise ValueError(f"{shown(text)} is a directory; the path of a file is needed")
        return path


@attrs.frozen
class Certificates:
    """A file with certificates in PEM form; it is read when the service starts."""

    says: str = "path of a PEM file"

    def read(self, text: str, base: Path) -> Path:
        from cryptography.x509 import load_pem_x509_certificates

        path = _path(text, base)
        name = shown(str(path), 200)
        try:
            load_pem_x509_certificates(path.read_bytes())
        except OSError as error:
            raise ValueError(f"cannot read {name}: {error.strerror}") from None
        except ValueError:
            raise ValueError(f"{name} holds no certificate in PEM form") from None
        return path


@attrs.frozen
class Host:
    """An address to listen on, or a name that stands for one."""

    says: str = "IP address or host name"

    def read(self, text: str, base: Path) -> str:
        bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
        try:
            return str(ipaddress.ip_address(bare))
        except ValueError:
            if _DOMAIN.match(text):
                return text
            raise ValueError(f"{shown(text)} is neither an address nor a name") from None


@attrs.frozen
class Networks:
    """A comma-separated list of addresses and CIDR blocks, each kept as a block."""

    says: str = "list of IP addresses and CIDR blocks"

    def read(self, text: str, base: Path) -> tuple[str, ...]:
        found = []
        for part in map(str.strip, text.split(",")):
            try:
                found.append(str(ipaddress.ip_network(part, strict=False)))
            except ValueError:
                raise ValueError(f"{shown(part)} is neither an address nor a CIDR block") from None
        return tuple(found)


@attrs.frozen
class HeloName:
    """What we call ourselves in EHLO (RFC 5321, section 4.1.1.1): a domain or address literal."""

    says: str = "domain or address literal"

    def read(self, text: str, base: Path) -> str:
        if text.startswith("[") and text.endswith("]"):
            inner = text[1:-1].removeprefix("IPv6:")
            try:
                version = ipaddress.ip_address(inner).version
            except ValueError:
                raise ValueError(f"{shown(text)} is not an address literal") from None
            return f"[IPv6:{inner}]" if version == 6 else f"[{inner}]"
        if not _DOMAIN.match(text):
            raise ValueError(f"{shown(text)} is not a domain name")
        return text


@attrs.frozen
class Listen:
    """Endpoint strings between white space; whether each is one, Twisted's parser decides."""

    says: str = "endpoint descriptions, separated by spaces (tcp:, unix:, ssl:, systemd:, haproxy:)"

    def read(self, text: str, base: Path) -> tuple[str, ...]:
        parts = tuple(text.split())
        for part in parts:
            check_endpoint(part)
        return parts


def check_endpoint(text: str) -> None:
    """:raises ValueError: *text* is no endpoint string."""
    from twisted.internet.endpoints import serverFromString

    try:
        serverFromString(None, text)
    except LookupError:  # of the sockets that systemd passes
        raise ValueError(f"{shown(text)}: no such socket was passed on at the start") from None
    except Exception as error:  # the parsers of each kind raise what they like
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"not an endpoint description: {shown(reason)}") from None


@attrs.frozen
class Url:
    """An http or https URL; never quoted, since it may have come with credentials in it."""

    says: str = "URL, http or https"

    def read(self, text: str, base: Path) -> str:
        if not text.isprintable() or " " in text or not text.isascii():
            raise ValueError("has a character that does not belong into a URL")
        try:
            parts = urlsplit(text)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError("is not a URL: look at host and port") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("is not an http:// or https:// URL")
        if "@" in parts.netloc:
            raise ValueError("has credentials in it; they have variables of their own")
        if parts.fragment:
            raise ValueError("has a fragment (#...), which is never sent")
        return text


@attrs.frozen
class Credential:
    """A user, password or token; never quoted."""

    says: str = "text"

    def read(self, text: str, base: Path) -> str:
        if not text.isprintable():
            raise ValueError("has a character that is not printable")
        return text


@attrs.frozen
class Token:
    """What stands in an HTTP header as a token: printable ASCII without spaces; never quoted."""

    says: str = "token, printable ASCII without spaces"

    def read(self, text: str, base: Path) -> str:
        if not re.fullmatch(r"[!-~]+", text):
            raise ValueError("has a character that cannot stand in a token")
        return text


@attrs.frozen
class Keys:
    """Encryption keys, the first of which seals, and all open. Never quoted."""

    says: str = "32 bytes in URL-safe base64; to change keys several, commas or spaces between them"

    def read(self, text: str, base: Path) -> tuple[str, ...]:
        keys = tuple(re.split(r"\s*,\s*|\s+", text.strip()))
        Sealer(keys)
        return keys


def _path(text: str, base: Path) -> Path:
    if not text.isprintable():
        raise ValueError(f"{shown(text)} is not a path")
    return base / text
