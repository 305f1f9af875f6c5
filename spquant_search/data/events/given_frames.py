"""Read frames that another program has made of recordings: SpikingJelly's ``frames_number_*`` and ``duration_*``.

Such a file is an .npz with an array ``frames`` [time, 2, height, width], whose channel 0 counts events of polarity 0
(OFF), channel 1 those of polarity 1 (ON), as numbers of any type.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from spquant_search.data.events.binning import MOST_COUNTED, Binning, Counted, in_channels
from spquant_search.data.events.event_columns import names_of_axes
from spquant_search.data.events.numpy_files import FRAMES_KEY, opened_archive
from spquant_search.data.events.refusals import unfit
from spquant_search.errors import UserError

_MOST = 2**31  # events of one pixel; more are a damaged number


def holds_frames(path: Path) -> bool:
    """Tell whether a recording is frames that another program has made; one that cannot be read is not."""
    if path.suffix.lower() != ".npz":
        return False
    try:
        with opened_archive(path) as archive:
            return _names_frames(archive.files)
    except UserError:
        return False


def _names_frames(names: Sequence[str]) -> bool:
    return FRAMES_KEY in names and not names_of_axes(names)


def read_given_frames(path: Path) -> NDArray[Any]:
    """Read the frames of a file, for :func:`sum_frames`.

    Raises:
        UserError: the file is damaged, or holds events.
    """
    if path.suffix.lower() == ".npz":
        with opened_archive(path) as archive:
            if _names_frames(archive.files):
                return np.asarray(archive[FRAMES_KEY])
    raise UserError(
        f"{path}: holds no array {FRAMES_KEY!r}, as other files of data.root do; keep frames and events in folders of "
        "their own"
    )


def sum_frames(given: NDArray[Any], binning: Binning, *, source: Path) -> Counted:
    """Sum neighbouring frames to time steps, and neighbouring pixels to those of a frame; counts end at 255.

    Without ``first_windows`` all frames of a file are shared out to the steps; with it the first so many, and a file
    with fewer has empty last steps.

    Raises:
        UserError: the frames are none, or cannot be shared out.
    """
    whole = _checked(given, binning.sensor, source)
    (top, left), (height, width) = binning.corner, binning.crop
    whole = whole[:, :, top : top + height, left : left + width]
    if not whole.any():
        raise UserError(f"{source}: its frames hold no event{_within(binning)}; remove it")
    steps, seen = binning.time_steps, binning.first_windows or len(whole)
    if seen % steps:
        raise UserError(
            f"{source}: holds {seen} frames, which {steps} time_steps cannot share equally; set time_steps to "
            f"{' or '.join(map(str, _divisors_near(seen, steps)))}, or data.first_windows to the number of frames that "
            f"are seen of each recording, such as {max(1, seen // steps) * steps}"
        )
    left_out = int(whole[seen:].sum())
    missing = max(0, seen - len(whole))
    counts = np.pad(whole[:seen], ((0, missing), (0, 0), (0, 0), (0, 0)))
    counts = counts.reshape(steps, seen // steps, *counts.shape[1:]).sum(axis=1)
    for axis, (pixels, most) in enumerate(zip(binning.size, binning.crop, strict=True), start=2):
        counts = np.add.reduceat(counts, [-(-number * most // pixels) for number in range(pixels)], axis=axis)
    events = np.append(counts.sum(axis=(1, 2, 3)), left_out)
    return Counted(np.minimum(in_channels(counts, binning.polarity), MOST_COUNTED).astype(np.uint8), events)


def _checked(given: NDArray[Any], sensor: tuple[int, int], source: Path) -> Int64[np.ndarray, "time 2 row column"]:
    """Return frames as whole numbers; raise UserError where they are no counts of this sensor's events."""
    if given.ndim != 4 or given.shape[1:] != (2, *sensor) or not len(given):
        raise unfit(
            source,
            f"its frames have the shape {list(given.shape)}, where [time, 2, {sensor[0]}, {sensor[1]}] is needed: two "
            f"polarities, and the height and width of data.sensor",
        )
    if given.dtype.kind not in "iufb":
        raise unfit(source, f"its frames hold no numbers but {given.dtype}")
    values = given.astype(np.float64)  # the smallest numbers of all have no 2**31 to be compared with
    for wrong, rule in (
        (~np.isfinite(values), "are finite"),
        (values != np.floor(values), "are whole numbers (were these frames normalised?)"),
        (values < 0, "are not negative"),
        (values > _MOST, f"are at most {_MOST}"),
    ):
        if wrong.any():
            at = np.argwhere(wrong)[0]
            raise unfit(source, f"its frames hold {given[tuple(at)]} at {at.tolist()}, and counts of events {rule}")
    return given.astype(np.int64)


def _within(binning: Binning) -> str:
    return "" if binning.crop == binning.sensor else " within data.crop"


def _divisors_near(count: int, steps: int) -> list[int]:
    """Return the divisors of ``count`` next below and above ``steps``."""
    divisors = [number for number in range(1, count + 1) if count % number == 0]
    below, above = [number for number in divisors if number < steps], [number for number in divisors if number > steps]
    return [*below[-1:], *above[:1]]
