"""Which sample is in which split: a matter of labels, seed and the order of sorted paths, never of a file system."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from numpy.typing import NDArray

_ORDER, _CLASS_SHARE, _GROUP_SHARE = range(3)  # what random numbers are for: no two purposes share theirs


def proportional_order(
    labels: Int[np.ndarray, " sample"], indices: Int[np.ndarray, " chosen"], seed: int
) -> Int[np.ndarray, " chosen"]:
    """`indices` in a random order whose every prefix holds the classes in their proportions, to within one sample each.

    The k-th sample of a class of n stands at (k + 1/2) / n; classes at the same place come in random order.
    """
    generator = np.random.default_rng((seed, _ORDER))
    shuffled = generator.permutation(indices)
    place = np.empty(len(shuffled))
    for label in np.unique(labels[shuffled]):
        mine = np.flatnonzero(labels[shuffled] == label)
        place[mine] = (np.arange(len(mine)) + 0.5) / len(mine)
    # Stable: classes at one place stay in the order of the shuffle.
    return shuffled[np.argsort(place, kind="stable")]


def hold_out(
    labels: Int[np.ndarray, " sample"], indices: Int[np.ndarray, " chosen"], share: float, seed: int, *, keep: int = 1
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """`indices` in two parts (kept, held out): `share` of each class is held out, one sample at least, `keep` are kept.

    Each class needs `keep` + 1 samples. Its random numbers are its own: another class with more or fewer samples does
    not move a sample of this one.
    """
    held: list[NDArray[np.int64]] = []
    for label in np.unique(labels[indices]):
        mine = indices[labels[indices] == label]
        generator = np.random.default_rng((seed, _CLASS_SHARE, int(label)))
        count = min(max(1, round(share * len(mine))), len(mine) - keep)
        held.append(generator.permutation(mine)[:count])
    return _divided(indices, np.isin(indices, np.concatenate(held)))


def hold_out_groups(
    groups: Sequence[str], indices: Int[np.ndarray, " chosen"], share: float, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """As `hold_out`, but whole groups: nobody who is seen in one part is in the other. Needs two groups."""
    names = sorted({groups[index] for index in indices})
    count = min(max(1, round(share * len(names))), len(names) - 1)
    chosen = np.random.default_rng((seed, _GROUP_SHARE)).permutation(len(names))[:count]
    held = {names[number] for number in chosen}
    return _divided(indices, np.array([groups[index] in held for index in indices]))


def _divided(
    indices: Int[np.ndarray, " chosen"], held: Bool[np.ndarray, " chosen"]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    return indices[~held], indices[held]
