"""
What a sender asks the next servers to report by mail: delivery status notifications (RFC 3461).

Checked where it comes in, kept with the message, and said in MAIL and RCPT to a server that offers
it. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import attrs

#: Octets of an envelope id and of an original recipient (RFC 3461, sections 4.4 and 4.2).
MOST_ENVID, MOST_ORCPT = 100, 500

NEVER = "NEVER"
_NOTIFY = ("SUCCESS", "FAILURE", "DELAY")
_RET = ("FULL", "HDRS")

_printable = re.compile(r"[\x21-\x7e]+").fullmatch
_kind = re.compile(r"[A-Za-z0-9-]+").fullmatch
_encoded = re.compile(rb"[^\x21-\x2a\x2c-\x3c\x3e-\x7e]")


@attrs.frozen
class OfRecipient:
    """
    What is asked for one recipient in place of what holds for all.

    :param orcpt: ``type;address``; "" for the address itself.
    """

    address: str
    notify: tuple[str, ...] = ()
    orcpt: str = ""


@attrs.frozen
class Dsn:
    """
    :param notify: ``("NEVER",)`` or some of SUCCESS, FAILURE, DELAY; empty: as servers usually do.
    :param ret: FULL or HDRS: what of the message a notification brings back; "" for either.
    :param envid: by which notifications name the message; "" for none.
    """

    notify: tuple[str, ...] = ()
    ret: str = ""
    envid: str = ""
    recipients: tuple[OfRecipient, ...] = ()

    def of_mail(self) -> bytes:
        """The parameters of MAIL, each with a space before it."""
        words = b" RET=" + self.ret.encode() if self.ret else b""
        return words + b" ENVID=" + xtext(self.envid) if self.envid else words

    def of_rcpt(self, address: str) -> bytes:
        """The parameters of RCPT; for an address outside ASCII there is no original one."""
        own = next((each for each in self.recipients if each.address == address), None)
        notify = own.notify if own is not None and own.notify else self.notify
        words = b" NOTIFY=" + ",".join(notify).encode() if notify else b""
        orcpt = own.orcpt if own is not None and own.orcpt else f"rfc822;{address}"
        kind, _, original = orcpt.partition(";")
        encoded = xtext(original) if original.isascii() and _kind(kind) else b""
        if words and encoded and len(kind) + len(encoded) < MOST_ORCPT:
            words += b" ORCPT=" + kind.encode() + b";" + encoded
        return words


def read(notify: Any, ret: Any, envid: Any) -> Dsn:
    """
    Check what was asked for.

    :raises ValueError: names what is wrong, without its value.
    """
    return Dsn(_notify(notify), _ret(ret), _envid(envid))


def originals(addresses: Sequence[str], given: Sequence[str]) -> tuple[OfRecipient, ...]:
    """
    Original recipients of *addresses*, in their order, as ``type;address``; "" for the address.

    :raises ValueError: likewise; also where these are not as many.
    """
    if not given:
        return ()
    if len(given) != len(addresses):
        raise ValueError("orcpt: expected as many as recipients, in their order")
    pairs = zip(addresses, map(_original, given), strict=True)
    return tuple(OfRecipient(address, orcpt=orcpt) for address, orcpt in pairs if orcpt)


def _original(value: str) -> str:
    kind, _, address = value.partition(";")
    if not value:
        return ""
    if not _kind(kind) or not _printable(address):
        raise ValueError("orcpt: expected type;address in printable ASCII characters")
    if len(kind) + 1 + len(xtext(address)) > MOST_ORCPT:
        raise ValueError(f"orcpt: longer than {MOST_ORCPT} octets")
    return value


def _notify(value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value if value is not None else []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError("notify: expected a list of words")
    found = tuple(dict.fromkeys(word.strip().upper() for word in words))
    if found == (NEVER,) or set(found) <= set(_NOTIFY):
        return found
    raise ValueError("notify: expected never, or some of success, failure, delay")


def _ret(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or value.strip().upper() not in _RET:
        raise ValueError("ret: expected full or hdrs")
    return value.strip().upper()


def _envid(value: Any) -> str:
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not _printable(value) or len(xtext(value)) > MOST_ENVID:
        raise ValueError(f"envid: expected at most {MOST_ENVID} printable ASCII characters")
    return value


def xtext(text: str) -> bytes:
    """*text* as it stands in a parameter: what has a meaning there as ``+`` and two hex digits."""
    return _encoded.sub(lambda found: b"+%02X" % found[0][0], text.encode("ascii"))
