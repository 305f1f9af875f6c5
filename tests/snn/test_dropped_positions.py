"""Rows and columns that no pooling takes in: nothing computes, stores or counts them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from layers_by_loops import a_layer, array, as_after_training, pools_before, precise, slow_current
from network_shapes import layer_shapes
from torch import Tensor, nn

from spquant_search.costs.memory import cost_report
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.layers import measured
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape, LayerShape

STEPS, SAMPLES = 2, 2
POOLS = (None, "before", "max-before", "after", "max")


@st.composite
def layers_and_inputs(draw: st.DrawFn) -> tuple[SpikingConv2d, Spikes]:
    """A layer of any form, without gate and mask, and spikes of any size that it can pool."""
    kernel, stride, groups = (
        draw(st.sampled_from([1, 3, 5])),
        draw(st.sampled_from([1, 2])),
        draw(st.sampled_from([1, 2])),
    )
    pool = draw(st.sampled_from(POOLS))
    least = 1 if pool is None else stride + 1
    height, width = (draw(st.integers(least, 9)) for _ in range(2))
    layer = a_layer(
        pool, inputs=2, outputs=4, kernel_size=kernel, stride=stride, groups=groups, seed=draw(st.integers(0, 9))
    )
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    values = torch.randint(-2, 3, (STEPS * SAMPLES, 2, height, width), generator=generator).clamp(min=0).float()
    return precise(layer, 4, 5), Spikes(values=values, time_steps=STEPS, largest=2)


def plain_counts(layer: SpikingConv2d, spikes: Spikes) -> dict[str, int]:
    """Count output by output in plain Python: those of 2x2 blocks that fit, or all where nothing is pooled."""
    values = spikes.values.tolist()
    height, width = len(values[0][0]), len(values[0][0][0])
    reach, stride = layer.kernel.rows.size // 2, layer.kernel.rows.stride
    per_group, outputs_of_group = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    rows, columns = len(range(0, height, stride)), len(range(0, width, stride))
    if layer.pool is not None:
        rows, columns = rows // 2 * 2, columns // 2 * 2
    macs = operations = 0
    for sample in values:
        for output in range(layer.out_channels):
            first = output // outputs_of_group * per_group
            for row in range(rows):
                for column in range(columns):
                    for channel in range(first, first + per_group):
                        for y in range(row * stride - reach, row * stride + reach + 1):
                            for x in range(column * stride - reach, column * stride + reach + 1):
                                macs += 1
                                if 0 <= y < height and 0 <= x < width and sample[channel][y][x] != 0:
                                    operations += 1
    neurons = layer.out_channels * rows * columns // (4 if pools_before(layer) else 1)
    return {"macs": macs, "operations": operations, "neurons": neurons}


@settings(max_examples=60, deadline=None)
@given(layers_and_inputs())
def test_a_layer_counts_what_plain_loops_count(case: tuple[SpikingConv2d, Spikes]) -> None:
    layer, spikes = case
    with uncompiled(), measured(layer) as activities:
        layer(spikes)
    expected = plain_counts(layer, spikes)
    activity, shape = activities[""], layer.shape("layer", spikes)
    assert activity.total("effective_macs") == expected["macs"] == shape.dense_macs * STEPS * SAMPLES
    assert activity.total("synaptic_ops") == expected["operations"]
    assert activity.total("neuron_steps") == expected["neurons"] * STEPS * SAMPLES
    assert shape.neurons == expected["neurons"]
    # Whatever the last row or column would have given, the current is that of the slow layer at all other positions.
    current = layer.evaluation_current(spikes)
    np.testing.assert_array_equal(
        array(current), slow_current(layer, spikes)[:, :, : current.shape[2], : current.shape[3]]
    )
    assert current[0].numel() == expected["neurons"]


@pytest.mark.parametrize("pool", ["before", "after", "max"])
def test_an_output_too_small_to_be_pooled_is_refused(pool: Any, plain_neurons: None) -> None:
    layer = a_layer(pool, stride=2)
    with pytest.raises(ValueError, match="a map of 1x3 cannot be pooled by 2x2"):
        layer.shape("conv1", Spikes(values=torch.zeros(1, 3, 2, 5), time_steps=1))


@pytest.mark.parametrize("pool", ["after", "max"])
def test_training_does_not_see_them_either(pool: Any, plain_neurons: None) -> None:
    """Neither batch norm's statistics, the gate's target nor the weights' gradients."""
    found = []
    for last in (0.0, 1.0):
        layer = a_layer(pool, kernel_size=1, inputs=3, outputs=4).train()
        layer.set_precision(LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=0.7), NeuronSpace())
        values = torch.randint(0, 2, (STEPS * SAMPLES, 3, 5, 7), generator=torch.Generator().manual_seed(1)).float()
        assert layer.gate is not None
        with torch.no_grad():
            layer.gate.weight.zero_()  # the predictor counts all inputs: here it does not look at them
        values[:, :, 4:] = values[:, :, :, 6:] = last
        out = layer(Spikes(values=values, time_steps=STEPS))
        assert layer.gate_loss is not None
        (out.values.sum() + layer.gate_loss).backward()
        found.append((out.values, layer.weight.grad, layer.norm.running_mean, layer.norm.running_var))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


