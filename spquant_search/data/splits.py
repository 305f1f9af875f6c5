"""Choose which sample is in which split: by labels, seed and the order of sorted paths, never by the file system."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

from spquant_search.runs.random_streams import Purpose, random_generator


def proportional_order(
    labels: Int[np.ndarray, " sample"], indices: Int[np.ndarray, " chosen"], seed: int, *, number: int = 0
) -> Int[np.ndarray, " chosen"]:
    """Put ``indices`` in a random order whose prefixes hold the classes in proportion, to within one sample each.

    The k-th sample of a class of n stands at (k + 1/2) / n; classes at the same place come in random order. ``number``:
    of the split that is ordered, so that no two splits of one seed share random numbers.
    """
    generator = random_generator(seed, Purpose.SAMPLE_ORDER, number)
    shuffled = generator.permutation(indices)
    place = np.empty(len(shuffled))
    for label in np.unique(labels[shuffled]):
        members = np.flatnonzero(labels[shuffled] == label)
        place[members] = (np.arange(len(members)) + 0.5) / len(members)
    # Stable: classes at one place stay in the order of the shuffle.
    return shuffled[np.argsort(place, kind="stable")]


def hold_out(
    labels: Int[np.ndarray, " sample"],
    indices: Int[np.ndarray, " chosen"],
    share: float,
    seed: int,
    *,
    keep: int = 1,
    number: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide ``indices`` into two parts (kept, held out).

    ``share`` of each class is held out: at least one sample, and so many that at least ``keep`` are kept. Each class
    needs ``keep`` + 1 samples. Every class has random numbers of its own: more samples of one class move no sample of
    another. ``number``: of the split that is held out.
    """
    held: list[NDArray[np.int64]] = []
    for label in np.unique(labels[indices]):
        members = indices[labels[indices] == label]
        generator = random_generator(seed, Purpose.CLASS_SHARE, number, int(label))
        count = min(max(1, round(share * len(members))), len(members) - keep)
        held.append(generator.permutation(members)[:count])
    return _divided(indices, np.isin(indices, np.concatenate(held)))


def hold_out_groups(
    groups: Sequence[str],
    indices: Int[np.ndarray, " chosen"],
    share: float,
    seed: int,
    *,
    keep: int = 1,
    number: int = 0,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Divide ``indices`` into two parts (kept, held out) by whole groups, such as the people who were recorded.

    At least ``keep`` groups are kept; ``keep`` + 1 groups or more are needed. ``number``: of the split that is held
    out.
    """
    names = sorted({groups[index] for index in indices})
    count = min(max(1, round(share * len(names))), len(names) - keep)
    chosen = random_generator(seed, Purpose.GROUP_SHARE, number).permutation(len(names))[:count]
    held = {names[number] for number in chosen}
    return _divided(indices, np.array([groups[index] in held for index in indices]))


def _divided(
    indices: Int[np.ndarray, " chosen"], held: Bool[np.ndarray, " chosen"]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return indices[~held], indices[held]
