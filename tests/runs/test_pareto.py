"""The front against its definition and Optuna's; the hypervolume against Optuna's and by hand."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import numpy as np
import optuna
import pytest
from examples import epoch, trial
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume

from spquant_search.runs import pareto, selection
from spquant_search.runs.pareto import ReferencePoint
from spquant_search.runs.results import Outcome, TrialResult
from spquant_search.runs.selection import Budget

CORNER = ReferencePoint(accuracy=0.1, memory_bytes=100.0, effective_macs=200.0)
# Few values an axis, so that ties and equal points are common.
POINTS = st.lists(
    st.tuples(st.integers(0, 5).map(lambda n: n / 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12
)


def results_of(points) -> list[TrialResult]:
    return [trial(number, *point) for number, point in enumerate(points)]


def dominates(one, other) -> bool:
    """Word for word: no worse anywhere, better somewhere."""
    no_worse = one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]
    return no_worse and tuple(one) != tuple(other)


# ---------------------------------------------------------------- front


@given(points=POINTS)
def test_front_is_the_definition(points):
    kept = pareto.non_dominated(np.array(points, float))
    assert kept.tolist() == [not any(dominates(other, point) for other in points) for point in points]


@settings(max_examples=15, deadline=None)
@given(points=POINTS)
def test_front_is_optunas(points):
    study = optuna.create_study(directions=["maximize", "minimize", "minimize"])
    for point in points:
        study.add_trial(optuna.trial.create_trial(values=list(map(float, point))))
    kept = pareto.non_dominated(np.array(points, float))
    assert np.flatnonzero(kept).tolist() == [found.number for found in study.best_trials]


@given(points=POINTS, seed=st.integers(0, 100))
def test_front_does_not_depend_on_the_order(points, seed):
    results = results_of(points)
    shuffled = random.Random(seed).sample(results, len(results))
    assert selection.front(shuffled) == selection.front(results)


def test_front_by_hand_smallest_memory_first():
    results = [
        trial(1, 0.8, 10, 5),
        trial(2, 0.9, 20, 5),
        trial(3, 0.8, 10, 6),  # trial 1, more operations
        trial(4, 0.7, 10, 4),
        trial(5, 0.9, 20, 5),  # trial 2 again
        trial(6, 0.9, 21, 5),
    ]
    assert [member.number for member in selection.front(results)] == [4, 1, 2, 5]


def test_only_measured_completed_trials_can_be_members():
    good = trial(1, 0.5, 50, 50)
    others = [trial(n, 0.9, 1, 1, outcome=outcome) for n, outcome in enumerate(Outcome, 2) if not outcome.has_weights]
    unmeasured = trial(10, epochs=0)
    not_a_number = replace(trial(11, 0.9, 1, 1), epochs=(epoch(1, math.nan, 1.0),))
    no_macs = replace(trial(12, 0.9, 1, 1), epochs=(epoch(1, 0.9, math.nan),))
    assert selection.front([*others, unmeasured, not_a_number, no_macs, good]) == (good,)


def test_an_empty_front():
    assert selection.front([]) == ()
    assert pareto.hypervolume(pareto.objectives([]), CORNER) == 0.0


# ---------------------------------------------------------------- hypervolume


def test_hypervolume_by_hand():
    # One box: (0.6 - 0.1) x (1 - 0.25) x (1 - 0.5).
    one = [0.6, 25.0, 100.0]
    assert pareto.hypervolume(np.array([one]), CORNER) == pytest.approx(0.1875)
    # Another 0.8 high over (1 - 0.5) x (1 - 0.75), of which 0.5 x 0.125 are in the first: inclusion, exclusion.
    two = [0.9, 50.0, 150.0]
    assert pareto.hypervolume(np.array([one, two]), CORNER) == pytest.approx(0.1875 + 0.8 * 0.125 - 0.5 * 0.125)


def test_the_largest_hypervolume_is_one_less_chance():
    assert pareto.hypervolume(np.array([[1.0, 0.0, 0.0]]), CORNER) == pytest.approx(0.9)


@pytest.mark.parametrize(
    "outside",
    [[0.1, 1.0, 1.0], [0.05, 1.0, 1.0], [0.9, 100.0, 1.0], [0.9, 150.0, 1.0], [0.9, 1.0, 200.0], [0.9, 1.0, 300.0]],
)
def test_points_outside_the_reference_add_nothing(outside):
    inside = [0.5, 50.0, 50.0]
    assert pareto.hypervolume(np.array([outside]), CORNER) == 0.0
    expected = pareto.hypervolume(np.array([inside]), CORNER)
    assert pareto.hypervolume(np.array([outside, inside]), CORNER) == expected


UNIT = st.floats(0, 1, width=32)


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(UNIT, UNIT, UNIT), min_size=1, max_size=8))
def test_hypervolume_is_optunas(points):
    scale = np.array([1.0, CORNER.memory_bytes, CORNER.effective_macs])
    ours = pareto.hypervolume(np.array(points) * scale, CORNER)
    inside = [p for p in points if p[0] > 0.1 and p[1] < 1 and p[2] < 1]
    theirs = (
        compute_hypervolume(np.reshape(inside, (-1, 3)) * [-1, 1, 1], np.array([-0.1, 1.0, 1.0])) if inside else 0.0
    )
    assert ours == pytest.approx(theirs, abs=1e-9)
    # And by inclusion and exclusion over all subsets of the boxes.
    total = 0.0
    for count in range(1, len(inside) + 1):
        for boxes in itertools.combinations(inside, count):
            height = min(box[0] for box in boxes) - 0.1
            total -= (-1) ** count * height * (1 - max(b[1] for b in boxes)) * (1 - max(b[2] for b in boxes))
    assert ours == pytest.approx(total, abs=1e-9)


def test_reference_point_is_chance_and_a_tenth_more_than_the_baseline():
    point = pareto.reference_point(trial(0, 0.9, 100, 50, origin="baseline"), chance=0.1)
    assert point.as_dict() == pytest.approx({"accuracy": 0.1, "memory_bytes": 112_640.0, "effective_macs": 55e6})
    assert list(point.as_dict()) == list(pareto.OBJECTIVES)


# ---------------------------------------------------------------- choice

MEMBERS = selection.front(
    [trial(1, 0.6, 10, 10), trial(2, 0.85, 20, 20), trial(3, 0.9, 100, 100), trial(4, 0.7, 90, 9)]
)


def test_knee_is_nearest_to_the_ideal_corner_of_the_members_own_range():
    # Scaled distances squared: 1: 1; 2: 0.028 + 0.012 + 0.015; 3: 2; 4: 0.444 + 0.790 + 0.
    assert selection.knee(MEMBERS).number == 2
    assert selection.knee(MEMBERS[:1]) is MEMBERS[0]
    assert selection.knee([trial(8, 0.5, 10, 10), trial(9, 0.5, 10, 10)]).number == 8


def test_knee_weighs_accuracy_like_bytes():
    # Scaled: 1: 1; 2: 0.0006 + 0.444 + 0.444; 3: 2.
    assert selection.knee([trial(1, 0.5, 10, 10), trial(2, 0.9, 70, 70), trial(3, 0.91, 100, 100)]).number == 2


def test_knee_ties_go_to_less_memory():
    members = selection.front([trial(1, 0.9, 20, 10), trial(2, 0.8, 10, 10)])
    assert selection.knee(members).number == 2


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
    picked = selection.pick(MEMBERS, budget)
    assert (picked.number if picked else None) == number


def test_pick_at_the_knee_looks_at_fitting_members_only():
    assert selection.pick(MEMBERS, Budget(), at_knee=True).number == 2
    assert selection.pick(MEMBERS, Budget(max_effective_flops=20e6), at_knee=True).number in (1, 4)
    assert selection.pick(MEMBERS, Budget(max_memory_bytes=1), at_knee=True) is None


def test_pick_ties_go_to_less_memory_then_fewer_operations():
    assert selection.pick([trial(1, 0.8, 11, 1), trial(2, 0.8, 10, 9)], Budget()).number == 2
    assert selection.pick([trial(1, 0.8, 10, 9), trial(2, 0.8, 10, 8)], Budget()).number == 2


def test_excess_is_the_share_of_each_bound_that_is_missed():
    member = trial(1, 0.6, 15, 30)
    budget = Budget(max_memory_bytes=10 * 1024, min_accuracy=0.8, max_effective_flops=100e6)
    assert budget.excess(member) == pytest.approx({"memory_bytes": 0.5, "accuracy": 0.25})
    assert Budget(min_accuracy=1.0).excess(member) == pytest.approx({"accuracy": 0.4})
    assert Budget(min_accuracy=0.0).excess(member) == {}
    assert Budget().excess(member) == {}


def test_member_as_json():
    member = selection.member_dict(trial(2, 0.5, 10, 12.5), test_accuracy=0.25)
    assert member["accuracy"] == 0.5
    assert member["accuracy_split"] == "validation"
    assert member["test_accuracy"] == 0.25
    assert member["effective_flops"] == 2 * member["effective_macs"] == 25e6
    assert member["memory_bytes"] == member["weight_bytes"] + member["membrane_bytes"] + member["overhead_bytes"]
    assert set(member["config"]["conv1"]) == {"weight_bits", "membrane_levels", "channel_mass", "skip_below"}


def test_a_read_out_stays_where_fine_tuning_cost_accuracy():
    read = replace(trial(1, 0.8, 10, 10, outcome=Outcome.SUBNET), epochs=(epoch(0, 0.8, 10e6),))

    def tuned(accuracy: float, macs: float):
        rungs = (*read.epochs, epoch(1, accuracy, macs))
        return replace(read, number=2, parent=1, outcome=Outcome.COMPLETE, epochs=rungs)

    better, fewer, worse = tuned(0.85, 12e6), tuned(0.7, 5e6), tuned(0.7, 10e6)
    assert selection.front([read, better]) == (better,)
    assert selection.front([read, fewer]) == (fewer, read)
    assert selection.front([read, worse]) == (read,)


# ---------------------------------------------------------------- within a budget


def test_the_front_within_a_budget_and_without_one_that_fits():
    whole = selection.front(MEMBERS)
    budget = Budget(max_memory_bytes=20 * 1024)
    fitting = selection.front(MEMBERS, budget)
    assert fitting == tuple(member for member in whole if member.memory_bytes <= 20 * 1024)
    assert 0 < len(fitting) < len(whole)
    assert selection.is_met(MEMBERS, budget)
    assert not selection.is_met(MEMBERS, Budget(min_accuracy=0.99))
    assert selection.front(MEMBERS, Budget(min_accuracy=0.99)) == whole


def test_a_read_out_stays_where_what_was_fine_tuned_of_it_is_over_budget():
    read = trial(1, 0.8, 10, 10, outcome=Outcome.SUBNET)
    tuned = replace(trial(2, 0.9, 10, 30), parent=1)
    tuned = replace(tuned, epochs=(read.epochs[-1], *tuned.epochs))
    assert selection.front([read, tuned]) == (tuned,)
    assert selection.front([read, tuned], Budget(max_effective_flops=40e6)) == (read,)


def test_violations_are_negative_within_and_positive_beyond():
    member = trial(1, 0.6, 15, 10)
    budget = Budget(max_memory_bytes=20 * 1024, min_accuracy=0.8, max_effective_flops=10e6)
    assert budget.violations(member) == pytest.approx({"memory_bytes": -0.25, "effective_flops": 1.0, "accuracy": 0.25})


def test_halved_volume_by_hand():
    """From (0.1, 100, 200): 50 and 50 are 1 and 2 halvings, 25 and 100 are 2 and 1."""
    one, two = (0.6, 50.0, 50.0), (0.4, 25.0, 100.0)
    assert pareto.halved_volume(np.array([one]), CORNER) == pytest.approx(0.5 * 2)
    # Between 0.1 and 0.4 the two cover 2 + 2 - 1.
    assert pareto.halved_volume(np.array([one, two]), CORNER) == pytest.approx(0.2 * 2 + 0.3 * 3)
    assert pareto.halved_volume(np.array([(0.6, 100.0, 50.0), (0.1, 50.0, 50.0)]), CORNER) == 0.0


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(UNIT, UNIT, UNIT), max_size=8))
def test_halved_volume_is_optunas_of_logarithms(points):
    found = np.array([(0.1 + a, 100.0 * 2.0 ** (-4 * m), 200.0 * 2.0 ** (-4 * o)) for a, m, o in points]).reshape(-1, 3)
    signed = np.array([(-a, -4 * m, -4 * o) for a, m, o in points]).reshape(-1, 3)
    inside = signed[(signed < -1e-9).all(axis=1)]
    expected = compute_hypervolume(inside, np.zeros(3)) if len(inside) else 0.0
    assert pareto.halved_volume(found, CORNER) == pytest.approx(expected, abs=1e-6)


def test_a_search_counts_dense_operations_as_one_halving_unless_a_budget_bounds_them():
    corner = ReferencePoint(accuracy=0.1, memory_bytes=1100, effective_macs=110)
    assert selection.search_corner(corner, Budget()) == replace(corner, effective_macs=pytest.approx(200))
    tight = selection.search_corner(
        corner, Budget(max_memory_bytes=500, max_effective_flops=100), baseline_accuracy=0.9
    )
    assert tight == ReferencePoint(accuracy=pytest.approx(0.82), memory_bytes=501, effective_macs=50)
    floor = selection.search_corner(corner, Budget(min_accuracy=0.85), baseline_accuracy=0.9)
    assert floor.accuracy == 0.85


def test_a_reference_is_moved_in_to_the_budget():
    corner = ReferencePoint(accuracy=0.1, memory_bytes=1100, effective_macs=110)
    assert selection.bounded(corner, Budget()) == corner
    assert selection.bounded(corner, Budget(max_memory_bytes=2000, max_effective_flops=2000)) == corner
    inside = selection.bounded(corner, Budget(max_memory_bytes=500, max_effective_flops=100, min_accuracy=0.7))
    assert inside == ReferencePoint(accuracy=0.7, memory_bytes=501, effective_macs=50)
    # The dense MACs are allowed, and must lie below the reference to count.
    assert selection.bounded(corner, Budget(max_effective_flops=200)) == corner


def test_gains_begin_nine_tenths_of_the_way_from_chance_to_the_baseline():
    corner = ReferencePoint(accuracy=0.1, memory_bytes=1.1, effective_macs=1.1)
    assert selection.worthwhile(corner, baseline_accuracy=0.9).accuracy == pytest.approx(0.82)
    assert selection.worthwhile(corner, baseline_accuracy=0.9).memory_bytes == 1.1
    assert selection.worthwhile(corner, baseline_accuracy=0.05) == corner  # a baseline below chance moves nothing


def test_cheap_networks_of_little_accuracy_are_no_contenders():
    corner = ReferencePoint(accuracy=0.1, memory_bytes=110.0 * 1024, effective_macs=110e6)
    accurate, cheap = trial(1, 0.86, 90, 90), trial(2, 0.6, 10, 10)
    assert selection.contenders([accurate, cheap], corner, limit=1, margin=0.0) == (cheap,)
    high = selection.worthwhile(corner, baseline_accuracy=0.87)
    assert selection.contenders([accurate, cheap], high, limit=2, margin=0.0) == (accurate,)
