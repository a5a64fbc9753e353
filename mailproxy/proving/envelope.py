"""
MAIL and RCPT as the sink reads them.

Pure. Strict about what a client of ours must get right: angle brackets, known parameters, a
declared size within the limit, no non-ASCII address without SMTPUTF8.
"""

from __future__ import annotations

import re

import attrs

from mailproxy.errors import BadCommand

#: A path: an address, a quoted local part with anything in it, perhaps a source route, or nothing.
_PATH = rb'<((?:"(?:[^"\\]|\\.)*"|[^<>"\s])*)>'
_MAIL = re.compile(rb"FROM:\s*" + _PATH + rb"((?:\s+[^\s]+)*)\s*", re.IGNORECASE)
_RCPT = re.compile(rb"TO:\s*" + _PATH + rb"((?:\s+[^\s]+)*)\s*", re.IGNORECASE)

#: Longest local part, domain and path: RFC 5321, section 4.5.3.1, in octets.
_MAX_LOCAL, _MAX_DOMAIN = 64, 255


@attrs.frozen
class Sender:
    """
    What MAIL said.

    :param address: without brackets and source route; empty for the null sender.
    :param options: the parameters as they came.
    :param size: the declared size in bytes; 0 if none was.
    """

    address: str
    options: tuple[str, ...] = ()
    size: int = 0
    utf8: bool = False


def parse_mail(argument: bytes, max_size: int) -> Sender:
    """
    Read what follows ``MAIL``.

    :param max_size: bytes a message may have.
    :raises BadCommand: with the reply to give.
    """
    path, words = _split(_MAIL, argument)
    options, size, utf8 = [], 0, False
    for word in words:
        name, _, value = word.upper().partition(b"=")
        if name == b"SIZE" and value.isdigit() and len(value) <= 20:
            size = int(value)
        elif name == b"SMTPUTF8" and not value:
            utf8 = True
        elif not (name == b"BODY" and value in (b"7BIT", b"8BITMIME")) and name != b"AUTH":
            raise BadCommand(555, b"5.5.4 Unknown parameter")
        options.append(word.decode("ascii", "replace"))
    if size > max_size:
        raise BadCommand(552, b"5.3.4 Message too large")
    return Sender(_address(path, utf8) if path else "", tuple(options), size, utf8)


def parse_rcpt(argument: bytes, utf8: bool = False) -> str:
    """
    Read what follows ``RCPT``: the recipient.

    :param utf8: whether MAIL said SMTPUTF8.
    :raises BadCommand: with the reply to give.
    """
    path, words = _split(_RCPT, argument)
    if words:
        raise BadCommand(555, b"5.5.4 Unknown parameter")
    if not path:
        raise BadCommand(501, b"5.1.3 No recipient")
    return _address(path, utf8)


def _split(pattern: re.Pattern[bytes], argument: bytes) -> tuple[bytes, list[bytes]]:
    match = pattern.fullmatch(argument)
    if match is None:
        raise BadCommand(501, b"5.5.4 Syntax error in arguments")
    path, rest = match.groups()
    if path[:1] == b"@":  # RFC 5321, appendix C: a source route is to be ignored
        path = path.partition(b":")[2]
        if not path:
            raise BadCommand(501, b"5.1.3 Not an address")
    return path, rest.split()


def _address(path: bytes, utf8: bool) -> str:
    if not utf8 and not path.isascii():
        raise BadCommand(553, b"5.6.7 Address needs SMTPUTF8")
    local, at, domain = path.rpartition(b"@")
    if not at and path.lower() == b"postmaster":
        return path.decode()
    if not local or not domain:
        raise BadCommand(501, b"5.1.3 Not an address")
    if len(local) > _MAX_LOCAL or len(domain) > _MAX_DOMAIN:
        raise BadCommand(501, b"5.1.3 Address too long")
    try:
        return path.decode()
    except UnicodeDecodeError:
        raise BadCommand(501, b"5.6.7 Address is not UTF-8") from None
