import math

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from spquant_search.driver.grey_box.bounds import (
    Bounds,
    KnownCosts,
    rows_without_gates_and_masks,
    without_gates_and_masks,
)
from spquant_search.driver.grey_box.candidates import Grid
from spquant_search.driver.grey_box.distribution_axes import axis_of
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
from spquant_search.driver.grey_box.proposals import MACS_OBSERVATIONS, improvement_function, macs_process, predictions
from spquant_search.driver.grey_box.sampler import PROPOSED_BY, SKILL, GreyBoxSampler
from spquant_search.runs.pareto import ReferencePoint, hypervolume

LAYERS = range(1, 7)
WEIGHTS = np.geomspace(200, 6400, len(LAYERS))
MACS = np.array([1.0, 4, 4, 2, 2, 1]) * 1e5
NEEDS = np.array([3.0, 1.0, 0.4, 0.8, 0.3, 1.5])  # how much accuracy hangs on a layer's precision
SPACE = {
    **{f"conv{i}.weight_bits": CategoricalDistribution((1, 2, 3, 4, 8)) for i in LAYERS},
    **{f"conv{i}.membrane_levels": CategoricalDistribution((3, 16, 0)) for i in LAYERS},
    **{f"conv{i}.channel_mass": FloatDistribution(0.5, 1.0, step=0.1) for i in LAYERS if i > 1},
    **{f"conv{i}.skip_below": CategoricalDistribution((None, 0.0)) for i in LAYERS},
}
DENSE = float(MACS.sum())
CORNER = ReferencePoint(accuracy=0.1, memory_bytes=float(WEIGHTS.sum()) + 1600, effective_macs=1.05 * DENSE)
DIRECTIONS = ["maximize", "minimize", "minimize"]


def column(parameters, name, default=None):
    return [parameters.get(f"conv{i}.{name}", default) for i in LAYERS]


def memory_bytes(parameters):
    bits = np.array([column(one, "weight_bits") for one in parameters], float)
    levels = np.array([[value or 2**32 for value in column(one, "membrane_levels")] for one in parameters], float)
    return bits @ WEIGHTS / 8 + np.ceil(np.log2(levels)).sum(axis=1) * 8


def effective_macs(parameters):
    mass = np.array(column(parameters, "channel_mass", 1.0))
    skipped = np.array([0.8 if cut is not None else 1.0 for cut in column(parameters, "skip_below")])
    before = np.concatenate([[1.0], mass[:-1]])
    return float((MACS * mass**1.5 * before * skipped).sum())


def accuracy(parameters):
    bits = np.array(column(parameters, "weight_bits"), float)
    levels = np.array([value or 512 for value in column(parameters, "membrane_levels")], float)
    mass = np.array(column(parameters, "channel_mass", 1.0))
    skipped = np.array([cut is not None for cut in column(parameters, "skip_below")])
    error = NEEDS @ (0.06 * 2.0**-bits + 0.1 / levels + 0.3 * (1 - mass) ** 2 + 0.004 * skipped)
    return 0.1 + 0.8 * math.exp(-1.5 * error)


def objectives(parameters, *, noise=0.0, seed=0):
    deviation = np.random.default_rng(seed).normal(0, noise)
    return [accuracy(parameters) + deviation, float(memory_bytes([parameters])[0]), effective_macs(parameters)]


def of_rows(cost):
    """Make of a cost of configurations, given by their values, a cost of rows of a grid."""
    return lambda grid: lambda rows: cost(grid.parameters(rows))


def never_dense(many):
    return [False for _ in many]


COSTS = KnownCosts(memory_bytes=of_rows(memory_bytes), dense_macs=DENSE, are_dense=rows_without_gates_and_masks)


def grey_box(seed=0, **options):
    return GreyBoxSampler(COSTS, CORNER, seed=seed, **{"space": SPACE, **options})


def a_study(sampler=None):
    return optuna.create_study(directions=DIRECTIONS, sampler=sampler or grey_box())


def proceed(study, count, *, space=SPACE, values=objectives, **options):
    for _ in range(count):
        trial = study.ask(space)
        study.tell(trial, values(trial.params, seed=trial.number, **options))
    return study


