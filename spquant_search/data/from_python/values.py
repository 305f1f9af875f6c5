"""Check the samples that a user's Python code gives, and turn them into bytes: whole numbers stay what they are.

An image is [channel, height, width] or [height, width], or a picture of Pillow's; frames are [time, channel, height,
width]. Nothing is guessed where a sample could be two things: :class:`Unfit` says what it looks like and what to
return instead.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from numpy.typing import NDArray
from PIL import Image

MOST_CHANNELS = 3  # of an image; and the most that tells channels from rows in an array of another order
LARGEST = 255
_WHOLE = 1e-5  # floating-point arithmetic leaves numbers so near to where they belong
_PICTURES = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB"}


class Unfit(Exception):
    """A sample or a label that cannot be taken, as a sentence with the remedy."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SampleForm:
    """What all samples of a set are alike in, found on the first one."""

    shape: tuple[int, ...]  # as given: [channel, height, width], [height, width] or [time, channel, height, width]
    time_steps: int  # of the frames that a network is shown
    unit: float = 1.0  # what values are multiplied by: 255 for images of floating-point values from 0 to 1

    @property
    def static(self) -> bool:
        """Tell whether a sample is an image, the same in every time step."""
        return len(self.shape) < 4

    @property
    def merged(self) -> int:
        """How many neighbouring frames are added to one."""
        return 1 if self.static else self.shape[0] // self.time_steps

    @property
    def frames(self) -> tuple[int, int, int, int]:
        """The shape of a sample's frames: [time, channel, height, width]."""
        if self.static:
            channels, height, width = (1, *self.shape) if len(self.shape) == 2 else self.shape
            return (1, channels, height, width)
        _, channels, height, width = self.shape
        return (self.time_steps, channels, height, width)

    @property
    def words(self) -> str:
        """Say what a sample is."""
        return f"{'images' if self.static else 'frames'} {list(self.shape)}"


def form_of(sample: object, time_steps: int) -> SampleForm:
    """Find out from one sample what all are.

    Raises:
        Unfit: it is no image, and no frames for so many time steps.
    """
    values = as_array(sample)
    _require_order(values.shape, time_steps)
    form = SampleForm(shape=values.shape, time_steps=time_steps)
    if form.static and values.dtype.kind == "f":
        largest = float(values.max(initial=0))
        return SampleForm(shape=values.shape, time_steps=time_steps, unit=LARGEST if largest <= 1 + _WHOLE else 1.0)
    return SampleForm(shape=values.shape, time_steps=time_steps, unit=LARGEST) if values.dtype.kind == "b" else form


def as_frames(sample: object, form: SampleForm) -> UInt8[np.ndarray, "time channel height width"]:
    """Turn a sample into bytes [time, channel, height, width]; counts end at 255.

    Raises:
        Unfit: it is not of this form, or holds values that bytes cannot hold as they are.
    """
    values = as_array(sample)
    if values.shape != form.shape:
        remedy = "bring all to one size" if len(values.shape) == len(form.shape) else "give all in one form"
        raise Unfit(f"has the shape {list(values.shape)}, and sample 0 of train {list(form.shape)}; {remedy}")
    return _pixels(values, form) if form.static else _counts(values, form)


def as_label(label: object) -> int:
    """Return the number of a class.

    Raises:
        Unfit: it is something else.
    """
    if isinstance(label, str | bytes):
        raise Unfit(f"has the label {label!r}; number the classes from 0, and return their names as a fourth value")
    try:
        number = np.asarray(_detached(label))
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unfit(f"has a label of type {type(label).__name__}; it must be a whole number") from error
    if number.ndim and number.size > 1 and number.dtype.kind in "iufb" and _is_one_hot(number):
        raise Unfit(f"has a label of {number.size} numbers, one of them 1; give its place, label.argmax()")
    if number.ndim:
        raise Unfit(f"has a label of the shape {list(number.shape)}; it must be one whole number, such as label.item()")
    if number.dtype.kind == "f":
        raise Unfit(f"has the label {number}, a floating-point number; give int(label)")
    if number.dtype.kind not in "iub":
        raise Unfit(f"has a label of type {type(label).__name__}; it must be a whole number")
    found = operator.index(number.item())
    if found < 0:
        raise Unfit(f"has the label {found}; number the classes from 0")
    return int(found)


def as_array(sample: object) -> NDArray[Any]:
    """Return the numbers of an array, a tensor or a picture.

    Raises:
        Unfit: it holds no numbers.
    """
    if isinstance(sample, Image.Image):
        return _picture(sample)
    name = type(sample).__name__
    if sample is None or isinstance(sample, str | bytes | dict | set) or np.isscalar(sample):
        raise Unfit(f"is of type {name}; give an array or a tensor")
    try:
        values = np.asarray(_detached(sample))
    except (TypeError, ValueError, RuntimeError) as error:
        raise Unfit(f"of type {name} makes no array ({error}); give an array of numpy or a tensor") from error
    if values.dtype.kind not in "biuf":
        raise Unfit(f"holds no numbers but {values.dtype}; give an array of numpy or a tensor")
    if values.size == 0:
        raise Unfit(f"is empty, of the shape {list(values.shape)}")
    return values


def _detached(value: Any) -> Any:
    """Bring a tensor to where numpy can read it, without a graph and from whatever device."""
    if hasattr(value, "detach") and hasattr(value, "cpu"):
        return value.detach().cpu().numpy()
    return value


