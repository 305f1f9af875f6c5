"""Early stopping: rules A and B by hand, and the properties that keep it from harming anyone without cause."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spquant_search.driver.early_stopping import MIN_COMPLETED, LearningCurve, stopping_reason


def curve(number, memory, accuracies, macs=10.0, *, complete=False) -> LearningCurve:
    operations = tuple(macs) if isinstance(macs, (tuple, list)) else (float(macs),) * len(accuracies)
    return LearningCurve(
        number=number,
        known={"memory_bytes": memory},
        accuracies=tuple(accuracies),
        measured={"effective_flops": operations},
        complete=complete,
    )


def reason(candidate, peers, *, margin=0.01, min_peers=1, optimism=1.0):
    return stopping_reason(candidate, peers, margin=margin, min_peers=min_peers, optimism=optimism)


# ---------------------------------------------------------------- rule A


def test_a_dominating_peer_is_named():
    peers = [curve(4, 200, [0.9, 0.9]), curve(7, 100, [0.55, 0.6]), curve(9, 90, [0.1, 0.1])]
    assert reason(curve(12, 100, [0.5]), peers, min_peers=3) == (
        "after epoch 1 trial 7 was 5.0 points more accurate with no more memory and no more operations"
    )
    # At its second epoch a candidate is compared with their second epochs.
    assert "after epoch 2 trial 7 was 40.0 points" in reason(curve(12, 100, [0.5, 0.2]), peers)


@pytest.mark.parametrize(
    ("peer", "stops"),
    [
        (curve(1, 100, [0.52]), True),
        (curve(1, 100, [0.50]), False),  # within the margin
        (curve(1, 101, [0.90]), False),  # more memory
        (curve(1, 100, [0.90], macs=10.1), False),  # more operations
        (curve(1, 10, [0.40], macs=1), False),  # less accurate
    ],
)
def test_every_objective_must_be_no_worse(peer, stops):
    assert (reason(curve(2, 100, [0.5]), [peer]) is not None) is stops


def test_an_equal_peer_does_not_stop_even_without_a_margin():
    assert reason(curve(2, 100, [0.5]), [curve(1, 100, [0.5])], margin=0.0) is None
    assert reason(curve(2, 100, [0.5]), [curve(1, 99, [0.5])], margin=0.0) is not None
    assert reason(curve(2, 100, [0.5]), [curve(1, 100, [0.5], macs=9)], margin=0.0) is not None


def test_a_waits_for_peers_that_reached_the_rung():
    better = curve(1, 100, [0.9, 0.9])
    short = [curve(n, 500, [0.1]) for n in range(2, 6)]
    candidate = curve(9, 100, [0.5, 0.5])
    assert reason(candidate, [better, *short], min_peers=2) is None
    assert reason(candidate, [better, *short], min_peers=1) is not None
    # Peers with more memory count as peers, though they cannot stop it.
    assert reason(replace(candidate, accuracies=(0.5,)), [better, *short], min_peers=5) is not None


def test_the_peer_that_dominates_is_not_a_rank():
    """Accuracies whose sorting permutation is not its own inverse: indices taken for ranks would stop the best."""
    accuracies = [0.5, 0.7, 0.3]
    curves = [curve(number, 100, [accuracy]) for number, accuracy in enumerate(accuracies)]
    assert reason(curves[1], curves, min_peers=2) is None
    assert "trial 1 was 20.0 points" in reason(curves[0], curves, min_peers=2)
    assert "trial 0 was 20.0 points" in reason(curves[2], curves, min_peers=2)


def test_nobody_is_compared_with_itself():
    own = curve(1, 100, [0.9, 0.9], complete=True)
    assert reason(replace(own, accuracies=(0.1,)), [own]) is None


def test_without_an_epoch_there_is_nothing_to_judge():
    assert reason(curve(2, 100, []), [curve(1, 1, [0.9])]) is None


# ---------------------------------------------------------------- rule B


def completed(*finals, first=lambda final: final - 0.2, memory=100.0) -> list[LearningCurve]:
    return [curve(n, memory, [first(final), final], complete=True) for n, final in enumerate(finals)]


FINALS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.9)


def test_b_by_hand():
    # Everyone gains 0.2 exactly, so the candidate at 0.62 is expected at 0.82, and 0.005 is the least spread.
    peers = completed(*FINALS)
    words = reason(curve(20, 100, [0.62]), peers, min_peers=99)
    assert words == (
        "after epoch 1 it could end at 82.5 % at best, and trial 7 ended at 90.0 % "
        "with no more memory and no more operations"
    )
    # It would need 0.08 / 0.005 = 16 spreads to reach 0.9.
    assert reason(curve(20, 100, [0.62]), peers, min_peers=99, optimism=15.9) is not None
    assert reason(curve(20, 100, [0.62]), peers, min_peers=99, optimism=16.1) is None


def test_b_waits_for_completed_peers():
    peers = completed(*FINALS)
    assert len(peers) == MIN_COMPLETED
    candidate = curve(20, 100, [0.3])
    assert reason(candidate, peers, min_peers=99) is not None
    assert reason(candidate, peers[1:], min_peers=99) is None
    assert reason(candidate, [replace(peers[0], complete=False), *peers[1:]], min_peers=99) is None


def test_b_by_hand_with_residuals():
    # Gains of 0.1 and 0.3 in turn at the same four accuracies: the line gains 0.2, the residuals are 0.1 each.
    at_rung = (0.3, 0.4, 0.5, 0.6)
    peers = [
        curve(n, 100, [low, low + gain], complete=True)
        for n, (low, gain) in enumerate((low, gain) for low in at_rung for gain in (0.1, 0.3))
    ]
    # The best peer ended at 0.9: the candidate needs 0.9 - 0.1 - 0.2 at the rung to hope for more than that.
    assert reason(curve(20, 100, [0.59]), peers, min_peers=99) is not None
    assert reason(curve(20, 100, [0.61]), peers, min_peers=99) is None


def test_b_expects_macs_to_fall_as_they_did():
    # All peers halved their operations from the first epoch to the last: a candidate at 18 may come down to 9.
    peers = [curve(n, 100, [final - 0.2, final], [20, 10], complete=True) for n, final in enumerate(FINALS)]
    assert reason(curve(20, 100, [0.3], 18), peers, min_peers=99) is None
    assert reason(curve(20, 100, [0.3], 22), peers, min_peers=99) is not None


def test_b_is_as_optimistic_about_macs():
    # The last epoch took 0.4 or 0.6 of the first one's: 0.5 less a spread of 0.1 at best.
    peers = [
        curve(n, 100, [final - 0.2, final], [10 / (0.4 if n % 2 else 0.6), 10], complete=True)
        for n, final in enumerate(FINALS)
    ]
    assert reason(curve(20, 100, [0.3], 24.9), peers, min_peers=99) is None
    assert reason(curve(20, 100, [0.3], 25.1), peers, min_peers=99) is not None


def test_b_needs_a_peer_of_no_more_memory():
    assert reason(curve(20, 100, [0.3]), completed(*FINALS, memory=100), min_peers=99) is not None
    assert reason(curve(20, 100, [0.3]), completed(*FINALS, memory=101), min_peers=99) is None


def test_b_never_expects_macs_to_grow():
    peers = [curve(n, 100, [final - 0.2, final], [5, 10], complete=True) for n, final in enumerate(FINALS)]
    assert reason(curve(20, 100, [0.3], 9.9), peers, min_peers=99) is None
    assert reason(curve(20, 100, [0.3], 10), peers, min_peers=99) is not None


def test_b_lets_live_what_is_already_above_everyone():
    # A line through peers that lost accuracy would predict a loss; the candidate can always stay where it is.
    peers = completed(*FINALS, first=lambda final: final + 0.1)
    assert reason(curve(20, 100, [0.91]), peers, min_peers=99) is None


def test_b_takes_a_falling_line_for_noise():
    peers = [curve(n, 100, [1.0 - final, final], complete=True) for n, final in enumerate(FINALS)]
    # Flat instead: the mean of the finals, 0.681, and their spread, 0.125.
    assert "it could end at 80.6 % at best, and trial 7" in reason(curve(20, 100, [0.3]), peers, min_peers=99)
    assert "it could end at 80.6 % at best, and trial 7" in reason(curve(20, 100, [0.1]), peers, min_peers=99)


# ---------------------------------------------------------------- properties

ACCURACY = st.integers(0, 20).map(lambda n: n / 20)
SIZE = st.integers(1, 5).map(float)


@st.composite
def a_curve(draw, number=0, epochs=None):
    length = draw(st.integers(1, 3)) if epochs is None else epochs
    return curve(
        number,
        draw(SIZE),
        draw(st.lists(ACCURACY, min_size=length, max_size=length)),
        draw(st.lists(SIZE, min_size=length, max_size=length)),
        complete=epochs is None and draw(st.booleans()),
    )


@st.composite
def a_situation(draw):
    candidate = draw(a_curve(number=99, epochs=draw(st.integers(1, 2))))
    peers = [draw(a_curve(number=n)) for n in range(draw(st.integers(0, 14)))]
    rules = {"margin": draw(st.sampled_from([0.0, 0.05])), "min_peers": draw(st.integers(1, 5)), "optimism": 1.0}
    return candidate, peers, rules


MANY = settings(max_examples=300, deadline=None)


@MANY
@given(situation=a_situation())
def test_peers_with_more_memory_never_stop_a_candidate(situation):
    candidate, peers, rules = situation
    larger = [replace(peer, known={"memory_bytes": candidate.known["memory_bytes"] + 1}) for peer in peers]
    assert stopping_reason(candidate, larger, **rules) is None


@MANY
@given(situation=a_situation())
def test_the_named_trial_has_no_more_memory_and_is_no_less_accurate(situation):
    candidate, peers, rules = situation
    words = stopping_reason(candidate, peers, **rules)
    if words is None:
        return
    named = int(words.partition("trial ")[2].split()[0])
    peer = next(peer for peer in peers if peer.number == named)
    assert peer.known["memory_bytes"] <= candidate.known["memory_bytes"]
    rung = len(candidate.accuracies)
    assert max(peer.accuracies[rung - 1], peer.accuracies[-1]) >= candidate.accuracies[-1]
    operations = peer.measured["effective_flops"]
    assert min(operations[rung - 1], operations[-1]) <= candidate.measured["effective_flops"][-1]


@MANY
@given(situation=a_situation(), more=ACCURACY, less=SIZE)
def test_a_better_candidate_is_not_stopped_where_a_worse_one_lives(situation, more, less):
    candidate, peers, rules = situation
    if stopping_reason(candidate, peers, **rules) is not None:
        return
    higher = (*candidate.accuracies[:-1], max(candidate.accuracies[-1], more))
    operations = candidate.measured["effective_flops"]
    cheaper = (*operations[:-1], min(operations[-1], less))
    for better in (
        replace(candidate, accuracies=higher),
        replace(candidate, measured={"effective_flops": cheaper}),
        replace(candidate, known={"memory_bytes": min(candidate.known["memory_bytes"], less)}),
    ):
        assert stopping_reason(better, peers, **rules) is None


@MANY
@given(situation=a_situation())
def test_more_optimism_and_margin_stop_less(situation):
    candidate, peers, rules = situation
    if stopping_reason(candidate, peers, **rules) is None:
        assert stopping_reason(candidate, peers, **rules | {"optimism": 2.0}) is None
        assert stopping_reason(candidate, peers, **rules | {"margin": 0.2}) is None
        assert stopping_reason(candidate, peers, **rules | {"min_peers": 9}) is None


@MANY
@given(situation=a_situation(), order=st.randoms(use_true_random=False))
def test_the_order_of_peers_does_not_decide(situation, order):
    candidate, peers, rules = situation
    shuffled = order.sample(peers, len(peers))
    assert (stopping_reason(candidate, peers, **rules) is None) == (
        stopping_reason(candidate, shuffled, **rules) is None
    )