def proposers(study):
    return [trial.system_attrs.get(PROPOSED_BY) for trial in study.trials]


def parameters(study):
    return [trial.params for trial in study.trials]


def grid(space=SPACE):
    return Grid(axes=tuple(axis_of(name, space[name]) for name in sorted(space)))


def finished(values=None, *, state=TrialState.COMPLETE, of=None, curve=None, constraint=None, number=0):
    rows = grid().uniform(np.random.default_rng(number), 1)
    of = of or grid().parameters(rows)[0]
    if values is None and state is TrialState.COMPLETE:
        values = objectives(of, noise=0.003, seed=number)
    return create_trial(
        state=state,
        values=values,
        params=of,
        distributions=SPACE,
        intermediate_values=curve,
        constraints=None if constraint is None else {"not_completed": constraint},
    )


BOUNDS = Bounds(grid(), COSTS, CORNER)


def a_study_of(trials, **options):
    study = a_study(grey_box(**options))
    study.add_trials(trials)
    return study


@pytest.fixture(scope="module")
def sixty():
    """One search of 60 trials, straight through, and what it said."""
    said = []
    return proceed(a_study(grey_box(on_fallback=said.append)), 60, noise=0.003), said


@pytest.fixture(scope="module")
def twenty_five():
    return [finished(number=number) for number in range(25)]


# ---------------------------------------------------------------- the search


def test_random_trials_first_and_then_its_own(sixty):
    study, said = sixty
    assert proposers(study) == ["random"] * 10 + ["grey-box"] * 50
    skills = [trial.system_attrs.get(SKILL) for trial in study.trials]
    assert skills[:10] == [None] * 10
    assert min(skills[10:]) >= 0.5
    assert skills[-1] > 0.9
    assert said == []


def test_a_resumed_search_proposes_what_an_uninterrupted_one_does(sixty):
    """20 trials as they were stored, then 20 more by samplers made anew, against 40 straight."""
    whole, _ = sixty
    study = a_study()
    study.add_trials(whole.trials[:20])
    for _ in range(20):
        study.sampler = grey_box()
        proceed(study, 1, noise=0.003)
    assert parameters(study) == parameters(whole)[:40]


def test_another_seed_proposes_others(sixty):
    whole, _ = sixty
    other = proceed(a_study(grey_box(seed=1)), 12, noise=0.003)
    assert all(one != another for one, another in zip(parameters(other), parameters(whole)[:12], strict=True))


def test_nothing_is_proposed_twice(sixty):
    rows = grid().rows(parameters(sixty[0]))
    assert len(np.unique(rows, axis=0)) == 60


def reached(study):
    return hypervolume(np.array([objectives(one) for one in parameters(study)]), CORNER)


def test_enlarges_the_front_faster_than_tpe_and_random_proposals(sixty):
    """Noise-free hypervolume after 60 noisy trials; benchmarks/sampler_quality.py has more seeds and problems."""
    own = reached(sixty[0])
    tpe = [reached(proceed(a_study(TPESampler(seed=i, multivariate=True)), 60, noise=0.003)) for i in range(2)]
    random = [reached(proceed(a_study(RandomSampler(seed=i)), 60, noise=0.003)) for i in range(2)]
    assert own > max(tpe) + 0.03
    assert own > max(random) + 0.05


# ---------------------------------------------------------------- what it falls back to


def lottery(of, *, seed):
    """An accuracy that has nothing to do with the configuration."""
    return [float(np.random.default_rng(seed).uniform(0.2, 0.8)), *objectives(of)[1:]]


def test_on_noise_tpe_proposes_and_it_is_said_once():
    said = []
    study = proceed(a_study(grey_box(on_fallback=said.append)), 34, values=lottery)
    by = proposers(study)
    assert by[:10] == ["random"] * 10
    assert by[20:].count("tpe") >= 12
    first = by.index("tpe")
    assert said == [
        "the grey-box sampler cannot rank the trials so far (cross-validated rank correlation "
        f"{study.trials[first].system_attrs[SKILL]:.2f}, below 0.5): TPE proposes until it can"
    ]


