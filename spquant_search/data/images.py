"""Still images from files in their published formats, brought to one size. Nothing in a file is executed."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from spquant_search.data.files import File, fingerprint
from spquant_search.data.frames import Frames, Shape
from spquant_search.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
# Raise it with every change that alters a pixel: cached frames of the old code are then no longer used.
STILL_VERSION = 1

_RUN_BYTES = 8 << 20  # of the images that are read before they are written
_CIFAR_SHAPE = (3, 32, 32)
_CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes: label, then red, green and blue planes


class Images(Protocol):
    """Images of one size, read when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[sample, channel, height, width], or [sample, height, width] of grey images."""

    def __getitem__(self, chosen: slice) -> NDArray[np.uint8]: ...

    def recipe(self) -> dict[str, object]:
        """What the images are made from and how, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImages:
    """Images that are in memory."""

    pixels: UInt8[np.ndarray, "sample channel rows columns"]
    size: tuple[int, int]  # height, width
    grey: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        channels = () if self.grey else (self.pixels.shape[1],)
        return (len(self.pixels), *channels, *self.size)

    def __getitem__(self, chosen: slice) -> NDArray[np.uint8]:
        pixels = self.pixels[chosen]
        pixels = luma(pixels)[:, None] if self.grey else pixels
        if pixels.shape[2:] != self.size:
            pixels = _resized(pixels, self.size)
        return pixels[:, 0] if self.grey else pixels

    def recipe(self) -> dict[str, object]:
        pixels = np.ascontiguousarray(self.pixels)
        digest = hashlib.sha256(pixels.data).hexdigest() if pixels.size else ""
        return {"images": digest, "image_shape": pixels.shape, "size": self.size, "grey": self.grey}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFiles:
    """Images that are each in a file of their own."""

    base: Path
    files: tuple[File, ...]
    size: tuple[int, int]  # height, width
    grey: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *(() if self.grey else (3,)), *self.size)

    def __getitem__(self, chosen: slice) -> NDArray[np.uint8]:
        pictures = [read_image(self.base / file.name, self.size, grey=self.grey) for file in self.files[chosen]]
        return np.stack(pictures) if pictures else np.empty((0, *self.shape[1:]), np.uint8)

    def recipe(self) -> dict[str, object]:
        return {"files": fingerprint(self.base, self.files), "size": self.size, "grey": self.grey}


@dataclass(frozen=True, kw_only=True, slots=True)
class StillFrames:
    """What shapes the frames of a split of images: one time step each."""

    images: Images

    @property
    def shape(self) -> Shape:
        """[sample, 1, channel, height, width]"""
        samples, channels, height, width = self.images.shape
        return (samples, 1, channels, height, width)

    def recipe(self) -> dict[str, object]:
        return {**self.images.recipe(), "still_version": STILL_VERSION}

    @property
    def run_length(self) -> int:
        return max(1, _RUN_BYTES // int(np.prod(self.shape[1:])))

    @property
    def is_slow(self) -> bool:
        return isinstance(self.images, ImageFiles)

    def run(self, chosen: slice) -> Frames:
        """The frames of these samples."""
        return self.images[chosen][:, None]


def luma(pixels: UInt8[np.ndarray, "sample channel rows columns"]) -> UInt8[np.ndarray, "sample rows columns"]:
    """Grey images: red, green and blue weighted as in ITU-R BT.601, in the 16-bit integers that Pillow uses too."""
    if pixels.shape[1] == 1:
        return pixels[:, 0]
    red, green, blue = (pixels[:, channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def read_image(path: Path, size: tuple[int, int], *, grey: bool) -> NDArray[np.uint8]:
    """An image file as [channel, height, width], red, green, blue, or as grey [height, width].

    Scaled until it covers `size` (height, width), and its middle taken: nothing is distorted.
    """
    try:
        with Image.open(path) as file:
            upright = ImageOps.exif_transpose(file)
            picture = ImageOps.fit(upright.convert("L" if grey else "RGB"), size[::-1], Image.Resampling.BILINEAR)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UserError(f"{path}: is no image that can be read ({error}); replace it, or remove it") from error
    pixels = np.asarray(picture)
    return pixels if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    planes = [
        np.asarray(ImageOps.fit(Image.fromarray(plane), size[::-1], Image.Resampling.BILINEAR))
        for plane in pixels.reshape(-1, *pixels.shape[2:])
    ]
    return np.stack(planes).reshape(*pixels.shape[:2], *size)


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An array of bytes in LeCun's IDX format, plain or .gz: 0 0 8 n, n big-endian 32-bit sizes, the bytes."""
    content = _content(path)
    if content[:3] != b"\x00\x00\x08" or len(content) < 4 + 4 * content[3]:
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
    """Images [sample, 3, 32, 32] and labels of a file of CIFAR-10's binary version."""
    content = _content(path)
    if not content or len(content) % _CIFAR_RECORD:
        raise UserError(
            f"{path}: its {len(content)} bytes are no whole number of {_CIFAR_RECORD}-byte images; "
            "it is truncated, get it again"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, _CIFAR_RECORD)
    return records[:, 1:].reshape(-1, *_CIFAR_SHAPE), records[:, 0]


def read_cifar_pickle(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """As `read_cifar_bin`, of a file of the python version; a pickle that asks for more than arrays is refused."""
    try:
        batch = _ArraysOnly(io.BytesIO(_content(path)), encoding="bytes").load()
        pixels, labels = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
    except Exception as error:  # a damaged pickle may fail in any way
        raise UserError(
            f"{path}: is no batch of CIFAR-10's python version ({error}); get it again, or take the binary version"
        ) from error
    if pixels.dtype != np.uint8 or pixels.shape != (len(labels), _CIFAR_RECORD - 1) or not len(labels):
        raise UserError(f"{path}: holds {pixels.dtype} {list(pixels.shape)} and {len(labels)} labels, not CIFAR-10")
    if labels.dtype.kind not in "iu" or labels.min() < 0 or labels.max() > 255:
        raise UserError(f"{path}: its labels are no class numbers; get the file again")
    return pixels.reshape(-1, *_CIFAR_SHAPE), labels.astype(np.uint8)


class _ArraysOnly(pickle.Unpickler):
    """Knows what a pickled numpy array of numbers is made from, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            # numpy 2 has moved it, and warns about the old name.
            ("multiarray", "_reconstruct"): np._core.multiarray._reconstruct,  # type: ignore[attr-defined]
            ("numpy", "ndarray"): np.ndarray,
            ("numpy", "dtype"): np.dtype,
            ("_codecs", "encode"): _latin1,
        }
        found = known.get((module.removeprefix("numpy._core.").removeprefix("numpy.core."), name))
        if found is None:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array needs")
        return found


def _latin1(text: str, encoding: str) -> bytes:
    """What `_codecs.encode` is called for in protocol 2: bytes, written as text."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the encoding {encoding!r}")
    return text.encode(encoding)
