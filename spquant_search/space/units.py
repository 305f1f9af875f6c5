"""Sizes and counts as people write them."""

from __future__ import annotations

import re

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}


def quantity(text: str) -> float:
    """Return the number that ``64KiB``, ``60M`` or ``1.5MB`` means: K, M, G are thousands, Ki, Mi, Gi are 1024s.

    Raises ValueError, whose message is the rule alone, for anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]i?|)(?:B|FLOPs)?", text.strip(), flags=re.IGNORECASE)
    if match is None:
        raise ValueError("must be a number with a unit such as 64KiB, 60M or 1.5MB")
    return float(match[1]) * _UNITS[match[2].upper()]
