"""Bodies that no message needs any more: small ones go at once, large ones piece by piece."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from mailproxy.store import statements as sql
from mailproxy.store.transaction import Transaction, numbers


def drop_bodies(tx: Transaction, bodies: Sequence[tuple[int, int, int]]) -> None:
    """Remove payloads, and all that :func:`drop_texts` does."""
    tx.tell(sql.DROP_PAYLOADS, numbers(body for body, _, _ in bodies))
    drop_texts(tx, bodies)


def drop_texts(tx: Transaction, bodies: Sequence[tuple[int, int, int]]) -> None:
    """
    Remove text and chunks; the chunks of large bodies are left to upkeep.

    :param bodies: (body_pk, parts, size).
    """
    if not bodies:
        return
    tx.tell(sql.DROP_TEXTS, numbers(body for body, _, _ in bodies))
    for large, group in groupby(
        sorted((size > tx.options.large_body_bytes, body) for body, parts, size in bodies if parts),
        key=itemgetter(0),
    ):
        if large:
            tx.add(sql.ADD_LOOSE, [(body, 0.0) for _, body in group])
        else:
            tx.tell(sql.DROP_CHUNKS, numbers(body for _, body in group))
