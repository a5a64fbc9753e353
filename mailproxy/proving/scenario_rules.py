"""
The rules of a scenario as they are written, made into what is played.

Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import msgspec

from mailproxy.proving.acts import CERTIFICATES, STAGES, THEN, Act, HttpAct
from mailproxy.proving.rules import Rule, Span, When, parse_span
from mailproxy.proving.scenario_fields import Table

ActT = TypeVar("ActT")

#: Octets that ``repeat`` may make of a reply, and ``size`` of a body.
MOST_REPEATED, MOST_BODY = 64 << 20, 4 << 30

_LINE = re.compile(r"[2-5][0-9]{2}(?:[- ][^\r\n]*)?")

#: Keys that make sense at some stages only.
_ONLY_AT = {
    "keep": "end",
    "at_byte": "body",
    "at_percent": "body",
    "read_rate": "body",
    "without": "ehlo",
    "offer": "ehlo",
    "certificate": "starttls",
}


def smtp_rule(table: Table) -> Rule[Act]:
    """
    One ``[[rule]]``.

    :raises BadScenario: with the key that is wrong.
    """
    stages = table.texts("at", STAGES)
    tls = table.flag("tls")
    words = _words(table, ("recipient", "sender", "id", "login", "peer"))
    if tls is not None:
        words["tls"] = (str(tls).lower(),)
    numbers = _spans(table, ("connection", "open", "message", "attempt"))
    when = _when(table, frozenset(stages), words, numbers)
    acts = _acts(table, lambda each: _act(each, stages))
    table.done()
    return Rule(when, acts)


def http_rule(table: Table) -> Rule[HttpAct]:
    """
    One ``[[report]]``, ``[[attachment]]`` or ``[[token]]``.

    :raises BadScenario: with the key that is wrong.
    """
    words = _words(table, ("path", "method", "token", "id"))
    when = _when(table, frozenset(), words, _spans(table, ("call", "attempt", "items")))
    acts = _acts(table, _http_act)
    table.done()
    return Rule(when, acts)


def _words(table: Table, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    read = {name: tuple(each.lower() for each in table.texts(name)) for name in names}
    return {name: patterns for name, patterns in read.items() if patterns}


def _spans(table: Table, names: Sequence[str]) -> dict[str, Span]:
    read = {name: _span(table, name) for name in names}
    return {name: span for name, span in read.items() if span is not None}


def _span(table: Table, name: str) -> Span | None:
    value = table.take(name)
    if value is None:
        return None
    if not isinstance(value, (int, str)) or isinstance(value, bool):
        raise table.wrong(name, "expected a number, or a text like 2-5 or 3-")
    try:
        return parse_span(str(value))
    except ValueError:
        raise table.wrong(
            name, f"{value!r} is no number from 1, and nothing like 2-5 or 3-"
        ) from None


def _when(
    table: Table,
    at: frozenset[str],
    words: Mapping[str, tuple[str, ...]],
    numbers: Mapping[str, Span],
) -> When:
    endless = float("inf")
    return When(
        at=at,
        words=words,
        numbers=numbers,
        since=table.number("since"),
        until=table.number("until", endless),
        within=table.number("within", endless),
        every=table.whole("every", 1) or 1,
        times=table.whole("times", 1) or 0,
        chance=table.number("chance", 1.0, 0.0, 1.0),
    )


def _acts(table: Table, read: Callable[[Table], ActT]) -> tuple[tuple[float, ActT], ...]:
    """The act that stands in the table itself, or those it chooses from."""
    choices = table.take("choose")
    if choices is None:
        return ((1.0, read(table)),)
    if not isinstance(choices, list) or not choices:
        raise table.wrong("choose", "expected a list of tables")
    acts = []
    for fields in choices:
        each = Table(fields, lambda key: table.place("choose"))
        weight = each.number("weight", 1.0)
        acts.append((weight, read(each)))
        each.done()
    if not sum(weight for weight, _ in acts):
        raise table.wrong("choose", "every weight is 0")
    return tuple(acts)


def _act(table: Table, stages: Sequence[str]) -> Act:
    for key, stage in _ONLY_AT.items():
        if table.has(key) and tuple(stages) != (stage,):
            raise table.wrong(key, f'makes sense with at = "{stage}" only')
    if stages == ("body",) and (table.has("reply") or table.has("raw")):
        raise table.wrong(
            "reply" if table.has("reply") else "raw", "a body has no reply of its own"
        )
    lines = _lines(table)
    # RFC 5321, section 3.8: whoever says 421 closes the connection.
    goodbye = "close" if lines is not None and lines.startswith(b"421") else ""
    act = Act(
        lines=lines,
        effect=table.flag("effect"),
        keep=table.flag("keep"),
        delay=table.number("delay"),
        drip=table.number("drip"),
        then=table.text("then", goodbye, THEN),
        linger=table.number("linger"),
        hold=table.number("hold") if table.has("hold") else None,
        at_byte=table.whole("at_byte"),
        at_percent=table.number("at_percent", 0.0, 0.0, 100.0) if table.has("at_percent") else None,
        stall=table.number("stall"),
        read_rate=table.number("read_rate"),
        without=frozenset(each.upper().encode() for each in table.texts("without")),
        offer=tuple(each.encode() for each in table.texts("offer")),
        certificate=table.text("certificate", "", CERTIFICATES),
    )
    if act.linger and not act.then:
        raise table.wrong("linger", "comes before a then, and there is none")
    return act


def _lines(table: Table) -> bytes | None:
    """The reply, from ``reply`` or ``raw`` and ``repeat``."""
    if table.has("reply") and table.has("raw"):
        raise table.wrong("raw", "stands in place of reply; give one of them")
    repeat = table.whole("repeat", 1)
    if table.has("raw"):
        raw = table.text("raw")
        try:
            lines = raw.encode("latin-1")
        except UnicodeEncodeError:
            raise table.wrong("raw", "a character above U+00FF is no octet") from None
        return _repeated(table, lines, repeat or 1)
    texts = table.texts("reply")
    if repeat is not None:
        raise table.wrong("repeat", "repeats raw, and there is none")
    if not texts:
        return None
    for text in texts:
        if not _LINE.fullmatch(text):
            raise table.wrong("reply", f"{text!r} is no line of a reply; raw takes anything")
    if any(text[3:4] != "-" for text in texts[:-1]) or texts[-1][3:4] == "-":
        raise table.wrong("reply", 'every line but the last goes on with "-"; raw takes anything')
    return "".join(f"{text}\r\n" for text in texts).encode()


def _repeated(table: Table, lines: bytes, repeat: int) -> bytes:
    if len(lines) * repeat > MOST_REPEATED:
        raise table.wrong("repeat", f"more than {MOST_REPEATED} octets")
    return lines * repeat


def _http_act(table: Table) -> HttpAct:
    body = _body(table)
    headers = dict(table.strings("headers"))
    redirect = table.text("redirect")
    status = table.whole("status", 100, 999)
    if redirect:
        headers["Location"] = redirect
        status = status or 302
    act = HttpAct(
        status=status or (200 if body is not None else None),
        headers=tuple(headers.items()),
        body=body,
        size=table.whole("size", 0, MOST_BODY) or 0,
        length=table.whole("length"),
        keep=table.flag("keep"),
        delay=table.number("delay"),
        drip=table.number("drip"),
        then=table.text("then", "", THEN),
        at_byte=table.whole("at_byte"),
    )
    for name, value in act.headers:
        if not name.isascii() or any(c in name + value for c in "\r\n\0"):
            raise table.wrong("headers", f"{name!r} is no header field")
    return act


def _body(table: Table) -> bytes | None:
    if table.has("body") and table.has("json"):
        raise table.wrong("json", "stands in place of body; give one of them")
    if table.has("json"):
        return msgspec.json.encode(table.take("json"))
    return table.text("body").encode() if table.has("body") else None