def _picture(picture: Image.Image) -> NDArray[np.uint8]:
    mode = _PICTURES.get(picture.mode)
    if mode is None or picture.has_transparency_data:
        kind = " with transparent pixels" if picture.has_transparency_data else ""
        raise Unfit(f"is a picture of Pillow's mode {picture.mode}{kind}; convert it: picture.convert('RGB'), or 'L'")
    pixels = np.asarray(picture.convert(mode))
    channels_first = pixels[None] if mode == "L" else pixels.transpose(2, 0, 1)
    return np.ascontiguousarray(channels_first)


def _require_order(shape: tuple[int, ...], time_steps: int) -> None:
    """Refuse shapes that are no image and no frames, or may be either."""
    words = f"has the shape {list(shape)}"
    expected = "images are [channel, height, width] or [height, width], frames [time, channel, height, width]"
    if not 2 <= len(shape) <= 4:
        raise Unfit(f"{words}; {expected}")
    if len(shape) == 3:
        _require_image(shape, words)
    elif len(shape) == 4:
        _require_frames(shape, words, time_steps)


def _require_image(shape: tuple[int, ...], words: str) -> None:
    first, _, last = shape
    if first > MOST_CHANNELS >= last:
        raise Unfit(
            f"{words}, which looks like [height, width, channel]; give x.transpose(2, 0, 1) or permute(2, 0, 1)"
        )
    if first > MOST_CHANNELS:
        raise Unfit(
            f"{words}: if these are {first} time steps of one channel, give x[:, None]; an image has 1 to "
            f"{MOST_CHANNELS} channels (one with transparency: convert('RGB'))"
        )
    if last <= MOST_CHANNELS:
        raise Unfit(f"{words}, and nothing says which axis is the channels; make height and width larger")


def _require_frames(shape: tuple[int, ...], words: str, time_steps: int) -> None:
    steps, channels, _, last = shape
    if channels > MOST_CHANNELS >= last:
        raise Unfit(f"{words}, which looks like [time, height, width, channel]; give x.transpose(0, 3, 1, 2)")
    if steps <= MOST_CHANNELS < channels and steps % time_steps and channels % time_steps == 0:
        raise Unfit(f"{words}, which looks like [channel, time, height, width]; give x.swapaxes(0, 1)")
    if steps % time_steps:
        raise Unfit(
            f"{words}: {steps} time steps, where {time_steps} or a multiple of it are needed (time_steps); give so "
            "many, which the function may take as its argument time_steps, or an image [channel, height, width]"
        )


def _pixels(values: NDArray[Any], form: SampleForm) -> UInt8[np.ndarray, "1 channel height width"]:
    least, most = _range(values)
    if least < 0:
        raise Unfit(f"has pixels from {least:g} to {most:g}; give it without Normalize: pixels are 0 to 255, or 0 to 1")
    if values.dtype.kind == "f" and form.unit == LARGEST:
        if most > 1:
            raise Unfit(f"has pixels up to {most:g}, and sample 0 of train from 0 to 1; give all in one scale")
        values = np.rint(values.astype(np.float64) * LARGEST)
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8) * LARGEST
    elif form.unit == LARGEST:
        raise Unfit(f"has pixels of {values.dtype}, and sample 0 of train others, from 0 to 1; give all in one scale")
    if most > LARGEST:
        raise Unfit(f"has pixels up to {most:g}; bring them to 0 to 255 before they are given")
    if (at := _fraction(values)) is not None:
        raise Unfit(
            f"has a pixel of {at:g}, while others are above 1; give whole numbers from 0 to 255, or all from 0 to 1, "
            "and without Normalize"
        )
    return values.astype(np.uint8).reshape(form.frames)


def _counts(values: NDArray[Any], form: SampleForm) -> UInt8[np.ndarray, "time channel height width"]:
    least, most = _range(values)
    if least < 0:
        raise Unfit(f"has counts from {least:g} to {most:g}; count OFF and ON events in a channel each, from 0")
    if (at := _fraction(values)) is not None:
        raise Unfit(
            f"has a count of {at:g}, from 0 to {most:g} in all, and events are counted in whole numbers; give the "
            "counts as they are, without a mean, an interpolation or Normalize"
        )
    # Ended at 255 before and after frames are added, so that no sum is too large for its type.
    ended = np.minimum(values, LARGEST).astype(np.int64)
    steps = form.time_steps
    added = ended.reshape(steps, form.merged, *values.shape[1:]).sum(axis=1)
    counts: NDArray[np.uint8] = np.minimum(added, LARGEST).astype(np.uint8)
    return counts


def _range(values: NDArray[Any]) -> tuple[float, float]:
    """Return the least and the largest value, those of rounding put to where they belong."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Unfit(f"holds {int((~np.isfinite(values)).sum()):,} values that are no finite numbers (NaN or infinite)")
    least, most = float(values.min()), float(values.max())
    return (0.0 if -_WHOLE <= least < 0 else least), (1.0 if 1 < most <= 1 + _WHOLE else most)


def _fraction(values: NDArray[Any]) -> float | None:
    """Return the first value that is no whole number; None where there is none."""
    if values.dtype.kind != "f":
        return None
    found = values[values != np.rint(values)]
    return float(found[0]) if found.size else None


def _is_one_hot(number: NDArray[Any]) -> bool:
    return bool(np.isin(number, (0, 1)).all() and number.sum() == 1)
