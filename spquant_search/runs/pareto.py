"""Dominance, hypervolumes and their reference point. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray

from spquant_search.costs.memory import CostReport
from spquant_search.runs.results import TrialResult
from spquant_search.space.schema import SpaceFile

COSTS = ("memory_bytes", "effective_macs")
OBJECTIVES = ("accuracy", *COSTS)


# Without gates and masks a configuration has exactly the baseline's MACs; measured from there it would add no volume,
# however small and accurate it is.
REFERENCE_SLACK = 1.1
SMALLEST_COST = 1e-6  # bytes or MACs; a logarithm needs some


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencePoint:
    """The worst corner of the volume that counts: chance accuracy, 1.1 times the float baseline's memory and MACs."""

    accuracy: float
    memory_bytes: float
    effective_macs: float

    def as_dict(self) -> dict[str, float]:
        return {name: getattr(self, name) for name in OBJECTIVES}


def objectives(results: Sequence[TrialResult]) -> Float[np.ndarray, "trial 3"]:
    """Return accuracy, memory in bytes and effective MACs of every trial."""
    return np.array([[getattr(result, name) for name in OBJECTIVES] for result in results], float).reshape(-1, 3)


def losses(points: Float[np.ndarray, "point 3"]) -> Float[np.ndarray, "point 3"]:
    """Return all three as quantities to make small."""
    signed: NDArray[np.float64] = points * np.array([-1.0, 1.0, 1.0])
    return signed


def fixed_objectives(space: SpaceFile) -> tuple[str, ...]:
    """Name the objectives that no choice of a space can change: the operations, where nothing gates or skips, and the
    number of time steps is one."""
    if len(space.time_steps) > 1:
        return ()
    can_gate = any(mass < 1 for layer in space.layers.values() for mass in layer.channel_mass or ())
    # Before the second time step no membrane is below any cut.
    cuts = [cut for layer in space.layers.values() for cut in layer.skip_below or () if cut is not None]
    can_skip = bool(cuts) and space.most_time_steps > 1
    references = {key for reference in space.search.references for key in reference}
    if can_gate or can_skip or references & {"channel_mass", "skip_below", "preset"}:
        return ()
    return ("effective_macs",)


def constant_objectives(results: Sequence[TrialResult], *, fixed: Collection[str] = ()) -> tuple[str, ...]:
    """Name the objectives in which all of these trials are equal.

    A single trial is equal to itself, which says nothing: then only ``fixed`` objectives count.
    """
    points = objectives(results)
    names = OBJECTIVES if len(results) > 1 else [name for name in OBJECTIVES if name in fixed]
    equal = {name: len(np.unique(points[:, OBJECTIVES.index(name)])) <= 1 for name in names}
    return tuple(name for name in names if equal[name])


def non_dominated(points: Float[np.ndarray, "point 3"]) -> Bool[np.ndarray, " point"]:
    """Mark the points that no other point equals or beats in all objectives and beats in one; equal points all stay.

    Takes a pass for each point that stays, which drops what that point dominates.
    """
    loss = losses(points)
    left = np.argsort(loss.sum(axis=1), kind="stable")  # good ones first: they drop many
    place = 0
    while place < len(left):
        point = loss[left[place]]
        others = loss[left]
        dominated = (others >= point).all(axis=1) & (others > point).any(axis=1)
        place += 1 - int(dominated[:place].sum())
        left = left[~dominated]
    keep = np.zeros(len(loss), bool)
    keep[left] = True
    return keep


def hypervolume(
    points: Float[np.ndarray, "point 3"], reference: ReferencePoint, *, without: Collection[str] = ()
) -> float:
    """Return the volume dominated by ``points`` within the reference point.

    Its axes: accuracy above chance (a fraction), memory and MACs as fractions of the reference point's. The largest
    possible value is 1 - chance. ``without``: the costs that do not count, as they are the same for all points.
    """
    corner = np.array([reference.memory_bytes, reference.effective_macs])
    saved = 1.0 - points[:, 1:] / corner
    saved[:, [name in without for name in COSTS]] = 1.0
    return _volume(points[:, 0] - reference.accuracy, saved)


def log_hypervolume(points: Float[np.ndarray, "point 3"], reference: ReferencePoint) -> float:
    """Return the dominated volume with memory and MACs in halvings from the reference point's.

    A search maximises it: 50 instead of 100 KiB counts as much as 25 instead of 50. Nearly all of :func:`hypervolume`
    lies near the float network's memory, so that a network that is small already has next to nothing to gain there.
    """
    corner = np.array([reference.memory_bytes, reference.effective_macs])
    return _volume(points[:, 0] - reference.accuracy, log2(corner) - log2(points[:, 1:]))


def log2(costs: ArrayLike) -> NDArray[np.float64]:
    """Return the logarithm to base 2 of bytes or MACs, of ``SMALLEST_COST`` for those below it."""
    return np.asarray(np.log2(np.maximum(costs, SMALLEST_COST)), float)


def _volume(accuracy: Float[np.ndarray, " point"], saved: Float[np.ndarray, "point 2"]) -> float:
    """Return the volume of the union of boxes from 0 to each point; a point that is not above 0 in every axis has none.

    Computed by sweeping the accuracy from the best point down: between two neighbouring accuracies the volume is their
    difference times the area that the points above cover in the plane of the other two.
    """
    inside = (accuracy > 0) & (saved > 0).all(axis=1)
    accuracy, saved = accuracy[inside], saved[inside]
    order = np.argsort(-accuracy, kind="stable")
    floors = np.append(accuracy[order][1:], 0.0)
    slabs = [
        (accuracy[place] - floors[index]) * _covered_area(saved[order[: index + 1]])
        for index, place in enumerate(order)
    ]
    return float(sum(slabs))


def _covered_area(saved: Float[np.ndarray, "point 2"]) -> float:
    """Return the area of the union of rectangles from 0 to each point."""
    area, height = 0.0, 0.0
    for width, top in saved[np.lexsort((-saved[:, 1], -saved[:, 0]))]:
        if top > height:
            area += width * (top - height)
            height = top
    return area


def reference_point(baseline: TrialResult, *, chance: float) -> ReferencePoint:
    """Return chance accuracy, and somewhat more than the float baseline costs."""
    return _reference(baseline.memory_bytes, baseline.effective_macs, chance)


def reference_at(baseline: CostReport, *, chance: float) -> ReferencePoint:
    """Return the reference point before the baseline is trained: all its MACs are effective."""
    return _reference(baseline.memory_bytes, baseline.dense_macs_all_steps, chance)


def _reference(memory_bytes: float, macs: float, chance: float) -> ReferencePoint:
    return ReferencePoint(
        accuracy=chance, memory_bytes=REFERENCE_SLACK * memory_bytes, effective_macs=REFERENCE_SLACK * macs
    )
