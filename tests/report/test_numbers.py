"""Numbers as people read them."""

from __future__ import annotations

import math

import pytest

from spquant_search.report import numbers
from spquant_search.runs.intervals import Interval


@pytest.mark.parametrize(
    ("function", "value", "text"),
    [
        (numbers.percent, 0.864, "86.4"),
        (numbers.percent, 1.0, "100.0"),
        (numbers.percent, math.nan, "-"),
        (numbers.percent, None, "-"),
        (numbers.kib, 55_501, "54.2"),
        (numbers.kib, 1024 * 999.96, "1,000"),
        (numbers.kib, 3_686_400, "3,600"),
        (numbers.mega, 22_149_000, "22.1"),
        (numbers.mega, math.nan, "-"),
        (numbers.quantity, 38_249_000, "38.2 M"),
        (numbers.quantity, 999_960, "1.00 M"),
        (numbers.quantity, 812_400, "812 k"),
        (numbers.quantity, 1_240_000_000, "1.24 G"),
        (numbers.quantity, 500, "500"),
        (numbers.flops, 38_249_000, "38.2 MFLOPs"),
        (numbers.flops, 500, "500 FLOPs"),
        (numbers.duration, 65.4, "1:05"),
        (numbers.duration, 7389, "2:03:09"),
        (numbers.duration, -1, "0:00"),
    ],
)
def test_numbers_as_people_read_them(function, value, text):
    assert function(value) == text


@pytest.mark.parametrize(
    ("baseline", "value", "text"),
    [
        (142.0, 10.0, "1/14.2"),
        (1000.0, 10.0, "1/100"),
        (10.0, 10.01, "1"),
        (10.0, 12.0, "x1.20"),
        (None, 12.0, "-"),
        (math.nan, 12.0, "-"),
        (10.0, math.nan, "-"),
        (10.0, 0.0, "-"),
    ],
)
def test_reduction_is_the_factor_against_the_baseline(baseline, value, text):
    assert numbers.reduction(baseline, value) == text


@pytest.mark.parametrize(
    ("low", "high", "text"),
    [
        (0.8483, 0.8787, "84.8..87.9"),
        (0.99962, 1.0, "99.9..100.0"),  # never as if there were no doubt
        (0.0, 0.00038, "0.0..0.1"),
        (0.5, 0.5, "50.0..50.0"),
    ],
)
def test_intervals_are_rounded_outwards(low, high, text):
    assert numbers.interval_text(Interval(low=low, high=high)) == text


def test_no_interval_is_a_dash():
    assert numbers.interval_text(None) == "-"
