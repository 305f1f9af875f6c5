"""Configurations as rows of choice indices: drawing, mutating and crossing them, and their features for a model.

Pure functions of arrays; every parameter is a list of choices (a continuous range is one of 256 values).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray

from spquant_search.space.address import Address
from spquant_search.space.configuration import STORED, TIME_STEPS

RESOLUTION = 256  # values on a continuous range
LOG_RATIO = 4.0  # positive choices that span this factor or more are features by their logarithm
FLATTENING = 1.5  # an error falls by exp(-2 * 1.5), twentyfold, from the smallest to the largest choice
CROSSED = 0.4  # share of offspring with two parents
MUTATIONS = (1.0, 2.0, 4.0)  # mean numbers of parameters that an offspring changes
STEP = 0.05  # of a longer list of choices, the standard deviation of a mutation; at least the next choice
TILT = 1.5  # how far a tilted draw leans to one end of a kind's choices


@dataclass(frozen=True, kw_only=True, slots=True)
class Axis:
    """A parameter's choices, ordered ones from the smallest to the largest, and where each lies as a feature."""

    name: str
    kind: str  # parameters of one kind share a length scale: the part behind the dot of conv3.weight_bits
    choices: tuple[Any, ...]
    codes: Float[np.ndarray, "choice feature"]
    ordered: bool

    def indices(self, values: Sequence[Any]) -> Int[np.ndarray, " value"]:
        """Return the index of each value's choice, or of the nearest choice on a range."""
        known = {choice: index for index, choice in enumerate(self.choices)}
        if all(value in known for value in values):
            return np.array([known[value] for value in values], int)
        numbers = np.array([choice for choice in self.choices if choice is not None], float)
        nones = len(self.choices) - len(numbers)
        return np.array([known[v] if v in known else nones + int(np.argmin(np.abs(numbers - v))) for v in values], int)


def axis(name: str, choices: Sequence[Any]) -> Axis:
    """Return the axis of a parameter with these choices.

    Numbers are ordered and have two features: their place from -1 to 1, by the logarithm where they span a factor of 4
    or more, and a curve that flattens to the larger end, as a quantization error does with every bit. None (no mask)
    comes one step before the smallest, and 0 among positive ``membrane_levels`` (float) after the largest. Anything
    else is unordered, with one feature a choice.
    """
    kind = Address.parse(name).parameter.rstrip("0123456789") or name
    if not all(choice is None or isinstance(choice, int | float) for choice in choices):
        return Axis(name=name, kind=kind, choices=tuple(choices), codes=np.eye(len(choices)), ordered=False)
    values = _positions(kind, choices)
    order = np.argsort(values, kind="stable")
    places = np.interp(values[order], [values.min(), values.max()], [-1.0, 1.0])
    codes = np.stack([places, 2 * np.exp(-FLATTENING * (places + 1)) - 1], axis=1)
    return Axis(name=name, kind=kind, choices=tuple(choices[i] for i in order), codes=codes, ordered=True)


def _positions(kind: str, choices: Sequence[float | None]) -> NDArray[np.float64]:
    numbers = [float(choice) for choice in choices if choice is not None]
    largest = max(numbers, default=0.0)
    if kind == "membrane_levels":
        numbers = [number or 2 * largest for number in numbers]  # 0 is a float membrane
    if numbers and min(numbers) > 0 and max(numbers) >= LOG_RATIO * min(numbers):
        numbers = [math.log2(number) for number in numbers]
    gap = (max(numbers) - min(numbers)) / max(len(numbers) - 1, 1) if numbers else 0.0
    below = min(numbers, default=0.0) - (gap or 1.0)
    positions = iter(numbers)
    return np.array([below if choice is None else next(positions) for choice in choices])


