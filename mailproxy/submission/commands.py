"""
MAIL, RCPT and BDAT as a client of ours says them.

Pure. Addresses are read by the one address parser, so that what is judged is what is sent to. A
path without its angle brackets is taken, as old programs send it; parameters are those of the
extensions that are offered, and any other is refused (RFC 5321, section 4.1.1.11).
"""

from __future__ import annotations

import re

import attrs

from mailproxy.address import parse_mailbox
from mailproxy.errors import BadAddress, BadCommand

_PATH = rb'(?:<(?P<path>(?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>|(?P<bare>[^<>\s]+))'
_MAIL = re.compile(rb"FROM:[ \t]*" + _PATH + rb"(?P<rest>(?:[ \t]+[^ \t]+)*)[ \t]*", re.IGNORECASE)
_RCPT = re.compile(rb"TO:[ \t]*" + _PATH + rb"(?P<rest>(?:[ \t]+[^ \t]+)*)[ \t]*", re.IGNORECASE)

#: ``xtext`` of RFC 3461, section 4.
_XTEXT = re.compile(rb"(?:[!-*,-<>-~]|\+[0-9A-F]{2})*")
_HEX = re.compile(r"\+([0-9A-F]{2})")

#: Characters of an ENVID, and of an ORCPT (RFC 3461, sections 4.4 and 4.2).
_MAX_ENVID, _MAX_ORCPT = 100, 500

_BODIES = frozenset((b"7BIT", b"8BITMIME"))
_NOTIFY = frozenset(("NEVER", "SUCCESS", "FAILURE", "DELAY"))


@attrs.frozen
class Mail:
    """
    What MAIL said.

    :param sender: ``local@domain``, "" for the null sender.
    :param size: the declared size in bytes; 0 if none was.
    :param utf8: SMTPUTF8 was said.
    :param ret: ``FULL`` or ``HDRS``; "" if it was not said. *envid* likewise, decoded.
    """

    sender: str
    size: int = 0
    utf8: bool = False
    ret: str = ""
    envid: str = ""


@attrs.frozen
class Rcpt:
    """
    What RCPT said.

    :param notify: ``("NEVER",)`` or some of SUCCESS, FAILURE, DELAY; empty if it was not said.
    :param orcpt: ``type;address``, decoded; "" if it was not said.
    """

    recipient: str
    notify: tuple[str, ...] = ()
    orcpt: str = ""


def parse_mail(argument: bytes, max_size: int) -> Mail:
    """
    Read what follows ``MAIL``.

    :param max_size: bytes a message may have.
    :raises BadCommand: with the reply to give.
    """
    path, words = _split(_MAIL, argument)
    found: dict[str, bytes] = {}
    for word in words:
        name, equals, value = word.partition(b"=")
        key = name.upper().decode("ascii", "replace")
        if key in found or not _well_formed(key, bool(equals), value):
            raise BadCommand(501, b"5.5.4 A parameter is malformed or said twice")
        found[key] = value
    size = int(found.get("SIZE", b"0"))
    if size > max_size:
        raise BadCommand(552, b"5.3.4 Message too large")
    utf8 = "SMTPUTF8" in found
    return Mail(
        _address(path, utf8, b"5.1.7") if path else "",
        size,
        utf8,
        found.get("RET", b"").upper().decode(),
        _xtext(found.get("ENVID", b"")),
    )


def _well_formed(key: str, equals: bool, value: bytes) -> bool:
    """:raises BadCommand: a parameter that we do not know."""
    if key == "SMTPUTF8":
        return not equals
    if key == "SIZE":
        return value.isdigit() and len(value) <= 20
    if key == "BODY":
        return value.upper() in _BODIES
    if key == "AUTH":
        return bool(value)  # whom it names is not believed (RFC 4954, section 5)
    if key == "RET":
        return value.upper() in (b"FULL", b"HDRS")
    if key == "ENVID":
        return 0 < len(value) <= _MAX_ENVID and _XTEXT.fullmatch(value) is not None
    raise BadCommand(555, b"5.5.4 Unknown parameter")


