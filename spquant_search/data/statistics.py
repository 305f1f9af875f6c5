"""What a data set holds, as figures: samples, events, how much of the frames is zero, files in the cache."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import UInt8
from numpy import ndarray


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """A quantity over the samples of a split; ``deviation`` is the standard deviation, of all of them."""

    mean: float
    deviation: float
    min: float
    max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class SplitFacts:
    """Figures of a split's frames.

    ``events``: of a sample of recordings, as its frames count them, after crop and denoising. ``pixels``: of images,
    the mean value of a sample's pixels. ``density``: share of the values that are not zero. ``clamped``: share of the
    values above the largest that a network is shown.
    """

    samples: int
    samples_by_class: tuple[int, ...]
    events: Summary | None
    pixels: Summary | None
    density: float
    clamped: float
    file: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class DataFacts:
    """Figures of a data set; ``splits`` are (name, facts)."""

    name: str
    description: str
    classes: tuple[str, ...]
    time_steps: int
    channels: int
    height: int
    width: int
    static: bool
    largest: int
    splits: tuple[tuple[str, SplitFacts], ...]

    @property
    def cache_bytes(self) -> int:
        return sum(split.bytes for _, split in self.splits)

    def as_dict(self) -> dict[str, Any]:
        """Ready for JSON; samples of a class by its name."""
        splits = {}
        for name, split in self.splits:
            by_class = dict(zip(self.classes, split.samples_by_class, strict=True))
            splits[name] = asdict(split) | {"samples_by_class": by_class}
        return asdict(self) | {"splits": splits, "cache_bytes": self.cache_bytes}


@dataclass(frozen=True, kw_only=True, slots=True)
class Examples:
    """Samples to be looked at: a row for each of some classes.

    ``columns`` are numbers of time steps, from 1 on; of images, which are the same in every step, of samples.
    """

    classes: tuple[str, ...]
    columns: tuple[int, ...]
    frames: UInt8[ndarray, "row column channel height width"]
