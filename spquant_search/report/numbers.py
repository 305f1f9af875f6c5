"""Numbers as people read them: percentages, KiB, FLOPs (2 per MAC), factors, times."""

from __future__ import annotations

import math

from spquant_search.runs.intervals import Interval

MISSING = "-"


def percent(fraction: float | None) -> str:
    """Write ``86.4`` for 0.864; the column or the sentence adds the sign."""
    return MISSING if fraction is None or math.isnan(fraction) else f"{100 * fraction:.1f}"


def kib(size_bytes: float) -> str:
    """Write KiB without the unit: ``54.2``, or ``1,234`` where the tenth no longer matters."""
    return _thousands(size_bytes / 1024)


def binary_size(size_bytes: float) -> str:
    """Write a size with its unit: ``812 KiB``, ``54.2 MiB`` or ``1.52 GiB``."""
    for limit, unit in ((2**40, "TiB"), (2**30, "GiB"), (2**20, "MiB")):
        if size_bytes >= limit * 0.9995:
            return f"{_three_digits(size_bytes / limit)} {unit}"
    return f"{_three_digits(size_bytes / 1024)} KiB"


def mega(count: float) -> str:
    """Write millions without the unit."""
    return _thousands(count / 1e6)


def quantity(count: float) -> str:
    """Write three digits and a decimal prefix: ``38.2 M``."""
    if math.isnan(count):
        return MISSING
    for limit, prefix in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        # 999,950 would otherwise read "1000 k".
        if abs(count) >= limit * 0.9995:
            return _three_digits(count / limit) + prefix
    return f"{count:.0f}"


def flops(count: float) -> str:
    """Write ``38.2 MFLOPs``; ``count`` in FLOPs, not MACs."""
    return with_unit(count, "FLOPs")


def with_unit(count: float, unit: str) -> str:
    """Write ``38.2 MMAC`` or ``812 MAC``."""
    number = quantity(count)
    return number + unit if number[-1].isalpha() else f"{number} {unit}"


def reduction(baseline: float | None, value: float) -> str:
    """Write ``1/14.2`` where ``value`` is the 14.2th part of the baseline's, ``x1.20`` where it is 1.2 times it."""
    if baseline is None or math.isnan(value) or math.isnan(baseline) or value <= 0 or baseline <= 0:
        return MISSING
    factor = baseline / value
    if 0.995 <= factor < 1.005:
        return "1"
    return f"1/{_three_digits(factor)}" if factor > 1 else f"x{_three_digits(1 / factor)}"


def microjoules(picojoules: float) -> str:
    """Write microjoules without the unit, in three digits: ``0.812``, ``12.3`` or ``1,234``."""
    value = picojoules / 1e6
    return f"{value:.3f}" if value < 0.9995 else _three_digits(value) if value < 999.5 else f"{value:,.0f}"


def duration(seconds: float) -> str:
    """Write ``1:05`` or ``2:03:09``."""
    total = max(0, round(seconds))
    hours, minutes, rest = total // 3600, total // 60 % 60, total % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def interval_text(interval: Interval | None, between: str = "..") -> str:
    """Write ``84.8..87.9`` in percent, rounded outwards, so that no interval looks empty."""
    if interval is None:
        return MISSING
    low, high = math.floor(1000 * interval.low + 1e-9), math.ceil(1000 * interval.high - 1e-9)
    return f"{low / 10:.1f}{between}{high / 10:.1f}"


def _thousands(value: float) -> str:
    if math.isnan(value):
        return MISSING
    return f"{value:,.0f}" if abs(value) >= 999.95 else f"{value:.1f}"


def _three_digits(value: float) -> str:
    decimals = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{decimals}f}"
