"""The costs of configurations that are known before any training, and which configurations they leave worth trying."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike

from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.runs.pareto import ReferencePoint
from spquant_search.space.address import Address
from spquant_search.space.configuration import OFF

Parameters = Mapping[str, Any]
CostOfRows = Callable[[Int[np.ndarray, "row axis"]], ArrayLike]


@dataclass(frozen=True, kw_only=True, slots=True)
class KnownCost:
    """What is known of a cost of configurations before any training, as functions of rows of a grid."""

    most: Callable[[Grid], CostOfRows]  # that the cost of each row can be
    is_most: Callable[[Grid], CostOfRows] | None = None  # whether each row costs exactly that; None: every one does
    # The least that is over a budget, of a cost that is no objective. How far a trial is beyond it, as a part of it, is
    # the trial's constraint of that name.
    limit: float | None = None

    @property
    def is_exact(self) -> bool:
        """True where the cost of every configuration is known; otherwise it is learned."""
        return self.is_most is None


KnownCosts = Mapping[str, KnownCost]  # by name
BYTES = "memory_bytes"  # decides between choices that are equal in what is bounded


def without_gates_and_masks(parameters: Parameters) -> bool:
    """Return whether every sampled ``channel_mass`` is 1 and every ``skip_below`` none."""
    return all(
        value == OFF[parameter]
        for name, value in parameters.items()
        if (parameter := Address.parse(name).parameter) in OFF
    )  # fmt: skip


def rows_without_gates_and_masks(grid: Grid) -> Callable[[Int[np.ndarray, "row axis"]], Bool[np.ndarray, " row"]]:
    """Return a function that tells for each row of a grid whether it is :func:`without_gates_and_masks`."""
    off = [
        np.array([without_gates_and_masks({axis.name: choice}) for choice in axis.choices], bool) for axis in grid.axes
    ]
    return lambda rows: np.all([is_off[rows[:, column]] for column, is_off in enumerate(off)], axis=0)


class Bounds:
    """The configurations within a reference point, and other limits, as far as that is known before any training."""

    def __init__(self, grid: Grid, costs: KnownCosts, reference: ReferencePoint) -> None:
        self._grid, self.reference = grid, reference
        limits = {name: cost.limit for name, cost in costs.items() if cost.limit is not None}
        self._corner = {**limits, **reference.costs}
        self._most_of = {name: costs[name].most(grid) for name in self._corner}
        self._is_most_of = {
            name: is_most(grid) for name in self._corner if (is_most := costs[name].is_most) is not None
        }
        self._exact = tuple(name for name in self._corner if name not in self._is_most_of)
        self._bytes_of = costs[BYTES].most(grid) if BYTES in costs and self._exact != (BYTES,) else None

    @property
    def learned(self) -> tuple[str, ...]:
        """The objectives that are not known of every row."""
        return tuple(name for name in self.reference.costs if name in self._is_most_of)

    @property
    def limited(self) -> dict[str, float]:
        """The limits on costs that are no objective and not known of every row."""
        return {name: self._corner[name] for name in self._is_most_of if name not in self.reference.costs}

    def feasible(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        """Return which rows are not known to cost as much as the reference point, or more."""
        found = ~self._too_large(rows)
        for name in self._is_most_of:
            found &= ~(self.is_most(name, rows) & (self.most(name, rows) >= self._corner[name]))
        return np.asarray(found, bool)

    def most(self, name: str, rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, " row"]:
        """Return the most of a cost that every row can have."""
        return np.asarray(self._most_of[name](rows), float)

    def is_most(self, name: str, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        """Return which rows are known to cost exactly the most that they can."""
        if name not in self._is_most_of:
            return np.ones(len(rows), bool)
        return np.asarray(self._is_most_of[name](rows), bool)

    def shrink_to_budget(
        self, rows: Int[np.ndarray, "row axis"], rng: np.random.Generator
    ) -> Int[np.ndarray, "row axis"]:
        """Set random parameters of rows that are too large to their smallest choice, as few as suffice.

        Under a tight budget next to no configuration drawn at random would fit.
        """
        large = np.flatnonzero(self._too_large(rows))
        if not len(large):
            return rows
        smallest, matters = self._smallest(rows[large[0]])
        rank = rng.permuted(np.tile(np.arange(rows.shape[1]), (len(large), 1)), axis=1)
        changed = matters[0]
        if (matters[1] != matters[0]).any():
            # Where changing what matters by itself does not suffice, whatever has bytes is changed.
            lacks = self._too_large(np.where(matters[0], smallest, rows[large]))
            changed = np.where(lacks[:, None], matters[1], matters[0])
        few, many = np.zeros(len(large), int), np.full(len(large), rows.shape[1])  # too few changes, and enough
        for _ in range(rows.shape[1].bit_length()):
            middle = (few + many) // 2
            too_few = self._too_large(np.where((rank < middle[:, None]) & changed, smallest, rows[large]))
            few, many = np.where(too_few, middle, few), np.where(too_few, many, middle)
        found: Int[np.ndarray, "row axis"] = rows.copy()
        found[large] = np.where((rank < many[:, None]) & changed, smallest, rows[large])
        return self._grid.settled(found)

    def _smallest(self, row: Int[np.ndarray, " axis"]) -> tuple[Int[np.ndarray, " axis"], Bool[np.ndarray, "way axis"]]:
        """Return the choice of every parameter that costs least, found for one after the other from ``row`` on.

        And return which parameters have choices that differ in what is bounded, and which in any bytes: the cut of a
        mask, for example, costs none. Some costs change only once the last of several layers is small, such as those of
        code that a single layer needs; until then the choice with the fewest bytes is taken.
        """
        smallest, matters = row.copy(), np.zeros((2, len(row)), bool)
        for place, size in enumerate(self._grid.sizes):
            tried = np.tile(smallest, (size, 1))
            tried[:, place] = np.arange(size)
            bounded = self._share(tried)
            further = bounded if self._bytes_of is None else np.asarray(self._bytes_of(tried), float)
            smallest[place] = int(np.lexsort((further, bounded))[0])
            matters[:, place] = bounded.min() < bounded.max(), further.min() < further.max()
        matters[1] |= matters[0]
        return smallest, matters

    def _share(self, rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, " row"]:
        """Return the sum of what is known of every row, as parts of the reference point."""
        shares: Float[np.ndarray, " row"] = np.sum(
            [self.most(name, rows) / self._corner[name] for name in self._exact], axis=0
        )
        return shares

    def _too_large(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        """Return which rows are over a bound on what is known of all rows."""
        if not self._exact:
            return np.zeros(len(rows), bool)
        return np.asarray(np.any([self.most(name, rows) >= self._corner[name] for name in self._exact], axis=0), bool)
