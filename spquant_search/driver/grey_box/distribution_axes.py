"""Optuna's distributions as axes of a grid."""

from __future__ import annotations

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from spquant_search.driver.grey_box.candidates import RESOLUTION, Axis, axis


def axis_of(name: str, distribution: BaseDistribution) -> Axis:
    """Return the axis of a parameter that Optuna samples from a distribution; long ranges keep 256 values."""
    if isinstance(distribution, CategoricalDistribution):
        return axis(name, distribution.choices)
    if isinstance(distribution, IntDistribution):
        values = range(distribution.low, distribution.high + 1, distribution.step)
        kept = np.unique(np.linspace(0, len(values) - 1, min(len(values), RESOLUTION)).astype(int))
        return axis(name, [values[i] for i in kept])
    if not isinstance(distribution, FloatDistribution):
        raise AssertionError(distribution)
    if distribution.step is not None:
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        return axis(name, [round(distribution.low + i * distribution.step, 10) for i in range(count)])
    spaced = np.geomspace if distribution.log else np.linspace
    return axis(name, [float(value) for value in spaced(distribution.low, distribution.high, RESOLUTION)])
