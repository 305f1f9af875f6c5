"""Multi-objective early stopping: a pure rule on learning curves and costs.

Optuna's own pruning refuses several objectives, and stopping by accuracy alone kills every small network. Here a
candidate is stopped at a rung (a finished epoch that is not its last) only when one named trial makes it hopeless:

A. *dominated at the rung*: a peer that is no dearer at the same epoch had at least the candidate's accuracy plus a
   margin.
B. *optimistic final dominated*: a completed peer ended at least as accurate as the candidate can be expected to end at
   best, and no dearer. "At best" is the regression of final on present accuracy over the completed peers, plus
   ``optimism`` standard deviations of its residuals; likewise the costs that are measured at every rung.

Bytes are exact beforehand, so only accuracy and what is measured carry uncertainty.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from spquant_search.space.objectives import no_more

MIN_COMPLETED = 8  # a regression of two coefficients and a spread over fewer points is a guess
SMALLEST = 1e-9  # cost that another one is divided by
SMALLEST_SPREAD = 0.005  # of accuracy: the noise of a thousand validation samples never vanishes


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurve:
    """A trial as the rule sees it: accuracy and costs at each rung, and the costs that are known beforehand."""

    number: int
    known: Mapping[str, float]  # costs, by objective
    accuracies: tuple[float, ...]
    measured: Mapping[str, tuple[float, ...]]  # costs, by objective
    complete: bool
    first_epoch: int = 1  # of the first figures; 0 where the trial was evaluated as a subnet before it was trained

    def epoch_at(self, rung: int) -> int:
        """Return the epoch of the ``rung``-th figures, counted from 1."""
        return self.first_epoch + rung - 1

    def at(self, rung: int) -> dict[str, float]:
        """Return the costs that are measured, as they were at the ``rung``-th figures."""
        return {name: values[rung - 1] for name, values in self.measured.items()}

    @property
    def costs(self) -> str:
        """What this trial would have to be no dearer in, as a sentence ends with it."""
        return no_more([*self.known, *self.measured])


def stopping_reason(
    candidate: LearningCurve, peers: Sequence[LearningCurve], *, margin: float, min_peers: int, optimism: float
) -> str | None:
    """Return why the candidate should stop after its latest epoch, with the trial that beats it; None: it goes on.

    Args:
        margin: accuracy by which a peer must lead at the rung; about the noise of the validation split.
        min_peers: rule A waits until so many peers have reached the rung.
        optimism: standard deviations added in rule B; more stops less.
    """
    rung = len(candidate.accuracies)
    if rung == 0:
        return None
    reached = [peer for peer in peers if len(peer.accuracies) >= rung and peer.number != candidate.number]
    smaller = [peer for peer in reached if _no_dearer(peer.known, candidate.known)]
    if len(reached) >= min_peers:
        reason = _dominated_at_rung(candidate, smaller, rung, margin)
        if reason:
            return reason
    completed = [peer for peer in reached if peer.complete]
    if len(completed) < MIN_COMPLETED:
        return None
    return _optimistic_final_dominated(candidate, completed, rung, optimism)


def _dominated_at_rung(
    candidate: LearningCurve, smaller: Sequence[LearningCurve], rung: int, margin: float
) -> str | None:
    accuracy, costs = candidate.accuracies[rung - 1], {**candidate.known, **candidate.at(rung)}
    for peer in smaller:
        lead, peer_costs = peer.accuracies[rung - 1] - accuracy, {**peer.known, **peer.at(rung)}
        strictly = lead > 0 or any(peer_costs[name] < cost for name, cost in costs.items())
        if lead >= margin and _no_dearer(peer_costs, costs) and strictly:
            return (
                f"after epoch {candidate.epoch_at(rung)} trial {peer.number} was {100 * lead:.1f} points more accurate "
                f"with {candidate.costs}"
            )
    return None


def _optimistic_final_dominated(
    candidate: LearningCurve, completed: Sequence[LearningCurve], rung: int, optimism: float
) -> str | None:
    accuracy = _best_final_accuracy(candidate.accuracies[rung - 1], completed, rung, optimism)
    best = {name: _best_final_cost(name, now, completed, rung, optimism) for name, now in candidate.at(rung).items()}
    for peer in completed:
        if not _no_dearer({**peer.known, **peer.at(len(peer.accuracies))}, {**candidate.known, **best}):
            continue
        if peer.accuracies[-1] >= accuracy:
            return (
                f"after epoch {candidate.epoch_at(rung)} it could end at {100 * accuracy:.1f} % at best, and trial "
                f"{peer.number} ended at {100 * peer.accuracies[-1]:.1f} % with {candidate.costs}"
            )
    return None


def _best_final_accuracy(now: float, completed: Sequence[LearningCurve], rung: int, optimism: float) -> float:
    at_rung = np.array([peer.accuracies[rung - 1] for peer in completed])
    final = np.array([peer.accuracies[-1] for peer in completed])
    design = np.column_stack([np.ones_like(at_rung), at_rung])
    # A line that falls is noise: a better candidate is never expected to end worse.
    slope = max(0.0, float(np.linalg.lstsq(design, final, rcond=None)[0][1]))
    centred = at_rung - at_rung.mean()
    spread = max(float((final - slope * centred).std()), SMALLEST_SPREAD)
    predicted = float(final.mean() + slope * (now - at_rung.mean()))
    # A candidate can always stay where it is, whatever a line through few points says.
    return max(now, predicted + optimism * spread)


def _no_dearer(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    return all(one[name] <= cost for name, cost in other.items())


def _best_final_cost(name: str, now: float, completed: Iterable[LearningCurve], rung: int, optimism: float) -> float:
    ratios = np.array(
        [curve[-1] / max(curve[rung - 1], SMALLEST) for curve in (peer.measured[name] for peer in completed)]
    )
    return now * min(1.0, float(ratios.mean() - optimism * ratios.std()))
