"""Measure a loaded data set (samples, events, zeros, files in the cache), and choose samples of it to show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int32, Int64, UInt8
from numpy import ndarray

from spquant_search.data.cache import check_every_byte
from spquant_search.data.crowding import crowded_samples, share_of_fullest
from spquant_search.data.loading import SPLITS, DataSet, Split
from spquant_search.data.windows import MOST, Windows, ended_early, left_out_shares

_BLOCK_BYTES = 32 << 20  # of frames that are read together
_ROWS, _COLUMNS = 8, 10  # of the picture; samples in a larger one would be too small to see


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A quantity over the samples of a split; ``deviation`` is the standard deviation of the population."""

    mean: float
    deviation: float
    min: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StepStatistics:
    """Figures of recordings as a network of some time steps is shown them, which sums neighbouring frames.

    ``density`` is the share of values that are not zero, ``clamped`` the share of values above the largest that it is
    shown, and ``lost`` the share of all counts that are beyond it, and so are not shown.
    """

    time_steps: int
    density: float
    clamped: float
    lost: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitStatistics:
    """Figures of a split's frames.

    ``events`` are the events of a recording that are counted into its frames, after crop and denoising. ``pixels`` is
    the mean value of an image's pixels. ``fullest`` is the share of a recording's events in its fullest frame, in
    ``crowded`` are the files with nearly all events in one or two frames. Where steps are windows of time,
    ``left_out`` is the share of a recording's events that come after the last one, ``cut_short`` are the files that
    lose more than half of theirs, and ``ended_early`` recordings have no event in the last step, nor after it.
    ``density`` is the share of values that are not zero, ``clamped`` the share of values above the largest that a
    network is shown, both in the most time steps; ``by_time_steps`` has those of every number of steps, the most last.
    Images have none, as they are the same in every step.
    """

    samples: int
    samples_by_class: tuple[int, ...]
    events: Summary | None
    pixels: Summary | None
    fullest: Summary | None
    crowded: tuple[str, ...]
    left_out: Summary | None
    cut_short: tuple[str, ...]
    ended_early: int | None
    density: float
    clamped: float
    file: str
    bytes: int
    by_time_steps: tuple[StepStatistics, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class DataStatistics:
    """Figures of a data set and of each split, by its name."""

    name: str
    description: str
    classes: tuple[str, ...]
    time_steps: int  # of the frames
    steps_shown: tuple[int, ...]  # to networks: divisors of it, the most last
    channels: int
    height: int
    width: int
    static: bool
    largest: int
    splits: tuple[tuple[str, SplitStatistics], ...]
    windows: Windows | None = None  # that are seen of each recording; None: all of it
    notes: tuple[str, ...] = ()  # what a user should know of its files and splits

    @property
    def cache_bytes(self) -> int:
        """The bytes of all its files in the cache."""
        return sum(split.bytes for _, split in self.splits)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON, with the samples of a class by its name."""
        splits = {}
        for name, split in self.splits:
            by_class = dict(zip(self.classes, split.samples_by_class, strict=True))
            splits[name] = asdict(split) | {"samples_by_class": by_class}
        return asdict(self) | {"splits": splits, "cache_bytes": self.cache_bytes}


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Samples to show: a row for each of some classes.

    ``columns`` are numbers of time steps, from 1 on. Images are the same in every step, so their columns are samples.
    """

    classes: tuple[str, ...]
    columns: tuple[int, ...]
    frames: UInt8[ndarray, "row column channel height width"]


def dataset_statistics(loaded: DataSet, time_steps: Sequence[int] = ()) -> DataStatistics:
    """Measure every split of a data set.

    Args:
        time_steps: that networks are shown, divisors of those of the frames; without any, those.

    Raises:
        UserError: a file of frames is not as it was written; all of them are read.
    """
    shown = tuple(time_steps) or (loaded.time_steps,)
    splits: dict[str, Split] = {name: getattr(loaded, name) for name in SPLITS}
    measured = {name: _split_statistics(loaded, split, shown) for name, split in splits.items()}
    return DataStatistics(
        name=loaded.name,
        description=loaded.description,
        classes=loaded.classes,
        time_steps=loaded.time_steps,
        steps_shown=shown,
        channels=loaded.channels,
        height=loaded.height,
        width=loaded.width,
        static=loaded.static,
        largest=loaded.largest,
        splits=tuple(measured.items()),
        windows=loaded.windows,
        notes=loaded.notes,
    )


def _split_statistics(loaded: DataSet, split: Split, shown: tuple[int, ...]) -> SplitStatistics:
    check_every_byte(split.frames)
    file = Path(str(getattr(split.frames, "filename", "")))
    totals = _totals(split, shown, static=loaded.static, largest=loaded.largest)
    counts = split.events
    return SplitStatistics(
        samples=len(split.labels),
        samples_by_class=tuple(np.bincount(split.labels, minlength=len(loaded.classes)).tolist()),
        events=None if counts is None else _summary(counts.sum(axis=1)),
        pixels=None if totals.pixels is None else _summary(totals.pixels),
        fullest=None if counts is None else _summary(share_of_fullest(counts, 1)),
        crowded=() if counts is None else tuple(split.file_of(at) for at in crowded_samples(counts)),
        **_losses(split, loaded.windows),
        density=totals.of_frames.nonzero / split.frames.size,
        clamped=totals.of_frames.clamped / split.frames.size,
        file=str(file),
        bytes=file.stat().st_size,
        by_time_steps=() if loaded.static else totals.by_steps(split.frames.size),
    )


def _losses(split: Split, windows: Windows | None) -> dict[str, Any]:
    """Return what windows leave out of the recordings of a split."""
    if windows is None or split.events is None or split.left_out is None:
        return {"left_out": None, "cut_short": (), "ended_early": None}
    shares = left_out_shares(split.events, split.left_out)
    return {
        "left_out": _summary(shares),
        "cut_short": tuple(split.file_of(at) for at in np.flatnonzero(shares > MOST).tolist()),
        "ended_early": int(ended_early(split.events, split.left_out).sum()),
    }


def _summary(values: Float[np.ndarray, " sample"] | Int64[np.ndarray, " sample"]) -> Summary:
    return Summary(
        mean=float(values.mean()), deviation=float(values.std()), min=float(values.min()), max=float(values.max())
    )


class _Values(NamedTuple):
    """How many values are not zero and too large, their sum, and the sum of what is beyond the largest shown."""

    nonzero: int = 0
    clamped: int = 0
    total: int = 0
    beyond: int = 0

    def and_those_of(self, values: UInt8[np.ndarray, "..."] | Int32[np.ndarray, "..."], largest: int) -> _Values:
        above = values[values > largest]
        sums = values.sum(dtype=np.int64), (above - largest).sum(dtype=np.int64)
        found = (np.count_nonzero(values), len(above), *sums)
        return _Values(*(before + int(more) for before, more in zip(self, found, strict=True)))


class _Totals(NamedTuple):
    """What the pixels of each image are, and the values of the whole split by the time steps of a network."""

    pixels: Float[np.ndarray, " sample"] | None  # of images: the mean value
    values: dict[int, _Values]  # the most steps last

    @property
    def of_frames(self) -> _Values:
        return self.values[max(self.values)]

    def by_steps(self, size: int) -> tuple[StepStatistics, ...]:
        """Return the figures of each number of time steps; the frames have ``size`` values."""
        most = max(self.values)
        return tuple(
            StepStatistics(
                time_steps=steps,
                density=found.nonzero * most / (size * steps),
                clamped=found.clamped * most / (size * steps),
                lost=found.beyond / max(found.total, 1),
            )
            for steps, found in self.values.items()
        )


def _totals(split: Split, shown: tuple[int, ...], *, static: bool, largest: int) -> _Totals:
    samples, values = len(split.frames), {steps: _Values() for steps in (shown[-1:] if static else shown)}
    pixels = np.empty(samples) if static else None
    length = max(1, _BLOCK_BYTES // int(np.prod(split.frames.shape[1:])))
    for start in range(0, samples, length):
        block = split.frames[start : start + length]
        values = {
            steps: found.and_those_of(block if static else _summed(block, steps), largest)
            for steps, found in values.items()
        }
        if pixels is not None:
            pixels[start : start + length] = block.sum(axis=(1, 2, 3, 4), dtype=np.int64) / block[0].size
    return _Totals(pixels, values)


def _summed(
    frames: UInt8[np.ndarray, "sample time channel height width"], steps: int
) -> UInt8[np.ndarray, "..."] | Int32[np.ndarray, "..."]:
    """Add neighbouring frames, as a network of so many time steps is shown them."""
    samples, made, *rest = frames.shape
    return frames if made == steps else frames.reshape(samples, steps, made // steps, *rest).sum(axis=2, dtype=np.int32)


def examples(loaded: DataSet) -> Examples:
    """Choose the first training sample of some classes in some time steps, evenly where there are many.

    Images are the same in every time step, so the first samples of each class are chosen.
    """
    labels = loaded.train.labels
    classes = _evenly(len(loaded.classes), _ROWS)
    found = [np.flatnonzero(labels == label) for label in classes]
    present = [(label, samples) for label, samples in zip(classes, found, strict=True) if len(samples)]
    if loaded.static:
        count = min(_COLUMNS, *(len(samples) for _, samples in present))
        columns = list(range(count))
        frames = [loaded.train.frames[samples[:count], 0] for _, samples in present]
    else:
        columns = _evenly(loaded.time_steps, _COLUMNS)
        frames = [loaded.train.frames[samples[0]][columns] for _, samples in present]
    return Examples(
        classes=tuple(loaded.classes[label] for label, _ in present),
        columns=tuple(column + 1 for column in columns),
        frames=np.stack(frames),
    )


def _evenly(count: int, most: int) -> list[int]:
    """Choose all numbers from 0 to ``count`` - 1, or ``most`` of them."""
    return [round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()]
