import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from spquant_search.driver.grey_box.improvement import Predictions, expected_improvement, open_boxes
from spquant_search.runs.pareto import ReferencePoint, log_hypervolume

CORNER = ReferencePoint(accuracy=0.1, memory_bytes=1000.0, effective_macs=2e6)
DENSE = 1.8e6


def predictions(rows):
    """Rows of accuracy, its deviation, memory, MACs, deviation of their logarithm."""
    accuracy, deviation, memory, macs, log_deviation = np.array(rows, float).T
    return Predictions(
        accuracy=accuracy,
        accuracy_deviation=deviation,
        memory_bytes=memory,
        log_macs=np.log(macs),
        log_macs_deviation=log_deviation,
    )


def improvement(rows, front, *, dense=DENSE):
    front = np.array(front, float).reshape(-1, 3)
    return expected_improvement(predictions(rows), open_boxes(front, CORNER), dense_macs=np.full(len(rows), dense))


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
    corner = ReferencePoint(accuracy=1.0, memory_bytes=2.0**7, effective_macs=2.0**7)
    front = np.array([(float(a), 2.0**m, 2.0**o) for a, m, o in members]).reshape(-1, 3)
    boxes = open_boxes(front, corner)
    top, least = 9.0, 2.0**-1  # beyond all members
    heights = np.minimum(boxes.accuracy_to, top) - boxes.accuracy_from
    lengths = np.log2(boxes.memory_to / np.maximum(boxes.memory_from, least)) * np.log2(boxes.macs_to / least)
    assert heights @ lengths == pytest.approx((top - 1.0) * 8 * 8 - log_hypervolume(front, corner))
    assert len(boxes.macs_to) <= 3 * len(front) + 1
    for accuracy, memory, macs in candidates:
        one = (float(accuracy), 2.0**memory, 2.0**macs)
        (found,) = expected_improvement(
            predictions([(accuracy, 0.0, *one[1:], 0.0)]), boxes, dense_macs=np.array([1000.0])
        )
        added = log_hypervolume(np.concatenate([front, [one]]), corner) - log_hypervolume(front, corner)
        assert found == pytest.approx(added, abs=1e-6)
