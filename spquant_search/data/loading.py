"""Load data sets as frames: uint8 values [sample, time, channel, height, width], made once and cached on disk.

    events = load("fashion-events", time_steps=6)
    events.train.frames[0]   # [time, channel, height, width]; channel 0 counts OFF events, 1 ON events

``fashion-events`` is simulated from images that come with the package (:mod:`spquant_search.data.simulation.saccades`).
All other sets are read from the folder ``options.root``; nothing is downloaded here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from spquant_search.data.building import FrameSource, frame_blocks
from spquant_search.data.cache import (
    Block,
    Frames,
    Waiting,
    cache_path,
    counts_of,
    file_bytes,
    has_size,
    read_or_build,
)
from spquant_search.data.catalog import EVENT_FOLDER, PYTHON, SETS
from spquant_search.data.crowding import crowded_note, crowded_samples, crowding_question
from spquant_search.data.description import LARGEST_COUNT, DataInfo, binning_of, describe, python_info, recorded_size
from spquant_search.data.events import tonic_readers
from spquant_search.data.events.aedat4_files import read_aedat4
from spquant_search.data.events.binning import Reader, RecordedFrames, count_events
from spquant_search.data.events.event_files import read_event_file
from spquant_search.data.events.given_frames import read_given_frames, sum_frames
from spquant_search.data.events.user_reader import read_by_function
from spquant_search.data.file_listing import File
from spquant_search.data.from_python.given import GIVEN, given_samples
from spquant_search.data.from_python.samples import Gathered, python_samples, require_enough
from spquant_search.data.images.pixels import PixelRule
from spquant_search.data.images.stills import ImageFiles, Images, StillFrames, StoredImages
from spquant_search.data.layouts import SampleIndex, find_samples, split_samples
from spquant_search.data.simulation.simulated import MOST_TIME_STEPS, SimulatedFrames, camera_for, fashion_mnist
from spquant_search.data.windows import Windows, window_notes, windows_of
from spquant_search.errors import OptionError, Problem, UserError
from spquant_search.runs.files import cache_folder
from spquant_search.space.rules import rules_of_windows
from spquant_search.space.schema import DataSpace
from spquant_search.space.user_functions import code_digest

SPLITS: tuple[str, ...] = ("train", "validation", "test")
Progress = Callable[[int, int], None]  # samples done so far, samples in all

_READERS: dict[str, Reader] = {
    "nmnist": tonic_readers.read_bin,
    "n-caltech101": tonic_readers.read_bin,
    "cifar10-dvs": read_aedat4,
    "dvs-gesture": tonic_readers.read_gesture,
    EVENT_FOLDER: read_event_file,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Samples for one purpose, in a fixed random order; every prefix is class-balanced to within one sample."""

    frames: UInt8[np.ndarray, "sample time channel height width"]  # memory-mapped, read-only
    labels: Int64[np.ndarray, " sample"]
    files: tuple[File, ...] = ()  # of sets with one file a sample; their names are paths in the data set's folder
    # Of recordings: the events of each time step, before counts end at 255, and those after the last step.
    events: Int64[np.ndarray, "sample time"] | None = None
    left_out: Int64[np.ndarray, " sample"] | None = None

    def file_of(self, sample: int) -> str:
        """Return the file of a sample, or its number where it has none of its own."""
        return self.files[sample].name if self.files else f"sample {sample}"


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A loaded data set; ``classes[label]`` is the name of a label.

    A ``static`` set has one frame a sample, which stands for each of the ``time_steps``.
    """

    name: str
    description: str
    classes: tuple[str, ...]
    time_steps: int
    train: Split
    validation: Split
    test: Split
    largest: int = LARGEST_COUNT  # value that a network is shown; larger values are to be clamped to it
    static: bool = False
    notes: tuple[str, ...] = ()  # what a user should know of its files and splits
    windows: Windows | None = None  # that are seen of each recording; None: all of it

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
class _UnbinnedSplit:
    """A split before its frames are made; ``source`` takes how many samples, and the number of the first."""

    labels: Int64[np.ndarray, " sample"]
    source: Callable[[int, int], FrameSource]
    files: tuple[File, ...] = ()


def load(  # noqa: PLR0913 - one parameter an option
    name: str,
    *,
    time_steps: int,
    options: DataSpace | None = None,
    cache_dir: Path | None = None,
    limit: Mapping[str, int] | None = None,
    progress: Progress | None = None,
    waiting: Waiting | None = None,
    processes: int = 1,
    is_made: bool = False,
) -> DataSet:
    """Load a data set as frames from the cache, or make them.

    A frame is one of ``time_steps`` equal parts of a recording, or fixed windows of it (``options.window_us``).
    ``options`` say where the set is and how it becomes frames; their counts of samples are ignored. ``limit`` takes
    only the first samples of a split, by its name: {"train": 256}. Without ``cache_dir`` the cache is in
    :func:`spquant_search.runs.files.cache_folder``. ``progress`` is called with the samples that are done and those of
    all splits, ``waiting`` while another process makes the same frames. ``processes`` is how many processes make the
    frames of large splits (:func:`spquant_search.data.building.frame_blocks`). ``is_made``: another process has just
    made them, so that no code of the user's need run.

    Raises:
        UserError: an option is wrong, or a file is missing or damaged.
    """
    options = options or DataSpace(name=name)
    folder = cache_dir or cache_folder()
    if name == PYTHON:
        info, unbinned, notes = _python_splits(options, time_steps, folder, progress, is_made=is_made)
    else:
        info = describe(name, options)
        unbinned, notes = _unbinned_splits(info, options, time_steps)
    notes, windows = (*info.notes, *notes), windows_of(options, time_steps)
    sources = _sources(info, unbinned, options, time_steps, limit or {})
    counter = _Counter(progress, waiting, total=sum(source.shape[0] for source in sources.values()))
    splits = _made(name, unbinned, sources, folder, counter, processes)
    question = crowding_question(name, windows, frames_given=info.frames_given)
    for split, made in splits.items():
        notes += _notes_on(split, made, windows, question)
    return DataSet(
        name=name,
        description=info.description,
        classes=info.classes,
        time_steps=time_steps,
        largest=info.largest,
        static=info.static,
        notes=notes,
        windows=windows,
        **splits,
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class FrameFile:
    """The file in the cache that holds the frames of a split, or will hold them."""

    split: str
    samples: int
    path: Path
    bytes: int
    is_there: bool


def frame_files(
    name: str,
    *,
    time_steps: int,
    options: DataSpace | None = None,
    cache_dir: Path | None = None,
    limit: Mapping[str, int] | None = None,
) -> tuple[FrameFile, ...]:
    """Return the files that :func:`load` opens or makes with these arguments, and how large they are.

    Raises:
        UserError: as :func:`load`, but for what is found wrong in recordings and images only as they are read.
    """
    options = options or DataSpace(name=name)
    folder = cache_dir or cache_folder()
    if name != PYTHON:
        info = describe(name, options)
        unbinned, _ = _unbinned_splits(info, options, time_steps)
    elif options.samples is not None:
        info, unbinned, _ = _python_splits(options, time_steps, folder, None, is_made=True)
    else:
        raise UserError("the data are those of a function, which has not been called yet")
    found = []
    for split, source in _sources(info, unbinned, options, time_steps, limit or {}).items():
        path = _cached_file(folder, name, split, source)
        size = file_bytes(source.shape, numbers=source.numbers)
        found.append(
            FrameFile(split=split, samples=source.shape[0], path=path, bytes=size, is_there=has_size(path, size))
        )
    return tuple(found)


def _sources(
    info: DataInfo,
    unbinned: Mapping[str, _UnbinnedSplit],
    options: DataSpace,
    time_steps: int,
    limit: Mapping[str, int],
) -> dict[str, FrameSource]:
    """Return what makes the frames of each split, of as many samples as are wanted."""
    available = {split: len(part.labels) for split, part in unbinned.items()}
    counts = _sample_counts(info, options, time_steps, limit, available)
    sources, first_number = {}, 0
    for split, part in unbinned.items():
        sources[split] = part.source(counts[split], first_number)
        first_number += len(part.labels)
    return sources


def _made(
    name: str,
    unbinned: Mapping[str, _UnbinnedSplit],
    sources: Mapping[str, FrameSource],
    folder: Path,
    counter: _Counter,
    processes: int,
) -> dict[str, Split]:
    """Open or make the frames of each split."""
    splits = {}
    for split, source in sources.items():
        path = _cached_file(folder, name, split, source)
        splits[split] = _split_of(unbinned[split], _frames(source, path, counter, processes))
    return splits


def _cached_file(folder: Path, name: str, split: str, source: FrameSource) -> Path:
    return cache_path(folder, f"{name}-{split}", source.recipe())


def _unbinned_splits(
    info: DataInfo, options: DataSpace, time_steps: int
) -> tuple[dict[str, _UnbinnedSplit], tuple[str, ...]]:
    """Find the samples of each split of a data set, and what a user should know of them."""
    if SETS[info.name].kind == "package":
        return {
            split: _UnbinnedSplit(labels=labels.astype(np.int64), source=_simulated_source_of(images, time_steps))
            for split, (images, labels) in fashion_mnist().items()
        }, ()
    found = find_samples(info.name, options)
    splits = {}
    for split, order in found.splits.items():
        files = tuple(found.files[index] for index in order.tolist()) if found.files else ()
        source = _source_of(info, options, found, order, files, time_steps)
        splits[split] = _UnbinnedSplit(labels=found.labels[order], source=source, files=files)
    return splits, found.notes


def _python_splits(
    options: DataSpace, time_steps: int, folder: Path, progress: Progress | None, *, is_made: bool
) -> tuple[DataInfo, dict[str, _UnbinnedSplit], tuple[str, ...]]:
    """Read the samples that a user's function returns, and divide them where it leaves that to be done."""
    if options.samples is not None:
        samples = given_samples(options.samples, folder)
    else:
        samples = python_samples(options, time_steps, folder, progress=progress, is_made=is_made)
    require_enough(samples, options.build or GIVEN)
    info = python_info(options, samples.known.form, samples.known.classes)
    # A run keeps this, and so knows when its samples have changed.
    info = replace(info, description=f"{info.description} (samples {samples.known.digest[:8]})")

    def source_of(order: Int64[np.ndarray, " sample"]) -> Callable[[int, int], FrameSource]:
        return lambda count, _first_number: Gathered(samples=samples, order=order[:count])

    splits = {
        split: _UnbinnedSplit(labels=samples.labels[order], source=source_of(order))
        for split, order in split_samples(samples.labels, samples.parts, (), options).items()
    }
    return info, splits, samples.known.notes


def _simulated_source_of(
    images: UInt8[np.ndarray, "sample rows columns"], time_steps: int
) -> Callable[[int, int], FrameSource]:
    def source(count: int, first_number: int) -> FrameSource:
        return SimulatedFrames(images=images[:count], first_number=first_number, time_steps=time_steps)

    return source


def _source_of(
    info: DataInfo,
    options: DataSpace,
    found: SampleIndex,
    order: Int64[np.ndarray, " sample"],
    files: tuple[File, ...],
    time_steps: int,
) -> Callable[[int, int], FrameSource]:
    """Return what takes how many samples, and the number of the first; ``files`` are those of ``order``."""

    def source(count: int, first_number: int) -> FrameSource:
        if SETS[info.name].kind == "events":
            read = _READERS[info.name] if options.reader is None else read_by_function
            return RecordedFrames(
                base=found.base,
                files=files[:count],
                read=read_given_frames if info.frames_given else read,
                count=sum_frames if info.frames_given else count_events,
                binning=binning_of(info.name, options, time_steps),
                read_options={} if info.frames_given else _read_options(info.name, options),
            )
        images = _images(info, options, found, order[:count], files[:count])
        if info.static:
            return StillFrames(images=images)
        camera = camera_for((images.shape[1], images.shape[2]))
        return SimulatedFrames(images=images, first_number=first_number, time_steps=time_steps, camera=camera)

    return source


def _read_options(name: str, options: DataSpace) -> dict[str, object]:
    if name != EVENT_FOLDER:
        return {}
    if options.reader is not None:
        by = {"reader": options.reader, "code": code_digest(options.reader)}
        return {**by, "time_unit": options.time_unit, "columns": options.columns}
    said = {"time_unit": options.time_unit, "columns": options.columns, "stream": options.stream}
    return {**said, "sensor": options.sensor}


def _images(
    info: DataInfo,
    options: DataSpace,
    found: SampleIndex,
    chosen: Int64[np.ndarray, " sample"],
    files: tuple[File, ...],
) -> Images:
    size = options.size or recorded_size(info.name, options)
    channels = info.channels if info.static else None
    if found.pixels is not None:
        return StoredImages(pixels=found.pixels[chosen], size=size, channels=channels)
    rule = PixelRule(white=options.white, background=options.background)
    return ImageFiles(base=found.base, files=files, size=size, channels=channels, rule=rule)


class _Counter:
    """A counter of samples whose frames are made; it reports them to ``progress``."""

    def __init__(self, progress: Progress | None, waiting: Waiting | None, total: int) -> None:
        self._progress = progress
        self.waiting = waiting
        self._total = total
        self.done = 0

    def reach(self, done: int) -> None:
        if self._progress is not None and done > self.done:
            self._progress(done, self._total)
        self.done = done

    def counted(self, blocks: Iterable[Block]) -> Iterator[Block]:
        for block in blocks:
            yield block
            self.reach(self.done + len(block.frames))


def _frames(source: FrameSource, path: Path, counter: _Counter, processes: int) -> Frames:
    """Open or make the frames of a split."""
    end = counter.done + source.shape[0]

    def build() -> Iterator[Block]:
        return counter.counted(frame_blocks(source, processes=processes))

    frames = read_or_build(path, source.shape, build, numbers=source.numbers, waiting=counter.waiting)
    counter.reach(end)  # frames from the cache are not counted block by block
    return frames


def _split_of(part: _UnbinnedSplit, frames: Frames) -> Split:
    """Return a split whose frames are made: the first samples of a part."""
    samples, counts = len(frames), counts_of(frames)
    return Split(
        frames=frames,
        labels=part.labels[:samples],
        files=part.files[:samples],
        events=counts[:, :-1] if counts.shape[1] else None,
        left_out=counts[:, -1] if counts.shape[1] else None,
    )


def _notes_on(name: str, split: Split, windows: Windows | None, question: str) -> tuple[str, ...]:
    """Say which recordings of a split are not as they should be."""
    if split.events is None or split.left_out is None:
        return ()
    crowded = [split.file_of(sample) for sample in crowded_samples(split.events)]
    notes = crowded_note(name, len(split.labels), split.events.shape[1], crowded, question)
    if windows is None:
        return notes
    return (*notes, *window_notes(name, split.events, split.left_out, split.file_of, windows))


def _sample_counts(
    info: DataInfo, options: DataSpace, time_steps: int, limit: Mapping[str, int], available: Mapping[str, int]
) -> dict[str, int]:
    """Choose how many samples to take of each split; raise OptionError with all that is wrong."""
    problems = []
    is_simulated = SETS[info.name].kind == "package" or options.as_events
    most_time_steps = MOST_TIME_STEPS if is_simulated else None
    if most_time_steps is not None and not 1 <= time_steps <= most_time_steps:
        problems.append(Problem("time_steps", f"must be 1 to {most_time_steps}, not {time_steps}"))
    elif time_steps < 1:
        problems.append(Problem("time_steps", f"must be at least 1, not {time_steps}"))
    else:
        problems += rules_of_windows(options, time_steps)
    for split, count in limit.items():
        if split not in available:
            problems.append(Problem(f"limit.{split}", f"no such split; choose from {', '.join(available)}"))
        elif not 1 <= count <= available[split]:
            problems.append(Problem(f"limit.{split}", f"must be 1 to {available[split]} samples, not {count}"))
    if problems:
        raise OptionError(problems)
    return {**available, **limit}
