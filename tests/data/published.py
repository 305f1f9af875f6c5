"""Write miniatures of the published sets of recordings, and load them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from data.event_writers import Rows, made_up_events, write_aedat4, write_bin, write_gesture

from spquant_search.data import catalog, loading
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

Write = Callable[[Path, Rows], None]


class RecordedSet(NamedTuple):
    """A set of recordings: how to write a file, and the folders of the parts, each with the folders of its classes."""

    name: str
    write: Write
    height: int
    width: int
    parts: tuple[str, ...]
    place: Callable[[str, int, int], str]  # part, label, number -> file
    step_us: int = 1


def by_class(name: str, pattern: str) -> Callable[[str, int, int], str]:
    classes = catalog.SETS[name].classes
    return lambda part, label, number: f"{part}/{classes[label]}/{pattern.format(number)}"


NMNIST = RecordedSet("nmnist", write_bin, 34, 34, ("Train", "Test"), by_class("nmnist", "{:05}.bin"))


CIFAR10_DVS = RecordedSet("cifar10-dvs", write_aedat4, 128, 128, (".",), by_class("cifar10-dvs", "cifar10_{}.aedat4"))


N_CALTECH101 = RecordedSet("n-caltech101", write_bin, 180, 240, (".",), by_class("n-caltech101", "image_{:04}.bin"))


DVS_GESTURE = RecordedSet(
    "dvs-gesture",
    write_gesture,
    128,
    128,
    ("ibmGestureTrain", "ibmGestureTest"),
    lambda part, label, number: (
        f"{part}/user{number + (24 if part.endswith('Test') else 1):02}_fluorescent/{label}.npy"
    ),
    step_us=1000,
)


RECORDED_SETS = [NMNIST, CIFAR10_DVS, N_CALTECH101, DVS_GESTURE]


def write_set(root: Path, published: RecordedSet, per_class: int, count: int = 40) -> dict[str, tuple[int, str, Rows]]:
    """Write a miniature of a data set, of different recordings; return label, part and events of each file."""
    written = {}
    for part in published.parts:
        for label in range(len(catalog.SETS[published.name].classes)):
            for number in range(per_class):
                file = published.place(part, label, number)
                rows = made_up_events(len(written), published.width, published.height, count, published.step_us)
                (root / file).parent.mkdir(parents=True, exist_ok=True)
                published.write(root / file, rows)
                written[file] = (label, part, rows)
    return written


def options_of(published: RecordedSet, root: Path, **more: Any) -> DataSpace:
    return DataSpace(name=published.name, root=str(root), partial=True, **more)


def load_recorded(
    published: RecordedSet, root: Path, cache: Path, *, limit: dict[str, int] | None = None, **more: Any
) -> loading.DataSet:
    chosen = options_of(published, root, **more)
    return loading.load(published.name, time_steps=3, options=chosen, cache_dir=cache, limit=limit)


def load_failure(name: str, **more: Any) -> str:
    with pytest.raises(UserError) as caught:
        loading.load(name, time_steps=3, options=DataSpace(name=name, **more))
    return str(caught.value)
