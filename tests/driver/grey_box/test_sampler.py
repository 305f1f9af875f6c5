"""The grey-box sampler: what it proposes, what it falls back to, and its ways with Optuna."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import optuna
import pytest
from driver.grey_box.synthetic import (
    BOUNDS,
    CORNER,
    DENSE,
    DIRECTIONS,
    SPACE,
    a_study,
    a_study_of,
    costs_of,
    effective_flops,
    finished,
    grey_box,
    grid,
    memory_bytes,
    never_dense,
    next_proposer,
    objectives,
    of_rows,
    parameters,
    proceed,
    proposers,
)
from optuna.distributions import CategoricalDistribution, IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState, create_trial

from spquant_search.driver.grey_box.bounds import KnownCost
from spquant_search.driver.grey_box.history import history_of
from spquant_search.driver.grey_box.observations import (
    observations_of,
)
from spquant_search.driver.grey_box.sampler import PROPOSED_BY, SKILL, GreyBoxSampler
from spquant_search.runs.pareto import ReferencePoint, hypervolume


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


def test_while_no_fidelity_has_enough_observations_tpe_proposes_and_nothing_is_said():
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
    costs = costs_of(lambda many: [one["conv1.weight_bits"] for one in many], is_dense=of_rows(never_dense))
    sampler = GreyBoxSampler(costs, CORNER, seed=0, space=TINY)
    study = proceed(a_study(sampler), 26, space=TINY, values=tiny, luck=luck)
    rows = grid(TINY).rows(parameters(study))
    assert len(np.unique(rows[:24], axis=0)) == 24
    assert len(np.unique(rows, axis=0)) == 24
    assert ("tpe" if luck else "grey-box") in proposers(study)


def test_works_with_optimize_and_a_space_that_it_is_not_told():
    """All kinds of distributions, one of a single value; the space is what the trials have in common."""
    costs = costs_of(
        lambda many: [one["bits"] * one["width"] for one in many], is_dense=of_rows(never_dense), dense=100.0
    )
    corner = ReferencePoint(accuracy=0.0, costs={"memory_bytes": 400.0, "effective_flops": 101.0})
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
    with pytest.raises(ValueError, match="the grey-box sampler needs 3 objectives") as caught:
        study.ask(SPACE)
    assert str(caught.value) == (
        "the grey-box sampler needs 3 objectives, accuracy (maximize), memory_bytes and effective_flops (minimize); "
        "this study has maximize, minimize"
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
    baseline = create_trial(state=TrialState.COMPLETE, values=[0.95, CORNER.costs["memory_bytes"] / 2, DENSE])
    history = history_of(grid(), [baseline, *twenty_five], observations_of, BOUNDS)
    assert [0.95, CORNER.costs["memory_bytes"] / 2, DENSE] in history.points.tolist()
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


# ---------------------------------------------------------------- other objectives


def of_value(cost):
    """A cost of configurations that is exact."""
    return KnownCost(most=of_rows(cost))


def large_of(parameters):
    """As large as the largest layer, and half as large with a single gate more."""
    bits = [one for name, one in parameters.items() if name.endswith("weight_bits")]
    return float(max(bits) + (2 if any("mass" in name and one < 1 for name, one in parameters.items()) else 0))


EXACT = {"flash_bytes": of_value(memory_bytes), "ram_bytes": of_value(lambda many: [large_of(one) for one in many])}
LEARNED = {
    "synaptic_ops": KnownCost(most=of_rows(lambda many: [DENSE] * len(many)), is_most=of_rows(never_dense)),
    "energy_uj": KnownCost(most=of_rows(lambda many: [1.5 * one for one in memory_bytes(many)]),
                           is_most=of_rows(never_dense)),
}  # fmt: skip


def values_of(parameters):
    return {
        "flash_bytes": float(memory_bytes([parameters])[0]),
        "ram_bytes": large_of(parameters),
        "synaptic_ops": 0.3 * effective_flops(parameters),
        "energy_uj": float(memory_bytes([parameters])[0]) * (0.5 + 0.5 * effective_flops(parameters) / DENSE),
    }


@pytest.mark.parametrize(
    "corner",
    [
        {"flash_bytes": 4000.0, "ram_bytes": 12.0},
        {"synaptic_ops": 0.33 * DENSE},
        pytest.param({"synaptic_ops": 0.33 * DENSE, "energy_uj": 5000.0}, marks=pytest.mark.slow),
        pytest.param({"ram_bytes": 11.0}, marks=pytest.mark.slow),
    ],
)
def test_any_one_or_two_costs_exact_or_learned_give_a_better_front_than_chance(corner):
    reference = ReferencePoint(accuracy=0.1, costs=corner)

    def search(sampler, trials=20):
        study = optuna.create_study(directions=DIRECTIONS[: 1 + len(corner)], sampler=sampler)
        for _ in range(trials):
            trial = study.ask(SPACE)
            costs = values_of(trial.params)
            study.tell(trial, [objectives(trial.params)[0], *(costs[name] for name in corner)])
        return study

    known = {name: {**EXACT, **LEARNED}[name] for name in corner}
    found = search(GreyBoxSampler(known, reference, seed=0, space=SPACE))
    assert proposers(found)[10:].count("grey-box") >= 8
    chance = search(RandomSampler(seed=1))
    volumes = [hypervolume(np.array([trial.values for trial in one.trials]), reference) for one in (found, chance)]
    assert volumes[0] > 1.05 * volumes[1]


def test_a_learned_cost_that_is_bounded_and_no_objective_is_kept_where_it_can_be_told():
    """Most of a space breaks the bound; a sampler that knows it proposes little that does."""
    limit = 0.1 * DENSE
    corner = ReferencePoint(accuracy=0.1, costs={"flash_bytes": 1e6})
    shares = []
    for known in ({}, {"synaptic_ops": replace(LEARNED["synaptic_ops"], limit=limit)}):
        sampler = GreyBoxSampler({**EXACT, **known}, corner, seed=0, space=SPACE)
        study = optuna.create_study(directions=DIRECTIONS[:2], sampler=sampler)
        for _ in range(20):
            trial = study.ask(SPACE)
            costs = values_of(trial.params)
            trial.set_constraint("synaptic_ops", costs["synaptic_ops"] / limit - 1)
            study.tell(trial, [objectives(trial.params)[0], costs["flash_bytes"]])
        later = [values_of(trial.params)["synaptic_ops"] for trial in study.trials[12:]]
        shares.append(np.mean([cost > limit for cost in later]))
    assert shares[1] < 0.5 * shares[0]
