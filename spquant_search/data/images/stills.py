"""Bring still images to one size, from files or from memory, and show them as frames of one time step."""

from __future__ import annotations

import hashlib
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from spquant_search.data.cache import Block, Shape
from spquant_search.data.file_listing import File, fingerprint
from spquant_search.data.images.pixels import PixelRule, eight_bit_picture
from spquant_search.errors import UserError

# What Pillow notes of a damaged file is not printed beside our error about it, unless a program asks for its notes.
logging.getLogger("PIL").addHandler(logging.NullHandler())

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
# Raise this with every change that alters a pixel: cached frames of the old code are then no longer used.
STILL_VERSION = 2
RESAMPLING = Image.Resampling.BILINEAR
# Grey of red, green and blue, over 65,536 and rounded, as Pillow has it: ITU-R BT.601.
LUMA = (19595, 38470, 7471)

_BLOCK_BYTES = 8 << 20  # of the images that are read before they are written


@runtime_checkable
class Images(Protocol):
    """Images of one size, read when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of all images: [sample, channel, height, width]; grey images are [sample, height, width]."""

    def __getitem__(self, chosen: slice) -> NDArray[np.uint8]: ...

    def recipe(self) -> dict[str, object]:
        """Return what the images are made from and how, as JSON."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StoredImages:
    """Images that are in memory."""

    pixels: UInt8[np.ndarray, "sample channel rows columns"]
    size: tuple[int, int]  # height, width
    channels: int | None  # 1 or 3; None: grey, without an axis of channels

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.pixels), *channel_axis(self.channels), *self.size)

    def __getitem__(self, chosen: slice) -> NDArray[np.uint8]:
        pixels = self.pixels[chosen]
        if self.channels != 3:
            pixels = luma(pixels)[:, None]
        if pixels.shape[2:] != self.size:
            pixels = _resized(pixels, self.size)
        if self.channels == 3 and pixels.shape[1] == 1:
            return np.repeat(pixels, 3, axis=1)
        return pixels[:, 0] if self.channels is None else pixels

    def recipe(self) -> dict[str, object]:
        pixels = np.ascontiguousarray(self.pixels)
        digest = hashlib.sha256(pixels.data).hexdigest() if pixels.size else ""
        return {"images": digest, "image_shape": pixels.shape, "size": self.size, "channels": self.channels}


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageFiles:
    """Images with one file each."""

    base: Path
    files: tuple[File, ...]
    size: tuple[int, int]  # height, width
    channels: int | None  # 1 or 3; None: grey, without an axis of channels
    rule: PixelRule = field(default_factory=PixelRule)  # of pictures that 8 bits cannot hold as they are

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *channel_axis(self.channels), *self.size)

    def __getitem__(self, chosen: slice) -> NDArray[np.uint8]:
        paths = [self.base / file.name for file in self.files[chosen]]
        pictures = [read_image(path, self.size, grey=self.channels != 3, rule=self.rule) for path in paths]
        return np.array(pictures, np.uint8).reshape(len(pictures), *self.shape[1:])

    def recipe(self) -> dict[str, object]:
        files = fingerprint(self.base, self.files)
        return {"files": files, "size": self.size, "channels": self.channels, "rule": asdict(self.rule)}


@dataclass(frozen=True, kw_only=True, slots=True)
class StillFrames:
    """Images of a split, shown in one time step each."""

    images: Images

    @property
    def shape(self) -> Shape:
        """The shape of all frames: [sample, 1, channel, height, width]."""
        samples, channels, height, width = self.images.shape
        return (samples, 1, channels, height, width)

    def recipe(self) -> dict[str, object]:
        return {**self.images.recipe(), "still_version": STILL_VERSION}

    @property
    def block_length(self) -> int:
        return max(1, _BLOCK_BYTES // int(np.prod(self.shape[1:])))

    @property
    def is_slow(self) -> bool:
        return isinstance(self.images, ImageFiles)

    @property
    def numbers(self) -> int:
        return 0

    def block(self, chosen: slice) -> Block:
        """Read the images chosen; nothing is counted of them."""
        frames = self.images[chosen][:, None]
        return Block(frames, np.empty((len(frames), 0), np.int64))


def channel_axis(channels: int | None) -> tuple[int, ...]:
    """Return the sizes that channels add to a shape: none where grey images have no axis of channels."""
    return () if channels is None else (channels,)


def luma(pixels: UInt8[np.ndarray, "sample channel rows columns"]) -> UInt8[np.ndarray, "sample rows columns"]:
    """Make images grey: ITU-R BT.601 weights of red, green and blue, in 16-bit integers like Pillow's."""
    if pixels.shape[1] == 1:
        return pixels[:, 0]
    red, green, blue = (pixels[:, channel] * np.uint32(weight) for channel, weight in enumerate(LUMA))
    return ((red + green + blue + 0x8000) >> 16).astype(np.uint8)


@contextmanager
def _pillow_warnings() -> Iterator[None]:
    """Refuse a picture that is too large, and pass over what is wrong with notes such as its camera's name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def read_image(path: Path, size: tuple[int, int], *, grey: bool, rule: PixelRule) -> NDArray[np.uint8]:
    """Read an image file as red, green and blue [channel, height, width], or as grey [height, width].

    It is scaled until it covers ``size`` (height, width), and its middle is taken: nothing is distorted.

    Raises:
        UserError: the file is damaged, or its pixels fit into 8 bits by no ``rule``.
    """
    try:
        with _pillow_warnings(), Image.open(path) as file:
            plain = eight_bit_picture(file, rule)
            picture = ImageOps.fit(plain.convert("L" if grey else "RGB"), size[::-1], RESAMPLING)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:  # what Pillow's parts raise at a damaged file, and pictures that are too large
        raise UserError(f"{path}: is no image that can be read ({error}); replace it, or remove it") from error
    pixels = np.asarray(picture)
    return pixels if grey else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _resized(pixels: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    planes = [
        np.asarray(ImageOps.fit(Image.fromarray(plane), size[::-1], RESAMPLING))
        for plane in pixels.reshape(-1, *pixels.shape[2:])
    ]
    return np.stack(planes).reshape(*pixels.shape[:2], *size)
