"""A space's data set: what is known of it, its samples, and its splits on a device."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch

from spquant_search.data import loading
from spquant_search.data.catalog import IMAGE_FOLDER
from spquant_search.data.description import DataInfo, describe
from spquant_search.data.loading import DataSet, FrameFile, Split
from spquant_search.errors import OptionError, Problem, SpaceError
from spquant_search.space.schema import SpaceFile
from spquant_search.space.shapes import InputShape
from spquant_search.training.device_memory import USUAL_BATCHES, BatchSizes
from spquant_search.training.loader import LoadedSplit, to_device


def describe_data(file: SpaceFile, *, source: str) -> DataInfo:
    """Describe a space's data set without loading it.

    Raises:
        SpaceError: an option of the space does not fit the data set.
    """
    try:
        return describe(file.data.name, file.data, time_steps=file.most_time_steps)
    except OptionError as error:
        raise SpaceError(source, [problem.below("data") for problem in error.problems]) from None


def with_channels(file: SpaceFile, info: DataInfo) -> SpaceFile:
    """Write down the channels that were chosen by a folder's images, so that a run keeps them whatever is added."""
    if file.data.name != IMAGE_FOLDER or not info.static:
        return file
    return replace(file, data=replace(file.data, channels=1 if info.channels == 1 else 3))


def input_shape(data: DataSet | DataInfo) -> InputShape:
    """Return the shape that a network for this data set takes in."""
    return InputShape(
        channels=data.channels,
        height=data.height,
        width=data.width,
        classes=len(data.classes),
        largest=data.largest,
    )


def load_data(
    file: SpaceFile,
    *,
    cache: Path,
    progress: Callable[[int, int], None] | None = None,
    waiting: Callable[[str, int, int], None] | None = None,
    processes: int = 1,
    is_made: bool = False,
) -> DataSet:
    """Read a space's samples from the cache, or make them now with so many processes.

    ``is_made``: the command that started this process has made them.
    """
    with _in_words_of_the_space():
        return loading.load(
            file.data.name,
            time_steps=file.most_time_steps,
            options=file.data,
            cache_dir=recordings_folder(cache),
            limit=_limits(file),
            progress=progress,
            waiting=waiting,
            processes=processes,
            is_made=is_made,
        )


def data_files(file: SpaceFile, *, cache: Path) -> tuple[FrameFile, ...]:
    """Return the files of frames that :func:`load_data` opens or makes, without making any."""
    with _in_words_of_the_space():
        return loading.frame_files(
            file.data.name,
            time_steps=file.most_time_steps,
            options=file.data,
            cache_dir=recordings_folder(cache),
            limit=_limits(file),
        )


def recordings_folder(cache: Path) -> Path:
    """Return the folder of the cache that holds frames."""
    return cache / "recordings"


def _limits(file: SpaceFile) -> dict[str, int]:
    counts = {split: getattr(file.data, f"{split}_samples") for split in loading.SPLITS}
    return {split: count for split, count in counts.items() if count is not None}


@contextmanager
def _in_words_of_the_space() -> Iterator[None]:
    try:
        yield
    except OptionError as error:
        raise OptionError([_in_space_file(problem) for problem in error.problems]) from None


def _in_space_file(problem: Problem) -> Problem:
    """Return a problem of :func:`loading.load` by the key of the space file that holds the value."""
    keys = {f"limit.{split}": f"data.{split}_samples" for split in loading.SPLITS} | {"time_steps": "time_steps"}
    return replace(problem, key=keys.get(problem.key, f"data.{problem.key}"))


def split_on_device(
    data: DataSet,
    name: Literal["train", "validation", "test"],
    device: torch.device,
    *,
    room: int | None = None,
    together: BatchSizes = USUAL_BATCHES,
) -> LoadedSplit:
    """Place a split, still as bytes, for a device; ``room``: of a GPU, for splits that lie on it."""
    split: Split = getattr(data, name)
    return to_device(
        split.frames,
        split.labels,
        time_steps=data.time_steps,
        largest=data.largest,
        device=device,
        room=room,
        together=together,
    )
