"""Turn a picture of any mode into one of 8 bits, or refuse it: no pixel is clipped, and no hidden colour shown."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageOps

from spquant_search.errors import UserError

MOST_WHITE = 65535  # of 16-bit pixels
_FEWEST_WHITE = 4096  # a picture without any brighter pixel would keep fewer than 16 of the 256 levels
_PLAIN = frozenset({"1", "L", "P", "RGB", "CMYK", "YCbCr", "HSV"})


@dataclass(frozen=True, kw_only=True, slots=True)
class PixelRule:
    """What a user says about pictures that 8 bits cannot hold as they are."""

    white: int | None = None  # 16-bit pixels of this value, and brighter ones, become 255; None: 65535
    background: str | None = None  # the colour behind transparent pixels; None: they are refused


def eight_bit_picture(picture: Image.Image, rule: PixelRule) -> Image.Image:
    """Return the picture, turned as its camera says, in a mode that converts to grey or to colours without loss.

    Pixels of 16 bits become round(255 * value / white). Transparent pixels show the background.

    Raises:
        UserError: no such rule fits the picture; the message does not name its file.
    """
    if getattr(picture, "is_animated", False):
        count = getattr(picture, "n_frames", 2)
        raise UserError(f"holds {count} pictures, and only one can be shown; save each as a file of its own")
    picture = ImageOps.exif_transpose(picture)
    transparent = picture.has_transparency_data
    if picture.mode.startswith("I") and not transparent:
        return _from_16_bits(picture, rule.white)
    if transparent and not picture.mode.startswith("I"):
        return _on_background(picture, rule.background)
    if picture.mode not in _PLAIN:
        why = {
            "F": "floating-point pixels (Pillow's mode F), and nothing says which value is white",
        }.get(picture.mode, f"pixels of Pillow's mode {picture.mode}{' with transparency' if transparent else ''}")
        raise UserError(f"has {why}; save it with 8 or 16 bits, grey or in colour")
    return picture


def _from_16_bits(picture: Image.Image, white: int | None) -> Image.Image:
    values = np.asarray(picture).astype(np.int64)
    least, most = int(values.min()), int(values.max())
    if least < 0 or most > MOST_WHITE:
        raise UserError(
            f"has pixels of 32 bits (Pillow's mode {picture.mode}) from {least} to {most}; save it with 8 or 16 bits"
        )
    if white is None and most < _FEWEST_WHITE:
        raise UserError(
            f"has pixels of 16 bits, the brightest {most} of {MOST_WHITE:,}: it would be almost black. Say which value "
            f"is white by data.white, for example white: {_next_power(most)}"
        )
    white = MOST_WHITE if white is None else white
    return Image.fromarray(np.minimum((values * 255 + white // 2) // white, 255).astype(np.uint8))


def _next_power(most: int) -> int:
    """Return the largest value of as many bits as the brightest pixel needs, at least eight: 255, 511, ... 4095."""
    return max(int(2 ** int(most).bit_length() - 1), 255)


def _on_background(picture: Image.Image, background: str | None) -> Image.Image:
    layers = picture.convert("RGBA")
    least, _ = layers.getchannel("A").getextrema()
    if least == 255:  # nothing is transparent: the colours are as they are seen
        return layers.convert("RGB")
    if background is None:
        raise UserError(
            f"has transparent pixels (mode {picture.mode}); say what is seen behind them by data.background: "
            "white or black"
        )
    behind = Image.new("RGBA", layers.size, background)
    return Image.alpha_composite(behind, layers).convert("RGB")
