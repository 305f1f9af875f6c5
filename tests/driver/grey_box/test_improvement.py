import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from spquant_search.driver.grey_box.improvement import PredictedCost, Predictions, expected_improvement, open_boxes
from spquant_search.runs.pareto import ReferencePoint, log_hypervolume

CORNER = ReferencePoint(accuracy=0.1, costs={"memory_bytes": 1000.0, "effective_flops": 2e6})
DENSE = 1.8e6


def predictions(rows, *, dense=DENSE):
    """Rows of accuracy, its deviation, memory, operations, deviation of their logarithm."""
    accuracy, deviation, memory, operations, log_deviation = np.array(rows, float).T
    most = np.full(len(memory), dense)
    operations = PredictedCost(most=most, log=np.log(operations), log_deviation=log_deviation)
    return Predictions(accuracy=accuracy, accuracy_deviation=deviation, costs=(PredictedCost(most=memory), operations))


def improvement(rows, front, *, dense=DENSE):
    front = np.array(front, float).reshape(-1, 3)
    return expected_improvement(predictions(rows, dense=dense), open_boxes(front, CORNER))


def by_simulation(row, front, *, draws, dense=DENSE):
    """The mean added volume of draws from the predicted distributions; a function that the method does not use."""
    rng = np.random.default_rng(0)
    accuracy, deviation, memory, macs, log_deviation = row
    accuracies = rng.normal(accuracy, deviation, draws)
    operations = np.minimum(np.exp(rng.normal(np.log(macs), log_deviation, draws)), dense)
    before = log_hypervolume(np.array(front), CORNER)
    added = [
        log_hypervolume(np.array([*front, (a, memory, o)]), CORNER) - before
        for a, o in zip(accuracies, operations, strict=True)
    ]
    return np.mean(added), np.std(added) / np.sqrt(draws)


FRONT = [(0.9, 800, 1.5e6), (0.85, 500, 1.0e6), (0.8, 600, 0.7e6), (0.6, 200, 1.2e6), (0.5, 150, 0.3e6)]


@pytest.mark.parametrize(
    "row",
    [
        (0.88, 0.03, 450, 0.9e6, 0.2),
        (0.70, 0.10, 300, 1.6e6, 0.5),  # many draws beyond the dense MACs
        (0.40, 0.05, 100, 0.2e6, 0.1),
        (0.95, 0.01, 700, 1.9e6, 0.3),
        (0.55, 0.02, 620, 1.1e6, 0.2),  # mostly dominated
    ],
)
def test_agrees_with_the_mean_of_simulated_volumes(row):
    mean, error = by_simulation(row, FRONT, draws=4000)
    (found,) = improvement([row], FRONT)
    assert found == pytest.approx(mean, abs=4 * error + 1e-9)
    assert error < 0.05 * mean + 2e-5


def test_one_member_by_hand():
    """A front of (0.5, 500 of 1000 bytes, 1 of 2 MMACs); the candidate has 250 bytes and 0.5 MMACs, both known.

    It halves both twice. Above accuracy 0.5 it adds 2 x 2 = 4; between 0.1 and 0.5, where the member covers 1, 3.
    """
    mean, deviation = 0.55, 0.1

    def above(level):
        z = (mean - level) / deviation
        return deviation * (z * norm.cdf(z) + norm.pdf(z))

    by_hand = 4 * above(0.5) + 3 * (above(0.1) - above(0.5))
    (found,) = improvement([(mean, deviation, 250, 0.5e6, 0.0)], [(0.5, 500, 1e6)])
    assert found == pytest.approx(by_hand, rel=1e-9)


def test_a_certain_candidate_adds_its_halved_volume():
    (found,) = improvement([(0.7, 0.0, 250, 0.5e6, 0.0)], FRONT)
    added = log_hypervolume(np.array([*FRONT, (0.7, 250, 0.5e6)]), CORNER) - log_hypervolume(np.array(FRONT), CORNER)
    assert found == pytest.approx(added, rel=1e-6)


def test_macs_never_exceed_the_dense_ones():
    """Where nearly all of the distribution lies above, the candidate is as good as one with the dense MACs."""
    uncertain, dense = improvement([(0.7, 0.05, 250, 1e9, 0.5), (0.7, 0.05, 250, DENSE, 0.0)], FRONT)
    assert uncertain == pytest.approx(dense, rel=1e-6)
    assert uncertain > 0


def test_nothing_is_gained_at_or_beyond_the_reference_point():
    found = improvement([(0.9, 0.1, 1000, 0.5e6, 0.1), (0.9, 0.1, 250, 2e6, 0.0), (-5.0, 0.1, 250, 0.5e6, 0.1)], FRONT,
                        dense=3e6)  # fmt: skip
    assert found == pytest.approx([0, 0, 0], abs=1e-9)


def test_members_outside_the_reference_point_change_nothing():
    outside = [(0.05, 10, 10), (0.9, 1000, 10), (0.9, 10, 2e6)]
    row = (0.7, 0.05, 250, 0.5e6, 0.2)
    assert improvement([row], [*FRONT, *outside]) == pytest.approx(improvement([row], FRONT), rel=1e-12)


points = st.tuples(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8))


