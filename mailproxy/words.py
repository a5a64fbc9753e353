"""
Encoded words (RFC 2047): text outside ASCII in a header, written and read.

Pure. Writes UTF-8 only; reads whatever charset Python has. Where the words may stand, and how the
lines around them fold, is :mod:`mailproxy.headers`.
"""

from __future__ import annotations

import binascii
import re

#: The longest encoded word (RFC 2047, section 2).
MAX_WORD = 75

#: The least room an encoded word is given: one four-byte character in Q takes 24.
MIN_ROOM = 24

_B = "=?utf-8?b?"
_Q = "=?utf-8?q?"
_OVERHEAD = len(_B) + 2

# What Q leaves as it is. The narrow set of RFC 2047, section 5 (3), good in a phrase as well.
_SAFE = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!*+-/ "
_Q_BYTE = [chr(byte) if byte in _SAFE else f"={byte:02X}" for byte in range(256)]
_Q_BYTE[0x20] = "_"

_WORD = re.compile(
    r"=\?(?P<charset>[A-Za-z0-9][A-Za-z0-9_.:+-]*)(?:\*[A-Za-z0-9-]*)?"
    r"\?(?P<encoding>[bBqQ])\?(?P<payload>[!->@-~]*)\?="
)


def encode_words(text: str, room: int = MAX_WORD) -> list[str]:
    """
    Write *text* as encoded words, to be separated by folding white space.

    No character is split between two words. The shorter of B and Q is taken.

    :param text: not empty, without lone surrogates.
    :param room: characters the first word may take; the others take :data:`MAX_WORD`.
    """
    data = text.encode("utf-8")
    unsafe = len(data.translate(None, _SAFE))
    room = max(MIN_ROOM, min(room, MAX_WORD))
    if len(data) + 2 * unsafe <= (len(data) + 2) // 3 * 4:
        return _quoted_words(text, room)
    return _base64_words(data, room)


def _base64_words(data: bytes, room: int) -> list[str]:
    words = []
    start = 0
    while start < len(data):
        end = min(start + (room - _OVERHEAD) // 4 * 3, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        payload = binascii.b2a_base64(data[start:end], newline=False)
        words.append(f"{_B}{payload.decode('ascii')}?=")
        start, room = end, MAX_WORD
    return words


def _quoted_words(text: str, room: int) -> list[str]:
    words = []
    line = ""
    for character in text:
        piece = "".join(map(_Q_BYTE.__getitem__, character.encode("utf-8")))
        if len(line) + len(piece) > room - _OVERHEAD:
            words.append(f"{_Q}{line}?=")
            line, room = "", MAX_WORD
        line += piece
    words.append(f"{_Q}{line}?=")
    return words


def decode_words(text: str) -> str:
    """
    Replace the encoded words in *text* by what they say.

    Spaces between two encoded words vanish, and a character may be split between them if both have
    the same charset. A word that says nothing sensible (unknown charset, broken base64) stays as
    it is written.
    """
    out: list[str] = []
    run: list[tuple[str, bytes, str]] = []
    end = 0
    for match in _WORD.finditer(text):
        gap = text[end : match.start()]
        if gap.strip(" ") or not run:
            out += (_decode_run(run), gap)
            run = []
        charset = match["charset"].lower()
        payload = _payload(match["encoding"], match["payload"])
        if payload is None:
            out += (_decode_run(run), match[0])
            run = []
        else:
            run.append((charset, payload, match[0]))
        end = match.end()
    out += (_decode_run(run), text[end:])
    return "".join(out)


def _payload(encoding: str, payload: str) -> bytes | None:
    if encoding in "qQ":
        return binascii.a2b_qp(payload, header=True)
    try:
        return binascii.a2b_base64(payload + "=" * (-len(payload) % 4))
    except binascii.Error:
        return None


def _decode_run(run: list[tuple[str, bytes, str]]) -> str:
    """Decode words that follow each other, joining the bytes of those in one charset."""
    out = []
    start = 0
    for index in range(1, len(run) + 1):
        if index == len(run) or run[index][0] != run[start][0]:
            group = run[start:index]
            try:
                out.append(b"".join(data for _, data, _ in group).decode(run[start][0]))
            except (LookupError, ValueError):
                out.append(" ".join(source for _, _, source in group))
            start = index
    return "".join(out)
