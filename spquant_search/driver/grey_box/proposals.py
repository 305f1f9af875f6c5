"""The choice of a proposal: by expected improvement, by TPE, or at random."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float, Int
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial
from scipy.special import ndtr

from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.gaussian_process import GaussianProcess, Observations
from spquant_search.driver.grey_box.history import ENUMERATED, History
from spquant_search.driver.grey_box.improvement import PredictedCost, Predictions, expected_improvement, open_boxes
from spquant_search.driver.grey_box.trial_summaries import row_key

CANDIDATES = 800  # of the first round
REFINEMENTS = 8  # rounds of offspring of the best candidates
REFINED = 200  # candidates of a refinement
PARENTS = 20  # of a refinement
COST_OBSERVATIONS = 250  # the most trials from which a cost is learned; costs have next to no noise
TPE_ATTEMPTS = 8
CERTAIN = 1e-12  # deviation of what is known


def most_promising(history: History, accuracy: GaussianProcess, rng: np.random.Generator) -> Int[np.ndarray, " axis"]:
    """Return the unseen candidate with the largest expected improvement, from a few rounds of candidates."""
    improvement_of = improvement_function(history, accuracy)
    rows = history.unseen(_first_candidates(history, rng), rng)
    best: Int[np.ndarray, " axis"] = rows[0]
    value = -np.inf
    for is_last in [False] * REFINEMENTS + [True]:
        improvement = improvement_of(rows)
        order = np.argsort(-improvement, kind="stable")
        if improvement[order[0]] > value:
            best, value = rows[order[0]], improvement[order[0]]
        if not is_last:
            rows = history.unseen(history.grid.offspring(rng, rows[order[:PARENTS]], REFINED), rng)
    return best


def random_candidate(history: History, rng: np.random.Generator) -> Int[np.ndarray, " axis"]:
    """Return an unseen candidate drawn at random."""
    first: Int[np.ndarray, " axis"] = history.unseen(_drawn(history.grid, rng, CANDIDATES), rng)[0]
    return first


def proposal_by_tpe(
    study: optuna.Study,
    trial: FrozenTrial,
    space: dict[str, BaseDistribution],
    history: History,
    rng: np.random.Generator,
) -> dict[str, Any] | None:
    """Return an unseen configuration within the bounds that TPE proposes; None where a few attempts find none."""
    for seed in rng.integers(2**32, size=TPE_ATTEMPTS):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            tpe = TPESampler(seed=int(seed), n_startup_trials=0, multivariate=True)
        proposed = tpe.sample_relative(study, trial, space)
        row = history.grid.rows([proposed])
        if row_key(row[0]) not in history.taken and history.bounds.feasible(row)[0]:
            return proposed
    return None


def _drawn(grid: Grid, rng: np.random.Generator, count: int) -> Int[np.ndarray, "row axis"]:
    """Draw random configurations, every other one leaning to one end."""
    return rng.permutation(np.concatenate([grid.uniform(rng, count - count // 2), grid.tilted(rng, count // 2)]))


def _first_candidates(history: History, rng: np.random.Generator) -> Int[np.ndarray, "row axis"]:
    """Draw a third at random and the rest as offspring of the front; return all configurations of a small space."""
    if history.grid.count <= ENUMERATED:
        return history.grid.all_rows()
    drawn = _drawn(history.grid, rng, CANDIDATES // 3)
    parents = history.front if len(history.front) else drawn
    return np.concatenate([drawn, history.grid.offspring(rng, parents, CANDIDATES - len(drawn))])


def improvement_function(
    history: History, accuracy: GaussianProcess
) -> Callable[[Int[np.ndarray, "row axis"]], Float[np.ndarray, " row"]]:
    """Return the expected improvement as a function of rows; running trials count as if they ended as predicted.

    It is weighed with the chance to keep the limits on costs that are no objective (Gardner et al., ICML 2014,
    "Bayesian Optimization with Inequality Constraints").
    """
    costs, points = cost_processes(history), history.points
    if len(history.running):
        running = predictions(history, history.running, accuracy, costs)
        points = np.concatenate([points, running.points()])
    boxes = open_boxes(points, history.bounds.reference)
    conditioned = accuracy.condition_on_predictions(history.grid.features(history.running))

    def improvement(rows: Int[np.ndarray, "row axis"]) -> Float[np.ndarray, " row"]:
        gain = expected_improvement(predictions(history, rows, conditioned, costs), boxes)
        weighed: Float[np.ndarray, " row"] = gain * chance_within_limits(history, rows, costs)
        return weighed

    return improvement


def predictions(
    history: History,
    rows: Int[np.ndarray, "row axis"],
    accuracy: GaussianProcess,
    costs: Mapping[str, GaussianProcess | None],
) -> Predictions:
    """Return the objectives of rows, predicted where they are not known; a cost without a process is at its most."""
    features = history.grid.features(rows)
    mean, deviation = accuracy.predict(features)
    predicted = []
    for name in history.bounds.reference.costs:
        most = history.bounds.most(name, rows)
        if name not in history.learned:
            predicted.append(PredictedCost(most=most))
            continue
        log_part, log_deviation = _log_part(history, name, rows, features, costs[name])
        predicted.append(PredictedCost(most=most, log=np.log(most) + log_part, log_deviation=log_deviation))
    return Predictions(accuracy=mean, accuracy_deviation=deviation, costs=tuple(predicted))


def chance_within_limits(
    history: History, rows: Int[np.ndarray, "row axis"], costs: Mapping[str, GaussianProcess | None]
) -> Float[np.ndarray, " row"]:
    """Return the chance of every row to keep the limits on costs that are learned and no objective."""
    chance, features = np.ones(len(rows)), history.grid.features(rows)
    for name, limit in history.bounds.limited.items():
        if costs[name] is None:  # nothing shows yet how far below its most it is
            continue
        log_part, deviation = _log_part(history, name, rows, features, costs[name])
        lead = np.log(limit / history.bounds.most(name, rows)) - log_part
        chance *= ndtr(lead / np.maximum(deviation, CERTAIN))
    return chance


def _log_part(
    history: History,
    name: str,
    rows: Int[np.ndarray, "row axis"],
    features: Float[np.ndarray, "row feature"],
    process: GaussianProcess | None,
) -> tuple[Float[np.ndarray, " row"], Float[np.ndarray, " row"]]:
    """Return the logarithm of a cost's part of the most that it can be, and its deviation; 0 where it is known."""
    log_part, log_deviation = np.zeros(len(rows)), np.zeros(len(rows))
    if process is not None:
        unknown = ~history.bounds.is_most(name, rows)
        log_part[unknown], log_deviation[unknown] = process.predict(features[unknown])
    return np.minimum(log_part, 0.0), log_deviation


def cost_processes(history: History) -> dict[str, GaussianProcess | None]:
    """Return a model of each cost that is learned: of the logarithm of its part of the most that it can be.

    None where no trial has shown that they differ.
    """
    return {name: _cost_process(history, name) for name in history.learned}


def _cost_process(history: History, name: str) -> GaussianProcess | None:
    measured = np.isfinite(history.learned[name])
    complete = history.complete[measured]
    most = history.bounds.most(name, complete)
    logs = np.log(np.clip(history.learned[name][measured], 1e-9 * most, None) / most)
    if not np.any(logs):
        return None
    order = np.lexsort((*complete.T, logs))
    kept = order[np.unique(np.linspace(0, len(logs) - 1, min(len(logs), COST_OBSERVATIONS)).astype(int))]
    observations = Observations(
        features=history.grid.features(complete[kept]),
        values=logs[kept],
        lower=np.zeros(len(kept), int),
        configuration=np.arange(len(kept)),
    )
    return GaussianProcess(observations, history.grid.kinds)
