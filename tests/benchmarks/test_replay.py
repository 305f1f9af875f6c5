"""Searches of the recorded spaces: benchmarks/replay.py, and the tables that it answers from."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from examples import epoch, trial

from spquant_search.runs.results import Outcome

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

TRAIN, VALIDATION, STATISTICS = 1000, 1000, 128  # samples, of both spaces in benchmarks/curves
STEPS = 2  # time steps, of both; work is counted in samples times time steps
EPOCH = 3 * TRAIN + VALIDATION
SUBNET = STATISTICS + VALIDATION


@pytest.fixture(scope="module", autouse=True)
def _beside_the_benchmarks():
    """Let benchmarks, which are scripts, import each other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(BENCHMARKS), str(BENCHMARKS / "curves"), *sys.path])
        yield


@pytest.fixture(scope="module")
def table(_beside_the_benchmarks):
    import replay

    return replay.read_table("narrow")


def run(settings, *, name="ours", seed=0, counts_baseline=True):
    """Return the results of a search, and its curve."""
    import efficiency
    import replay

    strategy = efficiency.Strategy(name=name, settings=settings, counts_baseline=counts_baseline)
    results = replay.searched("narrow", strategy, seed)
    return results, replay.curve("narrow", strategy, seed, results)


@pytest.mark.parametrize(("name", "tuned_epochs"), [("narrow", 1), ("wide", 3)])
def test_every_configuration_is_recorded_in_every_way(name, tuned_epochs):
    import replay

    table = replay.read_table(name)
    configs = replay.every_configuration(replay.prepared_space(name).space)
    assert len(configs) == len(set(configs)) == 1024
    trained_long = {(configs[number], replay.LONG) for number in replay.trained_long(name, len(configs))}
    assert table.ways.keys() == {(config, way) for config in configs for way in replay.WAYS} | trained_long
    epochs = {replay.SCRATCH: 8, replay.WARM: 3, replay.SUBNET: 1, replay.TUNED: tuned_epochs, replay.LONG: 24}
    for (_, way), recorded in table.ways.items():
        numbers = [epoch.epoch for epoch in recorded.epochs]
        first = 0 if way == replay.SUBNET else 1
        assert numbers == list(range(first, first + epochs[way]))
        assert all(0 < epoch.accuracy < 1 for epoch in recorded.epochs)
    assert len({recorded.epochs[-1].accuracy for recorded in table.ways.values()}) > 50


def test_a_replayed_search_finds_what_was_recorded_and_is_charged_for_it(table):
    import replay

    results, curve = run(("search.trials=14", "search.budget_ladder=3", "search.startup_trials=8"))
    baseline, *tried = results
    assert baseline.epochs == table.baseline.epochs
    read = [one for one in tried if one.parent is None]
    tuned = [one for one in tried if one.parent is not None]
    assert len(read) == 14
    assert 1 <= len(tuned) <= 8
    for one in read:
        assert one.epochs == table.ways[one.config, replay.SUBNET].epochs
    for one in tuned:
        assert one.epochs == (results[one.parent].epochs + table.ways[one.config, replay.TUNED].epochs)
    # 8 epochs of the baseline, 48 of the supernet, what the baseline says of all samples, and one subnet with
    # every layer at its most precise choice, 3 each for lower bits of two layers, 1 for the subnet layer's, 3 levels.
    before = 8 * EPOCH + 48 * 3 * TRAIN + TRAIN + (1 + 3 + 3 + 1 + 3) * SUBNET
    assert curve.work[-1] == STEPS * (before + 14 * SUBNET + len(tuned) * EPOCH)
    assert curve.volumes["chance"][-1] > 0


def test_one_seed_gives_one_search():
    settings = ("search.trials=12", "search.budget_ladder=0", "search.startup_trials=8")
    assert run(settings, seed=3) == run(settings, seed=3)
    assert run(settings, seed=3)[1].work != run(settings, seed=4)[1].work


def test_what_is_stopped_is_charged_for_the_epochs_until_then(table):
    import replay

    stopping = "search.stopping={margin: 0, min_peers: 2, optimism: 0, enabled: true}"
    results, curve = run(("search.strategy=warm-start", "search.trials=16", "search.budget_ladder=0", stopping))
    stopped = [one for one in results if one.outcome.name == "STOPPED"]
    assert stopped
    for one in stopped:
        whole = table.ways[one.config, replay.WARM].epochs
        assert len(one.epochs) < len(whole)
        assert one.epochs == whole[: len(one.epochs)]
    trained = sum(one.trained_epochs for one in results[1:])
    assert trained < 3 * 16
    assert curve.work[-1] == STEPS * (8 * EPOCH + TRAIN + trained * EPOCH)


