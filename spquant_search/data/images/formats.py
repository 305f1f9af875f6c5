"""Read images in the formats of their publishers, IDX and CIFAR-10; nothing in a file is executed."""

from __future__ import annotations

import gzip
import io
import pickle
import pickletools
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spquant_search.errors import UserError

_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes: label, then red, green and blue planes


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an array of bytes in LeCun's IDX format, plain or .gz: 0 0 8 n, n big-endian 32-bit sizes, the bytes."""
    content = _content(path)
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 or len(content) < 4 + 4 * content[3]:
        raise UserError(f"{path}: is no IDX file of unsigned bytes (it starts with {content[:4].hex() or 'nothing'})")
    dimensions = content[3]
    shape = [int.from_bytes(content[4 + 4 * axis : 8 + 4 * axis], "big") for axis in range(dimensions)]
    expected, found = int(np.prod(shape, dtype=object)), len(content) - 4 - 4 * dimensions
    if found != expected:
        raise UserError(f"{path}: holds {found} bytes where its header says {expected}; it is truncated, get it again")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions).reshape(shape)


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:  # gzip's own error is an OSError
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"{path}: cannot be read ({reason}); it may be truncated, get it again") from error


def read_cifar_bin(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the images [sample, 3, 32, 32] and labels of a file of CIFAR-10's binary version."""
    content = _content(path)
    if not content or len(content) % _CIFAR_RECORD:
        raise UserError(
            f"{path}: its {len(content)} bytes are no whole number of {_CIFAR_RECORD}-byte images; "
            "it is truncated, get it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    return records[:, 1:].reshape(-1, *_CIFAR_SHAPE), records[:, 0]


def read_cifar_pickle(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Read the images [sample, 3, 32, 32] and labels of a file of CIFAR-10's python version.

    A pickle that asks for more than arrays is refused.
    """
    content = _content(path)
    try:
        _require_bounded(content)
        batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except Exception as error:  # a damaged pickle may fail in any way
        raise UserError(
            f"{path}: is no batch of CIFAR-10's python version ({ascii(str(error))[1:-1]}); get it again, or take the "
            "binary version"
        ) from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _CIFAR_RECORD - 1) or not len(labels):
        raise UserError(f"{path}: holds {pixels.dtype} {list(pixels.shape)} and {len(labels)} labels, not CIFAR-10")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
        raise UserError(f"{path}: its labels are no class numbers; get the file again")
    return pixels.reshape(-1, *_CIFAR_SHAPE), labels.astype(np.uint8)


def _require_bounded(content: bytes) -> None:
    """Refuse a pickle that numbers what it remembers beyond its own length: a table of that length would be made.

    Arrays that can be written to in place are no part of the batches, and print a line where one is cut.
    """
    for operation, argument, _ in pickletools.genops(content):
        if operation.name == "BYTEARRAY8":
            raise pickle.UnpicklingError("it asks for a bytearray, which no array needs")
        if operation.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument or 0) > len(content):
            raise pickle.UnpicklingError(f"it remembers {argument:,} things in {len(content):,} bytes")


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows the parts of a pickled numpy array of numbers, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            # The function has no public name, but every array gives it to be pickled.
            ("multiarray", "_reconstruct"): np.ndarray(0).__reduce__()[0],
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin1,
        }
        found = known.get((module.removeprefix("numpy._core.").removeprefix("numpy.core."), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return found


def _latin1(text: str, encoding: str) -> bytes:
    """Encode bytes that protocol 2 has written as text; it calls ``_codecs.encode`` for them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode(encoding)