def test_stopped_trials_that_tpe_would_fail_on_leave_random_proposals():
    """Stopped without a violated constraint: Optuna's TPE raises on those in a study of several objectives."""
    trials = [finished(lottery(finished(number=i).params, seed=1000 + i), number=i) for i in range(30)]
    stopped = finished(state=TrialState.PRUNED, curve={1: 0.3}, number=99)
    assert next_proposer(a_study_of([*trials, stopped])) == "random"
    told_why = finished(state=TrialState.PRUNED, curve={1: 0.3}, constraint=1.0, number=99)
    assert next_proposer(a_study_of([*trials, told_why])) == "tpe"


def next_proposer(study):
    study.ask(SPACE)
    return study.trials[-1].system_attrs[PROPOSED_BY]


def test_while_no_fidelity_has_enough_readings_tpe_proposes_and_nothing_is_said():
    said = []
    complete = [finished(number=number) for number in range(6)]
    stopped = [
        finished(state=TrialState.PRUNED, curve={1: 0.5}, constraint=1.0, number=number) for number in range(6, 12)
    ]
    study = a_study_of([*complete, *stopped], on_fallback=said.append)
    study.ask(SPACE)
    assert study.trials[-1].system_attrs.keys() >= {PROPOSED_BY}
    assert study.trials[-1].system_attrs[PROPOSED_BY] == "tpe"
    assert SKILL not in study.trials[-1].system_attrs
    assert said == []


# ---------------------------------------------------------------- small spaces

TINY = {
    "conv1.weight_bits": CategoricalDistribution((1, 4)),
    "conv1.membrane_levels": CategoricalDistribution((3, 16, 0)),
    "steps": IntDistribution(2, 8, step=2),
}


def tiny(of, *, seed, luck=False):
    error = 0.3 / of["conv1.weight_bits"] + 0.1 / (of["conv1.membrane_levels"] or 512) + 0.1 / of["steps"]
    drawn = float(np.random.default_rng(seed).uniform(0.2, 0.9))
    return [drawn if luck else 0.9 - error, float(of["conv1.weight_bits"]), DENSE * of["steps"] / 10]


@pytest.mark.parametrize("luck", [False, True])
def test_a_small_space_is_exhausted_before_anything_is_repeated(luck):
    """24 configurations; whoever proposes. Afterwards configurations come again rather than an error."""
    costs = KnownCosts(
        memory_bytes=of_rows(lambda many: [one["conv1.weight_bits"] for one in many]),
        dense_macs=DENSE,
        are_dense=of_rows(never_dense),
    )
    sampler = GreyBoxSampler(costs, CORNER, seed=0, space=TINY)
    study = proceed(a_study(sampler), 26, space=TINY, values=tiny, luck=luck)
    rows = grid(TINY).rows(parameters(study))
    assert len(np.unique(rows[:24], axis=0)) == 24
    assert len(np.unique(rows, axis=0)) == 24
    assert ("tpe" if luck else "grey-box") in proposers(study)


# ---------------------------------------------------------------- Optuna's ways


def test_works_with_optimize_and_a_space_that_it_is_not_told():
    """All kinds of distributions, one of a single value; the space is what the trials have in common."""
    costs = KnownCosts(
        memory_bytes=of_rows(lambda many: [one["bits"] * one["width"] for one in many]),
        dense_macs=100.0,
        are_dense=of_rows(never_dense),
    )
    corner = ReferencePoint(accuracy=0.0, memory_bytes=400.0, effective_macs=101.0)
    study = a_study(GreyBoxSampler(costs, corner, seed=0))

    def objective(trial):
        bits = trial.suggest_categorical("bits", [1, 2, 4, 8])
        width = trial.suggest_int("width", 4, 40)
        rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
        gate = trial.suggest_float("gate", 0.2, 1.0)
        rounding = trial.suggest_categorical("rounding", ["nearest", "zero"])
        trial.suggest_categorical("fixed", ["only"])
        lost = 0.2 / bits + 1 / width + 0.1 * math.log10(rate / 1e-2) ** 2 + 0.02 * (rounding == "zero")
        return 0.9 - lost - 0.2 * (1 - gate) ** 2, bits * width, 100 * gate

    study.optimize(objective, n_trials=24)
    assert [trial.state for trial in study.trials] == [TrialState.COMPLETE] * 24
    assert proposers(study)[0] is None  # the space is not known yet
    assert proposers(study)[10:].count("grey-box") >= 10
    found = [trial.params for trial in study.trials if trial.system_attrs.get(PROPOSED_BY) == "grey-box"]
    # Uniform draws would have a mean of 0.83, and a half.
    assert np.mean([abs(math.log10(one["rate"] / 1e-2)) for one in found]) < 0.6
    assert np.mean([one["rounding"] == "nearest" for one in found]) > 0.6


