"""The expected improvement of a front's log-hypervolume, in closed form. Pure functions of arrays.

The volume is that of :func:`spquant_search.runs.pareto.log_hypervolume`: the costs on logarithmic axes. A cost of a
candidate is known, or its logarithm, cut off at the most that it can be, is predicted as a normal variable, as the
accuracy is; all of them as independent ones. The volume within the reference point that no member of the front
dominates is a union of boxes. A candidate adds its overlap with them, a product of three lengths in each box; with
independent variables the expectation of a product is the product of the expectations, all of which are known in closed
form. So nothing is sampled. (Emmerich, Yang, Deutz 2020, "Infill criteria for multiobjective Bayesian optimization";
the boxes are those of a sweep from the most accurate member down.)

Where there is a single cost, a first one that is the same for all stands before it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr

from spquant_search.runs.pareto import ReferencePoint, log2, two_costs

Array = NDArray[np.float64]
SAME_COST, SAME_CORNER = 1.0, 2.0  # of a first cost that stands for none, and of its reference: halved once


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedCost:
    """A cost of candidates: log-normal but never above ``most``, or exactly that where no deviation is given."""

    most: Float[np.ndarray, " candidate"]
    log: Float[np.ndarray, " candidate"] | None = None  # the mean of the natural logarithm
    log_deviation: Float[np.ndarray, " candidate"] | None = None  # 0: known

    def median(self) -> Float[np.ndarray, " candidate"]:
        return self.most if self.log is None else np.exp(self.log)


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """The objectives of candidates as predicted before they are trained."""

    accuracy: Float[np.ndarray, " candidate"]
    accuracy_deviation: Float[np.ndarray, " candidate"]
    costs: tuple[PredictedCost, ...]

    def points(self) -> Float[np.ndarray, "candidate objective"]:
        """Return the objectives as they are most likely."""
        return np.stack([self.accuracy, *(cost.median() for cost in self.costs)], axis=1)

    def two_costs(self) -> tuple[PredictedCost, PredictedCost]:
        """Return the costs; where there is one, before it one that is the same for all."""
        first = PredictedCost(most=np.full(len(self.accuracy), SAME_COST))
        *_, before, last = (first, *self.costs)
        return before, last


@dataclass(frozen=True, kw_only=True, slots=True)
class Boxes:
    """The volume that no member dominates. In the second cost boxes begin at 0; in accuracy the topmost are open."""

    accuracy_from: Float[np.ndarray, " box"]
    accuracy_to: Float[np.ndarray, " box"]
    first_from: Float[np.ndarray, " box"]
    first_to: Float[np.ndarray, " box"]
    second_to: Float[np.ndarray, " box"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Strip:
    """A range of the first cost below ``second_to`` that no member so far dominates, down from ``accuracy_to``."""

    first_from: float
    first_to: float
    second_to: float
    accuracy_to: float


def open_boxes(front: Float[np.ndarray, "member objective"], reference: ReferencePoint) -> Boxes:
    """Return the volume within ``reference`` that no member dominates, as boxes that do not overlap.

    There are at most three boxes a member and another box.

    Args:
        front: the accuracy and the costs of each member; dominated rows do no harm.
    """
    ((first_corner, second_corner),) = two_costs(np.array([list(reference.costs.values())]), filled=SAME_CORNER)
    members = np.column_stack([front[:, 0], two_costs(front[:, 1:], filled=SAME_COST)])
    strips = [
        _Strip(
            first_from=0.0,
            first_to=float(first_corner),
            second_to=float(second_corner),
            accuracy_to=np.inf,
        )
    ]
    boxes: list[tuple[float, ...]] = []
    for accuracy, one, other in members[np.argsort(-members[:, 0], kind="stable")]:
        if accuracy <= reference.accuracy:
            break
        covered = [strip for strip in strips if strip.first_to > one and strip.second_to > other]
        if not covered:
            continue
        boxes += [_box(strip, accuracy) for strip in covered]
        left = [strip for strip in strips if strip not in covered]
        first, first_to = covered[0], covered[-1].first_to
        if first.first_from < one:
            left.append(replace(first, first_to=one, accuracy_to=accuracy))
        first_from = max(one, first.first_from)
        left.append(_Strip(first_from=first_from, first_to=first_to, second_to=other, accuracy_to=accuracy))
        strips = sorted(left, key=lambda strip: strip.first_from)
    boxes += [_box(strip, reference.accuracy) for strip in strips]
    found = np.array([box for box in boxes if box[0] < box[1]])
    return Boxes(
        accuracy_from=found[:, 0],
        accuracy_to=found[:, 1],
        first_from=found[:, 2],
        first_to=found[:, 3],
        second_to=found[:, 4],
    )


def _box(strip: _Strip, accuracy_from: float) -> tuple[float, ...]:
    return (accuracy_from, strip.accuracy_to, strip.first_from, strip.first_to, strip.second_to)


def expected_improvement(predictions: Predictions, boxes: Boxes) -> Float[np.ndarray, " candidate"]:
    """Return the log-hypervolume that each candidate is expected to add."""
    above = _above(boxes.accuracy_from, predictions) - _above(boxes.accuracy_to, predictions)
    first, second = predictions.two_costs()
    improvement: Array = np.einsum("cb,cb,cb->c", above, _between(boxes, first), _below(boxes.second_to, second))
    return improvement


def _above(levels: Float[np.ndarray, " box"], predictions: Predictions) -> Float[np.ndarray, "candidate box"]:
    """Return E[max(accuracy - level, 0)], which is 0 for a level at infinity."""
    unique, back = np.unique(levels, return_inverse=True)
    finite = np.isfinite(unique)
    lead = predictions.accuracy[:, None] - np.where(finite, unique, 0.0)
    above: Array = np.where(finite, _positive_part(lead, predictions.accuracy_deviation), 0.0)[:, back]
    return above


def _between(boxes: Boxes, cost: PredictedCost) -> Float[np.ndarray, "candidate box"]:
    """Return the halvings of the first cost that are expected of each box: from its lower end, or the candidate, up."""
    if cost.log is None:
        lower = np.maximum(log2(boxes.first_from), log2(cost.most)[:, None])
        return np.asarray(np.maximum(log2(boxes.first_to) - lower, 0.0), float)
    length: Array = np.maximum(_below(boxes.first_to, cost) - _below(boxes.first_from, cost), 0.0)
    return length


def _below(levels: Float[np.ndarray, " box"], cost: PredictedCost) -> Float[np.ndarray, "candidate box"]:
    """Return E[max(log2(level) - log2(min(cost, most)), 0)], the halvings expected of a box that begins at 0.

    A level above the most adds its distance from it.
    """
    unique, back = np.unique(levels, return_inverse=True)
    level = log2(unique)
    cut = np.minimum(level, log2(cost.most)[:, None])
    if cost.log is None or cost.log_deviation is None:
        known: Array = (level - cut)[:, back]
        return known
    mean, deviation = cost.log / np.log(2.0), cost.log_deviation / np.log(2.0)
    below: Array = (_positive_part(cut - mean[:, None], deviation) + (level - cut))[:, back]
    return below


def _positive_part(
    mean: Float[np.ndarray, "candidate level"], deviation: Float[np.ndarray, " candidate"]
) -> Float[np.ndarray, "candidate level"]:
    """Return E[max(X, 0)] of normal variables: s (z Phi(z) + phi(z)) with z = mean / s."""
    spread = np.maximum(deviation, 1e-12)[:, None]
    z = mean / spread
    density = np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi)
    expected: Array = np.maximum(spread * (z * ndtr(z) + density), 0.0)
    return expected
