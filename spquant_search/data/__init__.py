"""Data sets as frames: uint8 event counts [sample, time, channel, height, width], made once and cached on disk.

    events = data.load("fashion-events", time_steps=6)
    events.train.frames[0]   # [time, channel, height, width]; channel 0 counts OFF events, 1 ON events

`fashion-events` is simulated (see `saccades`) from images that come with the package; nothing is downloaded.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from numpy.typing import NDArray

from spquant_search.data.frames import Frames, Shape, cache_path, default_folder, read_or_build
from spquant_search.data.saccades import DURATION_US, POLARITIES, SIMULATION_VERSION, Camera, simulate_frames
from spquant_search.errors import UserError

__all__ = ["NAMES", "SPLITS", "DataInfo", "DataSet", "Progress", "Split", "describe", "load"]

NAMES: tuple[str, ...] = ("fashion-events",)
SPLITS: tuple[str, ...] = ("train", "validation", "test")
Progress = Callable[[int, int], None]  # samples done so far, samples in all

_FASHION_CLASSES = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)
_RUN = 256  # samples between two reports of progress: a fraction of a second


@dataclass(frozen=True, kw_only=True, slots=True)
class Split:
    """Samples for one purpose, in a fixed random order; every prefix is class-balanced to within one sample."""

    frames: UInt8[np.ndarray, "sample time channel height width"]  # memory-mapped, read-only
    labels: Int64[np.ndarray, " sample"]


@dataclass(frozen=True, kw_only=True, slots=True)
class DataSet:
    """A loaded data set; `classes[label]` is the name of a label."""

    name: str
    description: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split

    @property
    def time_steps(self) -> int:
        return int(self.train.frames.shape[1])

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
class DataInfo:
    """What is known of a data set without loading it: sizes in pixels, the same for every number of time steps."""

    name: str
    description: str
    classes: tuple[str, ...]
    channels: int
    height: int
    width: int


def describe(name: str) -> DataInfo:
    """Classes and frame size of a data set, without reading anything."""
    if name not in NAMES:
        close = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise UserError(f"a data set must be one of {', '.join(NAMES)}, not {name!r}{hint}")
    camera = Camera()
    return DataInfo(
        name=name,
        description="simulated event-camera recordings of Fashion-MNIST images moved in three micro-saccades",
        classes=_FASHION_CLASSES,
        channels=POLARITIES,
        height=camera.height,
        width=camera.width,
    )


def load(
    name: str,
    *,
    time_steps: int,
    cache_dir: Path | None = None,
    limit: Mapping[str, int] | None = None,
    progress: Progress | None = None,
) -> DataSet:
    """The data set in frames, each one of `time_steps` equal parts of a recording; from the cache, or made now.

    `limit` takes only the first samples of a split, by its name: {"train": 256}. Without `cache_dir` the cache is in
    `frames.default_folder()`. `progress` is called with the samples done so far and those of all splits.
    """
    info = describe(name)
    stored = _fashion_mnist()
    counts = _sample_counts(time_steps, limit or {}, {split: len(labels) for split, (_, labels) in stored.items()})
    counter = _Counter(progress, total=sum(counts.values()))
    splits: dict[str, Split] = {}
    first_number = 0
    for split, (images, labels) in stored.items():
        recording = Recording(images=images[: counts[split]], first_number=first_number, time_steps=time_steps)
        path = cache_path(cache_dir or default_folder(), f"{name}-{split}", recording.recipe())
        splits[split] = Split(frames=_frames(recording, path, counter), labels=labels[: counts[split]].astype(np.int64))
        first_number += len(images)
    return DataSet(name=name, description=info.description, classes=info.classes, **splits)


@dataclass(frozen=True, kw_only=True, slots=True)
class Recording:
    """What shapes the frames of a split. Its samples are numbered from `first_number`: no two share their noise."""

    images: UInt8[np.ndarray, "sample rows columns"]
    first_number: int
    time_steps: int
    camera: Camera = field(default_factory=Camera)

    @property
    def shape(self) -> Shape:
        """[sample, time, polarity, height, width]"""
        return (len(self.images), self.time_steps, POLARITIES, self.camera.height, self.camera.width)

    def recipe(self) -> dict[str, object]:
        """Everything above and the code's version, as JSON; the key of the cache."""
        return {
            "images": hashlib.sha256(self.images.tobytes()).hexdigest(),
            "image_shape": self.images.shape,
            "first_number": self.first_number,
            "time_steps": self.time_steps,
            "camera": asdict(self.camera),
            "simulation_version": SIMULATION_VERSION,
        }

    def runs(self) -> Iterator[Frames]:
        """The frames, a run of samples at a time."""
        numbers = self.first_number + np.arange(len(self.images))
        for start in range(0, len(self.images), _RUN):
            run = slice(start, start + _RUN)
            yield simulate_frames(self.images[run], numbers[run], time_steps=self.time_steps, camera=self.camera)


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

    def counted(self, runs: Iterable[Frames]) -> Iterator[Frames]:
        for run in runs:
            yield run
            self.reach(self.done + len(run))


def _frames(recording: Recording, path: Path, counter: _Counter) -> Frames:
    end = counter.done + len(recording.images)
    frames = read_or_build(path, recording.shape, lambda: counter.counted(recording.runs()))
    counter.reach(end)  # at once, if they were in the cache
    return frames


def _fashion_mnist() -> dict[str, tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Images [sample, 28, 28] and labels of each split; see fashion_mnist/README.md for their origin."""
    source = resources.files("spquant_search.data") / "fashion_mnist" / "images.npz"
    with source.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {split: (arrays[f"{split}_images"], arrays[f"{split}_labels"]) for split in SPLITS}


def _sample_counts(time_steps: int, limit: Mapping[str, int], available: Mapping[str, int]) -> dict[str, int]:
    """How many samples to take of each split; raises with everything that is wrong with the options."""
    longest = DURATION_US // Camera().step_us  # a frame shorter than a step of the simulation shows nothing more
    problems = []
    if not 1 <= time_steps <= longest:
        problems.append(f"time_steps: must be 1 to {longest}, not {time_steps}")
    for split, count in limit.items():
        if split not in available:
            problems.append(f"limit.{split}: no such split; choose from {', '.join(available)}")
        elif not 1 <= count <= available[split]:
            problems.append(f"limit.{split}: must be 1 to {available[split]} samples, not {count}")
    if problems:
        raise UserError("\n".join(problems))
    return {**available, **limit}
