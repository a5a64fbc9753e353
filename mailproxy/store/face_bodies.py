"""Large bodies, written ahead of the message that they belong to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mailproxy.store import intake
from mailproxy.store.elements import pieces
from mailproxy.store.face import Face
from mailproxy.store.options import StoreOptions


class BodiesFace(Face):
    if TYPE_CHECKING:
        _options: StoreOptions

    async def _written(self, parts: Mapping[int, bytes], now: float, ends: float | None) -> int:
        """
        Write *parts* piece by piece, each in a work of its own, so that they stall nobody.

        :param ends: until when, on the clock; None to wait as long as it takes.
        :return: the body they make; it is removed after a while if no message comes for it.
        """
        body = 0
        for part, data in parts.items():
            for n, piece in pieces(data, self._options.chunk_bytes):
                call = intake.Piece(body, part, n, piece, now)
                left = None if ends is None else ends - self._clock.seconds()
                body = await self._write(intake.PIECE, call, left)
        return body