def parse_rcpt(argument: bytes, utf8: bool = False) -> Rcpt:
    """
    Read what follows ``RCPT``.

    :param utf8: whether MAIL said SMTPUTF8.
    :raises BadCommand: with the reply to give.
    """
    path, words = _split(_RCPT, argument)
    if not path:
        raise BadCommand(501, b"5.1.3 No recipient")
    notify: tuple[str, ...] = ()
    orcpt = ""
    for word in words:
        name, _, value = word.partition(b"=")
        key = name.upper()
        if key == b"NOTIFY" and not notify:
            notify = _notify(value)
        elif key == b"ORCPT" and not orcpt:
            orcpt = _orcpt(value)
        elif key in (b"NOTIFY", b"ORCPT"):
            raise BadCommand(501, b"5.5.4 A parameter is said twice")
        else:
            raise BadCommand(555, b"5.5.4 Unknown parameter")
    return Rcpt(_address(path, utf8, b"5.1.3"), notify, orcpt)


def parse_bdat(argument: bytes) -> tuple[int, bool]:
    """
    Read what follows ``BDAT`` (RFC 3030).

    :return: octets of the chunk, and whether it is the last one.
    :raises BadCommand: with the reply to give.
    """
    words = argument.upper().split()
    if not 1 <= len(words) <= 2 or words[1:] not in ([], [b"LAST"]):
        raise BadCommand(501, b"5.5.4 BDAT takes a size, and perhaps LAST")
    if not words[0].isdigit() or len(words[0]) > 20:
        raise BadCommand(501, b"5.5.4 The size of a chunk is a number")
    return int(words[0]), len(words) == 2


def _notify(value: bytes) -> tuple[str, ...]:
    words = tuple(value.upper().decode("ascii", "replace").split(","))
    alone = "NEVER" not in words or words == ("NEVER",)
    if not set(words) <= _NOTIFY or not alone or len(set(words)) < len(words):
        raise BadCommand(501, b"5.5.4 NOTIFY is NEVER, or some of SUCCESS, FAILURE, DELAY")
    return words


def _orcpt(value: bytes) -> str:
    kind, semicolon, address = value.partition(b";")
    good = kind.isalnum() or kind.replace(b"-", b"").isalnum()
    if not semicolon or not address or not good or len(value) > _MAX_ORCPT:
        raise BadCommand(501, b"5.5.4 ORCPT is a type, a semicolon and an address")
    if not _XTEXT.fullmatch(address):
        raise BadCommand(501, b"5.5.4 ORCPT is not encoded as xtext")
    return f"{kind.decode()};{_xtext(address)}"


def _xtext(value: bytes) -> str:
    return _HEX.sub(lambda match: chr(int(match[1], 16)), value.decode("ascii"))


def _split(pattern: re.Pattern[bytes], argument: bytes) -> tuple[bytes, list[bytes]]:
    match = pattern.fullmatch(argument)
    if match is None:
        raise BadCommand(501, b"5.5.4 Syntax error in arguments")
    path = match["path"] if match["path"] is not None else match["bare"]
    if path[:1] == b"@":  # RFC 5321, appendix C: a source route is to be ignored
        path = path.partition(b":")[2]
        if not path:
            raise BadCommand(501, b"5.1.3 Not an address")
    return path, match["rest"].split()


def _address(path: bytes, utf8: bool, status: bytes) -> str:
    if not utf8 and not path.isascii():
        raise BadCommand(553, b"5.6.7 The address needs SMTPUTF8")
    try:
        mailbox = parse_mailbox(path.decode())
    except UnicodeDecodeError:
        raise BadCommand(501, b"5.6.7 The address is not UTF-8") from None
    except BadAddress as error:
        raise BadCommand(501, b"%b %b" % (status, str(error).encode("ascii", "replace"))) from None
    return mailbox.addr
