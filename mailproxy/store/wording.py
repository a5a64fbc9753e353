"""What an application is told of a message, as text and as the JSON beside an event. Pure."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mailproxy.model import Record
from mailproxy.states import RecipientState

#: The reply of a test's recipients.
TESTED = "test: not sent"


class Told(msgspec.Struct, frozen=True, omit_defaults=True):
    """
    What a report's item says beside the message's rows.

    Of a message that its own account sent there is nothing to say; ``None`` stands for it.

    :param test: it was a test, and counts as sent.
    :param through: the account that carried the attempt, where that is another.
    """

    error: str | None = None
    deferred_ts: float | None = None
    deferred_reason: str | None = None
    uncertain: bool = False
    test: bool = False
    through: str = ""


class _Announced(msgspec.Struct):
    """The *data* of a record that says when the next attempt is."""

    next_at: float | None = None


_announced = msgspec.json.Decoder(_Announced).decode
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Told).decode


def dump(told: Told) -> bytes:
    return _encode(told)


def load(report: bytes | None) -> Told:
    return Told() if report is None else _decode(report)


def announced(record: Record) -> float | None:
    """
    The next attempt, of a message that none was begun for.

    Where its account is parked it stays due, so that it goes with the first probe; when that is
    stands in the record's *data*.
    """
    try:
        said = _announced(record.data).next_at
    except msgspec.MsgspecError:
        said = None
    return record.next_at if said is None else said


class Said(msgspec.Struct):
    """One recipient and what the upstream said of it."""

    address: str
    state: str
    code: int | None
    reply: str

    @property
    def line(self) -> str:
        """The reply with its code, which may already stand in it."""
        if self.code is None or self.reply.startswith(str(self.code)):
            return self.reply
        return f"{self.code} {self.reply}" if self.reply else str(self.code)


def error(reason: str, recipients: Sequence[Said]) -> str:
    """
    Why not every recipient got the message: each refused one with its reply, and who accepted.

    A reason that is not a reply (*account deleted*, a failed attachment) comes first, and alone
    where it is the whole truth.
    """
    sent = [said.address for said in recipients if said.state == RecipientState.SENT.value]
    refused = [said for said in recipients if said.state != RecipientState.SENT.value]
    replied = [said for said in refused if said.code is not None or said.reply not in ("", reason)]
    parts = []
    if reason and (len(replied) < len(refused) or not _told_by(reason, refused)):
        parts.append(reason)
    if sent or replied:
        parts += [f"{said.address}: {said.line or reason or said.state}" for said in refused]
    elif not reason:
        parts += [f"{said.address}: {said.state}" for said in refused]
    if sent:
        parts.append(f"accepted by {', '.join(sent)}")
    return "; ".join(parts)


def _told_by(reason: str, refused: Sequence[Said]) -> bool:
    """Whether *reason* only repeats what a recipient's own reply says."""
    return any(reason in (said.line, said.reply) for said in refused)
