"""Drafts: files and folders in the making, which lie hidden beside their place until they are whole.

Whoever writes a draft holds a lock on it. A draft without a lock is left from a process that was killed, and the next
start removes it. Where a lock is no proof, because another machine may hold one that is not seen here or because the
file system has none, a draft is taken for left behind once nothing was written to it for a day.

The name of a draft is random: processes of containers may be alike in all that a name could be made of.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from spquant_search.errors import UserError
from spquant_search.runs.locks import LockHeld, is_in_place, take

SECONDS_TO_WRITE = 24 * 60 * 60  # at most, of a draft that may be another machine's, clocks that differ included
_NAME = re.compile(r"\..+\.(?P<system>[0-9a-f]{8})-[0-9a-f]{16}\.tmp", re.DOTALL)
_LONGEST = 40  # characters of a name that a draft's own repeats: a file system allows 255 bytes
_OWNER = "owner"  # the file in a draft's folder that its maker holds the lock of


def new_draft(path: Path) -> tuple[Path, int]:
    """Make an empty file, hidden beside ``path``, whose lock this process holds; return it, and open for writing.

    In the same folder, because a move between file systems is a copy and can be cut off. Not by tempfile, whose files
    nobody else may read.
    """
    while True:
        draft = _name_beside(path)
        descriptor = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        if _owns(descriptor, draft):
            return draft, descriptor
        os.close(descriptor)


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """Make a folder, hidden beside ``path``, for what is to be moved there; it is removed at the end.

    Its lock is that of a file in it, for what is moved must not keep one.
    """
    folder, owner = _new_folder(path)
    try:
        yield folder
    finally:
        _remove_folder(folder)
        os.close(owner)


def remove_leftovers(folder: Path, *, deep: bool = False) -> None:
    """Remove the drafts in a folder, or ``deep`` those below it too, whose makers are gone; no other process's."""
    with suppress(OSError):  # a folder that vanishes meanwhile, or that may not be read
        for left in list(folder.rglob(".*.tmp") if deep else folder.glob(".*.tmp")):
            found = _NAME.fullmatch(left.name)
            if found is not None:
                with suppress(OSError, LockHeld):
                    _remove_if_left(left, is_from_here=found["system"] == _system())


def require_new_folder(path: Path) -> None:
    """Raise UserError where a folder that a command is to make is there already, or nothing can be made there."""
    try:
        is_new = not _is_there(path) or (path.is_dir() and not path.is_symlink() and not any(path.iterdir()))
        above = next((parent for parent in path.absolute().parents if _is_there(parent)), path)
        stays = is_new and path.is_dir() and (path.samefile(os.curdir) or os.path.ismount(path))
        may_be_made = above.is_dir() and os.access(above, os.W_OK | os.X_OK)
    except OSError as error:  # a name that is too long, or a folder that may not be read
        raise UserError(f"{path}: cannot be written: {error.strerror}; give --out another folder") from error
    if stays:
        where = "is a file system of its own" if os.path.ismount(path) else "is the folder in which this command runs"
        raise UserError(f"{path}: {where}, which no new folder can replace; give --out a new one in it")
    if not is_new:
        raise UserError(f"{path}: exists already; give --out a new folder")
    if not may_be_made:
        why = "may not be written to" if above.is_dir() else "is no folder"
        raise UserError(f"{path}: cannot be written: {above} {why}; give --out another folder")


def _is_there(path: Path) -> bool:
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _name_beside(path: Path) -> Path:
    return path.with_name(f".{path.name[:_LONGEST]}.{_system()}-{secrets.token_hex(8)}.tmp")


@cache
def _system() -> str:
    """Return a name of the running system, in which every lock is seen by every process."""
    try:
        running = Path("/proc/sys/kernel/random/boot_id").read_text()
    except OSError:
        running = str(uuid.getnode())
    return hashlib.sha256(running.encode()).hexdigest()[:8]


def _owns(descriptor: int, file: Path) -> bool:
    """Lock a new file; return False where another process took it for left behind before that."""
    try:
        take(descriptor, file)
    except LockHeld:
        return False
    return is_in_place(descriptor, file)


def _new_folder(path: Path) -> tuple[Path, int]:
    while True:
        folder = _name_beside(path)
        folder.mkdir()
        try:
            owner = os.open(folder / _OWNER, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
        except FileNotFoundError:  # another process took the empty folder for left behind
            continue
        except OSError:
            folder.rmdir()
            raise
        if _owns(owner, folder / _OWNER):
            return folder, owner
        os.close(owner)


def _remove_if_left(left: Path, *, is_from_here: bool) -> None:
    is_folder = left.is_dir() and not left.is_symlink()
    if is_folder:
        with suppress(OSError):
            left.rmdir()  # its maker came no further, or notices
            return
    descriptor = os.open(left / _OWNER if is_folder else left, os.O_RDWR)
    try:
        is_free = take(descriptor, left)
        age = time.time() - os.fstat(descriptor).st_mtime
        if (is_free and is_from_here) or age > SECONDS_TO_WRITE:
            _remove_folder(left) if is_folder else left.unlink()
    finally:
        os.close(descriptor)


def _remove_folder(folder: Path) -> None:
    """Remove a draft's folder, the file with its lock last: should this be cut off, it can be done again."""
    with suppress(OSError):
        for entry in list(folder.iterdir()):
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            elif entry.name != _OWNER:
                entry.unlink()
        (folder / _OWNER).unlink(missing_ok=True)
        folder.rmdir()