def test_other_objectives_are_refused():
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=grey_box())
    with pytest.raises(ValueError, match="the grey-box sampler needs three objectives") as caught:
        study.ask(SPACE)
    assert str(caught.value) == (
        "the grey-box sampler needs three objectives, accuracy (maximize), memory bytes and effective MACs "
        "(minimize, minimize); this study has maximize, minimize"
    )


def test_at_least_one_startup_trial_is_asked_for():
    with pytest.raises(ValueError, match="startup_trials must be at least 1, got 0"):
        grey_box(startup_trials=0)


def test_an_enqueued_trial_is_taken_as_it_is_and_its_configuration_not_proposed(twenty_five):
    study = a_study_of(twenty_five)
    first = study.ask(SPACE)
    again = a_study_of(twenty_five)
    again.enqueue_trial(first.params)
    queued = again.ask(SPACE)
    assert queued.params == first.params
    assert PROPOSED_BY not in again.trials[-1].system_attrs
    assert again.ask(SPACE).params != first.params
    waiting = a_study_of(twenty_five)
    waiting.enqueue_trial(first.params)
    history = history_of(grid(), waiting.trials, observations_of, BOUNDS)
    assert grid().rows([first.params])[0].astype(np.int32).tobytes() in history.taken


def test_an_enqueued_trial_without_all_parameters_gets_the_others_proposed(twenty_five):
    study = a_study_of(twenty_five)
    study.enqueue_trial({"conv1.weight_bits": 3})
    trial = study.ask(SPACE)
    assert trial.params["conv1.weight_bits"] == 3
    assert trial.params.keys() == SPACE.keys()
    assert study.trials[-1].system_attrs[PROPOSED_BY] == "grey-box"


def test_trials_outside_the_space_are_no_obstacle(twenty_five):
    """A float baseline samples nothing; its objectives are part of the front all the same."""
    baseline = create_trial(state=TrialState.COMPLETE, values=[0.95, CORNER.memory_bytes / 2, DENSE])
    history = history_of(grid(), [baseline, *twenty_five], observations_of, BOUNDS)
    assert [0.95, CORNER.memory_bytes / 2, DENSE] in history.points.tolist()
    assert len(history.complete) == 25
    assert next_proposer(a_study_of([baseline, *twenty_five])) == "grey-box"


def test_parameters_outside_the_space_are_drawn_at_random(twenty_five):
    drawn = []
    for seed in (0, 0, 1):
        trial = a_study_of(twenty_five, seed=seed).ask(SPACE)
        drawn.append((trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)))
    later = a_study_of(twenty_five[:-1]).ask(SPACE).suggest_float("a", 0, 1)
    assert drawn[0] == drawn[1] != drawn[2]
    assert len({*drawn[0], *drawn[2], later}) == 5


