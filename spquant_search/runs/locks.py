"""A lock on a file, which goes with the process that holds it, however that ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class LockError(OSError):
    """A lock that another process holds, or that the file system does not have."""


@contextmanager
def locked(path: Path, *, shared: bool = False, waits: bool = True) -> Iterator[None]:
    """Hold the lock of a file, which is made where it is missing; ``shared`` locks do not exclude each other.

    Raises:
        LockError: without ``waits``, another process holds the lock; or the file system has no locks.
        OSError: the file cannot be opened.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        _lock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | (0 if waits else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


@contextmanager
def locked_for_a_while(path: Path) -> Iterator[None]:
    """Hold the lock of a file that is removed at the end; on a file system without locks nothing is held.

    Raises:
        OSError: the file cannot be opened.
    """
    descriptor = _locked_in_its_place(path)
    try:
        yield
    finally:
        with suppress(OSError):
            path.unlink()
        os.close(descriptor)


def _locked_in_its_place(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        with suppress(LockError):
            _lock(descriptor, fcntl.LOCK_EX)
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        os.close(descriptor)  # its last holder has removed it: those who come now lock another file


def _lock(descriptor: int, operation: int) -> None:
    try:
        fcntl.flock(descriptor, operation)
    except OSError as error:
        raise LockError(*error.args) from error
