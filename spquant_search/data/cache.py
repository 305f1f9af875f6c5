"""A cache of frames on disk: one memory-mapped file for each recipe, whole or absent.

A recipe is everything that shapes the frames, as JSON. The file NAME-KEY.npy holds a uint8 array
[sample, time, channel, height, width] in numpy's format, and after it what ``numpy.load`` does not read: what was
counted of each sample (int64 [sample, number], little-endian), and a trailer, which is the CRC-32 of all these bytes
and a time. KEY is the beginning of the recipe's SHA-256. The folder can be deleted at any
time.

A file is written in a hidden folder and then moved into place, so that a killed process leaves no half file. If
several processes start together, one of them builds the file and the others wait for it, as long as it gets on.

A file whose bytes have been compared with the CRC gets the time of its trailer as its time of change. While it has that
time and the right length, nothing has written to it since, and it is opened without being read. Otherwise, for example
after a copy, it is compared again. A disk that loses bytes changes no time: ``check_every_byte`` finds that.
"""

from __future__ import annotations

import glob
import hashlib
import json
import math
import os
import shutil
import struct
import time
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from io import BytesIO, RawIOBase
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int64, UInt8

from spquant_search.errors import UserError
from spquant_search.runs.drafts import draft_folder, remove_leftovers
from spquant_search.runs.locks import LockHeld, locked_for_a_while

Frames = UInt8[np.ndarray, "sample time channel height width"]
Counts = Int64[np.ndarray, "sample number"]
Shape = tuple[int, int, int, int, int]
Waiting = Callable[[str, int, int], None]  # who builds the same file, bytes done so far, bytes in all

_LOCK = ".lock-"
_LOOK_S = 1.0  # between two looks at what another process builds
_STUCK_S = 600.0  # after which a build that does not grow is one of a process that is stopped
_TRAILER = struct.Struct("<Iq")  # CRC-32; seconds since 1970
_COUNT = np.dtype("<i8")
_TICK_S = 2  # the coarsest time of change that a file system keeps
_BLOCK_BYTES = 1 << 20  # read together to compute a CRC
_REMEDY = "choose another folder by the environment variable SPQUANT_CACHE"


def cache_path(folder: Path, name: str, recipe: Mapping[str, object]) -> Path:
    """Return the path of a recipe's file."""
    key = hashlib.sha256(json.dumps(recipe, sort_keys=True).encode()).hexdigest()[:16]
    return folder / f"{name}-{key}.npy"


def file_bytes(shape: Shape, *, numbers: int = 0) -> int:
    """Return the size of the file of frames of this shape, with so many ``numbers`` that are counted of each sample."""
    return len(_header(shape)) + math.prod(shape) + shape[0] * numbers * _COUNT.itemsize + _TRAILER.size


def has_size(path: Path, size: int) -> bool:
    """Return whether a file of this size is there, as every whole file of the cache is; its bytes are not read."""
    try:
        return path.stat().st_size == size
    except OSError:
        return False


class Block(NamedTuple):
    """The frames of some samples, and what was counted of each: as many numbers as its source says."""

    frames: Frames
    counts: Counts


def read_or_build(
    path: Path,
    shape: Shape,
    build: Callable[[], Iterable[Block]],
    *,
    numbers: int = 0,
    waiting: Waiting | None = None,
) -> Frames:
    """Open the frames in ``path``, read-only; :func:`counts_of` reads the ``numbers`` that were counted of each sample.

    Where they are missing or damaged, ``build`` makes them block by block, and they are written first. ``waiting`` is
    called now and then while another process builds them.
    """
    frames = _read(path, shape, numbers)
    if frames is None:
        with _exclusive(path, math.prod(shape), waiting):
            frames = _read(path, shape, numbers)  # another process may have built it in the meantime
            if frames is None:
                _require_space(path.parent, shape)
                _write(path, shape, build)
                frames = _read(path, shape, numbers, checked=True)
    if frames is None:
        raise UserError(f"{path}: reads back other bytes than were written; check the disk, or {_REMEDY}")
    return frames


def counts_of(frames: Frames) -> Counts:
    """Read what was counted of each sample of frames that ``read_or_build`` has opened."""
    path, end = _file_of(frames)
    with path.open("rb") as file:
        file.seek(end)
        content = file.read()[: -_TRAILER.size]
    return np.frombuffer(content, _COUNT).reshape(len(frames), -1).astype(np.int64)


def check_every_byte(frames: Frames) -> None:
    """Raise UserError unless every byte of frames that ``read_or_build`` has opened is as it was written."""
    path, end = _file_of(frames)
    start = end - frames.nbytes
    if not _is_whole(path, start, path.stat().st_size - start - _TRAILER.size, checked=True):
        raise UserError(f"{path}: is damaged; check the disk, and delete the file: the next start makes it again")


def _file_of(frames: Frames) -> tuple[Path, int]:
    """Return the file of frames, and where in it they end."""
    if not isinstance(frames, np.memmap) or frames.filename is None:
        raise TypeError("only frames from a file can be checked")
    return Path(frames.filename), frames.offset + frames.nbytes