@settings(max_examples=150, deadline=None)
@given(st.lists(points, max_size=12), st.lists(points, min_size=1, max_size=3))
def test_boxes_are_what_no_member_dominates(members, candidates):
    """On a lattice of halvings with many ties: the boxes' volume, and what a certain candidate adds, in any order."""
    corner = ReferencePoint(accuracy=1.0, costs={"memory_bytes": 2.0**7, "effective_flops": 2.0**7})
    front = np.array([(float(a), 2.0**m, 2.0**o) for a, m, o in members]).reshape(-1, 3)
    boxes = open_boxes(front, corner)
    top, least = 9.0, 2.0**-1  # beyond all members
    heights = np.minimum(boxes.accuracy_to, top) - boxes.accuracy_from
    lengths = np.log2(boxes.first_to / np.maximum(boxes.first_from, least)) * np.log2(boxes.second_to / least)
    assert heights @ lengths == pytest.approx((top - 1.0) * 8 * 8 - log_hypervolume(front, corner))
    assert len(boxes.second_to) <= 3 * len(front) + 1
    for accuracy, memory, macs in candidates:
        one = (float(accuracy), 2.0**memory, 2.0**macs)
        (found,) = expected_improvement(predictions([(accuracy, 0.0, *one[1:], 0.0)], dense=1000.0), boxes)
        added = log_hypervolume(np.concatenate([front, [one]]), corner) - log_hypervolume(front, corner)
        assert found == pytest.approx(added, abs=1e-6)


# ---------------------------------------------------------------- other objectives

LEARNED = ReferencePoint(accuracy=0.1, costs={"synaptic_ops": 1e6, "energy_uj": 2.0})
KNOWN = ReferencePoint(accuracy=0.1, costs={"flash_bytes": 1000.0, "ram_bytes": 500.0})
ALONE = ReferencePoint(accuracy=0.1, costs={"synaptic_ops": 1e6})


def drawn(rng, median, deviation, most, count):
    return np.minimum(np.exp(rng.normal(np.log(median), deviation, count)), most)


def added_on_average(points, front, reference):
    """The mean added volume of drawn points, and its error."""
    before = log_hypervolume(np.array(front), reference)
    added = [log_hypervolume(np.array([*front, point]), reference) - before for point in points]
    return np.mean(added), np.std(added) / np.sqrt(len(added))


@pytest.mark.parametrize(("one", "other"), [(0.3e6, 0.5), (0.9e6, 0.1), (0.05e6, 1.7), (0.4e6, 3.0)])
def test_two_costs_that_are_learned(one, other):
    front = [(0.9, 0.8e6, 1.5), (0.85, 0.5e6, 1.0), (0.6, 0.2e6, 1.2), (0.5, 0.15e6, 0.3)]
    rng, draws = np.random.default_rng(0), 4000
    points = np.stack([rng.normal(0.75, 0.06, draws), drawn(rng, one, 0.3, 0.95e6, draws),
                       drawn(rng, other, 0.2, 1.9, draws)], axis=1)  # fmt: skip
    costs = tuple(
        PredictedCost(most=np.array([most]), log=np.log([median]), log_deviation=np.array([deviation]))
        for median, deviation, most in ((one, 0.3, 0.95e6), (other, 0.2, 1.9))
    )
    candidate = Predictions(accuracy=np.array([0.75]), accuracy_deviation=np.array([0.06]), costs=costs)
    (found,) = expected_improvement(candidate, open_boxes(np.array(front), LEARNED))
    mean, error = added_on_average(points, front, LEARNED)
    assert found == pytest.approx(mean, abs=4 * error + 1e-9)
    assert error < 0.05 * mean + 2e-4


@pytest.mark.parametrize("ram", [100.0, 400.0, 499.0, 500.0, np.inf])
def test_two_costs_that_are_known(ram):
    front = [(0.9, 900.0, 400.0), (0.8, 500.0, 450.0), (0.6, 200.0, 300.0)]
    costs = (PredictedCost(most=np.array([400.0])), PredictedCost(most=np.array([ram])))
    candidate = Predictions(accuracy=np.array([0.85]), accuracy_deviation=np.zeros(1), costs=costs)
    (found,) = expected_improvement(candidate, open_boxes(np.array(front), KNOWN))
    before = log_hypervolume(np.array(front), KNOWN)
    assert found == pytest.approx(log_hypervolume(np.array([*front, (0.85, 400.0, ram)]), KNOWN) - before, rel=1e-6)
    assert (found > 0) == (ram < 500)


def test_a_single_cost():
    front = [(0.9, 0.8e6), (0.6, 0.2e6), (0.5, 0.1e6)]
    rng, draws = np.random.default_rng(0), 4000
    points = np.stack([rng.normal(0.75, 0.06, draws), drawn(rng, 0.3e6, 0.3, 0.95e6, draws)], axis=1)
    cost = PredictedCost(most=np.array([0.95e6]), log=np.log([0.3e6]), log_deviation=np.array([0.3]))
    candidate = Predictions(accuracy=np.array([0.75]), accuracy_deviation=np.array([0.06]), costs=(cost,))
    boxes = open_boxes(np.array(front), ALONE)
    mean, error = added_on_average(points, front, ALONE)
    assert expected_improvement(candidate, boxes) == pytest.approx(mean, abs=4 * error)
    assert error < 0.05 * mean
    # The area of the union of rectangles, by hand: none but the last corner is cut.
    assert log_hypervolume(np.array(front), ALONE) == pytest.approx(
        0.4 * np.log2(10) + 0.1 * np.log2(5) + 0.3 * np.log2(1.25)
    )
    assert candidate.points().tolist() == [[0.75, pytest.approx(0.3e6)]]