# ---------------------------------------------------------------- what it learns from


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
    """Read at its last epoch only, beside the completed trials' readings at the same epoch."""
    curves = [finished(trial.values, of=trial.params, curve={1: trial.values[0] - 0.2, 2: trial.values[0]}) for trial in
              twenty_five]  # fmt: skip
    stopped = finished(state=TrialState.PRUNED, curve={1: 0.35}, constraint=1.0, number=77)
    history = history_of(grid(), [*curves, stopped], observations_of, BOUNDS)
    readings = history.observations
    assert readings.lower.tolist().count(0) == 25
    assert readings.lower.tolist().count(1) == 26
    assert readings.values[readings.configuration == 25].tolist() == [0.35]
    assert len(history.complete) == 25
    model = GaussianProcess(readings, grid().kinds)
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
    readings = gather_observations(rng.random((303, 4)), found)
    assert len(readings) == 300 + PAIRED + 1
    assert set(readings.configuration.tolist()) == set(range(301))
    worst, best = (int(pick([one[1].accuracy for one in found[:300]])) for pick in (np.argmin, np.argmax))
    assert {worst, best} <= set(readings.configuration[readings.lower == 1].tolist())


def test_diverged_networks_do_not_bend_the_model():
    """The worst tenth ends at chance: with the floor the others are predicted much better than without it."""
    trials = sorted((finished(number=number) for number in range(60)), key=lambda trial: trial.values[0])
    bad = [*(finished([0.1, *trial.values[1:]], of=trial.params) for trial in trials[:6]), *trials[6:]]
    unseen = [finished(number=number).params for number in range(1000, 1100)]
    actual = np.array([accuracy(one) for one in unseen])
    at = grid().features(grid().rows(unseen))

    def error(readings):
        return np.sqrt(np.mean((GaussianProcess(readings, grid().kinds).predict(at)[0] - actual) ** 2))

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


# ---------------------------------------------------------------- what it predicts


def test_memory_is_exact_and_so_are_the_macs_without_gates_and_masks(twenty_five):
    history = history_of(grid(), twenty_five, observations_of, BOUNDS)
    dense = {**twenty_five[0].params, **{name: None for name in SPACE if name.endswith("skip_below")},
             **{name: 1.0 for name in SPACE if name.endswith("channel_mass")}}  # fmt: skip
    gated = {**dense, "conv2.channel_mass": 0.5}
    accuracy = GaussianProcess(history.observations, grid().kinds)
    found = predictions(history, grid().rows([dense, gated]), accuracy, macs_process(history))
    assert found.memory_bytes.tolist() == memory_bytes([dense, gated]).tolist()
    assert np.exp(found.log_macs[0]) == pytest.approx(DENSE)
    assert found.log_macs_deviation[0] == 0
    assert np.exp(found.log_macs[1]) < 0.99 * DENSE
    assert 0 < found.log_macs_deviation[1] < 0.2


def test_macs_are_learned():
    trials = [finished(number=number) for number in range(MACS_OBSERVATIONS + 50)]
    process = macs_process(history_of(grid(), trials, observations_of, BOUNDS))
    unseen = [finished(number=number).params for number in range(1000, 1100)]
    means, _ = process.predict(grid().features(grid().rows(unseen)))
    actual = np.log([effective_macs(one) / DENSE for one in unseen])
    assert np.sqrt(np.mean((means - actual) ** 2)) < 0.1 * actual.std()
    assert len(process._observations) == MACS_OBSERVATIONS


def test_no_more_macs_than_the_dense_ones_are_predicted(twenty_five):
    class TooMany(GaussianProcess):
        def __init__(self):
            pass

        def predict(self, features):
            return np.full(len(features), 0.3), np.full(len(features), 0.1)

    history = history_of(grid(), twenty_five, observations_of, BOUNDS)
    accuracy = GaussianProcess(history.observations, grid().kinds)
    found = predictions(history, history.complete, accuracy, TooMany())
    assert np.exp(found.log_macs) == pytest.approx(np.full(25, DENSE))


def test_before_any_trial_showed_fewer_macs_they_are_taken_as_dense():
    of = {name: 1.0 if "mass" in name else None if "skip" in name else 3 for name in SPACE}
    trials = [finished([0.5, 1.0, DENSE], of=of)]
    assert macs_process(history_of(grid(), trials, observations_of, BOUNDS)) is None
    assert macs_process(history_of(grid(), [], observations_of, BOUNDS)) is None


