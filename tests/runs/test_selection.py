"""The front's members, the one that a budget picks, and the finalists."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import config, epoch, trial
from hypothesis import given
from hypothesis import strategies as st

from spquant_search.runs import selection
from spquant_search.runs.pareto import ReferencePoint, log_hypervolume, objectives
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.runs.selection import Budget
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.space.reading import read_space

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
# Few values an axis, so that ties and equal points are common.
POINTS = st.lists(
    st.tuples(st.integers(0, 5).map(lambda n: n / 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12
)


def results_of(points) -> list[TrialResult]:
    return [trial(number, *point) for number, point in enumerate(points)]


@given(points=POINTS, seed=st.integers(0, 100))
def test_front_does_not_depend_on_the_order(points, seed):
    results = results_of(points)
    shuffled = random.Random(seed).sample(results, len(results))
    assert selection.front(shuffled, DEFAULT_COSTS) == selection.front(results, DEFAULT_COSTS)


def test_front_by_hand_smallest_memory_first():
    results = [
        trial(1, 0.8, 10, 5),
        trial(2, 0.9, 20, 5),
        trial(3, 0.8, 10, 6),  # trial 1, more operations
        trial(4, 0.7, 10, 4),
        trial(5, 0.9, 20, 5),  # trial 2 again
        trial(6, 0.9, 21, 5),
    ]
    assert [member.number for member in selection.front(results, DEFAULT_COSTS)] == [4, 1, 2, 5]


def test_only_measured_completed_trials_can_be_members():
    good = trial(1, 0.5, 50, 50)
    others = [trial(n, 0.9, 1, 1, outcome=outcome) for n, outcome in enumerate(Outcome, 2) if not outcome.has_weights]
    unmeasured = trial(10, epochs=0)
    not_a_number = replace(trial(11, 0.9, 1, 1), epochs=(epoch(1, math.nan, 1.0),))
    no_macs = replace(trial(12, 0.9, 1, 1), epochs=(epoch(1, 0.9, math.nan),))
    assert selection.front([*others, unmeasured, not_a_number, no_macs, good], DEFAULT_COSTS) == (good,)


MEMBERS = selection.front(
    [trial(1, 0.6, 10, 10), trial(2, 0.85, 20, 20), trial(3, 0.9, 100, 100), trial(4, 0.7, 90, 9)], DEFAULT_COSTS
)


def test_knee_is_nearest_to_the_ideal_corner_of_the_members_own_range():
    # Scaled distances squared: 1: 1; 2: 0.028 + 0.012 + 0.015; 3: 2; 4: 0.444 + 0.790 + 0.
    assert selection.knee(MEMBERS, DEFAULT_COSTS).number == 2
    assert selection.knee(MEMBERS[:1], DEFAULT_COSTS) is MEMBERS[0]
    assert selection.knee([trial(8, 0.5, 10, 10), trial(9, 0.5, 10, 10)], DEFAULT_COSTS).number == 8


def test_knee_weighs_accuracy_like_bytes():
    # Scaled: 1: 1; 2: 0.0006 + 0.444 + 0.444; 3: 2.
    assert (
        selection.knee([trial(1, 0.5, 10, 10), trial(2, 0.9, 70, 70), trial(3, 0.91, 100, 100)], DEFAULT_COSTS).number
        == 2
    )


def test_knee_ties_go_to_less_memory():
    members = selection.front([trial(1, 0.9, 20, 10), trial(2, 0.8, 10, 10)], DEFAULT_COSTS)
    assert selection.knee(members, DEFAULT_COSTS).number == 2


@pytest.mark.parametrize(
    ("budget", "number"),
    [
        (Budget(), 3),
        (Budget(max_memory_bytes=100 * 1024), 3),
        (Budget(max_memory_bytes=100 * 1024 - 1), 2),
        (Budget(max_effective_flops=40e6), 2),  # FLOPs are two a MAC
        (Budget(max_effective_flops=40e6 - 1), 4),
        (Budget(max_effective_flops=19e6), 4),
        (Budget(min_accuracy=0.9), 3),
        (Budget(max_memory_bytes=20 * 1024, min_accuracy=0.8, max_effective_flops=50e6), 2),
        (Budget(max_memory_bytes=9 * 1024), None),
        (Budget(min_accuracy=0.91), None),
        (Budget(min_accuracy=0.9, max_memory_bytes=20 * 1024), None),
    ],
)
def test_pick_takes_the_most_accurate_within_the_budget(budget, number):
    picked = selection.pick(MEMBERS, DEFAULT_COSTS, budget)
    assert (picked.number if picked else None) == number


def test_pick_at_the_knee_looks_at_fitting_members_only():
    assert selection.pick(MEMBERS, DEFAULT_COSTS, Budget(), at_knee=True).number == 2
    assert selection.pick(MEMBERS, DEFAULT_COSTS, Budget(max_effective_flops=20e6), at_knee=True).number in (1, 4)
    assert selection.pick(MEMBERS, DEFAULT_COSTS, Budget(max_memory_bytes=1), at_knee=True) is None


def test_pick_ties_go_to_less_memory_then_fewer_operations():
    assert selection.pick([trial(1, 0.8, 11, 1), trial(2, 0.8, 10, 9)], DEFAULT_COSTS, Budget()).number == 2
    assert selection.pick([trial(1, 0.8, 10, 9), trial(2, 0.8, 10, 8)], DEFAULT_COSTS, Budget()).number == 2


def test_excess_is_the_share_of_each_bound_that_is_missed():
    member = trial(1, 0.6, 15, 30)
    budget = Budget(max_memory_bytes=10 * 1024, min_accuracy=0.8, max_effective_flops=100e6)
    assert budget.excess(member) == pytest.approx({"memory_bytes": 0.5, "accuracy": 0.25})
    assert Budget(min_accuracy=1.0).excess(member) == pytest.approx({"accuracy": 0.4})
    assert Budget(min_accuracy=0.0).excess(member) == {}
    assert Budget().excess(member) == {}


def test_member_as_json():
    member = selection.member_dict(trial(2, 0.5, 10, 12.5), samples=100, test_accuracy=0.25, test_samples=400)
    assert member["accuracy"] == 0.5
    assert member["accuracy_split"] == "validation"
    assert member["test_accuracy"] == 0.25
    # (1 / 2 -+ ...): symmetric around one half, and narrower with more samples.
    low, high = member["accuracy_interval"]
    assert (low + high, high - low) == pytest.approx((1.0, 0.1923), abs=1e-3)
    assert (member["accuracy_samples"], member["test_samples"], member["trained"]) == (100, 400, True)
    untested = selection.member_dict(trial(2, 0.5), samples=100, test_accuracy=None, test_samples=400)
    assert (untested["test_samples"], untested["test_accuracy_interval"]) == (None, None)
    assert member["effective_flops"] == 2 * member["effective_macs"] == 25e6
    assert member["memory_bytes"] == member["weight_bytes"] + member["membrane_bytes"] + member["overhead_bytes"]
    assert set(member["config"]["conv1"]) == {"weight_bits", "membrane_levels", "channel_mass", "skip_below"}


def test_a_subnet_stays_where_fine_tuning_cost_accuracy():
    read = replace(trial(1, 0.8, 10, 10, outcome=Outcome.SUBNET), epochs=(epoch(0, 0.8, 10e6),))

    def tuned(accuracy: float, macs: float):
        rungs = (*read.epochs, epoch(1, accuracy, macs))
        return replace(read, number=2, parent=1, outcome=Outcome.COMPLETE, epochs=rungs)

    better, fewer, worse = tuned(0.85, 12e6), tuned(0.7, 5e6), tuned(0.7, 10e6)
    assert selection.front([read, better], DEFAULT_COSTS) == (better,)
    assert selection.front([read, fewer], DEFAULT_COSTS) == (fewer, read)
    assert selection.front([read, worse], DEFAULT_COSTS) == (read,)


def test_the_front_within_a_budget_and_without_one_that_fits():
    whole = selection.front(MEMBERS, DEFAULT_COSTS)
    budget = Budget(max_memory_bytes=20 * 1024)
    fitting = selection.front(MEMBERS, DEFAULT_COSTS, budget)
    assert fitting == tuple(member for member in whole if member.memory_bytes <= 20 * 1024)
    assert 0 < len(fitting) < len(whole)
    assert selection.is_met(MEMBERS, DEFAULT_COSTS, budget)
    assert not selection.is_met(MEMBERS, DEFAULT_COSTS, Budget(min_accuracy=0.99))
    assert selection.front(MEMBERS, DEFAULT_COSTS, Budget(min_accuracy=0.99)) == whole


def test_a_subnet_stays_where_what_was_fine_tuned_of_it_is_over_budget():
    read = trial(1, 0.8, 10, 10, outcome=Outcome.SUBNET)
    tuned = replace(trial(2, 0.9, 10, 30), parent=1)
    tuned = replace(tuned, epochs=(read.epochs[-1], *tuned.epochs))
    assert selection.front([read, tuned], DEFAULT_COSTS) == (tuned,)
    assert selection.front([read, tuned], DEFAULT_COSTS, Budget(max_effective_flops=40e6)) == (read,)


def test_violations_are_negative_within_and_positive_beyond():
    member = trial(1, 0.6, 15, 10)
    budget = Budget(max_memory_bytes=20 * 1024, min_accuracy=0.8, max_effective_flops=10e6)
    assert budget.violations(member) == pytest.approx({"memory_bytes": -0.25, "effective_flops": 1.0, "accuracy": 0.25})


def test_a_search_counts_dense_operations_as_one_halving_unless_a_budget_bounds_them():
    corner = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 1100, "effective_flops": 2 * 110})
    assert selection.sampler_reference(corner, Budget()) == replace(
        corner, costs={"memory_bytes": 1100, "effective_flops": pytest.approx(400)}
    )
    tight = selection.sampler_reference(
        corner, Budget(max_memory_bytes=500, max_effective_flops=100), baseline_accuracy=0.9
    )
    assert tight == ReferencePoint(accuracy=pytest.approx(0.82), costs={"memory_bytes": 501, "effective_flops": 2 * 50})
    floor = selection.sampler_reference(corner, Budget(min_accuracy=0.85), baseline_accuracy=0.9)
    assert floor.accuracy == 0.85


def test_a_reference_is_moved_in_to_the_budget():
    corner = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 1100, "effective_flops": 2 * 110})
    assert selection.clip_to_budget(corner, Budget()) == corner
    assert selection.clip_to_budget(corner, Budget(max_memory_bytes=2000, max_effective_flops=2000)) == corner
    inside = selection.clip_to_budget(corner, Budget(max_memory_bytes=500, max_effective_flops=100, min_accuracy=0.7))
    assert inside == ReferencePoint(accuracy=0.7, costs={"memory_bytes": 501, "effective_flops": 2 * 50})
    # The dense MACs are allowed, and must lie below the reference to count.
    assert selection.clip_to_budget(corner, Budget(max_effective_flops=200)) == corner


def test_gains_begin_nine_tenths_of_the_way_from_chance_to_the_baseline():
    corner = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 1.1, "effective_flops": 2 * 1.1})
    assert selection.near_baseline(corner, baseline_accuracy=0.9).accuracy == pytest.approx(0.82)
    assert selection.near_baseline(corner, baseline_accuracy=0.9).costs == corner.costs
    assert selection.near_baseline(corner, baseline_accuracy=0.05) == corner  # a baseline below chance moves nothing


@pytest.mark.parametrize(
    ("steps", "strategy", "share"),
    [("4", "supernet", 0.9), ("[1, 4]", "supernet", 0.8), ("[1, 4]", "warm-start", 0.9), ("[1, 4]", "scratch", 0.9)],
)
def test_subnets_of_several_time_steps_are_looked_at_from_further_below(steps, strategy, share):
    file = read_space(TINY, (f"time_steps={steps}", f"search.strategy={strategy}"))
    assert selection.worthwhile_share(file) == share
    corner = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 110.0 * 1024, "effective_flops": 2 * 110e6})
    accurate, of_one_step = trial(1, 0.83, 90, 90), trial(2, 0.76, 10, 10)
    options = {"baseline_accuracy": 0.87, "share": share, "limit": 2, "margin": 0.0}
    chosen = selection.select_finalists([accurate, of_one_step], corner, Budget(), **options)
    assert (of_one_step in chosen) == (share == 0.8)
    assert accurate in chosen


def test_cheap_networks_of_little_accuracy_are_no_finalists():
    corner = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 110.0 * 1024, "effective_flops": 2 * 110e6})
    accurate, cheap = trial(1, 0.86, 90, 90), trial(2, 0.6, 10, 10)
    assert selection.greedy_hypervolume_subset([accurate, cheap], corner, limit=1, margin=0.0) == (cheap,)
    high = selection.near_baseline(corner, baseline_accuracy=0.87)
    assert selection.greedy_hypervolume_subset([accurate, cheap], high, limit=2, margin=0.0) == (accurate,)


def test_an_empty_front():
    assert selection.front([], DEFAULT_COSTS) == ()


def greedy_by_measuring_all(results, reference, limit, margin):
    """The definition: at every step all trials are measured, and the best is taken."""
    points = objectives(results, DEFAULT_COSTS)
    chosen = []
    for lead in (0.0, margin):
        while len(chosen) < limit:
            held = log_hypervolume(points[chosen], reference)
            gains = {
                index: log_hypervolume(np.vstack([points[chosen], points[index] + [lead, 0, 0]]), reference) - held
                for index in range(len(results))
                if index not in chosen
            }
            best = max(gains, key=lambda index: gains[index], default=None)
            if best is None or gains[best] <= 1e-12:
                break
            chosen.append(best)
    return chosen


@given(
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(1, 8), st.floats(1, 8)), min_size=1, max_size=12),
    limit=st.integers(1, 6),
    margin=st.sampled_from([0.0, 0.01, 0.3]),
)
def test_finalists_are_those_of_the_definition(points, limit, margin):
    results = results_of(points)
    reference = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 6 * 1024, "effective_flops": 2 * 6e6})
    found = [
        result.number for result in selection.greedy_hypervolume_subset(results, reference, limit=limit, margin=margin)
    ]
    expected = greedy_by_measuring_all(results, reference, limit, margin)
    assert len(found) == len(expected)
    for count in range(len(found) + 1):  # of equally good ones either may be taken
        volumes = [
            log_hypervolume(objectives(results, DEFAULT_COSTS)[chosen[:count]], reference)
            for chosen in (found, expected)
        ]
        assert volumes[0] == pytest.approx(volumes[1])


def test_a_trial_that_another_one_beats_is_no_finalist_by_rounding():
    results = results_of([(0.5, 1.0, 1.0), (0.59375, 1.0, 1.0)])
    reference = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 6 * 1024, "effective_flops": 2 * 6e6})
    assert selection.greedy_hypervolume_subset(results, reference, limit=2, margin=0.0) == (results[1],)


def test_finalists_of_many_trials_are_measured_a_few_times_each(monkeypatch):
    chance = random.Random(0)
    results = results_of([(chance.random(), chance.uniform(1, 50), chance.uniform(1, 50)) for _ in range(2000)])
    asked = []
    monkeypatch.setattr(selection, "log_hypervolume", lambda *words: asked.append(1) or log_hypervolume(*words))
    reference = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 60 * 1024, "effective_flops": 2 * 60e6})
    assert len(selection.greedy_hypervolume_subset(results, reference, limit=16, margin=0.01)) == 16
    assert len(asked) < len(results)


def test_what_can_be_picked_has_an_integer_form():
    floats, integers = trial(0, of=config("000", "0 0")), trial(1)
    assert selection.pickable([floats, integers, replace(integers, engine_flash_bytes=None)]) == (integers,)


# ---------------------------------------------------------------- other objectives

DEVICE = ("flash_bytes", "ram_bytes")


def on_device(number: int, accuracy: float, flash: int, ram: int) -> TrialResult:
    """A trial of so many bytes of flash and RAM, whose memory says the opposite."""
    plain = trial(number, accuracy, 10)
    return replace(
        plain,
        weight_bytes=0,
        overhead_bytes=0,
        membrane_bytes=100_000 - flash - ram,
        engine_flash_bytes=flash,
        engine_ram_bytes=ram - (100_000 - flash - ram),
    )


def test_a_front_of_flash_and_ram_knows_no_memory_and_no_floats():
    small, large, beaten = on_device(1, 0.7, 100, 50), on_device(2, 0.9, 200, 60), on_device(3, 0.9, 201, 60)
    floats = trial(0, 0.99, 1, 1, of=config("000", "0 0"))
    assert [one.flash_bytes for one in (small, large)] == [100, 200]
    assert [one.ram_bytes for one in (small, large)] == [50, 60]
    assert selection.front([floats, beaten, large, small], DEVICE) == (small, large)
    assert selection.pick((small, large), DEVICE, Budget(max_flash_bytes=199)) == small
    assert selection.pick((small, large), DEVICE, Budget(max_ram_bytes=49)) is None
    # The float network keeps a budget that no other keeps, and is no member for all that.
    assert not selection.is_met([floats, large], DEVICE, Budget(min_accuracy=0.95))
    assert selection.front([floats, large], DEVICE, Budget(min_accuracy=0.95)) == (large,)


def test_a_search_counts_every_cost_but_the_float_networks_bytes_from_twice_its_reference():
    corner = ReferencePoint(accuracy=0.1, costs={"flash_bytes": 1100.0, "ram_bytes": 550.0})
    found = selection.sampler_reference(corner, Budget(max_ram_bytes=300)).costs
    assert found == pytest.approx({"flash_bytes": 2000.0, "ram_bytes": 301})
    corner = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 1100.0, "energy_uj": 11.0})
    assert selection.sampler_reference(corner, Budget()).costs == pytest.approx(
        {"memory_bytes": 1100.0, "energy_uj": 20}
    )
    tight = Budget(max_energy_uj=5.0, max_synaptic_ops=1.0)  # no objective, and so no axis
    assert selection.sampler_reference(corner, tight).costs == pytest.approx({"memory_bytes": 1100.0, "energy_uj": 5})


def test_a_budget_bounds_every_cost_by_its_name():
    member = trial(1, 0.6, 10, 10)
    budget = Budget(max_synaptic_ops=1e6, max_energy_uj=2.0, max_flash_bytes=8192 + 3000, max_ram_bytes=1)
    assert budget.violations(member) == pytest.approx(
        {"flash_bytes": 0.0, "ram_bytes": 2547.0, "synaptic_ops": 1.5, "energy_uj": -0.5}
    )
    assert set(budget.costs()) == {"flash_bytes", "ram_bytes", "synaptic_ops", "energy_uj"}
    assert Budget(min_accuracy=0.5).costs() == {}
