"""The errors about recordings that cannot be read, or hold no events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spquant_search.errors import UserError

_LONGEST_REASON = 300  # characters of what a library says; some repeat the whole file


def damaged(path: Path, why: str) -> UserError:
    """Return the error about a file that cannot be read."""
    words = _printable(why).rstrip(".")
    return UserError(f"{path}: cannot be read: {words}. It is truncated or damaged; get it again, or remove it")


def unfit(path: Path, why: str) -> UserError:
    """Return the error about a file that can be read but holds no events."""
    return UserError(f"{path}: {_printable(why)}. Write the file again, or remove it")


def _printable(why: str) -> str:
    """Return a reason in one line of signs that can be printed; names and pieces of damaged files stand in it."""
    words = " ".join(why.split())
    words = words if len(words) <= _LONGEST_REASON else f"{words[:_LONGEST_REASON]}..."
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in words)


def too_large(path: Path) -> UserError:
    """Return the error about a file whose events do not fit into memory."""
    return UserError(
        f"{path}: its events, or those that its header promises, do not fit into the memory that is free; cut it into "
        "shorter recordings, or get it again if it is damaged"
    )


@contextmanager
def damaged_if_it_fails(path: Path) -> Iterator[None]:
    """Say of a file that it is damaged when a library fails to read it, in whichever way.

    Libraries raise what their parts raise: of a .npy file whose header is damaged, numpy lets pass the errors of
    Python's tokenizer. Only calls of libraries belong in this context, as our own mistakes would be hidden in it.
    """
    try:
        yield
    except UserError:
        raise
    except MemoryError as error:
        raise too_large(path) from error
    except Exception as error:
        raise damaged(path, getattr(error, "strerror", None) or str(error) or type(error).__name__) from error
