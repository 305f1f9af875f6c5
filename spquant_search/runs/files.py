"""Write files whole or not at all, and find the folder that caches are kept in."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from spquant_search.errors import UserError


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def _place(temporary: Path, path: Path) -> None:
    """Move a finished file to ``path``, unless a file is there."""
    try:
        os.link(temporary, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(temporary, path)


def temporary_beside(path: Path) -> Path:
    """Return a name that no other process takes for what is to become ``path``.

    In the same folder, because a move between file systems is a copy and can be cut off. Not by tempfile, whose files
    nobody else may read.
    """
    return path.with_name(f".{path.name}.{platform.node()}-{os.getpid()}.tmp")


def write_bytes(path: Path, content: bytes, *, replaces: bool = True) -> None:
    """Write a file whole or not at all: a temporary file beside it takes its place.

    Without ``replaces``, a file that is there stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_beside(path)
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if replaces:
            os.replace(temporary, path)
        else:
            _place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def cache_folder() -> Path:
    """Return the folder of recordings and compiled code: ``$SPQUANT_CACHE``, or one in the user's (XDG) cache."""
    if chosen := os.environ.get("SPQUANT_CACHE"):
        try:
            return Path(chosen).expanduser()
        except RuntimeError as error:  # ~ of a user who is not known
            raise UserError(f"SPQUANT_CACHE={chosen}: {error}; name a folder by its whole path") from None
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG Base Directory Specification: a relative path is invalid and to be ignored.
    return (base if base.is_absolute() else Path.home() / ".cache") / "spquant-search"
