"""Dominance and hypervolumes against their definitions, Optuna's and by hand."""

from __future__ import annotations

import itertools

import numpy as np
import optuna
import pytest
from examples import config, trial
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna._hypervolume import compute_hypervolume
from small_run import a_space

from spquant_search.runs import pareto
from spquant_search.runs.pareto import ReferencePoint
from spquant_search.space.objectives import DEFAULT_COSTS

CORNER = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 100.0, "effective_flops": 200.0})
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
    scale = np.array([1.0, *CORNER.costs.values()])
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
    point = pareto.reference_point(trial(0, 0.9, 100, 50, origin="baseline"), DEFAULT_COSTS, chance=0.1, dearest={})
    assert point.as_dict() == pytest.approx({"accuracy": 0.1, "memory_bytes": 112_640.0, "effective_flops": 110e6})
    assert list(point.as_dict()) == ["accuracy", *DEFAULT_COSTS]


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
    assert pareto.hypervolume(pareto.objectives([], DEFAULT_COSTS), CORNER) == 0.0


def test_a_cost_that_does_not_count_leaves_the_area_of_the_others():
    points = np.array([(0.6, 25.0, 180.0), (0.9, 50.0, 180.0)])
    # 0.5 x 0.75 and 0.8 x 0.5, of which 0.5 x 0.5 are in both.
    assert pareto.hypervolume(points, CORNER, without=("effective_flops",)) == pytest.approx(0.375 + 0.4 - 0.25)
    assert pareto.hypervolume(points, CORNER) == pytest.approx(0.1 * (0.375 + 0.4 - 0.25))
    assert pareto.hypervolume(points, CORNER, without=("memory_bytes", "effective_flops")) == pytest.approx(0.8)


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
    assert pareto.fixed_objectives(a_space(f"layers={layers}")) == (("effective_flops",) if fixed else ())


def test_at_one_time_step_nothing_skips():
    masks = "layers={all: {skip_below: [none, 0]}}"
    assert pareto.fixed_objectives(a_space(masks)) == ()
    assert pareto.fixed_objectives(a_space(masks, "time_steps=1")) == ("effective_flops",)


@pytest.mark.parametrize("reference", ["{skip_below: 0}", "{channel_mass: 0.5}", "{preset: spquant-snn}"])
def test_references_may_gate_and_skip(reference):
    assert pareto.fixed_objectives(a_space(f"search.references=[{reference}]")) == ()


def test_constant_objectives_by_hand():
    one, two, three = trial(1, 0.8, 10, 50), trial(2, 0.7, 5, 50), trial(3, 0.7, 5, 40)
    assert pareto.constant_objectives([one, two], DEFAULT_COSTS) == ("effective_flops",)
    assert pareto.constant_objectives([two, three], DEFAULT_COSTS) == ("accuracy", "memory_bytes")
    assert pareto.constant_objectives([one, two, three], DEFAULT_COSTS) == ()
    # A single trial is equal to itself, which says nothing.
    assert pareto.constant_objectives([one], DEFAULT_COSTS) == ()
    assert pareto.constant_objectives([one], DEFAULT_COSTS, fixed=("effective_flops",)) == ("effective_flops",)
    assert pareto.constant_objectives([one, three], DEFAULT_COSTS, fixed=("effective_flops",)) == ()


# ---------------------------------------------------------------- other objectives

DEVICE = ("flash_bytes", "ram_bytes")
ALONE = ReferencePoint(accuracy=0.1, costs={"synaptic_ops": 200.0})


def test_objectives_are_those_that_are_named_and_infinite_where_a_trial_has_none():
    found = pareto.objectives([trial(1, 0.8, 10), trial(0, 0.9, 100, of=config("000", "0 0"))], DEVICE)
    # 7 and 1 of 10 parts weights and overhead, 2 membranes, and the engine's own: see examples.trial.
    assert found.tolist() == [[0.8, 8192 + 3000, 2048 + 500], [0.9, np.inf, np.inf]]
    assert pareto.objectives([trial(1, 0.8, 10, 3)], ("synaptic_ops",)).tolist() == [[0.8, 0.75e6]]


@given(points=POINTS)
def test_a_front_of_pairs_is_the_definition(points):
    pairs = np.array(points, float)[:, :2]
    beaten = [any(o[0] >= p[0] and o[1] <= p[1] and tuple(o) != tuple(p) for o in pairs) for p in pairs]
    assert pareto.non_dominated(pairs).tolist() == [not is_beaten for is_beaten in beaten]


@settings(max_examples=60, deadline=None)
@given(points=st.lists(st.tuples(UNIT, UNIT), min_size=1, max_size=8))
def test_a_volume_of_accuracy_and_one_cost_is_optunas_area(points):
    found = np.array(points) * np.array([1.0, 200.0])
    inside = [point for point in points if point[0] > 0.1 and point[1] < 1]
    area = compute_hypervolume(np.reshape(inside, (-1, 2)) * [-1, 1], np.array([-0.1, 1.0])) if inside else 0.0
    assert pareto.hypervolume(found, ALONE) == pytest.approx(area, abs=1e-9)
    logs = np.array([(-a, -4 * c) for a, c in points if a > 1e-9 and c > 1e-9]).reshape(-1, 2)
    halved = np.array([(0.1 + a, 200.0 * 2.0 ** (-4 * c)) for a, c in points])
    expected = compute_hypervolume(logs, np.zeros(2)) if len(logs) else 0.0
    assert pareto.log_hypervolume(halved, ALONE) == pytest.approx(expected, abs=1e-6)


def test_what_the_float_baseline_has_not_is_counted_from_the_dearest_configuration():
    baseline, dearest = trial(0, 0.9, 100, of=config("000", "0 0")), {"flash_bytes": 1000.0, "ram_bytes": 500.0}
    point = pareto.reference_point(baseline, DEVICE, chance=0.2, dearest=dearest)
    assert point.as_dict() == pytest.approx({"accuracy": 0.2, "flash_bytes": 1100.0, "ram_bytes": 550.0})
    # The dearest configuration says nothing of what the baseline has.
    mixed = pareto.reference_point(
        baseline, ("memory_bytes", "ram_bytes"), chance=0.2, dearest={**dearest, "memory_bytes": 1.0}
    )
    assert mixed.costs == pytest.approx({"memory_bytes": 1.1 * 102_400, "ram_bytes": 550.0})


def test_without_an_objective_on_operations_none_is_fixed():
    layers = "layers={all: {weight_bits: [2, 4]}}"
    assert pareto.fixed_objectives(a_space(layers)) == ("effective_flops",)
    assert pareto.fixed_objectives(a_space(layers, "search.objectives=[accuracy, memory_bytes, synaptic_ops]")) == ()
