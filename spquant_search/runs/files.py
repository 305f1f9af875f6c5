"""Write files whole or not at all, say what is wrong with a folder, and find the folder that caches are kept in."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from spquant_search.errors import UserError
from spquant_search.runs.drafts import new_draft

_REMEDIES = {
    errno.EACCES: "change its permissions, or work on a copy",
    errno.EPERM: "change its permissions, or work on a copy",
    errno.EROFS: "work on a copy in a place that can be written",
    errno.ENOSPC: "free some space and start the same command again; nothing finished is lost",
    errno.EDQUOT: "free some space and start the same command again; nothing finished is lost",
}


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, content: bytes, *, replaces: bool = True) -> None:
    """Write a file whole or not at all: a draft beside it takes its place.

    Without ``replaces``, a file that is there stays. Its folder is not made where it is missing: a run that somebody
    deletes is not to come back in pieces.

    Raises:
        OSError: the file cannot be written; names it.
    """
    try:
        draft, descriptor = new_draft(path)
        try:
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if replaces:
                    os.replace(draft, path)
                else:
                    _place(draft, path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _place(draft: Path, path: Path) -> None:
    """Move a finished file to ``path``, unless a file is there."""
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not path.exists():
            os.replace(draft, path)


@contextmanager
def as_user_error(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system with something in a folder into a UserError that says what to do."""
    try:
        yield
    except OSError as error:
        place = Path(os.fsdecode(error.filename)) if isinstance(error.filename, str | bytes) else folder
        if not place.absolute().is_relative_to(folder.absolute()):
            raise
        raise UserError(_trouble(folder, place, error)) from error


def _trouble(folder: Path, place: Path, error: OSError) -> str:
    if not os.path.lexists(folder):
        return f"{folder}: vanished while it was worked on; put it back, or start a run of its own with --run NAME"
    remedy = _REMEDIES.get(error.errno or 0, "check the disk and the path")
    return f"{place}: {error.strerror or error}; {remedy}"


def cache_folder() -> Path:
    """Return the folder of recordings and compiled code: ``$SPQUANT_CACHE``, or one in the user's (XDG) cache.

    Raises:
        UserError: it lies in a home folder that is not known.
    """
    chosen = os.environ.get("SPQUANT_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    try:
        if chosen:
            return Path(chosen).expanduser().absolute()
        # The XDG Base Directory Specification: a relative path is invalid and to be ignored.
        return (base if base.is_absolute() else Path.home() / ".cache") / "spquant-search"
    except RuntimeError:
        whose = f"SPQUANT_CACHE={chosen}" if chosen else "the cache"
        raise UserError(f"{whose}: lies in a home folder that is not known here; set SPQUANT_CACHE to a path") from None
