"""
A message that did not reach everybody, with what its sender can be told of it.

Pure: frozen values.
"""

from __future__ import annotations

import attrs

from mailproxy.model import Content
from mailproxy.states import RecipientState
from mailproxy.tenancy import Bounces

#: Bytes of a message that are read for its bounce: a larger one is not returned whole.
MOST_RETURNED = 1024 * 1024

#: Why a bounce is not taken yet.
INACTIVE = "tenant inactive"


@attrs.frozen
class Unreached:
    """One recipient as it ended, with the last that was said of it."""

    address: str
    state: RecipientState
    code: int | None = None
    enhanced: str | None = None
    reply: str = ""


@attrs.frozen
class Undelivered:
    """
    A message that failed or expired.

    :param pk: of the note that stands beside its end.
    :param event_id: UUID of the event that ended it, in hex.
    :param account_id: the account it belongs to; "" if that was deleted.
    :param bounces: what its tenant says of bounces now.
    :param content: None if there is nothing to tell of it: it was sent again, replaced or removed
        since, or is damaged.
    :param data: of a message that came as bytes the first :data:`MOST_RETURNED`, at least its
        header; *whole* says whether they are all.
    :param peer: ``host:port`` of the server that all its attempts went to; "" if there was none,
        or several.
    """

    pk: int
    event_id: str
    tenant_id: str
    bounces: Bounces = attrs.Factory(Bounces)
    id: str = ""
    account_id: str = ""
    message_id: str = ""
    envelope_from: str = ""
    accepted_at: float = 0.0
    ended_at: float = 0.0
    content: Content | None = None
    data: bytes = attrs.field(default=b"", repr=False)
    whole: bool = True
    recipients: tuple[Unreached, ...] = ()
    peer: str = ""
