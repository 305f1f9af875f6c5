"""The operations that layers count, against slow loops and by hand."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from layers_by_loops import (
    BATCH,
    TIME,
    Array,
    Pool,
    a_layer,
    a_residual,
    array,
    blocks,
    forms,
    four_channels,
    pools,
    pools_before,
    precise,
    slow_layer,
    whole_numbers,
)
from torch import Tensor

from spquant_search.snn.activity import Activity, read_together
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d


def kernels_of(layer: SpikingConv2d, y: int, x: int, height: int, width: int) -> list[tuple[slice, slice]]:
    """The rows and columns of the input under the kernel of every output that the neuron at y, x takes in."""
    (rows, columns), (down, across) = layer.kernel.sizes, layer.kernel.strides
    left, right, top, bottom = layer.kernel.padding
    outputs = [(y, x)]
    if pools_before(layer) and layer.pool is not None:
        size = (height + top + bottom - rows) // down + 1, (width + left + right - columns) // across + 1
        outputs = blocks(layer.pool.window, *size)[y][x]
    corners = [(i * down - top, j * across - left) for i, j in outputs]
    return [(slice(max(0, i), max(0, i + rows)), slice(max(0, j), max(0, j + columns))) for i, j in corners]


def slow_counts(layer: SpikingConv2d, spikes: Spikes, residual: Array | float = 0.0) -> dict[str, float]:
    """The figures per sample, output by output, as the contract of design and docstrings defines them."""
    fired, computed, opened = slow_layer(layer, spikes, residual)
    values = array(spikes.values)
    samples, inputs = values.shape[:2]
    inputs_open = np.ones((samples, inputs)) if spikes.open is None else spikes.open.numpy()
    per_group = inputs // layer.groups, layer.out_channels // layer.groups
    macs = operations = 0
    for sample, channel, y, x in itertools.product(
        range(samples), range(layer.out_channels), *map(range, computed.shape[2:])
    ):
        if not opened[sample, channel] or not computed[sample, channel, y, x]:
            continue
        first = channel // per_group[1] * per_group[0]
        connected = slice(first, first + per_group[0])
        # The padding of a pool is counted as that of a kernel is: in the products, and not in the operations.
        outputs = layer.pool.window.area if pools_before(layer) and layer.pool is not None else 1
        macs += outputs * layer.weight[0, 0].numel() * inputs_open[sample, connected].sum()
        for rows, columns in kernels_of(layer, y, x, *values.shape[2:]):
            operations += np.count_nonzero(values[sample, connected, rows, columns])
    if layer.precision.channel_mass < 1:
        macs += samples * inputs * layer.out_channels
        operations += np.count_nonzero(values.sum(axis=(2, 3))) * layer.out_channels
    return {
        "effective_macs": macs / BATCH,
        "synaptic_ops": operations / BATCH,
        "density": float(fired.mean()),
        "open_share": float(opened.mean()),
    }


def measured_counts(layer: SpikingConv2d, spikes: Spikes, residual: Tensor | None = None) -> dict[str, float]:
    layer.activity = Activity()
    layer(spikes, residual)
    found = layer.activity.per_sample()
    return {name: getattr(found, name) for name in ("effective_macs", "synaptic_ops", "density", "open_share")}


@pools
@pytest.mark.parametrize("size", [(6, 4), (5, 7)])
@pytest.mark.parametrize(("mass", "skip"), [(1.0, None), (0.8, None), (1.0, 0.0), (0.8, 0.0)])
@pytest.mark.parametrize("inputs_gated", [False, True])
def test_operations_are_those_that_loops_count(
    inputs_gated: bool, mass: float, skip: float | None, size: tuple[int, int], pool: Pool, plain_neurons: None
) -> None:
    layer = precise(a_layer(pool), 4, 5, mass=mass, skip=skip)
    opened = None
    values = whole_numbers(3, *size, largest=3)
    if inputs_gated:
        opened = torch.rand(TIME * BATCH, 3, generator=torch.Generator().manual_seed(5)) > 0.4
        values = values * opened[:, :, None, None]
    spikes = Spikes(values=values, time_steps=TIME, largest=3, open=opened)
    expected = slow_counts(layer, spikes)
    assert measured_counts(layer, spikes) == pytest.approx(expected, rel=1e-6)
    dense = layer.shape("conv2", spikes).dense_macs * TIME
    if mass == 1.0 and skip is None and not inputs_gated:
        assert expected["effective_macs"] == dense
    else:
        assert 0 < expected["effective_macs"] < dense
    assert expected["synaptic_ops"] < expected["effective_macs"]


@forms
@pytest.mark.parametrize(("mass", "skip"), [(1.0, None), (0.8, None), (1.0, 0.0), (0.8, 0.0)])
@pytest.mark.parametrize("adds", [False, True])
def test_operations_of_other_forms_are_those_that_loops_count(
    form: dict[str, Any], adds: bool, mass: float, skip: float | None, plain_neurons: None
) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8, **form), 4, 5, mass=mass, skip=skip), four_channels()
    residual = a_residual(layer, spikes) if adds else None
    expected = slow_counts(layer, spikes, 0.0 if residual is None else array(residual))
    assert measured_counts(layer, spikes, residual) == pytest.approx(expected, rel=1e-6)
    all_open = replace(spikes, open=None)
    shape = layer.shape("conv2", spikes)
    if mass == 1.0 and skip is None:
        assert measured_counts(layer, all_open, residual)["effective_macs"] == shape.dense_macs * TIME
    else:
        unlimited = precise(layer, 4, 5)
        assert expected["effective_macs"] < slow_counts(unlimited, all_open)["effective_macs"] + predictor(layer, mass)
    assert shape.neurons == math.prod(layer.evaluation_current(spikes).shape[1:])
    assert shape.weights == layer.weight.numel()


def predictor(layer: SpikingConv2d, mass: float) -> float:
    """The gate's own operations, of one sample."""
    return 0.0 if mass == 1.0 else float(TIME * layer.in_channels * layer.out_channels)


