"""The choice of trials: the front's members, the one that a budget picks, and those to fine-tune."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from spquant_search.runs.intervals import wilson_interval
from spquant_search.runs.pareto import (
    REFERENCE_SLACK,
    ReferencePoint,
    figure,
    log_hypervolume,
    losses,
    non_dominated,
    objectives,
)
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.space.objectives import ACCURACY, COSTS
from spquant_search.space.schema import Constraints, SpaceFile

# Of the float baseline's accuracy above chance. Networks that keep less are hardly deployed, but counted from chance
# their few operations add so much volume that a search would spend most of its work on them.
WORTHWHILE_SHARE = 0.9
# The same of a subnet, where time steps are searched: fine-tuning gains back half of what a subnet has lost, so that a
# network that is worth deploying may have lost twice as much as a subnet. What has few operations loses most: counted
# from the share above, a subnet of one time step would hardly ever be proposed, or fine-tuned.
WORTHWHILE_SHARE_OF_SUBNET = 0.8
# Times the float baseline's operations, where no budget bounds them, that a search counts halvings from: what has
# neither gates nor masks has halved them once, so that its memory and accuracy weigh against what sparse ones save.
# Likewise with every cost but the bytes of the float network, which every quantized one has halved more than once.
DENSE_SLACK = 2.0


def front(
    results: Sequence[TrialResult], costs: Collection[str], budget: Budget | None = None
) -> tuple[TrialResult, ...]:
    """Return the trials with a network that no other trial dominates in accuracy and ``costs``, by the first cost.

    A configuration that was evaluated as a subnet and then fine-tuned counts once, as it was fine-tuned, if that cost
    no accuracy. Where any trial keeps ``budget`` only such trials are members; where none does, the budget is ignored.
    """
    measured = (comparable(within(results, budget), costs) if budget else []) or comparable(results, costs)
    keep = non_dominated(objectives(measured, costs))
    members = [result for result, kept in zip(measured, keep, strict=True) if kept]
    return tuple(sorted(members, key=lambda member: (*(figure(member, cost) for cost in costs), member.number)))


def within(results: Sequence[TrialResult], budget: Budget) -> list[TrialResult]:
    """Return the trials that keep a budget; what is not measured breaks no bound."""
    return [result for result in results if not budget.excess(result)]


def is_met(results: Sequence[TrialResult], costs: Collection[str], budget: Budget) -> bool:
    """Return whether some trial that left a network, and has these costs, keeps the budget."""
    return bool(comparable(within(results, budget), costs))


def comparable(results: Sequence[TrialResult], costs: Collection[str]) -> list[TrialResult]:
    """Return the :func:`deployable` trials that have all of these costs: one that keeps floats has no flash or RAM."""
    return [result for result in deployable(results) if all(math.isfinite(figure(result, cost)) for cost in costs)]


def deployable(results: Sequence[TrialResult]) -> list[TrialResult]:
    """Return the trials with a network and figures, without the subnets that fine-tuning made no less accurate."""
    tuned = [result for result in results if result.outcome is Outcome.COMPLETE and result.parent is not None]
    read = {result.number: result.accuracy for result in results}  # finalized since, perhaps
    replaced = {
        result.parent
        for result in tuned
        if result.parent is not None and result.accuracy >= read.get(result.parent, result.epochs[0].accuracy)
    }
    # A figure that is not a number compares as neither better nor worse and would stay on the front for ever.
    return [
        result
        for result in results
        if result.outcome.has_weights and result.is_measured and result.number not in replaced
    ]


def clip_to_budget(reference: ReferencePoint, budget: Budget) -> ReferencePoint:
    """Return ``reference`` moved in to the budget, so that nothing over the budget adds any volume.

    A network with exactly as many bytes as it may have lies within. A budget that allows the float baseline's own
    operations bounds none, and the reference keeps its distance from them.
    """
    bounds, costs = budget.as_dict(), dict(reference.costs)
    for name, bound in bounds.items():
        if name in costs and (COSTS[name].is_exact or bound < costs[name] / REFERENCE_SLACK):
            costs[name] = min(costs[name], beyond(name, bound))
    return ReferencePoint(accuracy=max(reference.accuracy, bounds.get(ACCURACY, 0.0)), costs=costs)


def beyond(name: str, bound: float) -> float:
    """Return the least cost that is over a bound: bytes are whole, everything else lies at it or beyond."""
    return bound + 1 if COSTS[name].unit == "bytes" else bound


def worthwhile_share(space: SpaceFile) -> float:
    """Return how much of the float baseline's accuracy above chance the trials of a search are worth looking at from.

    Where all configurations have one number of time steps, their subnets lose alike.
    """
    of_subnets = space.search.strategy == "supernet" and len(space.time_steps) > 1
    return WORTHWHILE_SHARE_OF_SUBNET if of_subnets else WORTHWHILE_SHARE


def near_baseline(
    reference: ReferencePoint, *, baseline_accuracy: float, share: float = WORTHWHILE_SHARE
) -> ReferencePoint:
    """Return ``reference`` moved up from chance to the accuracy above which a search looks for gains.

    That is the ``share`` of the way from chance to the float baseline's accuracy.
    """
    above_chance = max(0.0, baseline_accuracy - reference.accuracy)
    return replace(reference, accuracy=reference.accuracy + share * above_chance)


def sampler_reference(
    reference: ReferencePoint,
    budget: Budget,
    *,
    baseline_accuracy: float | None = None,
    share: float = WORTHWHILE_SHARE,
) -> ReferencePoint:
    """Return the point from which a search looks for gains: within the budget, near the float baseline's accuracy.

    ``reference``: of :func:`reference_at` or :func:`reference_point`; without ``baseline_accuracy``, from its accuracy.
    """
    from_accuracy = reference
    if baseline_accuracy is not None:
        from_accuracy = near_baseline(reference, baseline_accuracy=baseline_accuracy, share=share)
    corner = clip_to_budget(from_accuracy, budget)
    wider = {
        name: cost * DENSE_SLACK / REFERENCE_SLACK
        for name, cost in corner.costs.items()
        if cost >= reference.costs[name] and not (COSTS[name].is_exact and COSTS[name].of_floats)
    }
    return replace(corner, costs={**corner.costs, **wider})


def greedy_hypervolume_subset(
    results: Sequence[TrialResult], reference: ReferencePoint, *, limit: int, margin: float
) -> tuple[TrialResult, ...]:
    """Return up to ``limit`` trials on the front or near it, those that add most to its log-hypervolume first.

    Every step takes the trial that adds most to the volume of those taken before. Once nothing adds any, the trials
    follow that would add most if they were ``margin`` more accurate.
    """
    points = objectives(results, tuple(reference.costs))
    # A trial that another one dominates adds less than that one, as long as either adds anything.
    chosen = _add_greedily([], points, points, non_dominated(points), reference, limit)
    raised = points.copy()
    raised[:, 0] += margin
    chosen = _add_greedily(chosen, points, raised, ~_covered(raised, points[chosen]), reference, limit)
    return tuple(results[index] for index in chosen)


def _add_greedily(
    chosen: list[int],
    points: Float[np.ndarray, "trial objective"],
    raised: Float[np.ndarray, "trial objective"],
    is_candidate: Bool[np.ndarray, " trial"],
    reference: ReferencePoint,
    limit: int,
) -> list[int]:
    """Return ``chosen`` and, one after the other, the candidates whose raised point adds most to the chosen points.

    What a trial adds only becomes less as more are chosen, so that an earlier figure bounds it: the trial whose bound
    is highest is measured again, until the highest has been measured in this very step.
    """
    chosen = list(chosen)
    bounds = np.where(is_candidate, np.inf, -np.inf)
    bounds[chosen] = -np.inf
    measured, held = np.full(len(points), -1), log_hypervolume(points[chosen], reference)
    while len(chosen) < min(limit, len(points)):
        best = int(np.argmax(bounds))
        if bounds[best] <= 0.0:
            break
        if measured[best] < len(chosen):
            bounds[best] = log_hypervolume(np.vstack([points[chosen], raised[best]]), reference) - held
            measured[best] = len(chosen)
        else:
            chosen.append(best)
            # What a chosen point covers adds nothing any more, whatever rounding makes of it.
            bounds[_covered(raised, points[[best]])] = bounds[best] = -np.inf
            held = log_hypervolume(points[chosen], reference)
    return chosen


def _covered(
    points: Float[np.ndarray, "point objective"], by: Float[np.ndarray, "other objective"]
) -> Bool[np.ndarray, " point"]:
    """Mark the points that some other point equals or beats in all objectives."""
    is_no_worse = np.all(losses(by)[None] <= losses(points)[:, None], axis=2)
    return np.asarray(np.any(is_no_worse, axis=1), bool)


def select_finalists(
    results: Sequence[TrialResult],
    reference: ReferencePoint,
    budget: Budget,
    *,
    baseline_accuracy: float,
    limit: int,
    margin: float,
    share: float = WORTHWHILE_SHARE,
) -> tuple[TrialResult, ...]:
    """Return the trials to fine-tune: :func:`greedy_hypervolume_subset` from near the baseline's accuracy within the
    budget, or from chance where no trial is that accurate."""
    high = sampler_reference(reference, budget, baseline_accuracy=baseline_accuracy, share=share)
    return greedy_hypervolume_subset(results, high, limit=limit, margin=margin) or greedy_hypervolume_subset(
        results, sampler_reference(reference, budget), limit=limit, margin=margin
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class Budget:
    """Bounds that a member must keep; None where it does not matter."""

    max_memory_bytes: float | None = None
    max_flash_bytes: float | None = None  # what a device keeps read-only: weights, overhead and code
    max_ram_bytes: float | None = None
    max_effective_flops: float | None = None
    max_synaptic_ops: float | None = None
    max_energy_uj: float | None = None
    min_accuracy: float | None = None

    @classmethod
    def of(cls, constraints: Constraints) -> Budget:
        """Return the bounds of a space file."""
        return cls(**{bound_field(name): getattr(constraints, name) for name in (*COSTS, ACCURACY)})

    def __bool__(self) -> bool:
        """Return whether there is any bound."""
        return bool(self.as_dict())

    def as_dict(self) -> dict[str, float]:
        """Return the bounds that there are, by what they bound."""
        bounds = {name: getattr(self, bound_field(name)) for name in (*COSTS, ACCURACY)}
        return {name: bound for name, bound in bounds.items() if bound is not None}

    def costs(self) -> dict[str, float]:
        """Return the bounds of costs, by cost."""
        return {name: bound for name, bound in self.as_dict().items() if name in COSTS}

    def violations(self, member: TrialResult) -> dict[str, float]:
        """Return how far the member is beyond each bound, as a share of the bound; at most 0 where it keeps the bound.

        The share is not a number where the member is not measured.
        """
        found = {}
        for name, bound in self.as_dict().items():
            value = getattr(member, name)
            beyond = math.inf if value is None else value - bound  # None: it keeps floats, so no device takes it
            found[name] = (-beyond if name == "accuracy" else beyond) / max(bound, 1e-12)
        return found

    def excess(self, member: TrialResult) -> dict[str, float]:
        """Return the :meth:`violations` above 0; empty where the member fits."""
        return {name: share for name, share in self.violations(member).items() if share > 0}


def bound_field(name: str) -> str:
    """Return the field of a :class:`Budget` that bounds a figure."""
    return f"min_{name}" if name == ACCURACY else f"max_{name}"


def nearest(members: Sequence[TrialResult], budget: Budget) -> TrialResult:
    """Return the member that misses least of a budget's bounds, added up, where none keeps them all."""
    return min(members, key=lambda member: sum(budget.excess(member).values()))


