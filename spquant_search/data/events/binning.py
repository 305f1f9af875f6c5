"""Check, crop and denoise the events of a recording, and count them into frames, without a loop over events."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int64, UInt8
from numpy.typing import NDArray

from spquant_search.data.cache import Block, Shape
from spquant_search.data.file_listing import File, fingerprint
from spquant_search.errors import UserError

# Raise this with every change that alters a frame: cached frames of the old code are then no longer used.
BINNING_VERSION = 1
# What each channel of a frame counts.
POLARITY_CHANNELS = {"both": ("OFF", "ON"), "sum": ("OFF + ON",), "both-and-sum": ("OFF", "ON", "OFF + ON")}
MOST_COUNTED = 255  # of one pixel and channel in one time step

LONGEST_SPAN_US = 100 * 365 * 24 * 3600 * 10**6
BLOCK_BYTES = 8 << 20  # of the frames that are made before they are written


class Events(NamedTuple):
    """The events of one recording in the order of their file, one array [event] each."""

    x: NDArray[np.int64]  # pixels from the left
    y: NDArray[np.int64]  # pixels from the top
    t: NDArray[np.int64]  # microseconds
    p: NDArray[np.int64]  # 0 = OFF (darker), 1 = ON (brighter)

    def chosen(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Events:
        """Return the events that a mask or an array of indices chooses."""
        return Events(*(values[which] for values in self))


Reader = Callable[..., Events]  # takes a path, and options by name


@dataclass(frozen=True, kw_only=True, slots=True)
class Binning:
    """The way from events to frames; sizes are (height, width) in pixels."""

    sensor: tuple[int, int]
    crop: tuple[int, int]  # of the middle of the sensor
    size: tuple[int, int]  # of a frame; the pixels of the crop are merged evenly
    polarity: str
    window_us: int | None  # None: steps are equal parts of the recording
    first_windows: int | None  # that are seen; None: as many as time_steps
    denoise_us: int | None
    sort_events: bool
    time_steps: int

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of a sample's frames: [time, channel, height, width]."""
        return (self.time_steps, len(POLARITY_CHANNELS[self.polarity]), *self.size)

    @property
    def step_us(self) -> int | None:
        """The length of a time step; None where it is a part of the recording's."""
        if self.window_us is None:
            return None
        return self.window_us * ((self.first_windows or self.time_steps) // self.time_steps)

    @property
    def corner(self) -> tuple[int, int]:
        """The (row, column) of the sensor that is the crop's first."""
        return ((self.sensor[0] - self.crop[0]) // 2, (self.sensor[1] - self.crop[1]) // 2)


@dataclass(frozen=True, kw_only=True, slots=True)
class RecordedFrames:
    """The recordings of a split, and how they are read and counted."""

    base: Path
    files: tuple[File, ...]
    read: Callable[..., Any]  # a Reader, or one of other values that `count` takes
    count: Callable[..., Counted]  # :func:`count_events`, or one like it
    binning: Binning
    read_options: Mapping[str, object] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        """The shape of all frames: [sample, time, channel, height, width]."""
        return (len(self.files), *self.binning.shape)

    def recipe(self) -> dict[str, object]:
        """Return everything that shapes the frames, as JSON; a file counts as changed when its size or time changes.

        The name of the reader says how a file is counted, too.
        """
        return {
            "files": fingerprint(self.base, self.files),
            "reader": self.read.__name__,
            "read_options": dict(self.read_options),
            "binning": asdict(self.binning),
            "binning_version": BINNING_VERSION,
        }

    @property
    def block_length(self) -> int:
        return max(1, BLOCK_BYTES // int(np.prod(self.binning.shape)))

    @property
    def is_slow(self) -> bool:
        return True

    @property
    def numbers(self) -> int:
        return self.binning.time_steps + 1

    def block(self, chosen: slice) -> Block:
        """Read the recordings chosen, make their frames, and count the events of each and those left out."""
        files = self.files[chosen]
        frames = np.empty((len(files), *self.binning.shape), np.uint8)
        counts = np.empty((len(files), self.numbers), np.int64)
        for number, file in enumerate(files):
            path = self.base / file.name
            recording = self.read(path, **self.read_options)
            frames[number], counts[number] = self.count(recording, self.binning, source=path)
        return Block(frames, counts)


class Counted(NamedTuple):
    """One recording as frames, whose counts end at 255, and how many events are in each step, and in none."""

    frames: UInt8[np.ndarray, "time channel height width"]
    events: Int64[np.ndarray, " number"]  # of each time step, and then those left out


def count_events(events: Events, binning: Binning, *, source: Path) -> Counted:
    """Count events in equal parts of the time from the first to the last event, or in windows from the first on.

    Channels are OFF and ON (``both``), their sum (``sum``), or OFF, ON and their sum (``both-and-sum``).
    """
    events = _checked(events, binning, source)
    begin, span = int(events.t[0]), int(events.t[-1]) - int(events.t[0]) + 1
    if span > LONGEST_SPAN_US:
        words = f"the first event is at {begin} us and the last at {events.t[-1]} us, a century later or more"
        raise UserError(f"{source}: {words}; correct the times, or remove the file")
    if binning.denoise_us is not None:
        events = events.chosen(backed_by_neighbours(events, binning.sensor[1], binning.denoise_us))
    events = _cropped(events, binning)
    if not len(events.t):
        raise UserError(f"{source}: no event is left by crop and denoise_us; choose a larger crop or a longer time")
    (crop_height, crop_width), (height, width) = binning.crop, binning.size
    # Events are in the order of time, so that those of a step need not be looked for one by one.
    before_end = np.searchsorted(events.t - begin, _ends_of_steps(binning, span))
    seen = int(before_end[-1])
    by_step = before_end.copy()
    by_step[1:] -= before_end[:-1]
    step = np.repeat(np.arange(binning.time_steps), by_step)
    row, column = events.y[:seen] * height // crop_height, events.x[:seen] * width // crop_width
    cells = ((step * 2 + events.p[:seen]) * height + row) * width + column
    shape = (binning.time_steps, 2, height, width)
    counts = np.bincount(cells, minlength=int(np.prod(shape))).reshape(shape)
    frames = np.minimum(in_channels(counts, binning.polarity), MOST_COUNTED).astype(np.uint8)
    return Counted(frames, np.append(by_step, len(events.t) - seen))


def in_channels(
    counts: Int64[np.ndarray, "time polarity height width"], polarity: str
) -> Int64[np.ndarray, "time channel height width"]:
    """Return counts of OFF and ON as the channels that ``data.polarity`` names."""
    if polarity == "both":
        return counts
    total = counts.sum(1, keepdims=True)
    return total if polarity == "sum" else np.concatenate([counts, total], axis=1)


def _ends_of_steps(binning: Binning, span: int) -> Int64[np.ndarray, " time"]:
    """Return where each time step ends, in us after the first event of a recording of ``span`` us."""
    # As Python's numbers: products of times with the number of steps may be too large for 64 bits.
    numbers = range(1, binning.time_steps + 1)
    if (step_us := binning.step_us) is not None:
        return np.array([min(number * step_us, LONGEST_SPAN_US) for number in numbers], np.int64)
    return np.array([-(-number * span // binning.time_steps) for number in numbers], np.int64)


def backed_by_neighbours(events: Events, width: int, window_us: int) -> Bool[np.ndarray, " event"]:
    """Tell which events one of the four neighbouring pixels backs; ``width`` is the sensor's, in pixels.

    A pixel backs an event by an event of its own at the same time or less than ``window_us`` before: the background
    activity filter of Delbruck (2008).
    """
    row = width + 2  # a rim of pixels without events: the neighbours of an edge are not those of the next row
    pixel = (events.y + 1) * row + events.x + 1
    # Times by their rank, which with the pixel makes a number of 64 bits, however long a recording is.
    times, rank = np.unique(events.t, return_inverse=True)
    first = np.searchsorted(times, events.t - (window_us - 1))
    moments = np.sort(pixel * len(times) + rank)
    backed = np.zeros(len(rank), np.bool_)
    for neighbour in (-row, -1, 1, row):
        start = (pixel + neighbour) * len(times)
        latest = np.searchsorted(moments, start + rank, side="right") - 1
        backed |= (latest >= 0) & (moments[latest] >= start + first)
    return backed


def _cropped(events: Events, binning: Binning) -> Events:
    (height, width), (top, left) = binning.crop, binning.corner
    if binning.crop == binning.sensor:
        return events
    y, x = events.y - top, events.x - left
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    return events._replace(x=x, y=y).chosen(inside)


def _checked(events: Events, binning: Binning, source: Path) -> Events:
    """Return the events in the order of time; raise UserError with all that is wrong with them."""
    height, width = binning.sensor
    if not len(events.t):
        raise UserError(f"{source}: holds no events; get the file again, or remove it")
    problems = []
    for axis, values, size in (("x", events.x, width), ("y", events.y, height), ("polarity", events.p, 2)):
        outside = np.flatnonzero((values < 0) | (values >= size))
        if len(outside):
            problems.append(f"event {outside[0]} has {axis} {values[outside[0]]}, where 0 to {size - 1} are possible")
    backwards = np.flatnonzero(np.diff(events.t) < 0)
    if len(backwards) and binning.sort_events:
        events = events.chosen(np.argsort(events.t, kind="stable"))
    elif len(backwards):
        at = int(backwards[0])
        problems.append(
            f"time runs backwards from {events.t[at]} us (event {at}) to {events.t[at + 1]} us; "
            "sort_events: true puts events in order"
        )
    if problems:
        raise UserError(f"{source}: {'; '.join(problems)}. Get the file again if it is damaged, or remove it")
    return events
