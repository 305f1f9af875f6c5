"""The spiking convolution in evaluation and in training, against slow loops."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from layers_by_loops import (
    BATCH,
    NEURON,
    TIME,
    Pool,
    a_layer,
    a_residual,
    array,
    as_after_training,
    assert_current,
    by_time,
    forms,
    four_channels,
    pools,
    precise,
    slow_convolution,
    slow_layer,
    slow_neuron,
    slow_pool,
    whole_numbers,
)
from torch.nn import functional as F

from spquant_search.snn.activity import Activity
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import measured
from spquant_search.snn.neuron.reference import fire_step_by_step
from spquant_search.snn.quantize import quantize_weight
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace


@pools
@pytest.mark.parametrize(("bits", "levels"), [(1, 3), (2, 3), (3, 4), (4, 16), (8, 256), (32, 0), (32, 5), (2, 0)])
def test_evaluation_is_the_slow_double_precision_layer(bits: int, levels: int, pool: Pool, plain_neurons: None) -> None:
    layer = precise(a_layer(pool), bits, levels)
    # The second layer of a network whose first pools after the neuron: whole numbers up to 4, over 4.
    spikes = Spikes(values=whole_numbers(3, 6, 5, largest=4), time_steps=TIME, largest=4, divisor=4)
    assert_current(layer.evaluation_current(spikes), layer, spikes, atol=2e-6)
    expected, _, _ = slow_layer(layer, spikes)
    assert 0.1 < expected.mean() < 0.9
    out = layer(spikes)
    if pool == "after":
        np.testing.assert_array_equal(array(out.values), 4 * slow_pool(expected))
        assert (out.largest, out.divisor) == (4, 4)
    elif pool == "max":
        np.testing.assert_array_equal(array(out.values), slow_pool(expected) > 0)
        assert (out.largest, out.divisor) == (1, 1)
    else:
        np.testing.assert_array_equal(array(out.values), expected)
        assert (out.largest, out.divisor) == (1, 1)


def test_samples_and_time_steps_do_not_mix(plain_neurons: None) -> None:
    layer = precise(a_layer("before"), 4, 16, mass=0.8, skip=0.0)
    values = whole_numbers(3, 6, 6)
    together = layer(Spikes(values=values, time_steps=TIME)).values
    for sample in range(BATCH):
        alone = layer(Spikes(values=values[sample::BATCH], time_steps=TIME)).values
        assert torch.equal(together[sample::BATCH], alone)


@forms
@pytest.mark.parametrize("bits", [3, 32])
def test_evaluation_of_other_forms_is_the_slow_layer(form: dict[str, Any], bits: int, plain_neurons: None) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8, **form), bits, 16, mass=0.8, skip=0.0), four_channels()
    assert_current(layer.evaluation_current(spikes), layer, spikes, atol=4e-6)
    residual = a_residual(layer, spikes)
    for added in (None, residual):
        expected, _, _ = slow_layer(layer, spikes, 0.0 if added is None else array(added))
        assert 0.0 < expected.mean() < 0.9
        if layer.pool is not None and not layer.pool.is_before:
            pooled = slow_pool(expected, layer.pool.window, largest=layer.pool.takes_largest)
            expected = np.rint(pooled * layer.pool.terms)
        np.testing.assert_array_equal(array(layer(spikes, added).values), expected)


def test_a_closed_channel_takes_the_residual_alone(plain_neurons: None) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8), 4, 0, mass=0.5), four_channels()
    assert layer.gate is not None
    with torch.no_grad():
        layer.gate.weight.zero_()
        layer.gate.bias.fill_(-1.0)
    assert layer(spikes).values.sum() == 0
    residual = 2.0 * whole_numbers(8, 7, 6, seed=3)
    out = layer(spikes, residual)
    assert torch.equal(out.values, residual / 2)
    assert out.open is None, "a closed channel may spike, so that the next layer must not leave it out"
    with pytest.raises(ValueError, match="shape of the current that it is added to") as error:
        layer(spikes, residual[:, :1])
    assert str(error.value) == (
        "a residual must have the shape of the current that it is added to, (6, 8, 7, 6); got (6, 1, 7, 6)"
    )


@pytest.mark.parametrize("training", [True, False])
def test_a_closed_channel_that_may_spike_is_passed_on_as_open(training: bool, plain_neurons: None) -> None:
    """An integrator that spikes at the threshold, of three levels: one that is stored at 1 spikes without current."""
    closes, space = LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=0.7), NeuronSpace(leak=1)
    spikes, seen = four_channels(), False
    for seed in range(8):
        layer = a_layer(inputs=4, outputs=8, seed=seed).train(training)
        layer.set_precision(closes, space)
        opened = layer(spikes).open
        assert opened is not None
        assert not layer(spikes).values[~opened].any(), "what stays below or at the threshold is known to be silent"
        layer.set_precision(closes, replace(space, spike_at_threshold=True))
        out = layer(spikes)
        assert out.open is None
        seen = seen or bool(out.values[~opened].any())
    assert seen, "it does happen"


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("pool", [None, "before", "after"])
def test_a_threshold_of_a_half_is_twice_all_currents(pool: Pool, training: bool, plain_neurons: None) -> None:
    """Residual, gate and skip mask included: what a gate opens does not depend on the unit of the current."""
    half, one = (a_layer(pool, inputs=4, outputs=8).train(training) for _ in range(2))
    spikes, precision = (
        four_channels(),
        LayerPrecision(weight_bits=4, membrane_levels=16, channel_mass=0.7, skip_below=0),
    )
    half.set_precision(precision, NeuronSpace(learn_threshold=True))
    one.set_precision(precision, NEURON)
    residual = a_residual(one, spikes)
    with torch.no_grad():
        assert half.neuron.log_threshold is not None
        half.neuron.log_threshold.fill_(math.log(0.5))
        assert one.norm is not None
        one.norm.weight.mul_(2.0)
        one.norm.bias.mul_(2.0)
    found, expected = half(spikes, residual), one(spikes, 2 * residual)
    assert torch.equal(found.values, expected.values)
    assert 0.05 < found.values.mean() / found.divisor < 0.95
    if training:
        assert half.gate_loss == one.gate_loss
    assert torch.equal(half(spikes).open, one(spikes).open)


def test_a_gate_learns_from_its_convolution_and_not_from_the_residual(plain_neurons: None) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8), 4, 3, mass=0.6).train(), four_channels()
    layer(spikes)
    alone = layer.gate_loss
    layer(spikes, a_residual(layer, spikes).abs() * 5)
    assert alone is not None
    assert layer.gate_loss is not None
    assert torch.equal(alone, layer.gate_loss)


def test_residual_branches_are_integers_each_with_its_own_slope_and_offset(plain_neurons: None) -> None:
    """u = a1 * A1 + d1 + a2 * A2 + d2 from integer sums alone: 8-bit convolution, 3-bit shortcut."""
    torch.manual_seed(1)
    layer = precise(a_layer(inputs=4, outputs=8), 8, 16)
    shortcut, spikes = Shortcut(4, 8).eval(), four_channels()
    with torch.no_grad():
        as_after_training(shortcut)
    shortcut.set_precision(LayerPrecision(weight_bits=3, membrane_levels=None), NEURON)
    current = np.zeros((TIME * BATCH, 8, 7, 6))
    for branch, bits in ((layer, 8), (shortcut, 3)):
        integers, scale = quantize_weight(branch.weight, bits)
        whole = array(spikes.values).astype(np.int64), array(integers).astype(np.int64)
        sums = slow_convolution(*(one.astype(float) for one in whole))
        assert np.array_equal(sums, np.rint(sums))
        slope, offset = (array(one)[:, None, None] for one in branch.affine(scale, spikes.divisor))
        current += slope * sums + offset
    expected, _ = slow_neuron(by_time(current), levels=16, skip=None)
    found = layer(spikes, shortcut(spikes)).values
    np.testing.assert_array_equal(by_time(array(found)), expected)


@pools
@pytest.mark.parametrize("bits", [2, 4, 32])
def test_training_normalises_the_pooled_current_by_its_batch(bits: int, pool: Pool, plain_neurons: None) -> None:
    """Batch norm sees what the neuron is to be fed with: where pooling comes first, the pooled convolution."""
    layer = precise(a_layer(pool), bits, 3).train()
    spikes = Spikes(values=whole_numbers(3, 6, 5, largest=4), time_steps=TIME, largest=4, divisor=4)
    integers, scale = quantize_weight(layer.weight, bits)
    current = F.conv2d(spikes.values / 4, integers * scale, padding=1)
    if pool == "before":
        current = F.avg_pool2d(current, 2)
    elif pool in ("after", "max"):
        current = current[:, :, :, :4]  # the fifth column is in no block
    mean, variance = current.mean(dim=(0, 2, 3)), current.var(dim=(0, 2, 3), correction=0)
    column = (slice(None), None, None)
    normed = (current - mean[column]) / (variance[column] + layer.norm.eps).sqrt()
    normed = normed * layer.norm.weight[column] + layer.norm.bias[column]
    if pool == "max-before":
        normed = F.max_pool2d(normed, 2)
    fired = fire_step_by_step(normed.view(TIME, BATCH, *normed.shape[1:]), layer.neuron.parameters_now)
    expected = fired.view(normed.shape)
    assert layer.norm.running_mean is not None
    before = layer.norm.running_mean.clone()
    out = layer(spikes).values
    pooled = {"after": F.avg_pool2d(expected, 2) * 4, "max": F.max_pool2d(expected, 2)}
    assert torch.equal(out, pooled.get(str(pool), expected))
    torch.testing.assert_close(layer.norm.running_mean, 0.9 * before + 0.1 * mean)


@pools
@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
def test_what_a_layer_says_of_its_shape_is_what_it_does(size: tuple[int, int], pool: Pool, plain_neurons: None) -> None:
    layer = precise(a_layer(pool), 4, 3)
    spikes = Spikes(values=whole_numbers(3, *size), time_steps=TIME)
    layer.activity = Activity()
    layer(spikes)
    shape = layer.shape("conv2", spikes)
    assert shape.neurons == layer.activity.total("neuron_steps") / (TIME * BATCH)
    assert shape.weights == layer.weight.numel()
    assert shape.positions == (size[0] * size[1] if pool is None else size[0] // 2 * 2 * (size[1] // 2 * 2))
    assert shape.can_gate


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("pool", ["before", "after", None])
def test_a_still_image_is_convolved_once_and_trains_as_if_it_were_shown_at_every_step(
    pool: Pool, gated: bool, plain_neurons: None
) -> None:
    torch.manual_seed(3)
    image = torch.randint(0, 256, (BATCH, 3, 6, 6)).float()
    found = []
    for constant in (True, False):
        torch.manual_seed(4)
        layer = SpikingConv2d(3, 4, pool=pool, can_gate=gated).train()
        layer.set_precision(
            LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=0.7 if gated else 1.0), NEURON
        )
        shown = image if constant else image.repeat(TIME, 1, 1, 1)
        spikes = layer(Spikes(values=shown, time_steps=TIME, largest=255, constant=constant))
        assert len(spikes.values) == TIME * BATCH
        spikes.values.square().sum().backward()
        found.append((spikes.values, layer.weight.grad, layer.norm.running_mean, layer.gate_loss))
    for once, every in zip(*found, strict=True):
        if once is not None:
            torch.testing.assert_close(once, every, rtol=1e-4, atol=1e-4)


def test_a_still_image_is_evaluated_as_if_it_were_shown_at_every_step(plain_neurons: None) -> None:
    layer = precise(a_layer("before"), 4, 3)
    still = Spikes(values=whole_numbers(3, 6, 6, largest=15)[:BATCH], time_steps=TIME, largest=15, constant=True)
    with measured(layer) as once:
        fired = layer(still).values
    with measured(layer) as every:
        expected = layer(still.repeated()).values
    assert fired.any()
    assert torch.equal(fired, expected)
    assert [one.per_sample() for one in once.values()] == [one.per_sample() for one in every.values()]