def _read(path: Path, shape: Shape, numbers: int, *, checked: bool = False) -> Frames | None:
    """Open a whole file: readable, of this shape, and with the right checksum; return None for any other."""
    try:
        frames = np.lib.format.open_memmap(path, mode="r")
        if frames.shape != shape or frames.dtype != np.uint8 or not frames.flags.c_contiguous:
            return None
        size = frames.nbytes + len(frames) * numbers * _COUNT.itemsize
        return frames if _is_whole(path, frames.offset, size, checked=checked) else None
    except (OSError, ValueError):  # absent; or no numpy file, or shorter than its header says
        return None


def _is_whole(path: Path, start: int, size: int, *, checked: bool) -> bool:
    """Tell whether the ``size`` bytes from ``start`` on are those that were written."""
    with path.open("rb", buffering=0) as file:
        status = os.fstat(file.fileno())
        if status.st_size != start + size + _TRAILER.size:
            return False
        file.seek(start + size)
        crc, seconds = _TRAILER.unpack(file.read(_TRAILER.size))
        if status.st_mtime_ns == seconds * 10**9 and not checked:
            return True
        file.seek(start)
        is_equal = bool(_crc(file, size) == crc)
        if is_equal:
            with suppress(OSError):  # in a read-only folder a file is compared every time
                os.utime(file.fileno(), ns=(status.st_atime_ns, seconds * 10**9))
    return is_equal


def _crc(file: RawIOBase, size: int) -> int:
    # Not through the memory map: everything read there counts as this process's memory.
    block = memoryview(bytearray(_BLOCK_BYTES))
    crc, left = 0, size
    while left and (got := file.readinto(block[: min(left, _BLOCK_BYTES)])):
        crc = zlib.crc32(block[:got], crc)
        left -= got
    return crc


def _write(path: Path, shape: Shape, build: Callable[[], Iterable[Block]]) -> None:
    folder = path.parent
    with ExitStack() as making:
        with _as_user_error(folder):
            _remove_lock_files(folder)
            remove_leftovers(folder)
            draft = making.enter_context(draft_folder(path)) / path.name
            _append(draft, _header(shape))
        crc, counts = 0, []
        for block in build():
            content = np.ascontiguousarray(block.frames)
            crc = zlib.crc32(content.data, crc)
            counts.append(block.counts.astype(_COUNT).tobytes())
            with _as_user_error(folder):
                _append(draft, content.data)
        counted = b"".join(counts)
        crc = zlib.crc32(counted, crc)
        with _as_user_error(folder):
            _append(draft, memoryview(counted))
            _append(draft, _TRAILER.pack(crc, int(time.time()) // _TICK_S * _TICK_S))
            os.replace(draft, path)


def _require_space(folder: Path, shape: Shape) -> None:
    """Raise UserError where the disk cannot hold the frames, before the hours that making them may take."""
    needed, free = math.prod(shape), shutil.disk_usage(folder).free
    if needed > free:
        samples, steps, channels, height, width = shape
        raise UserError(
            f"{folder}: {samples:,} samples of {steps} frames of {channels}x{height}x{width} take "
            f"{needed / 2**30:,.1f} GiB, and {free / 2**30:,.1f} GiB are free; take fewer time_steps, a smaller "
            f"data.size or fewer samples, or {_REMEDY}"
        )


def _append(path: Path, content: bytes | memoryview) -> None:
    # Not through a memory map: a full disk raises here, where a map ends the process with SIGBUS.
    with path.open("ab") as file:
        file.write(content)


def _header(shape: Shape) -> bytes:
    buffer = BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return buffer.getvalue()


def _remove_lock_files(folder: Path) -> None:
    """Delete the locks' files that killed processes have left; to hold a lock for a moment does that."""
    for left in folder.glob(f"{_LOCK}*"):
        with suppress(OSError, LockHeld), locked_for_a_while(left, seconds=0.0):
            pass


@contextmanager
def _exclusive(path: Path, total: int, waiting: Waiting | None) -> Iterator[None]:
    """Keep other processes out; the system lets the next one in when this process ends, however it ends.

    On a file system without locks, and where the one that builds is stopped, several processes may build: the last
    replaces the file by an equal one.
    """
    with ExitStack() as held:
        with _as_user_error(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            size, looked = -1, time.monotonic()
            while True:
                try:
                    held.enter_context(locked_for_a_while(path.with_name(f"{_LOCK}{path.name}"), seconds=_LOOK_S))
                    break
                except LockHeld as error:
                    if waiting is not None:
                        waiting(error.holder, min(_size_of_drafts(path), total), total)
                    if (now := _size_of_drafts(path)) != size:
                        size, looked = now, time.monotonic()
                    elif time.monotonic() - looked > _STUCK_S:
                        warnings.warn(
                            f"{path}: {error.holder} has built nothing of it for {_STUCK_S / 60:g} minutes; it is "
                            "built here as well",
                            stacklevel=2,
                        )
                        break
        yield


def _size_of_drafts(path: Path) -> int:
    """Return the bytes that are built so far of a file."""
    size = 0
    for draft in path.parent.glob(f".*.tmp/{glob.escape(path.name)}"):
        with suppress(FileNotFoundError):
            size += draft.stat().st_size
    return size


@contextmanager
def _as_user_error(folder: Path) -> Iterator[None]:
    """Turn an error of the operating system into a UserError about the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{folder}: the cache of frames cannot be written ({error.strerror}); {_REMEDY}") from error
