"""The choice of a proposal: by expected improvement, by TPE, or at random."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import optuna
from jaxtyping import Float, Int
from optuna.distributions import BaseDistribution
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial

from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.gaussian_process import GaussianProcess, Observations
from spquant_search.driver.grey_box.history import ENUMERATED, History
from spquant_search.driver.grey_box.improvement import Predictions, expected_improvement, open_boxes
from spquant_search.driver.grey_box.trial_summaries import row_key

CANDIDATES = 800  # of the first round
REFINEMENTS = 8  # rounds of offspring of the best candidates
REFINED = 200  # candidates of a refinement
PARENTS = 20  # of a refinement
MACS_OBSERVATIONS = 250  # the most trials from which the MACs are learned; they have next to no noise
TPE_ATTEMPTS = 8


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
    """Return the expected improvement as a function of rows; running trials count as if they ended as predicted."""
    macs, points = macs_process(history), history.points
    if len(history.running):
        running = predictions(history, history.running, accuracy, macs)
        predicted = np.stack([running.accuracy, running.memory_bytes, np.exp(running.log_macs)], axis=1)
        points = np.concatenate([points, predicted])
    boxes = open_boxes(points, history.bounds.reference)
    conditioned = accuracy.condition_on_predictions(history.grid.features(history.running))
    return lambda rows: expected_improvement(
        predictions(history, rows, conditioned, macs), boxes, dense_macs=history.bounds.dense_macs(rows)
    )


def predictions(
    history: History, rows: Int[np.ndarray, "row axis"], accuracy: GaussianProcess, macs: GaussianProcess | None
) -> Predictions:
    """Return the objectives of rows, predicted where they are not known; without ``macs`` all MACs are dense."""
    features = history.grid.features(rows)
    mean, deviation = accuracy.predict(features)
    log_macs = np.zeros(len(rows))
    log_deviation = np.zeros(len(rows))
    if macs is not None:
        sparse = ~history.bounds.dense(rows)
        log_macs[sparse], log_deviation[sparse] = macs.predict(features[sparse])
    return Predictions(
        accuracy=mean,
        accuracy_deviation=deviation,
        memory_bytes=history.bounds.memory(rows),
        log_macs=np.log(history.bounds.dense_macs(rows)) + np.minimum(log_macs, 0.0),
        log_macs_deviation=log_deviation,
    )


def macs_process(history: History) -> GaussianProcess | None:
    """Return a model of log(effective / dense MACs); None where no trial has shown that they differ."""
    dense_macs = history.bounds.dense_macs(history.complete)
    logs = np.log(np.clip(history.effective_macs, 1e-9 * dense_macs, None) / dense_macs)
    if not np.any(logs):
        return None
    order = np.lexsort((*history.complete.T, logs))
    kept = order[np.unique(np.linspace(0, len(logs) - 1, min(len(logs), MACS_OBSERVATIONS)).astype(int))]
    observations = Observations(
        features=history.grid.features(history.complete[kept]),
        values=logs[kept],
        lower=np.zeros(len(kept), int),
        configuration=np.arange(len(kept)),
    )
    return GaussianProcess(observations, history.grid.kinds)
