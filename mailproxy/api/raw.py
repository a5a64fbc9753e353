"""
``POST /v1/messages/raw``: one message as RFC 5322 bytes, its envelope in the query.

It is stored and sent as it came; what is cut and put in front is told in :mod:`mailproxy.raw`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated

from msgspec import Meta

from mailproxy.api import once
from mailproxy.api.answers import Answer, Problem, invalid
from mailproxy.api.call import Call, Need, Route
from mailproxy.api.doc import Doc, Param
from mailproxy.api.elements import Judge
from mailproxy.api.messages import Intake
from mailproxy.api.shapes_messages import AddedOne
from mailproxy.api.verdicts import Refusal, told_one
from mailproxy.api.wire import DsnObject, Element, Rejected
from mailproxy.model import NewMessage

#: Values of ``to`` in one query.
MAX_VALUES = 1000

_DOC = Doc(
    about="Hand one message over as RFC 5322 bytes. It leaves as it came, in lines that end in "
    "CRLF, with the id's field in front and a Date and Message-ID where it has none; Bcc is cut.",
    takes=bytes,
    takes_type="message/rfc822",
    gives=AddedOne,
    query=(
        Param("id", Annotated[str, Meta(max_length=255)], "As in add-messages.", required=True),
        Param("from", str, "The envelope sender; `<>` for none.", required=True),
        Param("to", list[str], "Envelope recipients: repeated, or with commas.", required=True),
        Param("account_id", str, "The account; the default one without it."),
        Param("priority", str, "0 to 3, immediate, high, medium or low."),
        Param("batch_code", Annotated[str, Meta(max_length=64)], "The campaign."),
        Param("deferred_ts", int, "Not before this Unix time."),
        Param("expires_at", int, "Nothing of it is begun from this Unix time on."),
        Param("notify", list[str], "`never`, or some of `success`, `failure`, `delay` (RFC 3461)."),
        Param("ret", str, "What such notifications bring back: `full` or `hdrs`."),
        Param("envid", str, "By which they name the message: up to 100 characters."),
        Param(
            "orcpt",
            list[str],
            "Whom they name in place of each recipient, in the order of `to`: "
            "`rfc822;a@example.org`, or nothing where that is the recipient.",
        ),
        Param("test", bool, "Take it and report it, but do not send it."),
    ),
    headers=(once.HEADER,),
    refuses={400: None, 409: None, 500: None},
)


class RawIntake:
    """Takes finished messages in. :param intake: for what is the same for every message."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake

    def routes(self) -> Iterable[Route]:
        yield Route("POST", "/v1/messages/raw", self.add, Need.SEND, _DOC)

    async def add(self, call: Call) -> Answer:
        judge = self._intake.judge(call)
        element = _envelope(call)
        orcpt = _values(call, "orcpt")

        def read(body: bytes) -> Iterator[NewMessage | Refusal]:
            yield _judged(judge, element, body, orcpt)

        return await self._intake.take(call, read, once.key_of(call, query=True), told_one)


def _envelope(call: Call) -> Element:
    """The envelope in the query, as an element without contents."""
    return Element(
        id=call.query("id"),
        sender=call.query("from"),
        account_id=call.query("account_id"),
        to=_all(call, "to"),
        priority=call.query("priority"),
        deferred_ts=call.query("deferred_ts"),
        expires_at=call.query("expires_at"),
        batch_code=call.query("batch_code"),
        test=call.flag("test"),
        dsn=DsnObject(_all(call, "notify"), call.query("ret"), call.query("envid")),
    )


def _all(call: Call, name: str) -> str | None:
    """All values of a parameter as one list with commas; None if there is none."""
    return ",".join(value for value in _values(call, name) if value) or None


def _values(call: Call, name: str) -> list[str]:
    values = (call.request.args or {}).get(name.encode(), [])
    if len(values) > MAX_VALUES:
        raise invalid([Problem(("query", name), f"more than {MAX_VALUES} values")])
    try:
        return [value.decode("utf-8") for value in values]
    except UnicodeDecodeError:
        raise invalid([Problem(("query", name), "not UTF-8")]) from None


def _judged(
    judge: Judge, element: Element, body: bytes, orcpt: Sequence[str]
) -> NewMessage | Refusal:
    try:
        return judge.judge_raw(element, body, orcpt)
    except Rejected as rejected:
        return Refusal(rejected.id, rejected.reason)
