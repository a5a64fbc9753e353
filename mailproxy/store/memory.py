"""
What is remembered of a message that was removed: who accepted it, and who may have.

As hashes in its tombstone, which stays while the id is in use again: it alone knows. Whoever may
have accepted, nobody knowing it, gets no second copy for the message being posted again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import attrs
import msgspec

from mailproxy.acts import DOUBT
from mailproxy.model import NewMessage
from mailproxy.store import statements_intake as sqi
from mailproxy.store.transaction import Transaction

#: Bytes of one recipient's hash in a tombstone.
HASH_BYTES = 16

#: The reply of a recipient that may have accepted before the message was removed.
DOUBTED = f"{DOUBT}not known when it was removed"


@attrs.frozen
class Memory:
    """Addresses of a message that is posted again. :param doubted: who may have accepted it."""

    accepted: frozenset[str] = frozenset()
    doubted: frozenset[str] = frozenset()

    def has(self, address: str) -> bool:
        """Whether *address* has it, or may have it."""
        return address in self.accepted or address in self.doubted


def remembered(tx: Transaction, message: NewMessage) -> Memory:
    """Of the recipients of *message*, whatever came since it was removed."""
    hashes = accepted_before(tx, message.tenant_id, [message.id]).get(message.id, b"")
    addresses = [recipient.address for recipient in message.recipients]
    return of(message.tenant_id, message.id, hashes, addresses)


def of(tenant_id: str, message_id: str, hashes: bytes, addresses: Sequence[str]) -> Memory:
    """What the *hashes* of a tombstone say of *addresses*."""
    known = cut(hashes)
    if not known:
        return Memory()
    key = (tenant_id, message_id)
    return Memory(
        frozenset(a for a in addresses if hashed(*key, a) in known),
        frozenset(a for a in addresses if hashed(*key, a, doubted=True) in known),
    )


def accepted_before(tx: Transaction, tenant_id: str, ids: Sequence[str]) -> dict[str, bytes]:
    """The hashes in the tombstones of *ids*, of those that have one: also while they are back."""
    wanted = msgspec.json.encode(list(ids)).decode()
    return {row[1]: row[3] for row in tx.all(sqi.BURIED_BY_ID, tenant_id, wanted)}


def buried(tenant_id: str, message_id: str, now: Mapping[str, bool | None], before: bytes) -> bytes:
    """
    The hashes for the tombstone of a message that is removed.

    :param now: its recipients: true who accepted, None who may have, false who has not.
    :param before: what an earlier tombstone of the same id knows.
    """
    known = cut(before)
    for address, accepted in now.items():
        known.discard(hashed(tenant_id, message_id, address, doubted=True))
        if accepted is not False:
            known.add(hashed(tenant_id, message_id, address, doubted=accepted is None))
    return b"".join(sorted(known))


def cut(hashes: bytes) -> set[bytes]:
    return {hashes[n : n + HASH_BYTES] for n in range(0, len(hashes), HASH_BYTES)}


def hashed(tenant_id: str, message_id: str, address: str, *, doubted: bool = False) -> bytes:
    """What a tombstone keeps of a recipient that accepted, or that may have."""
    text = "\0".join((tenant_id, message_id, address, *(("uncertain",) if doubted else ())))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()[:HASH_BYTES]
