"""Overrides of a space file as shells hand them on: whole, or in pieces where a space was not quoted."""

from __future__ import annotations

from collections.abc import Sequence

_CLOSES = {"[": "]", "{": "}"}


def joined_override(first: str, rest: Sequence[str]) -> tuple[str, list[str]] | None:
    """Join the words that were meant as one PATH=VALUE; also return the words that are left.

    ``first`` follows --set, ``rest`` are the words behind it. None where the first word needs none of them.
    """
    words, left = first, list(rest)
    if not left:
        return None
    if "=" not in words and left[0] in ("=", ":"):
        words, left = f"{words}=", left[1:]
    elif "=" not in words:
        separator = "" if left[0].startswith("=") else "="
        words, left = f"{words.rstrip(':')}{separator}{left[0]}", left[1:]
    if words.endswith("=") and left:
        words, left = words + left[0], left[1:]
    while left and _is_open(words):
        words, left = f"{words} {left[0]}", left[1:]
    if words == first and left and "=" in left[0] and not left[0].startswith("-"):
        return first, ["--set", *left]
    return None if words == first else (words, left)


def _is_open(text: str) -> bool:
    return any(text.count(opening) > text.count(closing) for opening, closing in _CLOSES.items())
