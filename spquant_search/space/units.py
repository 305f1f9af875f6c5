"""Sizes and counts as people write them, each with the units of its own kind."""

from __future__ import annotations

import re

_THOUSANDS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}
_POWERS_OF_TWO = {"KI": 2**10, "MI": 2**20, "GI": 2**30}


def byte_count(text: str) -> float:
    """Return the bytes that ``64KiB``, ``1.5MB`` or ``1000`` means: K, M, G are thousands, Ki, Mi, Gi are 1024s.

    Raises ValueError, whose message is the rule alone, for anything else.
    """
    return _count(text, r"B?", _THOUSANDS | _POWERS_OF_TWO, "must be bytes, such as 64KiB, 1.5MB or 1000")


def flop_count(text: str) -> float:
    """Return the FLOPs that ``60M``, ``1.5GFLOPs`` or ``60000000`` means; raise ValueError as :func:`byte_count`."""
    return _count(text, r"(?:FLOPs?)?", _THOUSANDS, "must be FLOPs, such as 60M, 1.5GFLOPs or 60000000")


def operation_count(text: str) -> float:
    """Return the operations that ``20M`` or ``20000000`` means; raise ValueError as :func:`byte_count`."""
    return _count(text, r"(?:ops?)?", _THOUSANDS, "must be operations, such as 20M or 20000000")


def microjoule_count(text: str) -> float:
    """Return the microjoules that ``1.5`` or ``1.5uJ`` means; raise ValueError as :func:`byte_count`."""
    return _count(text, r"(?:[u\u00b5\u03bc]J)?", {"": 1}, "must be microjoules, such as 1.5 or 1.5uJ")


def _count(text: str, unit: str, prefixes: dict[str, int], rule: str) -> float:
    match = re.fullmatch(
        rf"([0-9]{{1,15}}(?:\.[0-9]{{1,15}})?)\s*([KMG]i?|)\s*{unit}", text.strip(), flags=re.IGNORECASE
    )
    factor = None if match is None else prefixes.get(match[2].upper())
    if match is None or factor is None:
        raise ValueError(rule)
    return float(match[1]) * factor
