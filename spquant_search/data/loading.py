"""Data sets as frames: uint8 values [sample, time, channel, height, width], made once and cached on disk.

    events = load("fashion-events", time_steps=6)
    events.train.frames[0]   # [time, channel, height, width]; channel 0 counts OFF events, 1 ON events

`fashion-events` is simulated (see `saccades`) from images that come with the package. All others are read from a
folder of the user's, `options.root`; nothing is ever downloaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from spquant_search.data.building import FrameSource, frame_blocks
from spquant_search.data.cache import Frames, cache_path, read_or_build
from spquant_search.data.catalog import (
    EVENT_FOLDER,
    LARGEST_COUNT,
    SETS,
    DataInfo,
    describe,
    recorded_size,
)
from spquant_search.data.events import tonic_readers
from spquant_search.data.events.binning import Binning, Reader, RecordedFrames
from spquant_search.data.events.event_files import read_event_file
from spquant_search.data.images.stills import ImageFiles, Images, StillFrames, StoredImages
from spquant_search.data.layouts import SampleIndex, find_samples
from spquant_search.data.simulation.simulated import MOST_TIME_STEPS, SimulatedFrames, camera_for, fashion_mnist
from spquant_search.errors import OptionError, Problem
from spquant_search.runs.files import cache_folder
from spquant_search.space.schema import DataSpace

SPLITS: tuple[str, ...] = ("train", "validation", "test")
Progress = Callable[[int, int], None]  # samples done so far, samples in all

_READERS: dict[str, Reader] = {
    "nmnist": tonic_readers.read_bin,
    "n-caltech101": tonic_readers.read_bin,
    "cifar10-dvs": tonic_readers.read_aedat4,
    "dvs-gesture": tonic_readers.read_gesture,
    EVENT_FOLDER: read_event_file,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Samples for one purpose, in a fixed random order; every prefix is class-balanced to within one sample."""

    frames: UInt8[np.ndarray, "sample time channel height width"]  # memory-mapped, read-only
    labels: Int64[np.ndarray, " sample"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A loaded data set; `classes[label]` is the name of a label.

    A `static` one has a single frame a sample, which stands for each of the `time_steps`.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    time_steps: int
    train: Split
    validation: Split
    test: Split
    largest: int = LARGEST_COUNT  # of the values that a network shall see: larger ones are to be clamped to it
    static: bool = False

    @property
    def channels(self) -> int:
        return int(self.train.frames.shape[2])

    @property
    def height(self) -> int:
        return int(self.train.frames.shape[3])

    @property
    def width(self) -> int:
        return int(self.train.frames.shape[4])


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stored:
    """A split before it is binned. `build` takes how many samples, and the number of the first."""

    labels: Int64[np.ndarray, " sample"]
    build: Callable[[int, int], FrameSource]


def load(
    name: str,
    *,
    time_steps: int,
    options: DataSpace | None = None,
    cache_dir: Path | None = None,
    limit: Mapping[str, int] | None = None,
    progress: Progress | None = None,
    processes: int = 1,
) -> DataSet:
    """The data set in frames, each one of `time_steps` equal parts of a recording; from the cache, or made now.

    `options` say where it is and how it becomes frames (its counts of samples are not looked at). `limit` takes only
    the first samples of a split, by its name: {"train": 256}. Without `cache_dir` the cache is in
    `runs.files.cache_folder()`. `progress` is called with the samples done so far and those of all splits. So
    many `processes` make the frames of large splits (see `building.frame_blocks`).
    """
    options = options or DataSpace(name=name)
    info = describe(name, options)
    stored = _open(info, options, time_steps)
    longest = MOST_TIME_STEPS if name == "fashion-events" or options.as_events else None
    available = {split: len(part.labels) for split, part in stored.items()}
    counts = _sample_counts(time_steps, longest, limit or {}, available)
    counter = _Counter(progress, total=sum(counts.values()))
    splits: dict[str, Split] = {}
    first_number = 0
    for split, part in stored.items():
        build = part.build(counts[split], first_number)
        path = cache_path(cache_dir or cache_folder(), f"{name}-{split}", build.recipe())
        frames = _frames(build, path, counter, processes)
        splits[split] = Split(frames=frames, labels=part.labels[: counts[split]])
        first_number += len(part.labels)
    return DataSet(
        name=name,
        description=info.description,
        classes=info.classes,
        time_steps=time_steps,
        largest=info.largest,
        static=info.static,
        **splits,
    )


def _open(info: DataInfo, options: DataSpace, time_steps: int) -> dict[str, _Stored]:
    """Each split of a data set, found and ready to be binned."""
    if SETS[info.name].kind == "package":
        return {
            split: _Stored(
                labels=labels.astype(np.int64),
                build=lambda count, first, images=images: SimulatedFrames(  # type: ignore[misc]
                    images=images[:count], first_number=first, time_steps=time_steps
                ),
            )
            for split, (images, labels) in fashion_mnist().items()
        }
    found = find_samples(info.name, options)
    return {
        split: _Stored(labels=found.labels[order], build=_builder(info, options, found, order, time_steps))
        for split, order in found.splits.items()
    }


def _builder(
    info: DataInfo, options: DataSpace, found: SampleIndex, order: Int64[np.ndarray, " sample"], time_steps: int
) -> Callable[[int, int], FrameSource]:
    def build(count: int, first_number: int) -> FrameSource:
        chosen = order[:count]
        if SETS[info.name].kind == "events":
            files = tuple(found.files[index] for index in chosen)
            binning = _binning(info, options, time_steps)
            return RecordedFrames(
                base=found.base,
                files=files,
                read=_READERS[info.name],
                binning=binning,
                read_options=_read_options(info.name, options),
            )
        images = _images(info, options, found, chosen)
        if info.static:
            return StillFrames(images=images)
        camera = camera_for((images.shape[1], images.shape[2]))
        return SimulatedFrames(images=images, first_number=first_number, time_steps=time_steps, camera=camera)

    return build


def _read_options(name: str, options: DataSpace) -> dict[str, str | None]:
    return {"time_unit": options.time_unit, "columns": options.columns} if name == EVENT_FOLDER else {}


def _binning(info: DataInfo, options: DataSpace, time_steps: int) -> Binning:
    sensor = recorded_size(info.name, options)
    return Binning(
        sensor=sensor,
        crop=options.crop or sensor,
        size=(info.height, info.width),
        polarity=options.polarity,
        denoise_us=options.denoise_us,
        sort_events=options.sort_events,
        time_steps=time_steps,
    )


def _images(info: DataInfo, options: DataSpace, found: SampleIndex, chosen: Int64[np.ndarray, " sample"]) -> Images:
    size = options.size or recorded_size(info.name, options)
    if found.pixels is not None:
        return StoredImages(pixels=found.pixels[chosen], size=size, grey=options.as_events)
    files = tuple(found.files[index] for index in chosen)
    return ImageFiles(base=found.base, files=files, size=size, grey=options.as_events)


class _Counter:
    """Samples done, told to `progress`."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self._progress = progress
        self._total = total
        self.done = 0

    def reach(self, done: int) -> None:
        if self._progress is not None and done > self.done:
            self._progress(done, self._total)
        self.done = done

    def counted(self, frame_blocks: Iterable[Frames]) -> Iterator[Frames]:
        for run in frame_blocks:
            yield run
            self.reach(self.done + len(run))


def _frames(build: FrameSource, path: Path, counter: _Counter, processes: int) -> Frames:
    end = counter.done + build.shape[0]
    frames = read_or_build(path, build.shape, lambda: counter.counted(frame_blocks(build, processes=processes)))
    counter.reach(end)  # at once, if they were in the cache
    return frames


def _sample_counts(
    time_steps: int, longest: int | None, limit: Mapping[str, int], available: Mapping[str, int]
) -> dict[str, int]:
    """How many samples to take of each split; raises with everything that is wrong with the options."""
    problems = []
    if longest is not None and not 1 <= time_steps <= longest:
        problems.append(Problem("time_steps", f"must be 1 to {longest}, not {time_steps}"))
    elif time_steps < 1:
        problems.append(Problem("time_steps", f"must be at least 1, not {time_steps}"))
    for split, count in limit.items():
        if split not in available:
            problems.append(Problem(f"limit.{split}", f"no such split; choose from {', '.join(available)}"))
        elif not 1 <= count <= available[split]:
            problems.append(Problem(f"limit.{split}", f"must be 1 to {available[split]} samples, not {count}"))
    if problems:
        raise OptionError(problems)
    return {**available, **limit}
