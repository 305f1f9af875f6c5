"""Of which axes of time, samples and features the dimensions of a tensor are made, whatever was reshaped.

A network's code flattens, views, permutes and stacks. None of it computes anything, and all of it is bookkeeping here:
each dimension is a tuple of axes, outermost first, and a dimension of size 1 is an empty one. A feature axis may be
split, as a view of 512 features as [32, 4, 4] does; its parts know how many features one step along them is.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from torch import Tensor

from spquant_search.importer.refusals import Refused


class Kind(IntEnum):
    """What an axis counts; in the order in which values are kept."""

    TIME = 0
    BATCH = 1
    FEATURE = 2


@dataclass(frozen=True, slots=True)
class Axis:
    """An axis of a signal: of time, of samples, or ``place``, one of its features' or a part of it.

    ``stride`` is how many features of the whole axis one step along this part is; a whole axis has stride 1.
    """

    kind: Kind
    size: int
    place: int = 0
    stride: int = 1

    @property
    def order(self) -> tuple[int, int, int]:
        """Where this axis stands among those of a signal in memory."""
        return self.kind, self.place, -self.stride


Dimension = tuple[Axis, ...]
Dimensions = tuple[Dimension, ...]


def size_of(dimension: Dimension) -> int:
    """Return how many entries a dimension has."""
    return math.prod(axis.size for axis in dimension)


def sizes_of(dimensions: Dimensions) -> tuple[int, ...]:
    """Return the shape of a tensor."""
    return tuple(size_of(dimension) for dimension in dimensions)


def feature_dimensions(shape: Sequence[int], places: Sequence[int] | None = None) -> Dimensions:
    """Return the dimensions of features of this shape; ``places`` are those of their axes, else 0, 1, ..."""
    numbered = range(len(shape)) if places is None else places
    return tuple(
        (Axis(Kind.FEATURE, size, place),) if size > 1 else () for place, size in zip(numbered, shape, strict=True)
    )


def is_time(dimension: Dimension) -> bool:
    """Return whether a dimension is time alone."""
    return len(dimension) == 1 and dimension[0].kind == Kind.TIME


def lead_of(dimensions: Dimensions) -> int:
    """Return how many dimensions time and samples take up in front of the features.

    Raises:
        Refused: they stand behind or within the features.
    """
    shared = [any(axis.kind != Kind.FEATURE for axis in dimension) for dimension in dimensions]
    lead = len(shared) - shared[::-1].index(True) if True in shared else 0
    if any(axis.kind == Kind.FEATURE for dimension in dimensions[:lead] for axis in dimension):
        raise Refused("time or samples stand behind or within the features", "keep [time, batch] in front of them")
    return lead


def features_of(dimensions: Dimensions) -> tuple[int, ...]:
    """Return the shape of the features behind time and samples.

    Raises:
        Refused: they stand in another order than that in which they were made.
    """
    behind = dimensions[lead_of(dimensions) :]
    order = [axis.order for dimension in behind for axis in dimension]
    if order != sorted(order):
        raise Refused("its features are permuted", "keep channels, height and width in this order")
    return sizes_of(behind)


def regrouped(dimensions: Dimensions, shape: Sequence[int]) -> Dimensions:
    """Return the dimensions after a view as ``shape``, which is that of the result.

    Raises:
        Refused: the view takes apart time or samples, or mixes them with features in a way that cannot be followed.
    """
    left = [axis for dimension in dimensions for axis in dimension]
    return tuple(_taken(left, size) for size in shape)


def _taken(left: list[Axis], room: int) -> Dimension:
    """Take the axes that fill a dimension from the front of those that are left."""
    group: list[Axis] = []
    while room > 1:
        axis = left.pop(0)
        if room % axis.size == 0:
            group.append(axis)
            room //= axis.size
            continue
        if axis.kind != Kind.FEATURE or axis.size % room:
            raise Refused(f"a view takes apart an axis of {axis.size} {axis.kind.name.lower()} entries")
        inner = axis.size // room
        group.append(Axis(Kind.FEATURE, room, axis.place, axis.stride * inner))
        left.insert(0, Axis(Kind.FEATURE, inner, axis.place, axis.stride))
        room = 1
    return tuple(group)


def in_order(values: Tensor, dimensions: Dimensions, features: Sequence[int]) -> Tensor:
    """Return values of these dimensions as [time and batch where they have them, *features]."""
    axes = [axis for dimension in dimensions for axis in dimension]
    order = sorted(range(len(axes)), key=lambda number: axes[number].order)
    lead = [axes[number].size for number in order if axes[number].kind != Kind.FEATURE]
    apart = values.reshape([axis.size for axis in axes])
    return apart.permute(order).reshape(*lead, *features)
