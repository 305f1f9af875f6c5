"""The expected improvement of a front's log-hypervolume, in closed form. Pure functions of arrays.

The volume is that of :func:`spquant_search.runs.pareto.log_hypervolume`: memory and MACs on logarithmic axes. The
memory of a candidate is known. Its accuracy and the logarithm of its effective MACs, cut off at the dense MACs, are
predicted as independent normal variables. The volume within the reference point that no member of the front dominates
is a union of boxes. A candidate adds its overlap with them, a product of three lengths in each box; with independent
variables the expectation of a product is the product of the expectations, all of which are known in closed form. So
nothing is sampled. (Emmerich, Yang, Deutz 2020, "Infill criteria for multiobjective Bayesian optimization"; the boxes
are those of a sweep from the most accurate member down.)
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from scipy.special import ndtr

from spquant_search.runs.pareto import ReferencePoint, log2

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Predictions:
    """The objectives of candidates as predicted before they are trained."""

    accuracy: Float[np.ndarray, " candidate"]
    accuracy_deviation: Float[np.ndarray, " candidate"]
    memory_bytes: Float[np.ndarray, " candidate"]
    log_macs: Float[np.ndarray, " candidate"]  # natural logarithm of the effective MACs
    log_macs_deviation: Float[np.ndarray, " candidate"]  # 0: known


@dataclass(frozen=True, kw_only=True, slots=True)
class Boxes:
    """The volume that no member dominates. In MACs every box begins at 0; in accuracy the topmost boxes are open."""

    accuracy_from: Float[np.ndarray, " box"]
    accuracy_to: Float[np.ndarray, " box"]
    memory_from: Float[np.ndarray, " box"]
    memory_to: Float[np.ndarray, " box"]
    macs_to: Float[np.ndarray, " box"]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Strip:
    """A range of memory below ``macs_to`` that no member swept so far dominates, down from ``accuracy_to``."""

    memory_from: float
    memory_to: float
    macs_to: float
    accuracy_to: float


def open_boxes(front: Float[np.ndarray, "member 3"], reference: ReferencePoint) -> Boxes:
    """Return the volume within ``reference`` that no member dominates, as boxes that do not overlap.

    There are at most three boxes a member and another box.

    Args:
        front: accuracy, memory bytes and effective MACs of each member; dominated rows do no harm.
    """
    strips = [
        _Strip(
            memory_from=0.0,
            memory_to=reference.memory_bytes,
            macs_to=reference.effective_macs,
            accuracy_to=np.inf,
        )
    ]
    boxes: list[tuple[float, ...]] = []
    for accuracy, memory, macs in front[np.argsort(-front[:, 0], kind="stable")]:
        if accuracy <= reference.accuracy:
            break
        covered = [strip for strip in strips if strip.memory_to > memory and strip.macs_to > macs]
        if not covered:
            continue
        boxes += [_box(strip, accuracy) for strip in covered]
        left = [strip for strip in strips if strip not in covered]
        first, memory_to = covered[0], covered[-1].memory_to
        if first.memory_from < memory:
            left.append(replace(first, memory_to=memory, accuracy_to=accuracy))
        memory_from = max(memory, first.memory_from)
        left.append(_Strip(memory_from=memory_from, memory_to=memory_to, macs_to=macs, accuracy_to=accuracy))
        strips = sorted(left, key=lambda strip: strip.memory_from)
    boxes += [_box(strip, reference.accuracy) for strip in strips]
    found = np.array([box for box in boxes if box[0] < box[1]])
    return Boxes(
        accuracy_from=found[:, 0],
        accuracy_to=found[:, 1],
        memory_from=found[:, 2],
        memory_to=found[:, 3],
        macs_to=found[:, 4],
    )


def _box(strip: _Strip, accuracy_from: float) -> tuple[float, ...]:
    return (accuracy_from, strip.accuracy_to, strip.memory_from, strip.memory_to, strip.macs_to)


def expected_improvement(
    predictions: Predictions, boxes: Boxes, *, dense_macs: Float[np.ndarray, " candidate"]
) -> Float[np.ndarray, " candidate"]:
    """Return the log-hypervolume that each candidate is expected to add.

    Args:
        dense_macs: the most MACs that each candidate can have.
    """
    above = _above(boxes.accuracy_from, predictions) - _above(boxes.accuracy_to, predictions)
    memory_from = np.maximum(log2(boxes.memory_from), log2(predictions.memory_bytes)[:, None])
    memory = np.maximum(log2(boxes.memory_to) - memory_from, 0.0)
    macs = _below(boxes.macs_to, predictions, dense_macs)
    improvement: Array = np.einsum("cb,cb,cb->c", above, memory, macs)
    return improvement


def _above(levels: Float[np.ndarray, " box"], predictions: Predictions) -> Float[np.ndarray, "candidate box"]:
    """Return E[max(accuracy - level, 0)], which is 0 for a level at infinity."""
    unique, back = np.unique(levels, return_inverse=True)
    finite = np.isfinite(unique)
    lead = predictions.accuracy[:, None] - np.where(finite, unique, 0.0)
    above: Array = np.where(finite, _positive_part(lead, predictions.accuracy_deviation), 0.0)[:, back]
    return above


def _below(
    levels: Float[np.ndarray, " box"], predictions: Predictions, dense_macs: Float[np.ndarray, " candidate"]
) -> Array:
    """Return E[max(log2(level) - log2(min(MACs, dense)), 0)], the halvings expected of a box below its ``macs_to``.

    A level above the dense MACs adds its distance from them.
    """
    unique, back = np.unique(levels, return_inverse=True)
    level = log2(unique)
    cut = np.minimum(level, log2(dense_macs)[:, None])
    mean, deviation = predictions.log_macs / np.log(2.0), predictions.log_macs_deviation / np.log(2.0)
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
