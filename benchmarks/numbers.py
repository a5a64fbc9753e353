"""How figures are written."""

from __future__ import annotations

import math


def shown(value: float) -> str:
    """A number with three digits that count, and its thousands apart."""
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    rounded = round(value, 2 - math.floor(math.log10(abs(value))))
    return f"{rounded:,.0f}".replace(",", " ") if abs(rounded) >= 1000 else f"{rounded:g}"
