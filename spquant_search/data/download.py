"""Download published data sets: only when the user asks for it, and only files with the published checksum."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from spquant_search.data.catalog import SETS, Archive
from spquant_search.data.layouts import find_samples
from spquant_search.errors import UserError
from spquant_search.runs.locks import LockHeld, locked_for_a_while
from spquant_search.space.schema import DataSpace

Stage = Callable[[str, int, int], None]  # the action, bytes so far, bytes in all (0: not known)

_WORK_FOLDER = ".download"  # in the data's folder; holds unfinished files
_LOCK = ".download.lock"  # beside it, as the work folder is removed while the lock is held
_LOOK_S = 1.0  # how often who waits for another download says so
_CHUNK_BYTES = 1 << 20
_TIMEOUT_S = 60.0  # without a byte


def download(options: DataSpace, stage: Stage) -> None:
    """Download the archives of a published set that the folder ``options.root`` lacks; a complete set stays as it is.

    An archive is downloaded into a work folder, compared with its MD5, unpacked there, and only then moved to its
    place: an interrupted download leaves nothing that could be taken for complete. Another process that downloads into
    the same folder is waited for.
    """
    archives, folder = SETS[options.name].archives, _target(options)
    if _is_complete(options):
        return
    with _alone(options.name, folder, stage):
        if _is_complete(options):  # by the process that was waited for
            return
        for archive in archives:
            if not all((folder / leaf).exists() for leaf in archive.leaves):
                try:
                    _install(archive, folder, stage)
                except (OSError, ValueError, zipfile.BadZipFile, tarfile.TarError) as error:  # requests' are OSErrors
                    raise _download_failed(options.name, archive, folder, error) from error
        shutil.rmtree(folder / _WORK_FOLDER, ignore_errors=True)


@contextmanager
def _alone(name: str, folder: Path, stage: Stage) -> Iterator[None]:
    """Make the folder and keep other downloads out of it, as far as its file system has locks."""
    with ExitStack() as held:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    held.enter_context(locked_for_a_while(folder / _LOCK, seconds=_LOOK_S))
                    break
                except LockHeld as error:
                    stage(f"waiting for {error.holder}, which downloads into {folder}", 0, 0)
        except OSError as error:
            words = error.strerror or str(error)
            raise UserError(f"data.root: {folder}: {words}; name a folder that {name} can be written into") from None
        yield


def _target(options: DataSpace) -> Path:
    published = SETS[options.name]
    if published.kind == "package":
        raise UserError(f"--download: {options.name} comes with the package; omit the option")
    if not published.archives:
        raise UserError(
            f"--download: no address is known for {options.name}; put the files into the folder data.root: "
            + published.layout
        )
    if options.root is None:
        raise UserError("data.root: say into which folder to download, for example --set data.root=~/data")
    try:
        return Path(options.root).expanduser()
    except RuntimeError as error:  # ~ of a user who is not known
        raise UserError(f"data.root: {options.root}: {error}; name a folder by its whole path") from None


def _is_complete(options: DataSpace) -> bool:
    try:
        find_samples(options.name, options)
    except UserError:
        return False
    return True


def _install(archive: Archive, folder: Path, stage: Stage) -> None:
    """Download an archive, unpack it, and move its files or folders to their place."""
    work = folder / _WORK_FOLDER
    work.mkdir(exist_ok=True)
    packed = _download_archive(archive, work, stage)
    if archive.leaves == (archive.file,):
        os.replace(packed, folder / archive.file)
        return
    stage(f"unpacking {archive.file}", 0, 0)
    with tempfile.TemporaryDirectory(dir=work) as name:
        _unpack(packed, Path(name))
        for leaf in archive.leaves:
            if not (folder / leaf).exists():
                os.replace(_shallowest(Path(name), leaf), folder / leaf)
    packed.unlink()


def _download_archive(archive: Archive, work: Path, stage: Stage) -> Path:
    """Download an archive and compare its checksum; an archive that an earlier start has downloaded is kept."""
    pooch = _pooch()
    pooch.get_logger().setLevel("WARNING")
    downloader = pooch.HTTPDownloader(
        progressbar=_Bar(f"downloading {archive.file}", stage), chunk_size=_CHUNK_BYTES, timeout=_TIMEOUT_S
    )
    known = f"md5:{archive.md5}"
    return Path(pooch.retrieve(archive.url, known_hash=known, fname=archive.file, path=work, downloader=downloader))


class _Bar:
    """A progress bar with the methods that pooch calls."""

    def __init__(self, text: str, stage: Stage) -> None:
        self._text, self._stage = text, stage
        self.total, self._done = 0, 0

    def update(self, more: int) -> None:
        self._done += more
        self._stage(self._text, min(self._done, self.total), self.total)

    def reset(self) -> None:
        self._done = 0

    def close(self) -> None:
        pass


def _unpack(packed: Path, folder: Path) -> None:
    """Unpack an archive, and the zip archives in it."""
    if packed.suffix == ".zip":
        with zipfile.ZipFile(packed) as archive:
            archive.extractall(folder)
    else:
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
    for inner in folder.rglob("*.zip"):
        with zipfile.ZipFile(inner) as archive:
            archive.extractall(inner.parent)


def _shallowest(folder: Path, name: str) -> Path:
    found = sorted(folder.rglob(name), key=lambda path: len(path.parts))
    if not found:
        raise ValueError(f"it does not hold {name}")
    return found[0]


def _download_failed(name: str, archive: Archive, folder: Path, error: Exception) -> UserError:
    leaves = " .. ".join(dict.fromkeys((archive.leaves[0], archive.leaves[-1])))
    reason = " ".join(str(error).split()).rstrip(".")
    return UserError(
        f"{archive.url}: download failed: {reason}. Try again, or fetch {archive.file} by hand (MD5 {archive.md5}) "
        f"and put {leaves} into {folder}. {name} is published at {SETS[name].source}"
    )


def _pooch() -> Any:
    try:
        return import_module("pooch")
    except ImportError as error:
        raise UserError(f"--download needs pooch, which cannot be imported ({error}); pip install pooch") from error
