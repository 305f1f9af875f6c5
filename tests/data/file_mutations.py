"""Mutated files: bytes changed, lost, doubled and put in, sizes that promise too much, ends that are cut."""

from __future__ import annotations

import random

_ODD = [
    bytes(8),
    b"\xff" * 8,
    b"\x7f\xff\xff\xff",
    b"\xff\xff\xff\x7f",
    b"\x80",
    b"\0\0\0\x80",
    b"\x00\x10",
    b"\n",
    b"9",
]
_HEAD = 200  # bytes in which headers lie


def mutated(whole: bytes, chance: random.Random) -> bytes:
    """Return a file after one to four mutations, half of them in its first bytes."""
    content = bytearray(whole)
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        end = min(len(content), _HEAD) if chance.random() < 0.5 else len(content)
        at = chance.randrange(end) if end else 0
        _mutate(content, at, chance)
    return bytes(content)


def _mutate(content: bytearray, at: int, chance: random.Random) -> None:
    length = chance.choice((1, 1, 2, 4, 8, 40))
    kind = chance.randrange(8)
    if kind == 0 and at < len(content):
        content[at] ^= 1 << chance.randrange(8)
    elif kind == 1:
        content[at : at + length] = chance.randbytes(length)
    elif kind == 2:
        content[at:at] = chance.randbytes(length)
    elif kind == 3:
        del content[at : at + length]
    elif kind == 4:
        content[at:at] = content[at : at + length]
    elif kind == 5:
        odd = chance.choice(_ODD)
        content[at : at + len(odd)] = odd
    elif kind == 6:
        _change_digits(content, at, chance)
    else:
        del content[at if chance.random() < 0.5 else max(at, len(content) - length) :]


def _change_digits(content: bytearray, at: int, chance: random.Random) -> None:
    """Change the next number that is written in digits: where a header is text, its sizes are."""
    start = next((place for place in range(at, len(content)) if 48 <= content[place] < 58), None)
    if start is not None:
        end = next((place for place in range(start, len(content)) if not 48 <= content[place] < 58), len(content))
        numbers = (b"0", b"-1", b"9" * 5, b"2147483648", b"1" + b"0" * 18, b"9" * 40, b"1.5", b"nan", b"1e9", b"")
        content[start:end] = chance.choice(numbers)
