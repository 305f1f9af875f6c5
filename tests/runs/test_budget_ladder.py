"""The knapsack against brute force, and the plan_budget_ladder that is made of it."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import pytest

from spquant_search.costs.memory import cost_report
from spquant_search.runs.budget_ladder import Option, frontier, plan_budget_ladder
from spquant_search.runs.sensitivity import (
    REFERENCE,
    Sensitivity,
    lowered_configurations,
    reference_configuration,
    sensitivity,
)
from spquant_search.space.configuration import OFF
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
NO_REFERENCES = "search.references=[]"
SAMPLES = 1000


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return prepare(
        TINY, ("layers.all.weight_bits=[2, 8, 1]", "layers.all.membrane_levels=[3, 0, 4, 16]", NO_REFERENCES)
    )


def measured(prepared: Prepared, seed: int) -> Sensitivity:
    """Every subnet from 0.6 to 0.9, the reference 0.85: some lower choices measure better."""
    generator = random.Random(seed)
    accuracies = {name: generator.randint(600, 900) / SAMPLES for name in lowered_configurations(prepared.space)}
    return sensitivity(prepared.space, prepared.shapes, accuracies | {REFERENCE: 0.85}, samples=SAMPLES)


@pytest.mark.parametrize("seed", range(8))
def test_every_budget_gets_the_best_of_all_selections(seed: int) -> None:
    generator = random.Random(seed)
    groups = [
        [Option(bytes=generator.randint(0, 30), lost=generator.randint(0, 12)) for _ in range(generator.randint(1, 4))]
        for _ in range(5)
    ]
    every = [
        (sum(option.bytes for option in taken), sum(option.lost for option in taken))
        for taken in itertools.product(*groups)
    ]
    found = frontier(groups)
    pairs = list(zip(found.bytes.tolist(), found.lost.tolist(), strict=True))
    # Exactly those that no other one beats.
    wanted = {pair for pair in every if not any(o != pair and o[0] <= pair[0] and o[1] <= pair[1] for o in every)}
    assert pairs == sorted(wanted)
    for (size, lost), options in zip(pairs, found.options.tolist(), strict=True):
        taken = [group[option] for group, option in zip(groups, options, strict=True)]
        assert (sum(option.bytes for option in taken), sum(option.lost for option in taken)) == (size, lost)


def test_of_equal_options_the_first_is_taken() -> None:
    # 3 and 4 levels take 2 bits alike: where they lose the same, there is no reason to take the lower one.
    group = [Option(bytes=2, lost=1), Option(bytes=2, lost=1), Option(bytes=1, lost=4)]
    assert frontier([group, group]).options.tolist() == [[2, 2], [2, 0], [0, 0]]


def test_bytes_add_up_over_layers_and_parameters(prepared: Prepared) -> None:
    space, generator = prepared.space, random.Random(0)
    found = measured(prepared, 0)
    saved = {(choice.address, choice.value): found.bytes_saved(choice) for choice in found.choices}
    reference = reference_configuration(space).flat()
    for _ in range(50):
        values = {address: generator.choice(options) for address, options in space.choices().items()}
        values |= {address: reference[address] for address in values if address.parameter in OFF}
        memory = cost_report(prepared.shapes, space.config(values)).memory_bytes
        assert memory == found.memory_bytes - sum(saved.get(item, 0) for item in values.items())


@pytest.mark.parametrize("seed", range(3))
def test_rungs_rise_and_lose_less_and_keep_their_budgets(prepared: Prepared, seed: int) -> None:
    found = measured(prepared, seed)
    points = plan_budget_ladder(found, 8)
    assert 2 <= len(points) <= 8
    for point in points:
        assert point.memory_bytes <= point.budget_bytes
        assert cost_report(prepared.shapes, point.config).memory_bytes == point.memory_bytes
    for lower, higher in itertools.pairwise(points):
        assert lower.memory_bytes < higher.memory_bytes
        assert lower.loss > higher.loss
        assert higher.memory_bytes > lower.budget_bytes
    assert points[-1].loss == 0.0
    assert {layer.weight_bits for _, layer in points[0].config.layers} == {1}
    assert {layer.membrane_levels for _, layer in points[0].config.layers} <= {3, 4, None}


def test_budgets_are_spread_geometrically(prepared: Prepared) -> None:
    found = measured(prepared, 0)
    points = plan_budget_ladder(found, 4)
    low, high = points[0].memory_bytes, points[-1].memory_bytes
    assert [point.budget_bytes for point in points] == [round(low * (high / low) ** (i / 3)) for i in range(4)]
    assert [point.memory_bytes for point in plan_budget_ladder(found, 1)] == [high]
    assert plan_budget_ladder(found, 0) == ()


def test_a_lower_choice_never_counts_as_better(prepared: Prepared) -> None:
    names = list(lowered_configurations(prepared.space))
    # All lower choices measure better than the reference: nothing is lost, and the smallest network is the only point.
    found = sensitivity(
        prepared.space, prepared.shapes, {name: 0.9 - 0.1 * (name == REFERENCE) for name in names}, samples=SAMPLES
    )
    (point,) = plan_budget_ladder(found, 8)
    assert point.loss == 0.0
    assert {layer.weight_bits for _, layer in point.config.layers} == {1}
    # conv1 loses 50 samples at 2 bits, and 10 at 1 bit, which is taken for 50.
    worse = {"conv1.weight_bits=2": 0.75, "conv1.weight_bits=1": 0.79}
    found = sensitivity(prepared.space, prepared.shapes, dict.fromkeys(names, 0.8) | worse, samples=SAMPLES)
    low, high = plan_budget_ladder(found, 8)
    assert (low.loss, high.loss) == (0.05, 0.0)
    assert (low.config["conv1"].weight_bits, high.config["conv1"].weight_bits) == (1, 8)
    assert low.config["conv2"] == high.config["conv2"]


def test_a_space_without_choices_has_no_ladder_to_climb() -> None:
    fixed = prepare(TINY, ("layers.all.weight_bits=4", "layers.all.membrane_levels=3", NO_REFERENCES))
    found = sensitivity(fixed.space, fixed.shapes, {REFERENCE: 0.8}, samples=SAMPLES)
    assert [point.config for point in plan_budget_ladder(found, 8)] == [found.reference]


# ---------------------------------------------------------------- fewer time steps


def test_every_number_of_time_steps_has_a_ladder_of_its_own() -> None:
    """Bytes are exact; a precision loses what it loses at the most steps, and the steps what they lose alone."""
    steps = ("time_steps=[1, 2, 4]", "layers.all.weight_bits=[2, 8, 1]", "layers.all.membrane_levels=[3, 16]")
    prepared = prepare(TINY, (*steps, NO_REFERENCES))
    generator = random.Random(0)
    accuracies = {name: generator.randint(600, 840) / SAMPLES for name in lowered_configurations(prepared.space)}
    alone = {REFERENCE: 0.85, "time_steps=2": 0.83, "time_steps=1": 0.87}
    found = sensitivity(prepared.space, prepared.shapes, accuracies | alone, samples=SAMPLES)
    ladder = plan_budget_ladder(found, 5)
    lost = {4: 0.0, 2: 0.02, 1: 0.0}  # one step measured better than four: that is noise, and no gain
    of_weights = {
        (choice.address, choice.value): found.loss(choice) for choice in found.choices if choice.address.parameter
    }
    for steps_of_ladder, base in lost.items():
        points = [point for point in ladder if point.config.time_steps == steps_of_ladder]
        assert 2 <= len(points) <= 5
        assert points[-1].loss == base
        assert [point.memory_bytes for point in points] == sorted(point.memory_bytes for point in points)
        for point in points:
            assert point.config in prepared.space
            assert point.memory_bytes == cost_report(prepared.shapes, point.config).memory_bytes <= point.budget_bytes
            own = prepared.space.values(point.config).items()
            # Of what is no gain, nothing is taken back.
            least = sum(max(0.0, of_weights.get(item, 0.0)) for item in own)
            assert point.loss >= base + least - 1e-9
    assert [point.config.time_steps for point in ladder] == sorted(
        (point.config.time_steps for point in ladder), reverse=True
    )
    # With one step nothing is stored, so that the smallest network is smaller, and no two points differ in levels.
    smallest = {steps: min(p.memory_bytes for p in ladder if p.config.time_steps == steps) for steps in lost}
    assert smallest[1] < smallest[2] == smallest[4]
