"""Names where not every name will do: those of a network's steps and of its classes in C, and in files of arrays.

A layer may be called anything: `0`, `features.3.conv`, `int`, or as this package calls one of its own steps. A class is
called as a folder.
"""

from __future__ import annotations

import re
import unicodedata

_MOST_LETTERS = 32  # of a name in an identifier: C99 tells apart the first 63 characters of a whole one
_MOST_IN_COMMENT = 120
_MOST_IN_STRING = 1000  # bytes: with four letters each, a line has no more than the 4,095 that C99 promises to take


def identifier(number: int, name: str) -> str:
    """Return an identifier in C for a network's step: its number, then what of its name is ASCII letters and digits.

    The number makes it unique, and, with the prefix, no keyword, macro or function of the engine.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    readable = re.sub("[^0-9A-Za-z]+", "_", ascii_name).strip("_")[:_MOST_LETTERS].rstrip("_")
    return f"step{number}_{readable}" if readable else f"step{number}"


def in_comment(name: str) -> str:
    """Return a name in quotes, in printable ASCII that neither ends a comment in C nor is part of a trigraph."""
    shown = "".join(map(_printable, name[:_MOST_IN_COMMENT]))
    return f'"{shown}"' + ("..." if len(name) > _MOST_IN_COMMENT else "")


def readable(name: str) -> str:
    """Return a name as people read it in a sentence: as it is, or in quotes where it is long or would not print."""
    return name if name.isprintable() and 0 < len(name) <= _MOST_IN_COMMENT else in_comment(name)


def _printable(letter: str) -> str:
    if letter in '"*?':
        return f"\\x{ord(letter):02x}"
    return letter.encode("unicode_escape").decode()


def in_string(text: str) -> str:
    """Return any text as a string of C and C++ whose bytes are its UTF-8; what is longer than 1,000 bytes ends in dots.

    It is of printable ASCII without trigraphs. Octal escapes have three digits, which no digit behind them continues.
    """
    content = text.encode("utf-8", "backslashreplace")
    if len(content) > _MOST_IN_STRING:
        content = content[: _MOST_IN_STRING - 3].decode("utf-8", "ignore").encode() + b"..."
    return '"' + "".join(map(_in_string, content)) + '"'


def _in_string(byte: int) -> str:
    if chr(byte) in '"\\?':
        return f"\\{chr(byte)}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"


def without_comment_marks(text: str) -> str:
    """Return a sentence in printable ASCII that neither begins nor ends a comment in C, nor holds a trigraph."""
    plain = " ".join(text.split()).encode("ascii", "backslashreplace").decode()
    printable = "".join(letter if letter.isprintable() else " " for letter in plain)
    return re.sub(r"(?<=\*)/|(?<=/)\*|(?<=\?)\?", r" \g<0>", printable)
