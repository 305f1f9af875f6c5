"""A spiking convolution by slow loops in double precision, and layers to hold against it."""

from __future__ import annotations

import itertools
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.quantize import quantize_weight
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.grid import membrane_grid
from spquant_search.space.schema import NeuronSpace

Pool = Literal["before", "after", "max"] | None
Array = NDArray[np.float64]
TIME, BATCH = 3, 2
NEURON = NeuronSpace()
pools = pytest.mark.parametrize("pool", [None, "before", "after", "max"])
# Layers of other forms than a 3x3 convolution of all channels at every pixel, from 4 channels to 8.
FORMS: dict[str, dict[str, Any]] = {
    "stride 2": {"stride": 2},
    "7x7, stride 2": {"kernel_size": 7, "stride": 2},
    "7x7, stride 2, pooled before": {"kernel_size": 7, "stride": 2, "pool": "before"},
    "1x1, stride 2": {"kernel_size": 1, "stride": 2},
    "depthwise": {"groups": 4},
    "depthwise, stride 2": {"groups": 4, "stride": 2},
    "two groups, pooled before": {"groups": 2, "pool": "before"},
    "without norm": {"kernel_size": 1, "norm": False},
}
forms = pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))


def whole_numbers(channels: int, height: int, width: int, *, largest: int = 1, seed: int = 0) -> Tensor:
    """[TIME * BATCH, channels, height, width]; more than half of them zero."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-largest, largest + 1, (TIME * BATCH, channels, height, width), generator=generator)
    return numbers.clamp(min=0).float()


def a_layer(pool: Pool = None, *, inputs: int = 3, outputs: int = 4, seed: int = 0, **options: Any) -> SpikingConv2d:
    """In evaluation, with batch-norm values as after training, some of them negative, and a gate that knows nothing."""
    torch.manual_seed(seed)
    layer = SpikingConv2d(inputs, outputs, pool=pool, **options).eval()
    with torch.no_grad():
        as_after_training(layer)
        if layer.gate is not None:
            layer.gate.weight.normal_()
            layer.gate.bias.normal_(std=0.1)
    return layer


def as_after_training(layer: SpikingConv2d | Shortcut) -> None:
    norm = layer.norm
    if norm is None:
        assert layer.bias is not None
        layer.bias.uniform_(-0.5, 1.0)
        return
    norm.weight.copy_(torch.linspace(-1.5, 2.5, layer.out_channels))
    norm.bias.uniform_(-0.5, 1.0)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    norm.running_mean.uniform_(-0.2, 0.2)
    norm.running_var.uniform_(0.05, 0.5)


def precise(
    layer: SpikingConv2d, bits: int, levels: int, *, mass: float = 1.0, skip: float | None = None
) -> SpikingConv2d:
    layer.set_precision(
        LayerPrecision(weight_bits=bits, membrane_levels=levels, channel_mass=mass, skip_below=skip), NEURON
    )
    return layer


def array(tensor: Tensor) -> Array:
    return tensor.detach().double().numpy()


def slow_convolution(values: Array, weight: Array, *, stride: int = 1) -> Array:
    """Output [sample, out, y, x] by loops, zero outside the image; a weight of fewer inputs falls into groups."""
    samples, inputs, height, width = values.shape
    groups = inputs // weight.shape[1]
    reach = weight.shape[2] // 2
    out = np.zeros((samples, len(weight), height, width))
    for y, x, dy, dx in itertools.product(range(height), range(width), *(2 * [range(-reach, reach + 1)])):
        if 0 <= y + dy < height and 0 <= x + dx < width:
            seen = np.split(values[:, :, y + dy, x + dx], groups, axis=1)
            kernels = np.split(weight[:, :, dy + reach, dx + reach], groups, axis=0)
            parts = [one @ kernel.T for one, kernel in zip(seen, kernels, strict=True)]
            out[:, :, y, x] += np.concatenate(parts, axis=1)
    return out[:, :, ::stride, ::stride]


def slow_pool(values: Array) -> Array:
    """The mean of every whole 2x2 block."""
    height, width = values.shape[2] // 2, values.shape[3] // 2
    corners = [values[:, :, y : 2 * height : 2, x : 2 * width : 2] for y in (0, 1) for x in (0, 1)]
    return np.mean(corners, axis=0)


def taken(layer: SpikingConv2d | Shortcut, values: Array) -> Array:
    """Leave out the last row and column that pooling behind the neurons has no block for."""
    if layer.pool not in ("after", "max"):
        return values
    return values[:, :, : values.shape[2] // 2 * 2, : values.shape[3] // 2 * 2]


def slow_current(layer: SpikingConv2d | Shortcut, spikes: Spikes) -> Array:
    """What evaluation is defined as: a * A + d, of a and d rounded to what one number of fraction bits leaves them."""
    bits = layer.precision.weight_bits
    if bits == FLOAT_BITS:
        return slow_real_current(layer, spikes)
    integers, scale = quantize_weight(layer.weight, bits)
    sums = slow_convolution(array(spikes.values), array(integers), stride=layer.stride)
    if layer.pools_before:
        sums = 4 * slow_pool(sums)
    slope, offset = (array(one) for one in layer.real_affine(scale, spikes.divisor))
    unit = 2.0 ** -fraction_bits(slope, offset)
    column = (slice(None), None, None)
    return taken(layer, np.rint(slope / unit)[column] * unit * sums + np.rint(offset / unit)[column] * unit)


def fraction_bits(slope: Array, offset: Array) -> int:
    """The most, up to 24, with which all slopes fit 16 bits and all offsets 32."""
    return next(n for n in range(24, -1, -1) if abs(slope).max() * 2**n < 2**15 and abs(offset).max() * 2**n < 2**31)


def assert_current(found: Tensor, layer: SpikingConv2d | Shortcut, spikes: Spikes, *, atol: float) -> None:
    """As evaluation is defined, exactly, and off what is meant by the rounding of a and d alone; in floats by atol."""
    if layer.precision.weight_bits == FLOAT_BITS:
        np.testing.assert_allclose(array(found), slow_real_current(layer, spikes), atol=atol)
        return
    np.testing.assert_array_equal(array(found), slow_current(layer, spikes))
    integers, scale = quantize_weight(layer.weight, layer.precision.weight_bits)
    slope, offset = (array(one) for one in layer.real_affine(scale, spikes.divisor))
    largest_sum = abs(array(integers)).sum(axis=(1, 2, 3)).max() * spikes.largest * (4 if layer.pools_before else 1)
    bound = (largest_sum + 1) / 2 * 2.0 ** -fraction_bits(slope, offset)
    assert abs(array(found) - slow_real_current(layer, spikes)).max() <= bound + atol


def slow_real_current(layer: SpikingConv2d | Shortcut, spikes: Spikes) -> Array:
    """Batch norm of the pooled convolution of real-valued weights with real-valued inputs, in double precision."""
    integers, scale = quantize_weight(layer.weight, layer.precision.weight_bits)
    values = array(spikes.values) / spikes.divisor
    summed = slow_convolution(values, array(integers * scale), stride=layer.stride)
    if layer.pools_before:
        summed = slow_pool(summed)
    norm = layer.norm
    if norm is None:
        assert layer.bias is not None
        return taken(layer, summed + array(layer.bias)[:, None, None])
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance, gamma, beta = map(array, (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    column = (slice(None), None, None)
    return taken(layer, (summed - mean[column]) / np.sqrt(variance[column] + norm.eps) * gamma[column] + beta[column])


def slow_neuron(current: Array, *, levels: int, skip: float | None) -> tuple[Array, NDArray[np.bool_]]:
    """Spikes, and which neurons were computed, of [time, ...]; the leak is 1/2."""
    stored = np.zeros(current.shape[1:])
    spikes, computed = [], []
    for frame in current:
        computed.append(stored >= (-np.inf if skip is None else skip))
        potential = stored / 2 + np.where(computed[-1], frame, 0.0)
        spikes.append(potential > 1)
        stored = np.where(potential > 1, 0.0, potential)
        if levels:
            # Nearest level: of the candidates in order of their distance from zero, the first that is nearest.
            grid = np.array(sorted(membrane_grid(levels).values, key=abs))
            stored = grid[np.abs(stored[..., None] - grid).argmin(axis=-1)]
    return np.stack(spikes).astype(float), np.stack(computed)


def by_time(values: Array) -> Array:
    return values.reshape(TIME, BATCH, *values.shape[1:])


def slow_layer(
    layer: SpikingConv2d, spikes: Spikes, residual: Array | float = 0.0
) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Spikes before any pooling, which neurons were not skipped, and which channels were open."""
    current = slow_current(layer, spikes)
    opened = np.ones(current.shape[:2], dtype=bool)
    if layer.precision.channel_mass < 1:
        assert layer.gate is not None
        counts = array(spikes.values).sum(axis=(2, 3))
        opened = counts @ array(layer.gate.integers(layer.precision.channel_mass)).T > 0
    current = current * opened[:, :, None, None] + residual
    fired, computed = slow_neuron(
        by_time(current), levels=layer.precision.membrane_levels or 0, skip=layer.precision.skip_below
    )
    return fired.reshape(current.shape), computed.reshape(current.shape), opened


def four_channels(seed: int = 0) -> Spikes:
    """Whole numbers up to 4, over 4, on 7x6 pixels; the second channel is closed in half of the time steps."""
    opened = torch.ones(TIME * BATCH, 4, dtype=torch.bool)
    opened[::2, 1] = False
    values = whole_numbers(4, 7, 6, largest=4, seed=seed) * opened[:, :, None, None]
    return Spikes(values=values, time_steps=TIME, largest=4, divisor=4, open=opened)


def a_residual(layer: SpikingConv2d, spikes: Spikes) -> Tensor:
    """Some current of the shape of the layer's own."""
    shape = layer.evaluation_current(spikes).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))
