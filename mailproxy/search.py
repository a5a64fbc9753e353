"""
What is looked for in messages, and whether a message has it. Pure.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from mailproxy import payload
from mailproxy.records import MessageRecord

#: Messages that are looked at in one go.
LOOKED_AT = 1000


@attrs.frozen
class Wanted:
    """
    Each text is found anywhere in what it is looked for in, in upper or lower case; an empty one
    is found in everything.

    :param anywhere: in the id, in a recipient's address, or in the subject.
    :param recipient: in a recipient's address.
    :param subject: in the subject.
    """

    anywhere: str = ""
    recipient: str = ""
    subject: str = ""

    def fits(self, record: MessageRecord) -> bool:
        """Whether *record* is one of those that are wanted."""
        if self == _ALL:
            return True
        addresses = [each.address for each in record.recipients]
        subject = _subject(record) if self.anywhere or self.subject else ""
        return (
            _within(self.anywhere, [record.id, *addresses, subject])
            and _within(self.recipient, addresses)
            and _within(self.subject, [subject])
        )


_ALL = Wanted()


@attrs.frozen
class Found:
    """
    :param records: of the messages that fit, without their texts.
    :param after: the cursor behind which to look further; None: everything was looked at.
    """

    records: Sequence[MessageRecord]
    after: str | None


def select(page: Sequence[MessageRecord], wanted: Wanted, limit: int) -> Found:
    """Those of a *page* that fit, at most *limit*."""
    fitting: list[MessageRecord] = []
    for record in page:
        if wanted.fits(record):
            fitting.append(record)
            if len(fitting) == limit:
                return Found(fitting, record.cursor)
    return Found(fitting, page[-1].cursor if page else None)


def _within(text: str, places: Sequence[str]) -> bool:
    sought = text.casefold()
    return not sought or any(sought in place.casefold() for place in places)


def _subject(record: MessageRecord) -> str:
    """The subject; empty where nothing is kept of it, or it is damaged."""
    try:
        return payload.load(record.payload).subject if record.payload else ""
    except ValueError:
        return ""