def test_from_scratch_no_baseline_is_charged(table):
    import replay

    settings = ("search.strategy=scratch", "search.trials=4", "search.sampler=random", "search.stopping.enabled=false")
    results, curve = run(settings, counts_baseline=False)
    assert all(one.epochs == table.ways[one.config, replay.SCRATCH].epochs for one in results[1:])
    assert curve.work[-1] == STEPS * 4 * 8 * EPOCH


def test_longer_trainings_are_charged_for_what_they_take(table):
    import efficiency
    import replay

    strategy = efficiency.Strategy(name=efficiency.LONGER, settings=("search.strategy=scratch",), counts_baseline=False)
    results = replay.tried_long("narrow", strategy, 0)
    assert len({one.config for one in results}) == 1 + 256
    assert all(one.epochs == table.ways[one.config, replay.LONG].epochs for one in results[1:])
    assert replay.curve("narrow", strategy, 0, results).work[-1] == STEPS * 256 * 24 * EPOCH
    assert [one.config for one in replay.tried_long("narrow", strategy, 1)] != [one.config for one in results]


def prices(*settings):
    """Return what the recorded space of several time steps charges, and the space."""
    import efficiency
    import replay

    strategy = efficiency.Strategy(name="ours", settings=settings)
    space = replay.prepared_space("narrow", settings).space
    return efficiency.Prices.of(space, strategy, samples=TRAIN, judged=VALIDATION), space


def test_a_sample_in_fewer_time_steps_is_less_work():
    # The baseline, and what it says, in 4; the supernet in 12 / 7 on the mean, for as many more epochs than 48; the
    # ladder's subnets in 4.
    found, space = prices("time_steps=[1,2,4]", "search.budget_ladder=3")
    ladder = sum(config.time_steps for config in _lowered(space))
    assert ladder >= 11 * 4
    expected = 4 * (8 * EPOCH + TRAIN) + 112 * 3 * TRAIN * 12 / 7 + ladder * SUBNET
    assert found.before == round(expected)
    for time_steps in (1, 2, 4):
        config = replace(space.baseline(), time_steps=time_steps)
        assert found.of_trial(trial(1, of=config, epochs=3)) == time_steps * 3 * EPOCH
        subnet = replace(trial(1, of=config, outcome=Outcome.SUBNET), epochs=(epoch(0, 0.5, 1e6),))
        assert found.of_trial(subnet) == time_steps * SUBNET


@pytest.mark.parametrize("settings", [(), ("search.strategy=warm-start",), ("search.strategy=scratch",)])
def test_with_one_number_of_time_steps_all_work_is_in_proportion_to_it(settings):
    one, _ = prices("time_steps=2", *settings)
    other, _ = prices("time_steps=6", *settings)
    assert other.before == 3 * one.before
    assert (other.epoch, other.subnet) == (one.epoch, one.subnet)


def test_a_configuration_of_one_time_step_is_listed_once():
    import replay

    several = replay.every_configuration(replay.prepared_space("narrow", ("time_steps=[1,2]",)).space)
    assert len(several) == len(set(several))
    at_one = [config for config in several if config.time_steps == 1]
    assert len(several) - len(at_one) == 1024
    assert len(at_one) == 128  # three layers have two levels each


def _lowered(space):
    from spquant_search.runs.sensitivity import lowered_configurations

    return lowered_configurations(space).values()


def test_choices_explain_what_depends_on_pairs_of_them_and_nothing_of_three():
    import numpy as np
    import replay

    configs = replay.every_configuration(replay.prepared_space("wide").space)
    layers = [dict(config.layers) for config in configs]
    first, second, third = (
        np.array([1.0 if one[name].membrane_levels == 3 else -1.0 for one in layers])
        for name in ("conv1", "conv2", "conv3")
    )
    bits = np.array([float(one["conv2"].weight_bits) for one in layers])
    known = replay.explained(configs, np.stack([0.5 + first * second + bits * third, first * second * third], axis=1))
    np.testing.assert_allclose(known[:, 0], 0.5 + first * second + bits * third, atol=1e-9)
    np.testing.assert_allclose(known[:, 1], 0, atol=1e-9)  # all choices stand with all others: it averages out
