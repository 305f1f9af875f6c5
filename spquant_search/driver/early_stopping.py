"""Multi-objective early stopping: a pure rule on learning curves and costs.

Optuna's own pruning refuses several objectives, and stopping by accuracy alone kills every small network. Here a
candidate is stopped at a rung (a finished epoch that is not its last) only when one named trial makes it hopeless:

A. *dominated at the rung*: a peer with no more memory had, at the same epoch, no more effective MACs and at least the
   candidate's accuracy plus a margin.
B. *optimistic final dominated*: a completed peer with no more memory ended at least as accurate as the candidate can
   be expected to end at best, and with no more effective MACs. "At best" is the regression of final on present
   accuracy over the completed peers, plus ``optimism`` standard deviations of its residuals; likewise the MACs.

Memory is exact beforehand, so only accuracy and MACs carry uncertainty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_COMPLETED = 8  # a regression of two coefficients and a spread over fewer points is a guess
SMALLEST_SPREAD = 0.005  # of accuracy: the noise of a thousand validation samples never vanishes


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurve:
    """A trial as the rule sees it: its memory, and accuracy and effective MACs at each rung."""

    number: int
    memory_bytes: float
    accuracies: tuple[float, ...]
    effective_macs: tuple[float, ...]
    complete: bool
    first_epoch: int = 1  # of the first figures; 0 where the trial was evaluated as a subnet before it was trained

    def epoch_at(self, rung: int) -> int:
        """Return the epoch of the ``rung``-th figures, counted from 1."""
        return self.first_epoch + rung - 1


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
    smaller = [peer for peer in reached if peer.memory_bytes <= candidate.memory_bytes]
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
    accuracy, macs = candidate.accuracies[rung - 1], candidate.effective_macs[rung - 1]
    for peer in smaller:
        lead, peer_macs = peer.accuracies[rung - 1] - accuracy, peer.effective_macs[rung - 1]
        strictly = lead > 0 or peer_macs < macs or peer.memory_bytes < candidate.memory_bytes
        if lead >= margin and peer_macs <= macs and strictly:
            return (
                f"after epoch {candidate.epoch_at(rung)} trial {peer.number} was {100 * lead:.1f} points more accurate "
                f"with no more memory and no more operations"
            )
    return None


def _optimistic_final_dominated(
    candidate: LearningCurve, completed: Sequence[LearningCurve], rung: int, optimism: float
) -> str | None:
    accuracy = _best_final_accuracy(candidate.accuracies[rung - 1], completed, rung, optimism)
    macs = _best_final_macs(candidate.effective_macs[rung - 1], completed, rung, optimism)
    for peer in completed:
        if peer.memory_bytes > candidate.memory_bytes or peer.effective_macs[-1] > macs:
            continue
        if peer.accuracies[-1] >= accuracy:
            return (
                f"after epoch {candidate.epoch_at(rung)} it could end at {100 * accuracy:.1f} % at best, and trial "
                f"{peer.number} ended at {100 * peer.accuracies[-1]:.1f} % with no more memory and no more operations"
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


def _best_final_macs(now: float, completed: Sequence[LearningCurve], rung: int, optimism: float) -> float:
    ratios = np.array([peer.effective_macs[-1] / max(peer.effective_macs[rung - 1], 1.0) for peer in completed])
    return now * min(1.0, float(ratios.mean() - optimism * ratios.std()))
