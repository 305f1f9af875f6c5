"""List the files of a data set in a fixed order, with the size and time that tell a changed file from an old one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from spquant_search.errors import UserError

ANY_FILE = ("",)  # as suffixes: every file, whatever it is called


class File(NamedTuple):
    """A file in a data set's folder or below it."""

    name: str  # the path from that folder, with /
    size: int  # bytes
    changed_ns: int


@dataclass(frozen=True, slots=True)
class LabelledFiles:
    """The files of one part of a data set, such as its published test split."""

    files: list[File] = field(default_factory=list)
    labels: list[int] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)  # of samples that must stay in one split; "": of none

    def add(self, files: Sequence[File], label: int, groups: Sequence[str] | None = None) -> None:
        """Add files of one class."""
        self.files.extend(files)
        self.labels.extend([label] * len(files))
        self.groups.extend(groups or [""] * len(files))


def files_in(base: Path, folder: str, suffixes: Collection[str]) -> list[File]:
    """List the files of ``base``/``folder`` with one of these suffixes (in lower case), sorted by name.

    A folder that does not exist has no files.

    Raises:
        UserError: the folder or a file in it cannot be looked at.
    """
    endings, prefix, found, name = tuple(suffixes), f"{folder}/" if folder else "", [], ""
    try:
        with _opened(base / folder) as here, os.scandir(here) as entries:
            for entry in entries:
                name = entry.name
                if name.lower().endswith(endings) and name[0] != "." and (suffixes != ANY_FILE or entry.is_file()):
                    status = entry.stat()
                    found.append(File(prefix + name, status.st_size, status.st_mtime_ns))
    except OSError as error:
        if not name and isinstance(error, FileNotFoundError | NotADirectoryError):
            return []
        raise _unseen(base / folder / name, error) from error
    found.sort()
    return found


def visible_files(folder: Path) -> list[str]:
    """List the names of the files in a folder that are not hidden; a folder that does not exist has none.

    Raises:
        UserError: the folder cannot be looked at.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry.name for entry in entries if entry.name[0] != "." and entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unseen(folder, error) from error


def _unseen(place: Path, error: OSError) -> UserError:
    if isinstance(error, FileNotFoundError):
        return UserError(f"{place}: is a link to a file that is not there; replace it, or remove it")
    return UserError(f"{place}: cannot be looked at ({error.strerror}); change its permissions, or move it elsewhere")


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    """Open a folder; looking up its files from there is faster than by their paths, and a set may have 70,000."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def folders_in(base: Path) -> list[str]:
    """List the names of the folders in ``base``, sorted; a folder that does not exist has none.

    Raises:
        UserError: ``base`` cannot be looked at.
    """
    try:
        with os.scandir(base) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unseen(base, error) from error


def fingerprint(base: Path, files: Sequence[File]) -> str:
    """Return the SHA-256 of the files' places, sizes and times, in the order of the files."""
    lines = [f"{base.resolve()}", *(f"{file.size} {file.changed_ns} {file.name}" for file in files)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()
