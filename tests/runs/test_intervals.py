"""Wilson's interval of an accuracy against scipy's, and at its ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from spquant_search.runs.intervals import CONFIDENCE, wilson_interval


@given(samples=st.integers(1, 20_000), share=st.floats(0, 1))
def test_the_interval_is_scipys(samples, share):
    right = round(share * samples)
    theirs = binomtest(right, samples).proportion_ci(confidence_level=CONFIDENCE, method="wilson")
    ours = wilson_interval(right / samples, samples)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert 0 <= ours.low <= right / samples <= ours.high <= 1
    assert ours.low < ours.high


def test_the_interval_by_hand():
    # 160 of 160: n / (n + 1.96^2) = 160 / 163.84 at the least, and 1 at the most.
    whole = wilson_interval(1.0, 160)
    assert whole.low == pytest.approx(160 / (160 + 1.959964**2))
    assert whole.high == 1.0
    none = wilson_interval(0.0, 160)
    assert (none.low, none.high) == (0.0, pytest.approx(1 - whole.low))


@pytest.mark.parametrize(("accuracy", "samples"), [(0.5, 0), (0.5, -1), (math.nan, 100)])
def test_without_samples_or_an_accuracy_there_is_none(accuracy, samples):
    assert wilson_interval(accuracy, samples) is None
