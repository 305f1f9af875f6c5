"""The values that a stored membrane potential may take."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

WIDE_LEVELS = 16  # from which on grids hold what is left above the threshold by a spike that subtracts


@dataclass(frozen=True, kw_only=True, slots=True)
class MembraneGrid:
    """The values that a stored membrane potential may take: ``lowest + i * step`` for i = 0 .. levels - 1."""

    levels: int
    lowest: float
    step: float

    @property
    def highest(self) -> float:
        return self.lowest + (self.levels - 1) * self.step

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(self.lowest + i * self.step for i in range(self.levels))

    def __contains__(self, value: float) -> bool:
        place = (value - self.lowest) / self.step
        return place.is_integer() and 0 <= place < self.levels and self.lowest + place * self.step == value


@lru_cache(maxsize=4096)
def membrane_grid(levels: int, lowest: float | None = None, *, subtracts: bool = False) -> MembraneGrid:
    """Return ``levels`` values from ``lowest`` in the largest power-of-two step whose last value is at most 1.

    Without ``lowest``: 3 levels {-1, 0, 1}, 4 {-2 .. 1}, 5 {-3 .. 1} (the released SpQuant-SNN code's grid), 2 {0, 1};
    all others start at -1, so 16 levels are -1 .. 7/8 by 1/8 and 256 are -1 .. 127/128 by 1/128.
    Where a spike ``subtracts`` from the potential, what is left may lie above the threshold: grids of 16 levels and
    more have values up to 2, and start at -2. With fewer levels the finer step is worth more than the wider range.
    Raises ValueError where the grid would not contain 0, the resting potential.
    """
    if levels < 2:
        raise ValueError(f"a membrane needs at least 2 levels, or 0 for a float one; got {levels}")
    most = 2.0 if subtracts and levels >= WIDE_LEVELS else 1.0
    if lowest is None:
        lowest = {2: 0.0, 4: -2.0, 5: -3.0}.get(levels, -most)
    if not (math.isfinite(lowest) and lowest <= 0.0):
        raise ValueError("the lowest level must be a number of at most 0, where a membrane rests")
    step = 2.0 ** math.floor(math.log2((most - lowest) / (levels - 1)))
    grid = MembraneGrid(levels=levels, lowest=float(lowest), step=step)
    if not (grid.lowest <= 0.0 <= grid.highest and (grid.lowest / step).is_integer()):
        raise ValueError(
            f"the grid of {levels} levels from {lowest:g} by {step:g} does not contain 0, where a membrane rests"
        )
    return grid