def knee(members: Sequence[TrialResult], costs: Collection[str]) -> TrialResult:
    """Return the member nearest to the ideal corner, each objective scaled to the members' range; of equal ones the
    first."""
    loss = losses(objectives(members, costs))
    low, high = loss.min(axis=0), loss.max(axis=0)
    spread = np.where(high > low, high - low, 1.0)
    distance = (((loss - low) / spread) ** 2).sum(axis=1)
    return members[int(np.argmin(distance))]


def pickable(members: Sequence[TrialResult]) -> tuple[TrialResult, ...]:
    """Return the members that `pick` can write: those with an integer form."""
    return tuple(member for member in members if member.has_integer_form)


def pick(
    members: Sequence[TrialResult], costs: Collection[str], budget: Budget, *, at_knee: bool = False
) -> TrialResult | None:
    """Return the most accurate member (or the knee) within the budget; None where none fits."""
    fitting = [member for member in members if not budget.excess(member)]
    if not fitting:
        return None
    if at_knee:
        return knee(fitting, costs)
    return max(fitting, key=lambda member: (member.accuracy, *(-figure(member, cost) for cost in costs)))


def member_dict(
    member: TrialResult, *, samples: int, test_accuracy: float | None, test_samples: int | None
) -> dict[str, Any]:
    """Return a front member as `front --json` and front.json give it; accuracies are fractions.

    ``samples``, ``test_samples``: on which the accuracies were measured, for their intervals [low, high].
    """
    return {
        "number": member.number,
        "origin": member.origin,
        "trained": member.is_trained,
        "accuracy": member.accuracy,
        "accuracy_split": "validation",
        "accuracy_samples": samples,
        "accuracy_interval": _interval(member.accuracy, samples),
        "test_accuracy": test_accuracy,
        "test_samples": None if test_accuracy is None else test_samples,
        "test_accuracy_interval": _interval(test_accuracy, test_samples),
        "memory_bytes": member.memory_bytes,
        "weight_bytes": member.weight_bytes,
        "membrane_bytes": member.membrane_bytes,
        "overhead_bytes": member.overhead_bytes,
        "flash_bytes": member.flash_bytes,
        "ram_bytes": member.ram_bytes,
        "dense_macs": member.dense_macs,
        "effective_macs": member.effective_macs,
        "effective_flops": member.effective_flops,
        "synaptic_ops": member.synaptic_ops,
        "energy_uj": member.energy_uj,
        "final": None if member.final is None else member.final.figures(),
        "time_steps": member.config.time_steps,
        "config": member.config.layers_dict(),
    }


def _interval(accuracy: float | None, samples: int | None) -> list[float] | None:
    found = None if accuracy is None or samples is None else wilson_interval(accuracy, samples)
    return None if found is None else [found.low, found.high]
