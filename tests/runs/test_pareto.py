"""Dominance and hypervolumes against their definitions, Optuna's and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest
from examples import trial
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from small_run import a_space

from spquant_search.runs import pareto
from spquant_search.runs.pareto import ReferencePoint

CORNER = ReferencePoint(accuracy=0.1, memory_bytes=100.0, effective_macs=200.0)
# Few values an axis, so that ties and equal points are common.
POINTS = st.lists(
    st.tuples(st.integers(0, 5).map(lambda n: n / 5), st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=12
)


def dominates(one, other) -> bool:
    """Word for word: no worse anywhere, better somewhere."""
    no_worse = one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]
    return no_worse and tuple(one) != tuple(other)


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


def test_log_hypervolume_by_hand():
    """From (0.1, 100, 200): 50 and 50 are 1 and 2 halvings, 25 and 100 are 2 and 1."""
    one, two = (0.6, 50.0, 50.0), (0.4, 25.0, 100.0)
    assert pareto.log_hypervolume(np.array([one]), CORNER) == pytest.approx(0.5 * 2)
    # Between 0.1 and 0.4 the two cover 2 + 2 - 1.
    assert pareto.log_hypervolume(np.array([one, two]), CORNER) == pytest.approx(0.2 * 2 + 0.3 * 3)
    assert pareto.log_hypervolume(np.array([(0.6, 100.0, 50.0), (0.1, 50.0, 50.0)]), CORNER) == 0.0


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(UNIT, UNIT, UNIT), max_size=8))
def test_log_hypervolume_is_optunas_of_logarithms(points):
    found = np.array([(0.1 + a, 100.0 * 2.0 ** (-4 * m), 200.0 * 2.0 ** (-4 * o)) for a, m, o in points]).reshape(-1, 3)
    signed = np.array([(-a, -4 * m, -4 * o) for a, m, o in points]).reshape(-1, 3)
    inside = signed[(signed < -1e-9).all(axis=1)]
    expected = compute_hypervolume(inside, np.zeros(3)) if len(inside) else 0.0
    assert pareto.log_hypervolume(found, CORNER) == pytest.approx(expected, abs=1e-6)


def test_no_point_has_no_volume():
    assert pareto.hypervolume(pareto.objectives([]), CORNER) == 0.0


def test_a_cost_that_does_not_count_leaves_the_area_of_the_others():
    points = np.array([(0.6, 25.0, 180.0), (0.9, 50.0, 180.0)])
    # 0.5 x 0.75 and 0.8 x 0.5, of which 0.5 x 0.5 are in both.
    assert pareto.hypervolume(points, CORNER, without=("effective_macs",)) == pytest.approx(0.375 + 0.4 - 0.25)
    assert pareto.hypervolume(points, CORNER) == pytest.approx(0.1 * (0.375 + 0.4 - 0.25))
    assert pareto.hypervolume(points, CORNER, without=("memory_bytes", "effective_macs")) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("layers", "fixed"),
    [
        ("{all: {weight_bits: [2, 4]}}", True),
        ("{all: {weight_bits: [2, 4], channel_mass: 1, skip_below: none}}", True),
        ("{all: {channel_mass: {from: 0.8, to: 1, step: 0.1}}}", False),
        ("{all: {channel_mass: 0.8}}", False),
        ("{all: {weight_bits: 2}, conv3: {skip_below: [none, 0]}}", False),
    ],
)
def test_operations_are_fixed_where_nothing_gates_or_skips(layers, fixed):
    assert pareto.fixed_objectives(a_space(f"layers={layers}")) == (("effective_macs",) if fixed else ())


def test_at_one_time_step_nothing_skips():
    masks = "layers={all: {skip_below: [none, 0]}}"
    assert pareto.fixed_objectives(a_space(masks)) == ()
    assert pareto.fixed_objectives(a_space(masks, "time_steps=1")) == ("effective_macs",)


@pytest.mark.parametrize("reference", ["{skip_below: 0}", "{channel_mass: 0.5}", "{preset: spquant-snn}"])
def test_references_may_gate_and_skip(reference):
    assert pareto.fixed_objectives(a_space(f"search.references=[{reference}]")) == ()


def test_constant_objectives_by_hand():
    one, two, three = trial(1, 0.8, 10, 50), trial(2, 0.7, 5, 50), trial(3, 0.7, 5, 40)
    assert pareto.constant_objectives([one, two]) == ("effective_macs",)
    assert pareto.constant_objectives([two, three]) == ("accuracy", "memory_bytes")
    assert pareto.constant_objectives([one, two, three]) == ()
    # A single trial is equal to itself, which says nothing.
    assert pareto.constant_objectives([one]) == ()
    assert pareto.constant_objectives([one], fixed=("effective_macs",)) == ("effective_macs",)
    assert pareto.constant_objectives([one, three], fixed=("effective_macs",)) == ()