@dataclass(frozen=True, kw_only=True, slots=True)
class Grid:
    """All configurations of a space, as rows of choice indices."""

    axes: tuple[Axis, ...]

    @property
    def sizes(self) -> Int[np.ndarray, " axis"]:
        return np.array([len(axis.choices) for axis in self.axes])

    @property
    def count(self) -> int:
        return math.prod(len(axis.choices) for axis in self.axes)

    @property
    def kinds(self) -> Int[np.ndarray, " feature"]:
        """The kind of every feature, as a number."""
        names = sorted({axis.kind for axis in self.axes})
        return np.array([names.index(axis.kind) for axis in self.axes for _ in range(axis.codes.shape[1])])

    def settled(self, rows: Int[np.ndarray, "row axis"]) -> Int[np.ndarray, "row axis"]:
        """Return rows in which what a single time step leaves without effect is at its most precise choice.

        One configuration then is one row. The most precise levels come last, no mask and the lowest cut first.
        """
        names = [Address.parse(axis.name) for axis in self.axes]
        if TIME_STEPS not in names or 1 not in (axis := self.axes[names.index(TIME_STEPS)]).choices:
            return rows
        at_one = rows[:, names.index(TIME_STEPS)] == axis.choices.index(1)
        found = rows.copy()
        for column, name in enumerate(names):
            if name.parameter in STORED:
                found[at_one, column] = self.sizes[column] - 1 if name.parameter == "membrane_levels" else 0
        return found

    def features(self, rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, "row feature"]:
        return np.concatenate([axis.codes[rows[:, i]] for i, axis in enumerate(self.axes)], axis=1)

    def holds(self, parameters: Mapping[str, Any]) -> bool:
        """Return whether every parameter has a value, which is a choice or lies beside ordered choices."""
        return all(
            axis.name in parameters and (axis.ordered or parameters[axis.name] in axis.choices) for axis in self.axes
        )

    def rows(self, parameters: Sequence[Mapping[str, Any]]) -> Int[np.ndarray, "row axis"]:
        """Return the row of each configuration, given by its values."""
        columns = [axis.indices([values[axis.name] for values in parameters]) for axis in self.axes]
        return self.settled(np.stack(columns, axis=1))

    def parameters(self, rows: Int[np.ndarray, "row axis"]) -> list[dict[str, Any]]:
        """Return the values of every row, by name."""
        names = [axis.name for axis in self.axes]
        columns = [[axis.choices[i] for i in rows[:, column]] for column, axis in enumerate(self.axes)]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def all_rows(self) -> Int[np.ndarray, "row axis"]:
        """Return all rows; for small spaces only."""
        rows = np.stack(np.meshgrid(*map(np.arange, self.sizes), indexing="ij"), axis=-1).reshape(-1, len(self.axes))
        return np.unique(self.settled(rows), axis=0)

    def uniform(self, rng: np.random.Generator, count: int) -> Int[np.ndarray, "row axis"]:
        return self.settled(rng.integers(self.sizes, size=(count, len(self.axes))))

    def tilted(self, rng: np.random.Generator, count: int) -> Int[np.ndarray, "row axis"]:
        """Draw random rows that lean, each kind as a whole, to small or to large choices.

        Independent uniform draws of many parameters all cost nearly the same; these reach the ends of the front.
        """
        names = sorted({axis.kind for axis in self.axes})
        kinds = np.array([names.index(axis.kind) for axis in self.axes])
        exponents = np.exp(rng.uniform(-TILT, TILT, size=(count, len(names))))[:, kinds]
        drawn = rng.random((count, len(self.axes))) ** exponents
        rows: NDArray[np.int_] = np.minimum((drawn * self.sizes).astype(int), self.sizes - 1)
        return self.settled(rows)

    def offspring(
        self, rng: np.random.Generator, parents: Int[np.ndarray, "parent axis"], count: int
    ) -> Int[np.ndarray, "row axis"]:
        """Make rows of one parent or of two, with a few choices changed."""
        mothers, fathers = (parents[rng.integers(len(parents), size=count)] for _ in range(2))
        crossed = (rng.random(count) < CROSSED)[:, None] & (rng.random(mothers.shape) < 0.5)
        rate = rng.choice(MUTATIONS, size=(count, 1)) / len(self.axes)
        changed = rng.random(mothers.shape) < rate
        rows: NDArray[np.int_] = np.where(crossed, fathers, mothers)
        return self.settled(np.where(changed, self._neighbours(rng, rows), rows))

    def _neighbours(self, rng: np.random.Generator, rows: NDArray[np.int_]) -> NDArray[np.int_]:
        reach = np.maximum(1, np.abs(rng.normal(0, STEP * self.sizes, size=rows.shape)).round()).astype(int)
        steps = np.where(rng.random(rows.shape) < 0.5, -reach, reach)
        ordered = np.array([axis.ordered for axis in self.axes])
        return np.where(ordered, np.clip(rows + steps, 0, self.sizes - 1), self.uniform(rng, len(rows)))
