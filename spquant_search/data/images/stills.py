"""Bring still images to one size, from files or from memory, and show them as frames of one time step."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image, ImageOps

from spquant_search.data.cache import Frames, Shape
from spquant_search.data.file_listing import File, fingerprint
from spquant_search.data.images.pixels import PixelRule, eight_bit_picture
from spquant_search.errors import UserError

IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"})
# Raise this with every change that alters a pixel: cached frames of the old code are then no longer used.
STILL_VERSION = 2

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
    """Images with one file each."""

    base: Path
    files: tuple[File, ...]
    size: tuple[int, int]  # height, width
    grey: bool = False
    rule: PixelRule = field(default_factory=PixelRule)  # of pictures that 8 bits cannot hold as they are

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.files), *(() if self.grey else (3,)), *self.size)

    def __getitem__(self, chosen: slice) -> NDArray[np.uint8]:
        paths = [self.base / file.name for file in self.files[chosen]]
        pictures = [read_image(path, self.size, grey=self.grey, rule=self.rule) for path in paths]
        return np.stack(pictures) if pictures else np.empty((0, *self.shape[1:]), np.uint8)

    def recipe(self) -> dict[str, object]:
        files = fingerprint(self.base, self.files)
        return {"files": files, "size": self.size, "grey": self.grey, "rule": asdict(self.rule)}


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

    def frames(self, chosen: slice) -> Frames:
        """Read the images chosen."""
        return self.images[chosen][:, None]


def luma(pixels: UInt8[np.ndarray, "sample channel rows columns"]) -> UInt8[np.ndarray, "sample rows columns"]:
    """Make images grey: ITU-R BT.601 weights of red, green and blue, in 16-bit integers like Pillow's."""
    if pixels.shape[1] == 1:
        return pixels[:, 0]
    red, green, blue = (pixels[:, channel].astype(np.uint32) for channel in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)


def read_image(path: Path, size: tuple[int, int], *, grey: bool, rule: PixelRule) -> NDArray[np.uint8]:
    """Read an image file as red, green and blue [channel, height, width], or as grey [height, width].

    It is scaled until it covers ``size`` (height, width), and its middle is taken: nothing is distorted.

    Raises:
        UserError: the file is damaged, or its pixels fit into 8 bits by no ``rule``.
    """
    try:
        with Image.open(path) as file:
            plain = eight_bit_picture(file, rule)
            picture = ImageOps.fit(plain.convert("L" if grey else "RGB"), size[::-1], Image.Resampling.BILINEAR)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
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
