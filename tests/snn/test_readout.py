"""The readout: one scale for all its integers, exact logits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from layers_by_loops import BATCH, NEURON, TIME, array, by_time, whole_numbers

from spquant_search.snn.quantize import quantize_weight
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.space.configuration import LayerPrecision


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 32])
def test_the_read_out_is_linear_with_one_scale_for_all_its_integers(bits: int) -> None:
    torch.manual_seed(0)
    readout = Readout(4, 6, 10).eval()
    readout.set_precision(LayerPrecision(weight_bits=bits, membrane_levels=None), NEURON)
    values = whole_numbers(4, 2, 3, largest=4)
    integers, scale = quantize_weight(readout.linear.weight, bits, per_tensor=True)
    products = by_time(array(values).reshape(TIME * BATCH, -1) / 4 @ array(integers * scale).T)
    bias = array(readout.linear.bias)
    spikes = Spikes(values=values, time_steps=TIME, largest=4, divisor=4)
    logits = readout.train()(spikes)
    assert logits.shape == (TIME, BATCH, 10)
    np.testing.assert_allclose(array(logits), products + bias, atol=1e-5)

    logits = readout.eval()(spikes)
    assert logits.shape == (TIME, BATCH, 10)
    if bits == 32:
        np.testing.assert_allclose(array(logits), products + bias, atol=1e-5)
        return
    # An accumulator starts from the biases of all time steps, in whole numbers of what a weight of 1 adds.
    unit = scale.item() / 4
    products[0] += np.rint(bias * TIME / unit) * unit
    np.testing.assert_allclose(array(logits), products, atol=1e-5)
    whole = array(logits.sum(dim=0)) / np.float64(np.float32(unit))
    np.testing.assert_allclose(whole, np.rint(whole), atol=1e-6)
