"""Dominance, hypervolumes and their reference point. Pure functions of arrays."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike, NDArray

from spquant_search.costs.memory import FLOPS_PER_MAC, CostReport
from spquant_search.runs.energy import most_energy_uj
from spquant_search.runs.results import TrialResult
from spquant_search.space.objectives import ACCURACY, COSTS
from spquant_search.space.schema import SpaceFile

# Without gates and masks a configuration has exactly the baseline's operations; measured from there it would add no
# volume, however small and accurate it is.
REFERENCE_SLACK = 1.1
SMALLEST_COST = 1e-6  # of whatever unit; a logarithm needs some
# Costs that only the training of the float baseline shows; its operations are all of them.
MEASURED = ("synaptic_ops", "energy_uj")


@dataclass(frozen=True, kw_only=True, slots=True)
class ReferencePoint:
    """The worst corner of the volume that counts: chance accuracy, and 1.1 times what the float baseline costs.

    Of a cost that the baseline does not have it is 1.1 times that of the dearest configuration of the space.
    """

    accuracy: float
    costs: Mapping[str, float]  # by objective

    def as_dict(self) -> dict[str, float]:
        return {ACCURACY: self.accuracy, **self.costs}


def figure(result: TrialResult, name: str) -> float:
    """Return the accuracy or a cost of a trial; infinite where it has no such cost, as it keeps floating point."""
    value = getattr(result, name)
    return float("inf") if value is None else float(value)


def objectives(results: Sequence[TrialResult], costs: Collection[str]) -> Float[np.ndarray, "trial objective"]:
    """Return the accuracy of every trial, and these costs."""
    names = (ACCURACY, *costs)
    found = np.array([[figure(result, name) for name in names] for result in results], float)
    return found.reshape(-1, len(names))


def losses(points: Float[np.ndarray, "point objective"]) -> Float[np.ndarray, "point objective"]:
    """Return all objectives as quantities to make small."""
    signs = np.ones(points.shape[1])
    signs[0] = -1.0
    signed: NDArray[np.float64] = points * signs
    return signed


def fixed_objectives(space: SpaceFile) -> tuple[str, ...]:
    """Name the objectives that no choice of a space can change: the operations, where nothing gates or skips, and the
    number of time steps is one."""
    if len(space.time_steps) > 1 or "effective_flops" not in space.search.costs:
        return ()
    can_gate = any(mass < 1 for layer in space.layers.values() for mass in layer.channel_mass or ())
    # Before the second time step no membrane is below any cut.
    cuts = [cut for layer in space.layers.values() for cut in layer.skip_below or () if cut is not None]
    can_skip = bool(cuts) and space.most_time_steps > 1
    references = {key for reference in space.search.references for key in reference}
    if can_gate or can_skip or references & {"channel_mass", "skip_below", "preset"}:
        return ()
    return ("effective_flops",)


def constant_objectives(
    results: Sequence[TrialResult], costs: Collection[str], *, fixed: Collection[str] = ()
) -> tuple[str, ...]:
    """Name the objectives in which all of these trials are equal.

    A single trial is equal to itself, which says nothing: then only ``fixed`` objectives count.
    """
    names = (ACCURACY, *costs)
    points = objectives(results, costs)
    counted = names if len(results) > 1 else [name for name in names if name in fixed]
    return tuple(name for name in counted if len(np.unique(points[:, names.index(name)])) <= 1)


def non_dominated(points: Float[np.ndarray, "point objective"]) -> Bool[np.ndarray, " point"]:
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
    points: Float[np.ndarray, "point objective"], reference: ReferencePoint, *, without: Collection[str] = ()
) -> float:
    """Return the volume dominated by ``points`` within the reference point.

    Its axes: accuracy above chance (a fraction), and the costs as fractions of the reference point's. The largest
    possible value is 1 - chance. ``without``: the costs that do not count, as they are the same for all points.
    """
    saved = 1.0 - points[:, 1:] / np.array(list(reference.costs.values()))
    saved[:, [name in without for name in reference.costs]] = 1.0
    return _volume(points[:, 0] - reference.accuracy, saved)


def log_hypervolume(points: Float[np.ndarray, "point objective"], reference: ReferencePoint) -> float:
    """Return the dominated volume with the costs in halvings from the reference point's.

    A search maximises it: 50 instead of 100 KiB counts as much as 25 instead of 50. Nearly all of :func:`hypervolume`
    lies near the float network's memory, so that a network that is small already has next to nothing to gain there.
    """
    corner = np.array(list(reference.costs.values()))
    return _volume(points[:, 0] - reference.accuracy, log2(corner) - log2(points[:, 1:]))


def log2(costs: ArrayLike) -> NDArray[np.float64]:
    """Return the logarithm to base 2 of costs, of ``SMALLEST_COST`` for those below it."""
    return np.asarray(np.log2(np.maximum(costs, SMALLEST_COST)), float)


def two_costs(costs: Float[np.ndarray, "point cost"], *, filled: float = 1.0) -> Float[np.ndarray, "point 2"]:
    """Return one cost or two as two: before a single one stands a first that is the same for all."""
    missing = np.full((len(costs), 2 - costs.shape[1]), filled)
    return np.concatenate([missing, costs], axis=1)


def _volume(accuracy: Float[np.ndarray, " point"], saved: Float[np.ndarray, "point cost"]) -> float:
    """Return the volume of the union of boxes from 0 to each point; a point that is not above 0 in every axis has none.

    Computed by sweeping the accuracy from the best point down: between two neighbouring accuracies the volume is their
    difference times the area that the points above cover in the plane of the other two.
    """
    inside = (accuracy > 0) & (saved > 0).all(axis=1)
    accuracy, saved = accuracy[inside], two_costs(saved[inside])
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


def reference_point(
    baseline: TrialResult, costs: Collection[str], *, chance: float, dearest: Mapping[str, float]
) -> ReferencePoint:
    """Return chance accuracy, and somewhat more than the float baseline costs.

    ``dearest``: what the dearest configuration of the space costs, by the costs that the baseline does not have.
    """
    return _reference({name: getattr(baseline, name) for name in costs}, dearest, chance)


def reference_at(
    baseline: CostReport, costs: Collection[str], *, chance: float, dearest: Mapping[str, float]
) -> ReferencePoint:
    """Return the reference point before the baseline is trained: all its operations are effective.

    Of what only training shows it is the most that there can be.
    """
    most: dict[str, float] = {
        "memory_bytes": baseline.memory_bytes,
        "effective_flops": FLOPS_PER_MAC * baseline.dense_macs_all_steps,
        "synaptic_ops": baseline.dense_macs_all_steps,
        "energy_uj": most_energy_uj(baseline),
    }
    return _reference({name: most.get(name) for name in costs}, dearest, chance)


def _reference(known: Mapping[str, float | None], dearest: Mapping[str, float], chance: float) -> ReferencePoint:
    costs = {
        name: value if COSTS[name].of_floats and value is not None else dearest[name] for name, value in known.items()
    }
    return ReferencePoint(accuracy=chance, costs={name: REFERENCE_SLACK * value for name, value in costs.items()})
