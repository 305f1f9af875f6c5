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
class KnownCosts:
    """The costs of configurations that are known before any training, as functions of rows of a grid."""

    memory_bytes: Callable[[Grid], CostOfRows]  # exact
    dense_macs: Callable[[Grid], CostOfRows]  # the most that the effective MACs of each row can be
    are_dense: Callable[[Grid], CostOfRows]  # whether the effective MACs of each row are the dense ones


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
    """The configurations that lie within a reference point, as far as that is known before any training."""

    def __init__(self, grid: Grid, costs: KnownCosts, reference: ReferencePoint) -> None:
        self._grid, self.reference = grid, reference
        self._memory_of, self._are_dense = costs.memory_bytes(grid), costs.are_dense(grid)
        self._dense_macs_of = costs.dense_macs(grid)

    def feasible(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        """Return which rows have less memory than the reference, and are not known to have as many MACs."""
        too_many = self.dense(rows) & (self.dense_macs(rows) >= self.reference.effective_macs)
        return np.asarray(~self._too_large(rows) & ~too_many)

    def dense_macs(self, rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, " row"]:
        """Return the MACs of every row without gates and masks."""
        return np.asarray(self._dense_macs_of(rows), float)

    def dense(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        """Return which rows are known to have as many MACs as the network has."""
        return np.asarray(self._are_dense(rows), bool)

    def shrink_to_budget(
        self, rows: Int[np.ndarray, "row axis"], rng: np.random.Generator
    ) -> Int[np.ndarray, "row axis"]:
        """Set random parameters of rows with too much memory to their smallest choice, as few as suffice.

        Under a tight budget next to no configuration drawn at random would fit.
        """
        large = np.flatnonzero(self._too_large(rows))
        if not len(large):
            return rows
        smallest, matters = self._smallest(rows[large[0]])
        rank = rng.permuted(np.tile(np.arange(rows.shape[1]), (len(large), 1)), axis=1)
        few, many = np.zeros(len(large), int), np.full(len(large), rows.shape[1])  # too few changes, and enough
        for _ in range(rows.shape[1].bit_length()):
            middle = (few + many) // 2
            too_few = self._too_large(np.where((rank < middle[:, None]) & matters, smallest, rows[large]))
            few, many = np.where(too_few, middle, few), np.where(too_few, many, middle)
        found: Int[np.ndarray, "row axis"] = rows.copy()
        found[large] = np.where((rank < many[:, None]) & matters, smallest, rows[large])
        return self._grid.settled(found)

    def _smallest(self, row: Int[np.ndarray, " axis"]) -> tuple[Int[np.ndarray, " axis"], Bool[np.ndarray, " axis"]]:
        """Return the choice of every parameter with the least memory, found for one after the other from ``row`` on.

        And return which parameters have choices that differ in memory: the cut of a mask, for example, costs none.
        """
        smallest, matters = row.copy(), np.zeros(len(row), bool)
        for place, size in enumerate(self._grid.sizes):
            tried = np.tile(smallest, (size, 1))
            tried[:, place] = np.arange(size)
            memory = self.memory(tried)
            smallest[place], matters[place] = int(np.argmin(memory)), memory.min() < memory.max()
        return smallest, matters

    def memory(self, rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, " row"]:
        """Return the bytes of every row."""
        return np.asarray(self._memory_of(rows), float)

    def _too_large(self, rows: Int[np.ndarray, "row axis"]) -> Bool[np.ndarray, " row"]:
        return np.asarray(self.memory(rows) >= self.reference.memory_bytes, bool)
