"""
The one address parser: what it returns is what the policy looks at, the header shows and RCPT says.

It is strict (RFC 5321 and 6531 for the address, RFC 5322 for what stands around it), reads from
left to right without recursion, and refuses what two readers could understand differently: group
syntax, source routes, white space or comments inside an address, control characters anywhere.
Comments around an address are dropped. Pure.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from functools import lru_cache

import idna
from email_validator import EmailNotValidError, validate_email

from mailproxy.errors import BadAddress
from mailproxy.model import Mailbox
from mailproxy.words import decode_words

#: Octets of a local part (RFC 5321, section 4.5.3.1.1).
MAX_LOCAL = 64

#: Octets of ``local@domain``: a path of 256 less its angle brackets (section 4.5.3.1.3).
MAX_ADDR = 254

#: Characters of one address with its display name and comments.
MAX_TEXT = 1000

#: Addresses in one list.
MAX_MAILBOXES = 10_000

#: How deep comments may nest.
MAX_DEPTH = 8

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
_DOT_ATOM = rf"[{_ATEXT}]+(?:\.[{_ATEXT}]+)*"
_LABEL = r"[A-Za-z0-9]+(?:-+[A-Za-z0-9]+)*"
_SPECIAL = r' ()<>@,:;\\"\[\]'
_QUOTED = r'"[^"\\]*+(?:\\.[^"\\]*+)*+"'

# One hyphen at a time: a domain with "--" in it may be an A-label and takes the long way.
_COMMON = re.compile(rf"({_DOT_ATOM})@([A-Za-z0-9]+(?:[.-][A-Za-z0-9]+)*)")
_LOCAL = re.compile(_DOT_ATOM)
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_ADDR = (
    rf"(?P<local>{_QUOTED}|[^{_SPECIAL}]++)@"
    rf"(?P<domain>\[[^\[\]\\\"<>@,; ]*+\]|[^{_SPECIAL}]++)"
)
_BARE = re.compile(_ADDR)
_ANGLE = re.compile(rf"< *{_ADDR} *>")
_WORD = re.compile(rf"{_QUOTED}|[^{_SPECIAL}]++")
_PHRASE = re.compile(rf"[^{_SPECIAL}]+(?: [^{_SPECIAL}]+)*")
_IN_COMMENT = re.compile(r"[^()\\]*+(?:\\.[^()\\]*+)*+")
_PAIR = re.compile(r"\\(.)")
_SPACES = re.compile(r"  +")
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_WHY = {
    ":": "group syntax is not accepted",
    ";": "group syntax is not accepted",
    "@": "an @ stands where none belongs",
    ",": "a comma stands where none belongs",
    '"': "a quotation mark is not closed",
    ">": "a > without its <",
    ")": "a ) without its (",
}


def parse_mailbox(text: str) -> Mailbox:
    """
    Read exactly one address, with or without a display name.

    The domain comes out in lower case with A-labels; the local part as written, without quotes it
    does not need. A local part outside ASCII is a legal value (RFC 6531): whoever sends decides.

    :raises BadAddress: *text* is anything else; the reason does not repeat it.
    """
    match = _COMMON.fullmatch(text)
    if match is not None:
        local, domain = match.groups()
        if len(local) <= MAX_LOCAL and len(domain) < 64:
            return Mailbox("", local, domain.lower())
    return parse_mailbox_slowly(text)


@lru_cache(maxsize=512)
def parse_mailbox_slowly(text: str) -> Mailbox:
    """What :func:`parse_mailbox` does, without its short cut for the common case."""
    _check_characters(text)
    mailbox, end = _read(text, 0)
    if end != len(text):
        raise BadAddress(_WHY.get(text[end], "something follows the address"))
    return mailbox


def parse_mailboxes(value: str | Sequence[str]) -> tuple[Mailbox, ...]:
    """
    Read a list of addresses, or one string that separates them by commas.

    Commas in quotes and comments separate nothing; empty places between commas are passed over.

    :raises BadAddress: for the first address that :func:`parse_mailbox` would refuse, and for more
        than :data:`MAX_MAILBOXES`.
    """
    if not isinstance(value, str):
        if len(value) > MAX_MAILBOXES:
            raise BadAddress(f"more than {MAX_MAILBOXES} addresses")
        return tuple(map(parse_mailbox, value))
    if "," not in value:
        return (parse_mailbox(value),) if value.strip(" ") else ()
    _check_characters(value)
    found: list[Mailbox] = []
    position = _skip(value, 0)
    while position < len(value):
        if value[position] != ",":
            if len(found) == MAX_MAILBOXES:
                raise BadAddress(f"more than {MAX_MAILBOXES} addresses")
            mailbox, position = _read(value, position)
            found.append(mailbox)
            if position < len(value) and value[position] != ",":
                raise BadAddress(_WHY.get(value[position], "a comma is missing"))
        position = _skip(value, position + 1)
    return tuple(found)


def envelope_address(text: str) -> str:
    """
    Read a return path: a bare address, in angle brackets or not; ``""`` or ``<>`` for none.

    :return: ``local@domain`` as it goes into MAIL FROM, "" for the null sender.
    :raises BadAddress: it is neither, or it has a display name.
    """
    text = text.strip(" ")
    if text in ("", "<>"):
        return ""
    mailbox = parse_mailbox(text)
    if mailbox.display:
        raise BadAddress("a display name has no place in an envelope")
    return mailbox.addr


def format_mailbox(mailbox: Mailbox) -> str:
    """For people and JSON: ``Name <local@domain>``; :func:`parse_mailbox` gives it back."""
    display = mailbox.display
    if not display:
        return mailbox.addr
    if "=?" in display or not _PHRASE.fullmatch(display):
        display = '"' + display.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return f"{display} <{mailbox.addr}>"


def _check_characters(text: str) -> None:
    if _FORBIDDEN.search(text):
        raise BadAddress("a control character")


def _read(text: str, start: int) -> tuple[Mailbox, int]:
    """The address at *start*, and where what follows it begins."""
    position = _skip(text, start)
    match = _BARE.match(text, position)
    words: list[str] = []
    while match is None:
        if position == len(text):
            raise BadAddress("no address in angle brackets" if words else "empty")
        if text[position] == "<":
            match = _ANGLE.match(text, position)
            if match is None:
                raise BadAddress("what stands in angle brackets is not an address")
            break
        word = _WORD.match(text, position)
        if word is None:
            raise BadAddress(_WHY.get(text[position], "an unexpected character"))
        words.append(word[0])
        position = _skip(text, word.end())
    end = _skip(text, match.end())
    if end - start > MAX_TEXT:
        raise BadAddress(f"longer than {MAX_TEXT} characters")
    display = _display(words) if words else ""
    return _mailbox(display, match["local"], match["domain"]), end


def _skip(text: str, position: int) -> int:
    """The first position from *position* that is neither a space nor in a comment."""
    depth = 0
    length = len(text)
    while position < length:
        character = text[position]
        if character == "(":
            depth += 1
            if depth > MAX_DEPTH:
                raise BadAddress("comments nest too deep")
        elif character == ")" and depth:
            depth -= 1
        elif depth:
            end = _IN_COMMENT.match(text, position)
            if end is None or end.end() == position:
                break
            position = end.end()
            continue
        elif character != " ":
            return position
        position += 1
    if depth:
        raise BadAddress("a comment is not closed")
    return position


def _display(words: list[str]) -> str:
    """The display name: atoms with their encoded words decoded, quoted strings as they are."""
    parts: list[str] = []
    atoms: list[str] = []
    for word in words:
        if word[0] == '"':
            if atoms:
                parts.append(decode_words(" ".join(atoms)))
                atoms = []
            parts.append(_PAIR.sub(r"\1", word[1:-1]))
        else:
            atoms.append(word)
    if atoms:
        parts.append(decode_words(" ".join(atoms)))
    display = _SPACES.sub(" ", " ".join(parts)).strip(" ")
    _check_characters(display)
    return display


def _mailbox(display: str, local: str, domain: str) -> Mailbox:
    mailbox = Mailbox(display, _local(local), _domain(domain))
    if len(mailbox.addr.encode("utf-8")) > MAX_ADDR:
        raise BadAddress(f"the address is longer than {MAX_ADDR} octets")
    return mailbox


def _local(text: str) -> str:
    """The local part in its canonical form: quoted only where it has to be."""
    plain = _PAIR.sub(r"\1", text[1:-1]) if text[0] == '"' else text
    if not plain:
        raise BadAddress("the local part is empty")
    quoted = '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if plain.isascii():
        if _LOCAL.fullmatch(plain):
            quoted = plain
        elif text[0] != '"':
            raise BadAddress("the local part is not a dot-atom, and not quoted")
    else:
        try:
            checked = validate_email(
                (quoted if text[0] == '"' else plain) + "@example.org",
                allow_smtputf8=True,
                allow_quoted_local=True,
                check_deliverability=False,
            )
        except EmailNotValidError:
            raise BadAddress("the local part is not one that RFC 6531 allows") from None
        if not checked.normalized.startswith('"'):
            quoted = plain
    if len(quoted.encode("utf-8")) > MAX_LOCAL:
        raise BadAddress(f"the local part is longer than {MAX_LOCAL} octets")
    return quoted


@lru_cache(maxsize=4096)
def _domain(text: str) -> str:
    """The domain in lower case as A-labels, or the address literal in its canonical form."""
    if text[0] == "[":
        return _literal(text[1:-1])
    if len(text) > MAX_ADDR:
        raise BadAddress(f"the address is longer than {MAX_ADDR} octets")
    try:
        # A character that the mapping drops would be seen by one reader and not by another.
        dropped = not all(idna.uts46_remap(character) for character in text)
        domain = idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except UnicodeError:  # the base of every error of idna
        raise BadAddress("the domain is not a host name") from None
    if dropped or not _HOST.fullmatch(domain):
        raise BadAddress("the domain is not a host name")
    return domain


def _literal(text: str) -> str:
    """RFC 5321, section 4.1.3; a general-address-literal has no registered tag but IPv6."""
    try:
        if text[:5].lower() == "ipv6:" and "%" not in text:
            return f"[IPv6:{ipaddress.IPv6Address(text[5:])}]"
        return f"[{ipaddress.IPv4Address(text)}]"
    except ValueError:
        raise BadAddress("the address literal is not an IP address") from None
