"""Locks on files, which go with the process that holds them, however that ends.

A lock's file names its holder, so that whoever is kept out can say by whom.
"""

from __future__ import annotations

import errno
import fcntl
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# By flock(2), and by fcntl(2) where a network file system turns the one into the other.
_HELD = frozenset((errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES))
# Lustre without its mount option "flock", NFS without a lock manager, and some file systems in user space.
_WITHOUT_LOCKS = frozenset((errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP))
_MOST_HOLDERS = 20  # that a file names, of a lock that many share
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.005, 0.1


class LockHeld(Exception):
    """A lock that another process holds; ``holder`` says in words which."""

    def __init__(self, path: Path, holder: str) -> None:
        self.holder = holder
        super().__init__(f"{path}: is held by {holder}")


@contextmanager
def locked(path: Path, *, shared: bool = False, seconds: float = 0.0) -> Iterator[bool]:
    """Hold the lock of a file, which is made where it is missing; ``shared`` locks do not exclude each other.

    Yields whether it is held, which on a file system without locks it is not. ``seconds``: how long to wait for
    another process.

    Raises:
        LockHeld: another process holds it still.
        OSError: the file cannot be opened.
    """
    # For writing: network file systems give an exclusive lock only on such a file.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        is_held = take(descriptor, path, shared=shared, seconds=seconds)
        if is_held:
            _sign(descriptor, shared=shared)
        yield is_held
    finally:
        os.close(descriptor)


@contextmanager
def locked_for_a_while(path: Path, *, seconds: float) -> Iterator[bool]:
    """Hold the lock of a file that is removed at the end; otherwise as :func:`locked`."""
    descriptor, is_held = _locked_in_its_place(path, seconds)
    try:
        yield is_held
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _locked_in_its_place(path: Path, seconds: float) -> tuple[int, bool]:
    end = time.monotonic() + seconds
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            is_held = take(descriptor, path, seconds=end - time.monotonic())
            if is_in_place(descriptor, path):
                _sign(descriptor, shared=False)
                return descriptor, is_held
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # its last holder has removed it: those who come now lock another file


def is_in_place(descriptor: int, path: Path) -> bool:
    """Return whether an open file is still what lies at a path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def take(descriptor: int, path: Path, *, shared: bool = False, seconds: float = 0.0) -> bool:
    """Lock an open file, which lies at ``path``, until it is closed; return False where the file system has no locks.

    Raises:
        LockHeld: another process holds it still, after so many seconds.
        OSError: the file is gone, or its disk fails.
    """
    end, pause = time.monotonic() + seconds, _FIRST_PAUSE_S
    while True:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            return True
        except OSError as error:
            if error.errno in _WITHOUT_LOCKS:
                return False
            if error.errno not in _HELD:
                raise
        if time.monotonic() >= end:
            raise LockHeld(path, _holder_of(descriptor))
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_S)


def _sign(descriptor: int, *, shared: bool) -> None:
    """Write this process into the file of a lock that it holds, beside those that share it."""
    others = [line for line in _lines(descriptor) if not _is_gone(line)] if shared else []
    lines = [*others, f"{platform.node()} {os.getpid()}"][-_MOST_HOLDERS:]
    with suppress(OSError):  # a full disk: the lock is held all the same
        content = "".join(f"{line}\n" for line in lines).encode()
        os.pwrite(descriptor, content, 0)
        os.ftruncate(descriptor, len(content))


def _lines(descriptor: int) -> list[str]:
    with suppress(OSError):
        return os.pread(descriptor, 1 << 16, 0).decode(errors="replace").splitlines()
    return []


def _holder_of(descriptor: int) -> str:
    """Say in words who holds a lock, by what its file says."""
    lines = _lines(descriptor)
    alive = [line for line in lines if not _is_gone(line)] or lines[-1:]
    return " and ".join(map(_in_words, alive)) or "a process that its file does not name"


def _in_words(line: str) -> str:
    host, _, process = line.rpartition(" ")
    if not process.isdecimal():
        return "a process that its file does not name"
    stopped = f", which is stopped (kill -CONT {process} lets it go on)" if _state(host, process) == "T" else ""
    return f"process {process} on {host}{stopped}"


def _is_gone(line: str) -> bool:
    """Return whether a holder is known to be gone: a process of this machine that does not run any more."""
    host, _, process = line.rpartition(" ")
    if host != platform.node() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:
        return False
    return False


def _state(host: str, process: str) -> str:
    """Return the letter that Linux gives the state of a process of this machine: T for stopped."""
    if host != platform.node():
        return ""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
