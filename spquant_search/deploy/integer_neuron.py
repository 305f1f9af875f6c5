"""Describe the neurons of a layer in whole numbers."""

from __future__ import annotations

import math
from typing import Any

from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.neuron.parameters import GAIN_STEPS, threshold_gain


def integer_neuron(neuron: Neuron, *, stores: bool) -> dict[str, Any]:
    """Describe a neuron: its grid in units of its step, leak, what a spike subtracts, cut, and the gain of a learned
    threshold in 1/16.

    A neuron that ``stores`` nothing between time steps has no levels: its potential is its current.
    """
    gain = None if neuron.log_threshold is None else round(float(threshold_gain(neuron.log_threshold)) * GAIN_STEPS)
    described = {"gain": gain, "spikes_at_threshold": neuron.rule.at_threshold, "learned_leak": False}
    if not stores:
        at_rest = {"levels": None, "lowest": 0, "step_bits": 0, "leak": 0, "leak_bits": 0, "skip_below": None}
        return described | at_rest | {"subtracts": None, "subtracts_bits": 0}
    parameters = neuron.parameters_now
    step, lowest, highest = (float(value) for value in (parameters.grid_step, parameters.lowest, parameters.highest))
    cut = float(parameters.skip_below)
    assert cut <= 0.0, "no cut lies above 0, where membranes start"
    leak, leak_bits = in_lowest_terms(float(parameters.leak))
    subtracts, subtracts_bits = in_lowest_terms(float(parameters.amount))
    return described | {
        "levels": round((highest - lowest) / step) + 1,
        "lowest": round(lowest / step),
        "step_bits": -round(math.log2(step)),
        "leak": leak,
        "leak_bits": leak_bits,
        "learned_leak": neuron.leak_logit is not None,
        "subtracts": subtracts if neuron.rule.subtracts else None,
        "subtracts_bits": subtracts_bits if neuron.rule.subtracts else 0,
        "skip_below": None if cut == -math.inf else math.ceil(cut / step),
    }


def in_lowest_terms(value: float) -> tuple[int, int]:
    """Return a dyadic number as a whole number and the bits behind its point, of which there are as few as can be."""
    numerator, denominator = value.as_integer_ratio()
    return numerator, denominator.bit_length() - 1


def least_fraction(neuron: dict[str, Any]) -> int:
    """Return how many bits behind the point a neuron's potentials have at least.

    Where they are rounded to steps, half a step is a whole number.
    """
    rounded = neuron["levels"] is not None
    return int(max(neuron["step_bits"] + max(neuron["leak_bits"], int(rounded)), neuron["subtracts_bits"]))