# ---------------------------------------------------------------- residuals


class Residuals(nn.Module):
    """Two layers that pool: to one a shortcut adds, to the other the spikes themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.first = SpikingConv2d(2, 4, can_gate=False)
        self.shortcut = Shortcut(4, 4)
        self.pooling = SpikingConv2d(4, 4, pool="max")
        self.identity = SpikingConv2d(4, 4, pool="max")
        self.readout = Readout(4, 1, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        first = self.first(spikes)
        pooled = self.pooling(first, self.shortcut(first))
        again = self.identity(first, residual=first.current())
        logits: Tensor = self.readout(global_average(added(pooled, again)))
        return logits


def build_residuals(shape: InputShape) -> nn.Module:
    del shape
    torch.manual_seed(2)
    network = Residuals().eval()
    with torch.no_grad():
        for layer in (network.first, network.shortcut, network.pooling, network.identity):
            as_after_training(layer)
    return network


def shapes_of(build: str, height: int, width: int) -> tuple[LayerShape, ...]:
    shape = InputShape(channels=2, height=height, width=width, classes=3)
    return layer_shapes(ModelSpace(network="mine", build=f"{__name__}:{build}"), shape, source="test")


def test_a_shortcut_is_computed_only_where_a_layer_takes_it(plain_neurons: None) -> None:
    network = build_residuals(InputShape(channels=2, height=5, width=7, classes=3))
    values = torch.randint(0, 3, (STEPS * SAMPLES, 2, 5, 7), generator=torch.Generator().manual_seed(1)).float()
    with measured(network) as activities:
        network(Spikes(values=values, time_steps=STEPS, largest=3))
    shapes = {shape.name: shape for shape in shapes_of("build_residuals", 5, 7)}
    assert [shapes[name].positions for name in ("first", "shortcut", "pooling", "identity")] == [35, 24, 24, 24]
    for name in ("first", "shortcut", "pooling", "identity"):
        assert activities[name].total("effective_macs") == shapes[name].dense_macs * STEPS * SAMPLES, name
    config = NetworkConfig(time_steps=1, layers=tuple((name, LayerPrecision()) for name in shapes))
    assert cost_report(tuple(shapes.values()), config).membrane_bytes == 4 * 4 * (35 + 24 + 24)


def test_a_residual_of_the_whole_map_and_one_of_what_is_taken_are_the_same(plain_neurons: None) -> None:
    layer = precise(a_layer("after", inputs=4, outputs=4), 4, 3)
    values = torch.randint(0, 2, (STEPS * SAMPLES, 4, 5, 7), generator=torch.Generator().manual_seed(1)).float()
    spikes, residual = Spikes(values=values, time_steps=STEPS), torch.randn(STEPS * SAMPLES, 4, 5, 7)
    for training in (False, True):
        layer.train(training)
        whole, taken = layer(spikes, residual), layer(spikes, residual[:, :, :4, :6])
        assert torch.equal(whole.values, taken.values)
    with pytest.raises(ValueError, match=r"\(4, 4, 5, 7\); got \(4, 4, 5, 6\)"):
        layer(spikes, residual[:, :, :, :6])
