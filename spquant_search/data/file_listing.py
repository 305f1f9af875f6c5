"""Files of a data set below its folder: always sorted, with what tells a changed file from the one seen before."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple


class File(NamedTuple):
    """A file below a data set's folder."""

    name: str  # its path from that folder, with /
    size: int  # bytes
    changed_ns: int


def files_in(base: Path, folder: str, suffixes: Collection[str]) -> list[File]:
    """The files of `base`/`folder` with one of these suffixes (lower case), sorted by name; none without the folder."""
    endings, prefix, found = tuple(suffixes), f"{folder}/" if folder else "", []
    try:
        with _opened(base / folder) as here, os.scandir(here) as entries:
            for entry in entries:
                name = entry.name
                if name.lower().endswith(endings) and name[0] != ".":
                    status = entry.stat()
                    found.append(File(prefix + name, status.st_size, status.st_mtime_ns))
    except (FileNotFoundError, NotADirectoryError):
        return []
    found.sort()
    return found


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """A folder as a number, from which its files are looked up faster than by their paths: a set may have 70,000."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def folders_in(base: Path) -> list[str]:
    """The names of the folders in `base`, sorted; none without it."""
    try:
        with os.scandir(base) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []


def fingerprint(base: Path, files: Sequence[File]) -> str:
    """SHA-256 of where the files are, their sizes and their times, in this order."""
    lines = [f"{base.resolve()}", *(f"{file.size} {file.changed_ns} {file.name}" for file in files)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
