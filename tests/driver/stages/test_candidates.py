"""Candidates within budgets."""

from __future__ import annotations

import pytest
from driver.lab import NO_STOPPING, ONE_WORKER, TINY, memory_of
from optuna.trial import TrialState

from spquant_search.driver import trial_book
from spquant_search.errors import UserError
from spquant_search.runs.results import Outcome
from spquant_search.runs.selection import Budget, front
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.training.prepare import prepare


def test_what_is_over_the_memory_budget_is_recorded_and_not_trained_and_does_not_count(new_lab):
    small, large = {"weight_bits": 2, "membrane_levels": 3}, {"weight_bits": 4, "membrane_levels": 16}
    references = f"search.references={[large, small]}"
    bytes_small, bytes_large = memory_of(small, large)
    lab = new_lab(
        NO_STOPPING, ONE_WORKER, references, f"constraints.memory_bytes={bytes_large - 1}", "search.sampler=grey-box"
    )
    results = lab.run(5)
    assert results[1].outcome is Outcome.OVER_BUDGET
    assert results[1].reason == f"memory_bytes {bytes_large:,} is over constraints.memory_bytes, {bytes_large - 1:,}"
    assert results[1].epochs == ()
    assert [result.outcome.name for result in results[2:]] == ["COMPLETE"] * 5
    assert lab.trained == [0, *range(2, 7)]
    assert max(result.memory_bytes for result in results[2:]) < bytes_large
    assert bytes_small == results[2].memory_bytes
    stored = lab.trials()
    assert stored[1].state is TrialState.PRUNED
    assert stored[1].constraints["not_completed"] == 1.0
    assert stored[0].constraints["memory_bytes"] > 0 > stored[2].constraints["memory_bytes"]
    assert 0 not in {
        member.number for member in front(results, DEFAULT_COSTS, Budget(max_memory_bytes=bytes_large - 1))
    }
    # Exactly as many bytes as the budget has are within it.
    exact = new_lab(NO_STOPPING, ONE_WORKER, references, f"constraints.memory_bytes={bytes_large}", name="exact")
    assert exact.run(2)[1].outcome is Outcome.COMPLETE


def test_a_search_in_which_next_to_nothing_fits_ends_and_says_why_and_goes_on_no_further(new_lab, monkeypatch):
    monkeypatch.setattr(trial_book, "MAX_UNTRIED_IN_A_ROW", 5)
    (smallest,) = memory_of({"weight_bits": 2, "membrane_levels": 3})
    lab = new_lab(
        NO_STOPPING, ONE_WORKER, f"constraints.memory_bytes={smallest}", "search.sampler=random", "search.references=[]"
    )
    results = lab.run(3)
    assert [result.outcome.name for result in results] == ["COMPLETE", *["OVER_BUDGET"] * 5]
    (said,) = lab.watching.warnings
    assert said == (
        "the search ends after 0 of 3 trials: 5 proposals in a row were over budget or known already, 5 of those "
        "proposed are over budget; raise constraints, give layers smaller choices, or take search.sampler grey-box, "
        "which proposes nothing over a budget of memory, flash or RAM"
    )
    assert lab.run(3) == results
    assert lab.watching.warnings == [said, said]


def test_flops_are_known_beforehand_where_nothing_saves_any_and_judged_afterwards_elsewhere(new_lab):
    references = [
        {"weight_bits": 4, "membrane_levels": 3},
        {"weight_bits": 4, "membrane_levels": 3, "channel_mass": 0.8},
    ]
    dense = 2 * new_lab(name="measured").run(1)[0].dense_macs
    lab = new_lab(NO_STOPPING, ONE_WORKER, f"search.references={references}", "constraints.effective_flops=1.7M")
    known, gated = lab.run(1)[1:]
    assert known.outcome is Outcome.OVER_BUDGET
    assert known.reason == f"effective_flops {dense:,} is over constraints.effective_flops, 1,700,000"
    # Its trainer measures 0.8 MMACs, 1.6 MFLOPs.
    assert gated.outcome is Outcome.COMPLETE
    assert lab.trials()[2].constraints["effective_flops"] == pytest.approx(-0.1 / 1.7)
    tight = new_lab(
        *(
            NO_STOPPING,
            ONE_WORKER,
            f"search.references={references}",
            "constraints={effective_flops: 1M, accuracy: 0.9}",
        ),
        name="tight",
    )
    gated = tight.run(1)[2]
    assert gated.outcome is Outcome.COMPLETE
    violated = tight.trials()[2].constraints
    assert violated["effective_flops"] == pytest.approx(0.6)
    assert violated["accuracy"] == pytest.approx((0.9 - gated.accuracy) / 0.9)


@pytest.mark.parametrize("sampler", ["tpe", "grey-box"])
def test_samplers_go_on_after_trials_that_broke_a_constraint(new_lab, sampler):
    lab = new_lab(
        *(NO_STOPPING, ONE_WORKER, "search.startup_trials=4", f"search.sampler={sampler}"),
        "constraints={accuracy: 0.58, effective_flops: 1.8M, memory_bytes: 20KiB}",
    )
    results = lab.run(14)
    assert sum(result.outcome is Outcome.COMPLETE for result in results) == 15
    if sampler == "grey-box":
        assert not [r for r in results if r.outcome is Outcome.OVER_BUDGET and r.origin != "reference"]


def test_a_budget_that_no_configuration_can_keep_is_refused_before_anything():
    (smallest,) = memory_of({"weight_bits": 2, "membrane_levels": 3})
    assert prepare(TINY, (f"constraints.memory_bytes={smallest}",))
    with pytest.raises(UserError) as caught:
        prepare(TINY, (f"constraints.memory_bytes={smallest - 1}",))
    assert str(caught.value) == (
        f"{TINY}: constraints.memory_bytes: must be at least {smallest:,} bytes, what the smallest configuration of "
        f"this space takes; got {smallest - 1:,}; raise it, or give layers choices of fewer bits or levels"
    )
    prepare(TINY, ("constraints.effective_flops=1",))  # who can tell what gates save?
    with pytest.raises(UserError, match=r"constraints\.effective_flops: must be at least [\d,]+, what every"):
        prepare(TINY, ("constraints.effective_flops=1", "layers={all: {weight_bits: [2, 4], membrane_levels: 3}}"))
