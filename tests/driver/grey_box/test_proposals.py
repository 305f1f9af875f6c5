"""What is predicted of candidates, and what a budget leaves of them."""

from __future__ import annotations

import numpy as np
import pytest
from driver.grey_box.synthetic import (
    BOUNDS,
    CORNER,
    COSTS,
    DENSE,
    SPACE,
    a_study,
    costs_of,
    effective_flops,
    finished,
    grid,
    memory_bytes,
    parameters,
    proceed,
    proposers,
)

from spquant_search.driver.grey_box.bounds import (
    Bounds,
    rows_without_gates_and_masks,
    without_gates_and_masks,
)
from spquant_search.driver.grey_box.distribution_axes import axis_of
from spquant_search.driver.grey_box.gaussian_process import GaussianProcess
from spquant_search.driver.grey_box.history import history_of
from spquant_search.driver.grey_box.observations import (
    observations_of,
)
from spquant_search.driver.grey_box.proposals import COST_OBSERVATIONS, cost_processes, predictions
from spquant_search.driver.grey_box.sampler import GreyBoxSampler
from spquant_search.runs.pareto import ReferencePoint


def test_memory_is_exact_and_so_are_the_macs_without_gates_and_masks(twenty_five):
    history = history_of(grid(), twenty_five, observations_of, BOUNDS)
    dense = {**twenty_five[0].params, **{name: None for name in SPACE if name.endswith("skip_below")},
             **{name: 1.0 for name in SPACE if name.endswith("channel_mass")}}  # fmt: skip
    gated = {**dense, "conv2.channel_mass": 0.5}
    accuracy = GaussianProcess(history.observations, grid().kinds)
    found = predictions(history, grid().rows([dense, gated]), accuracy, cost_processes(history))
    assert found.costs[0].most.tolist() == memory_bytes([dense, gated]).tolist()
    assert np.exp(found.costs[1].log[0]) == pytest.approx(DENSE)
    assert found.costs[1].log_deviation[0] == 0
    assert np.exp(found.costs[1].log[1]) < 0.99 * DENSE
    assert 0 < found.costs[1].log_deviation[1] < 0.2


def test_macs_are_learned():
    trials = [finished(number=number) for number in range(COST_OBSERVATIONS + 50)]
    process = cost_processes(history_of(grid(), trials, observations_of, BOUNDS))["effective_flops"]
    unseen = [finished(number=number).params for number in range(1000, 1100)]
    means, _ = process.predict(grid().features(grid().rows(unseen)))
    actual = np.log([effective_flops(one) / DENSE for one in unseen])
    assert np.sqrt(np.mean((means - actual) ** 2)) < 0.1 * actual.std()
    assert len(process._observations) == COST_OBSERVATIONS


def test_no_more_macs_than_the_dense_ones_are_predicted(twenty_five):
    class TooMany(GaussianProcess):
        def __init__(self):
            pass

        def predict(self, features):
            return np.full(len(features), 0.3), np.full(len(features), 0.1)

    history = history_of(grid(), twenty_five, observations_of, BOUNDS)
    accuracy = GaussianProcess(history.observations, grid().kinds)
    found = predictions(history, history.complete, accuracy, {"effective_flops": TooMany()})
    assert np.exp(found.costs[1].log) == pytest.approx(np.full(25, DENSE))


def test_before_any_trial_showed_fewer_macs_they_are_taken_as_dense():
    of = {name: 1.0 if "mass" in name else None if "skip" in name else 3 for name in SPACE}
    trials = [finished([0.5, 1.0, DENSE], of=of)]
    assert cost_processes(history_of(grid(), trials, observations_of, BOUNDS))["effective_flops"] is None
    assert cost_processes(history_of(grid(), [], observations_of, BOUNDS))["effective_flops"] is None


def test_gates_and_masks_are_told_by_their_names():
    assert without_gates_and_masks({"conv1.channel_mass": 1.0, "conv1.skip_below": None, "conv1.weight_bits": 1})
    assert not without_gates_and_masks({"conv1.channel_mass": 0.95, "conv1.skip_below": None})
    assert not without_gates_and_masks({"conv1.channel_mass": 1.0, "conv1.skip_below": 0.0})
    assert without_gates_and_masks({})


def smallest_memory():
    return float(memory_bytes([{name: axis_of(name, SPACE[name]).choices[0] for name in SPACE}])[0])


@pytest.mark.parametrize("slack", [1.0, 1.3])
def test_nothing_over_the_memory_budget_is_proposed_by_whomever(slack):
    bytes_at_most = smallest_memory() * slack
    corner = ReferencePoint(
        accuracy=0.1, costs={"memory_bytes": bytes_at_most + 1, "effective_flops": CORNER.costs["effective_flops"]}
    )
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
    limit = float(np.median(BOUNDS.most("memory_bytes", rows)))
    bounds = Bounds(
        grid(), COSTS, ReferencePoint(accuracy=0.1, costs={"memory_bytes": limit, "effective_flops": 2 * DENSE})
    )
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
    costs = costs_of(lambda many: [one["conv1.weight_bits"] for one in many], is_dense=rows_without_gates_and_masks)
    corner = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 100, "effective_flops": 0.9 * DENSE})
    study = a_study(GreyBoxSampler(costs, corner, seed=0, space=space))
    proceed(study, 7, space=space, values=lambda one, seed: [0.5, one["conv1.weight_bits"], DENSE / 2])
    assert {one["conv1.skip_below"] for one in parameters(study)} == {0.0}
