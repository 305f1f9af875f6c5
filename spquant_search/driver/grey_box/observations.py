"""The observations that the model of accuracy learns from."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from optuna.trial import FrozenTrial, TrialState

from spquant_search.driver.grey_box.gaussian_process import Observations
from spquant_search.driver.grey_box.trial_summaries import TrialSummary

FULL = sys.maxsize  # the fidelity of a completed trial's objective
LEARNED = 400  # the most trials from which the model of accuracy learns; its cost grows with their cube
PAIRED = 100  # the most completed trials that enter at a lower fidelity too, for each lower fidelity
FLOOR = 2.0  # interquartile ranges below the median; accuracies of diverged networks are raised to it


@dataclass(frozen=True, kw_only=True, slots=True)
class Observation:
    """A measured accuracy of a trial: at a rung, or at the trial's end."""

    fidelity: int  # the rung; FULL at the end
    accuracy: float


ObservationsOf = Callable[
    [FrozenTrial], Sequence[Observation] | None
]  # None: the trial has not tried its configuration


def observations_of(trial: FrozenTrial) -> tuple[Observation, ...]:
    """Return a trial's observations by Optuna's fields: the intermediate values by step, at its end the objective.

    Only completed trials have the highest fidelity, whatever their last step was.
    """
    steps = [Observation(fidelity=step, accuracy=value) for step, value in sorted(trial.intermediate_values.items())]
    if trial.state is TrialState.COMPLETE:
        steps.append(Observation(fidelity=FULL, accuracy=trial.values[0]))
    return tuple(steps)


def informative_trials(
    trials: Sequence[TrialSummary], rows: Int[np.ndarray, "trial axis"]
) -> Int[np.ndarray, " learned"]:
    """Return the trials from which the model of accuracy learns: all, or of very many those near the front and others.

    A completed trial is as near as its accuracy is to the best of those with no more of one of the costs, whichever is
    nearest. One half is taken in this order, the other half evenly from the rest.
    """
    if len(trials) <= LEARNED:
        return np.arange(len(trials))
    complete = np.array([trial.state is TrialState.COMPLETE for trial in trials], bool)
    missing = np.full(len(trials), np.inf)
    if complete.any():
        accuracy, *costs = np.array([trial.values for trial in trials if trial.values is not None], float).T
        missing[complete] = np.min([below_best(accuracy, cost) for cost in costs], axis=0)
    order = np.lexsort((*rows.T, missing))
    near, rest = order[: LEARNED // 2], order[LEARNED // 2 :]
    evenly = rest[np.unique(np.linspace(0, len(rest) - 1, LEARNED - len(near)).astype(int))]
    return np.sort(np.concatenate([near, evenly]))


def below_best(accuracy: Float[np.ndarray, " trial"], cost: Float[np.ndarray, " trial"]) -> Float[np.ndarray, " trial"]:
    """Return how far each accuracy is below the best at the same cost or less."""
    order = np.lexsort((-accuracy, cost))
    below = np.empty(len(accuracy))
    below[order] = np.maximum.accumulate(accuracy[order]) - accuracy[order]
    return below


def gather_observations(
    features: Float[np.ndarray, "trial feature"], found: Sequence[Sequence[Observation]]
) -> Observations:
    """Return the observations from which the model learns: each trial's highest, and pairs that relate fidelities.

    Trials that were observed at the highest fidelity of all enter also at the fidelities at which others ended, at most
    100 trials a fidelity (evenly from the least to the most accurate): pairs that tell offset, scale and noise.

    Args:
        found: the observations of every trial.
    """
    ladders = [
        {observation.fidelity: observation.accuracy for observation in of_trial if np.isfinite(observation.accuracy)}
        for of_trial in found
    ]
    highest = [max(ladder, default=None) for ladder in ladders]
    fidelities = sorted({fidelity for fidelity in highest if fidelity is not None}, reverse=True)
    chosen = [(trial, fidelity) for trial, fidelity in enumerate(highest) if fidelity is not None]
    top = [trial for trial, fidelity in enumerate(highest) if fidelities and fidelity == fidelities[0]]
    top.sort(key=lambda trial: (ladders[trial][fidelities[0]], *features[trial]))
    for fidelity in fidelities[1:]:
        both = [trial for trial in top if fidelity in ladders[trial]]
        kept = np.unique(np.linspace(0, len(both) - 1, min(PAIRED, len(both))).astype(int))
        chosen += [(both[i], fidelity) for i in kept]
    trials = np.array([trial for trial, _ in chosen], int)
    values = np.array([ladders[trial][fidelity] for trial, fidelity in chosen], float)
    lower = np.array([fidelities.index(fidelity) for _, fidelity in chosen], int)
    return Observations(
        features=features[trials], values=raise_outliers(values, lower), lower=lower, configuration=trials
    )


def raise_outliers(
    values: Float[np.ndarray, " observation"], lower: Int[np.ndarray, " observation"]
) -> Float[np.ndarray, " observation"]:
    """Raise values to at least two interquartile ranges below the median of their fidelity.

    The accuracy at which a diverged network ends says nothing of its neighbours, and would bend the whole model.
    """
    raised = values.copy()
    for fidelity in np.unique(lower):
        here = lower == fidelity
        quarter, median, three_quarters = np.quantile(values[here], [0.25, 0.5, 0.75])
        raised[here] = np.maximum(values[here], median - FLOOR * (three_quarters - quarter))
    return raised
