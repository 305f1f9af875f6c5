"""What a proposal learns of the trials so far."""

from __future__ import annotations

import math

import numpy as np
import pytest
from driver.grey_box.synthetic import BOUNDS, DENSE, SPACE, a_study_of, accuracy, finished, grid, next_proposer
from optuna.trial import TrialState

from spquant_search.driver.grey_box.gaussian_process import GaussianProcess, Observations
from spquant_search.driver.grey_box.history import history_of
from spquant_search.driver.grey_box.observations import (
    FULL,
    LEARNED,
    PAIRED,
    Observation,
    below_best,
    gather_observations,
    observations_of,
    raise_outliers,
)
from spquant_search.driver.grey_box.proposals import improvement_function


def test_the_order_in_which_trials_ran_does_not_matter(twenty_five):
    expected = a_study_of(twenty_five).ask(SPACE).params
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(twenty_five))
        assert a_study_of([twenty_five[i] for i in order]).ask(SPACE).params == expected


def test_failed_trials_are_ignored(twenty_five):
    proposals = [
        a_study_of([*twenty_five, finished(state=TrialState.FAIL, curve=curve, number=number)]).ask(SPACE).params
        for number, curve in ((50, None), (51, {1: 0.1}))
    ]
    assert proposals[0] == proposals[1]
    history = history_of(grid(), [finished(state=TrialState.FAIL, number=50)], observations_of, BOUNDS)
    assert history.taken == frozenset()


def test_a_stopped_trial_is_partial_information(twenty_five):
    """Observed at its last epoch only, beside the completed trials' observations at the same epoch."""
    curves = [finished(trial.values, of=trial.params, curve={1: trial.values[0] - 0.2, 2: trial.values[0]}) for trial in
              twenty_five]  # fmt: skip
    stopped = finished(state=TrialState.PRUNED, curve={1: 0.35}, constraint=1.0, number=77)
    history = history_of(grid(), [*curves, stopped], observations_of, BOUNDS)
    observations = history.observations
    assert observations.lower.tolist().count(0) == 25
    assert observations.lower.tolist().count(1) == 26
    assert observations.values[observations.configuration == 25].tolist() == [0.35]
    assert len(history.complete) == 25
    model = GaussianProcess(observations, grid().kinds)
    at = grid().features(grid().rows([stopped.params]))
    without = GaussianProcess(history_of(grid(), curves, observations_of, BOUNDS).observations, grid().kinds)
    (mean,), (deviation,) = model.predict(at)
    (_,), (doubt,) = without.predict(at)
    assert mean == pytest.approx(0.55, abs=0.06)  # 0.35 and the 0.2 that the pairs gained
    assert deviation < 0.7 * doubt


def test_a_violated_constraint_keeps_a_trial_off_the_front_and_from_coming_again(twenty_five):
    best = [0.99, 10.0, 10.0]
    over_budget = finished(best, constraint=0.5, number=60)
    history = history_of(grid(), [*twenty_five, over_budget], observations_of, BOUNDS)
    assert best not in history.points.tolist()
    untrained = finished(state=TrialState.PRUNED, constraint=0.5, number=61)
    history = history_of(grid(), [*twenty_five, untrained], observations_of, BOUNDS)
    rows = grid().rows([untrained.params])
    assert history.unseen(np.concatenate([rows, rows + 0]), np.random.default_rng(0)).tolist() != rows.tolist()
    assert len(history.observations) == 25


def test_running_trials_count_as_predicted(twenty_five, monkeypatch):
    """What is next to a running trial gains less: by its predicted point on the front, and by what it will teach."""
    study = a_study_of(twenty_five)
    asked = grid().rows([study.ask(SPACE).params])
    near = grid().offspring(np.random.default_rng(0), asked, 200)
    before, after = (history_of(grid(), trials, observations_of, BOUNDS) for trials in (twenty_five, study.trials))
    assert after.running.tolist() == asked.tolist()

    def gain(history):
        model = GaussianProcess(history.observations, grid().kinds)
        return improvement_function(history, model)(near).mean()

    alone, beside = gain(before), gain(after)
    monkeypatch.setattr(GaussianProcess, "condition_on_predictions", lambda self, features: self)
    with_point = gain(after)
    assert beside < 0.9 * with_point < 0.8 * alone


def test_trials_that_run_at_the_same_time_differ(twenty_five):
    study = a_study_of(twenty_five)
    rows = grid().rows([study.ask(SPACE).params for _ in range(8)])
    apart = (rows[:, None, :] != rows[None, :, :]).sum(axis=2)[np.triu_indices(8, 1)]
    assert apart.min() >= 1
    assert np.median(apart) >= 4