def test_gates_and_masks_are_told_by_their_names():
    assert without_gates_and_masks({"conv1.channel_mass": 1.0, "conv1.skip_below": None, "conv1.weight_bits": 1})
    assert not without_gates_and_masks({"conv1.channel_mass": 0.95, "conv1.skip_below": None})
    assert not without_gates_and_masks({"conv1.channel_mass": 1.0, "conv1.skip_below": 0.0})
    assert without_gates_and_masks({})


# ---------------------------------------------------------------- budgets


def smallest_memory():
    return float(memory_bytes([{name: axis_of(name, SPACE[name]).choices[0] for name in SPACE}])[0])


@pytest.mark.parametrize("slack", [1.0, 1.3])
def test_nothing_over_the_memory_budget_is_proposed_by_whomever(slack):
    bytes_at_most = smallest_memory() * slack
    corner = ReferencePoint(accuracy=0.1, memory_bytes=bytes_at_most + 1, effective_macs=CORNER.effective_macs)
    at_random = memory_bytes(grid().parameters(grid().uniform(np.random.default_rng(0), 500)))
    assert (at_random > bytes_at_most).mean() > 0.99  # drawing again and again would take for ever
    study = a_study(GreyBoxSampler(COSTS, corner, seed=0, space=SPACE, startup_trials=10))
    proceed(study, 18)
    assert "random" in proposers(study)
    assert {"grey-box", "tpe"} & set(proposers(study))
    assert max(memory_bytes(parameters(study))) <= bytes_at_most
    assert len({tuple(sorted(one.items(), key=str)) for one in parameters(study)}) == 18


def test_a_row_over_budget_keeps_what_costs_no_memory_and_as_much_else_as_fits():
    rng = np.random.default_rng(1)
    rows = grid().uniform(rng, 200)
    limit = float(np.median(BOUNDS.memory(rows)))
    bounds = Bounds(grid(), COSTS, ReferencePoint(accuracy=0.1, memory_bytes=limit, effective_macs=2 * DENSE))
    shrink_to_budget = bounds.shrink_to_budget(rows, rng)
    fitted = ~bounds._too_large(rows)
    assert (shrink_to_budget[fitted] == rows[fitted]).all()
    assert bounds.feasible(shrink_to_budget).all()
    free = [not axis.name.endswith(("weight_bits", "membrane_levels")) for axis in grid().axes]
    assert (shrink_to_budget[:, free] == rows[:, free]).all()
    # Far from all parameters are at their smallest: no more of them than the budget asks for.
    assert (shrink_to_budget[~fitted] != rows[~fitted]).mean() < 0.25


def test_configurations_known_to_have_too_many_macs_are_not_proposed():
    space = {name: SPACE[name] for name in ("conv1.weight_bits", "conv1.skip_below")}
    costs = KnownCosts(
        memory_bytes=of_rows(lambda many: [one["conv1.weight_bits"] for one in many]),
        dense_macs=DENSE,
        are_dense=rows_without_gates_and_masks,
    )
    corner = ReferencePoint(accuracy=0.1, memory_bytes=100, effective_macs=0.9 * DENSE)
    study = a_study(GreyBoxSampler(costs, corner, seed=0, space=space))
    proceed(study, 7, space=space, values=lambda one, seed: [0.5, one["conv1.weight_bits"], DENSE / 2])
    assert {one["conv1.skip_below"] for one in parameters(study)} == {0.0}


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


def test_rows_that_are_kept_between_two_proposals_are_those_of_their_study():
    """One sampler may serve two studies, whose trials have the same numbers."""
    sampler = grey_box()
    first = a_study_of([finished(number=number) for number in range(25)])
    second = a_study_of([finished(number=number) for number in range(25, 50)])
    for study in (first, second, first):
        study.sampler = grey_box()
        expected = study.ask(SPACE)
        study.tell(expected, state=TrialState.FAIL)  # a failed trial is ignored, but the next has another number
        study.sampler = sampler
        asked = study.ask(SPACE)
        alone = a_study_of([one for one in study.trials if one.number < asked.number])
        assert asked.params == alone.ask(SPACE).params
        study.tell(asked, state=TrialState.FAIL)
