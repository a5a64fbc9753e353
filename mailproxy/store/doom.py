"""
How open mail ends whose account or tenant was deleted, or that an operator cancelled.

What is on its way at that moment comes to its own outcome; what that leaves open ends in this way.
"""

from __future__ import annotations

import attrs

from mailproxy.acts import CANCELLED
from mailproxy.states import EventKind, RecipientState
from mailproxy.store.schema import ACCOUNT_DELETED, LANE_CANCELLED, TENANT_DELETED


@attrs.frozen
class Doom:
    """What becomes of a recipient that is open, and what is said of it."""

    state: RecipientState
    kind: EventKind
    reason: str


OF_ACCOUNT = Doom(RecipientState.FAILED, EventKind.FAILED, "account deleted")
OF_OPERATOR = Doom(RecipientState.CANCELLED, EventKind.CANCELLED, CANCELLED)
OVERDUE = Doom(RecipientState.EXPIRED, EventKind.EXPIRED, "its expires_at has passed")
OF_TENANT = Doom(RecipientState.CANCELLED, EventKind.CANCELLED, "tenant deleted")


def doom(blocked: int) -> Doom | None:
    """By the flags of a lane; None where nothing was deleted or cancelled."""
    if blocked & LANE_CANCELLED:
        return OF_OPERATOR
    if blocked & ACCOUNT_DELETED:
        return OF_ACCOUNT
    return OF_TENANT if blocked & TENANT_DELETED else None