def test_a_hand_worked_layer(plain_neurons: None) -> None:
    """1 channel to 1, 2x2 pixels, kernel 3 with weights 1, two time steps, the current is the sum less 1.5."""
    layer = precise(SpikingConv2d(1, 1).eval(), 2, 3, skip=0.0)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.norm.eps = 0.0
        layer.norm.bias.fill_(-1.5)
    # Step 1: one spike, seen by all 4 outputs: u = -.5, a tie, stored as 0. No output is skipped in step 2.
    # Step 2: no spike: u = -1.5, stored as -1. Step 3: all 4 are skipped though all 4 inputs spike; they leak to 0.
    # Step 4: all 4 inputs spike, seen by all outputs: u = 2.5, 4 spikes.
    frames = torch.zeros(4, 1, 2, 2)
    frames[0, 0, 0, 0] = 1.0
    frames[2:] = 1.0
    spikes = Spikes(values=frames, time_steps=4)
    layer.activity = Activity()
    out = layer(spikes)
    assert out.values.sum(dim=(1, 2, 3)).tolist() == [0.0, 0.0, 0.0, 4.0]
    found = layer.activity.per_sample()
    assert found.effective_macs == 3 * 4 * 9  # three steps of four outputs with nine products
    assert found.synaptic_ops == 4 + 0 + 0 + 16
    assert found.density == 4 / 16
    assert found.open_share == 1.0
    assert layer.shape("conv1", Spikes(values=frames, time_steps=1)).dense_macs * 4 == 4 * 4 * 9


def test_a_hand_worked_gate_and_read_out(plain_neurons: None) -> None:
    """2 channels to 2, 1x1 pixels, kernel 1; the gate passes output 0 where input 0 spikes, output 1 never."""
    layer = precise(SpikingConv2d(2, 2, kernel_size=1).eval(), 2, 3, mass=0.5)
    assert layer.gate is not None
    with torch.no_grad():
        layer.weight.fill_(5.0)
        layer.gate.weight.copy_(torch.tensor([[1.0, -1.0], [-1.0, -1.0]]))
        layer.gate.bias.fill_(-0.5)
    # Inputs (1, 0), (0, 0), (0, 1): output 0 open, none open (bias below zero), none open.
    frames = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0]])[:, :, None, None]
    spikes = Spikes(values=frames, time_steps=3)
    layer.activity = Activity()
    out = layer(spikes)
    assert out.open is not None
    assert out.open.tolist() == [[True, False], [False, False], [False, False]]
    found = layer.activity.per_sample()
    assert found.effective_macs == 1 * 2 + 3 * 4  # one output of two inputs; the predictor, 4 products in each step
    assert found.synaptic_ops == 1 + 2 * 2  # the spike at the open output; two spikes at the predictor's two outputs
    assert found.density == 1 / 6
    assert found.open_share == 1 / 6

    readout = Readout(2, 1, 10)
    readout.activity = Activity()
    readout(out)
    found = readout.activity.per_sample()
    assert found.effective_macs == 1 * 10  # one open input channel in one step
    assert found.synaptic_ops == 1 * 10
    assert found.density == 0.0
    assert found.open_share == 1.0


def test_a_read_out_counts_all_pixels_of_its_open_channels() -> None:
    readout = Readout(3, 4, 10)
    opened = torch.tensor([[True, False, True]] * (TIME * BATCH))
    values = whole_numbers(3, 2, 2) * opened[:, :, None, None]
    readout.activity = Activity()
    readout(Spikes(values=values, time_steps=TIME, open=opened))
    found = readout.activity.per_sample()
    assert found.effective_macs == TIME * 2 * 4 * 10
    assert found.synaptic_ops == np.count_nonzero(array(values)) * 10 / BATCH


def test_nothing_measured_is_all_zero_and_fully_open() -> None:
    found = Activity().per_sample()
    assert (found.effective_macs, found.synaptic_ops, found.density, found.open_share) == (0.0, 0.0, 0.0, 1.0)


def test_several_layers_are_read_together_and_go_on_counting() -> None:
    first, second = Activity(), Activity()
    for number in range(3):
        first.add("spikes", torch.tensor([1.0, 2.0]))
        first.add("neuron_steps", 10)
        second.add("spikes", torch.full((2, 2), float(number)))
        if number == 1:
            read_together([first, second])
            read_together([first])
    read_together([Activity()])
    assert [activity.total("spikes") for activity in (first, second)] == [9.0, 12.0]
    assert (first.total("neuron_steps"), second.total("neuron_steps")) == (30.0, 0.0)