def test_a_running_trial_is_read_at_the_epochs_that_it_has_reported():
    running = finished(state=TrialState.RUNNING, curve={1: 0.4, 2: 0.5})
    assert observations_of(running) == (Observation(fidelity=1, accuracy=0.4), Observation(fidelity=2, accuracy=0.5))
    complete = finished([0.6, 1.0, 1.0], curve={1: 0.4})
    assert observations_of(complete) == (
        Observation(fidelity=1, accuracy=0.4),
        Observation(fidelity=FULL, accuracy=0.6),
    )


def test_the_caller_says_what_a_fidelity_is():
    """Rungs in user attributes: a subnet of a supernet for all, fine-tuned ones for some."""

    def rungs(trial):
        return [Observation(fidelity=int(rung), accuracy=value) for rung, value in trial.user_attrs["rungs"].items()]

    trials = []
    for number in range(30):
        trial = finished(number=number)
        reached = trial.values[0]
        trial.set_user_attr("rungs", {"0": reached - 0.03} | ({"1": reached} if number % 3 == 0 else {}))
        trials.append(trial)
    history = history_of(grid(), trials, rungs, BOUNDS)
    assert history.observations.lower.tolist().count(0) == 10
    assert history.observations.lower.tolist().count(1) == 30
    assert next_proposer(a_study_of(trials, observations=rungs)) == "grey-box"


def test_at_most_so_many_pairs_a_fidelity_are_kept():
    rng = np.random.default_rng(0)
    found = [(Observation(fidelity=1, accuracy=a - 0.1), Observation(fidelity=2, accuracy=a)) for a in rng.random(300)]
    found += [(Observation(fidelity=1, accuracy=0.2),), (), (Observation(fidelity=2, accuracy=math.nan),)]
    observations = gather_observations(rng.random((303, 4)), found)
    assert len(observations) == 300 + PAIRED + 1
    assert set(observations.configuration.tolist()) == set(range(301))
    worst, best = (int(pick([one[1].accuracy for one in found[:300]])) for pick in (np.argmin, np.argmax))
    assert {worst, best} <= set(observations.configuration[observations.lower == 1].tolist())


def test_diverged_networks_do_not_bend_the_model():
    """The worst tenth ends at chance: with the floor the others are predicted much better than without it."""
    trials = sorted((finished(number=number) for number in range(60)), key=lambda trial: trial.values[0])
    bad = [*(finished([0.1, *trial.values[1:]], of=trial.params) for trial in trials[:6]), *trials[6:]]
    unseen = [finished(number=number).params for number in range(1000, 1100)]
    actual = np.array([accuracy(one) for one in unseen])
    at = grid().features(grid().rows(unseen))

    def error(observations):
        return np.sqrt(np.mean((GaussianProcess(observations, grid().kinds).predict(at)[0] - actual) ** 2))

    history = history_of(grid(), bad, observations_of, BOUNDS)
    raw = Observations(
        features=history.observations.features,
        values=np.array([trial.values[0] for trial in bad]),
        lower=history.observations.lower,
        configuration=history.observations.configuration,
    )
    assert error(history.observations) < 0.6 * error(raw)


def test_only_what_lies_far_below_the_others_of_its_fidelity_is_raised():
    """Quartiles 0.5 and 0.6 about 0.55: the floor is 0.35."""
    values = np.array([0.4, 0.5, 0.5, 0.55, 0.6, 0.6, 0.95])
    both = np.concatenate([values, values - 0.2, [0.0]])
    lower = np.array([0] * 7 + [1] * 8)
    assert raise_outliers(values, np.zeros(7, int)) == pytest.approx(values)
    low = values - 0.2
    median, quartiles = np.median([*low, 0.0]), np.quantile([*low, 0.0], [0.25, 0.75])
    floor = median - 2 * (quartiles[1] - quartiles[0])
    assert raise_outliers(both, lower) == pytest.approx([*values, *np.maximum(low, floor), floor])
    assert floor > 0


def test_of_very_many_trials_the_model_learns_from_those_near_the_front_and_others_evenly():
    rng = np.random.default_rng(0)
    many = [
        finished([rng.uniform(0.2, 0.9), rng.uniform(100, 900), rng.uniform(0.3, 0.9) * DENSE], number=number)
        for number in range(LEARNED + 300)
    ]
    history = history_of(grid(), many, observations_of, BOUNDS)
    assert len(np.unique(history.observations.configuration)) == LEARNED
    values = np.array([one.values for one in many])
    nearest = values[np.minimum(below_best(values[:, 0], values[:, 1]), below_best(values[:, 0], values[:, 2])) == 0]
    assert set(nearest[:, 0]) <= set(history.observations.values), "the best at their cost are always among them"
    assert history.observations.values.min() < np.quantile(values[:, 0], 0.05), "and so are some of the worst"
    assert len(history.taken) == len({tuple(sorted(one.params.items(), key=str)) for one in many}), "all are known"


def test_below_best():
    accuracy, cost = np.array([0.5, 0.7, 0.6, 0.8]), np.array([1.0, 2.0, 2.0, 3.0])
    assert below_best(accuracy, cost) == pytest.approx([0, 0, 0.1, 0])
