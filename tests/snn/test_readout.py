"""The readout: one scale for all its integers, exact logits."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest
import torch
from layers_by_loops import BATCH, NEURON, TIME, array, by_time, whole_numbers

from spquant_search.snn.quantize import quantize_weight
from spquant_search.snn.readout import CountReadout, Readout
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


@pytest.mark.parametrize("membrane", ["sum", "last"])
@pytest.mark.parametrize(("leak", "code"), [(1.0, 4096), (0.9, 3686), (0.25, 1024)])
@pytest.mark.parametrize("bits", [1, 8])
def test_membranes_of_classes_are_rounded_halves_up_in_every_step(
    membrane: Literal["sum", "last"], leak: float, code: int, bits: int
) -> None:
    torch.manual_seed(0)
    readout = Readout(4, 6, 10, membrane=membrane, leak=leak).eval()
    readout.set_precision(LayerPrecision(weight_bits=bits, membrane_levels=None), NEURON)
    values = whole_numbers(4, 2, 3, largest=4)
    integers, scale = quantize_weight(readout.linear.weight, bits, per_tensor=True)
    unit = scale.item() / 4
    bias = [round(value / unit) for value in array(readout.linear.bias)]
    sums = by_time(array(values).reshape(TIME * BATCH, -1) @ array(integers).T)
    found = array(readout(Spikes(values=values, time_steps=TIME, largest=4, divisor=4))) / np.float64(np.float32(unit))
    wrong_when_towards_zero = 0
    for sample in range(BATCH):
        for label in range(10):
            total, membranes = 0, []
            for t in range(TIME):
                total = (total * code + 2048) // 4096 + int(sums[t, sample, label]) + bias[label]
                membranes.append(total)
            wrong_when_towards_zero += total < 0
            expected = membranes if membrane == "sum" else TIME * [membranes[-1]]
            np.testing.assert_allclose(found[:, sample, label], expected, atol=1e-6)
    assert wrong_when_towards_zero, "some are below 0, where a shift and a division differ"


@pytest.mark.parametrize("membrane", ["sum", "last"])
def test_membranes_of_classes_in_training_by_hand(membrane: Literal["sum", "last"]) -> None:
    readout = Readout(1, 1, 1, membrane=membrane, leak=0.5)
    with torch.no_grad():
        readout.linear.weight.fill_(2.0)
        readout.linear.bias.fill_(1.0)
    spikes = Spikes(values=torch.tensor([1.0, 0.0, 1.0]).view(3, 1, 1, 1), time_steps=3)
    # 3; 1.5 + 1; 1.25 + 3.
    expected = [3.0, 2.5, 4.25] if membrane == "sum" else [4.25] * 3
    assert readout(spikes).flatten().tolist() == expected
    assert readout.eval()(spikes).flatten().tolist() == expected
    readout.train()(spikes).sum().backward()
    assert readout.linear.bias.grad is not None
    # By the bias a step has 1, 1.5 and 1.75.
    assert readout.linear.bias.grad.item() == (4.25 if membrane == "sum" else 3 * 1.75)


def test_spikes_are_counted_over_positions_and_neighbouring_channels() -> None:
    values = whole_numbers(6, 2, 3, largest=4)
    spikes = Spikes(values=values, time_steps=TIME, largest=4, divisor=4)
    expected = by_time(array(values).reshape(TIME * BATCH, 3, 2 * 2 * 3).sum(axis=2))
    for readout in (CountReadout(3, votes=2).train(), CountReadout(3, votes=2).eval()):
        np.testing.assert_array_equal(array(readout(spikes)), expected)
    many = Spikes(values=torch.ones(2, 1, 20, 20).bfloat16(), time_steps=2)
    assert CountReadout(1)(many).flatten().tolist() == [400.0, 400.0], "bf16 itself holds 256 at most"


def test_a_tie_of_counts_is_the_lowest_class() -> None:
    values = torch.tensor([[0, 1, 1, 0], [0, 1, 1, 1]]).float().view(2, 4, 1, 1)
    logits = CountReadout(4)(Spikes(values=values, time_steps=2))
    assert logits.sum(dim=0).tolist() == [[0, 2, 2, 1]]
    assert logits.sum(dim=0).argmax(dim=1).tolist() == [1]


def test_arguments_that_a_readout_cannot_have_are_said() -> None:
    spikes = Spikes(values=torch.zeros(2, 5, 1, 1), time_steps=2)
    with pytest.raises(ValueError, match="3 classes of 2 votes are 6 channels; got 5"):
        CountReadout(3, votes=2)(spikes)
    with pytest.raises(ValueError, match="votes must be an int of at least 1; got 0"):
        CountReadout(3, votes=0)
    with pytest.raises(ValueError, match='membrane must be "sum", "last" or None; got \'mean\''):
        Readout(3, 1, 2, membrane="mean")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match='a leak is that of a membrane, "sum" or "last"; got membrane None and leak 1'):
        Readout(3, 1, 2, leak=1)
    with pytest.raises(ValueError, match="leak must be a number from 1/4096 to 1; got 2"):
        Readout(3, 1, 2, membrane="sum", leak=2)
