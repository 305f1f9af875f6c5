"""A spiking convolution by slow loops in double precision, and layers to hold against it."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.pools import Pool as PoolOf
from spquant_search.snn.quantize import quantize_weight
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.grid import membrane_grid
from spquant_search.space.schema import NeuronSpace

Pool = Literal["before", "max-before", "after", "max"] | None
Array = NDArray[np.float64]
TIME, BATCH = 3, 2
NEURON = NeuronSpace()
pools = pytest.mark.parametrize("pool", [None, "before", "max-before", "after", "max"])
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
    "2x3, strides, four paddings": {"kernel_size": (2, 3), "stride": (1, 3), "padding": (0, 2, 1, 3)},
    "the whole map": {"kernel_size": (7, 6), "padding": 0, "norm": False},
    "4x1, largest of 3x3 currents": {"kernel_size": (4, 1), "padding": 1, "pool": PoolOf("max-before", 3, 2, 1)},
    "3x3 sums, padded": {"kernel_size": 2, "padding": (1, 0), "pool": PoolOf("before", 3, 2, 1)},
    "3x2 sums, groups": {"groups": 2, "stride": (2, 1), "padding": 2, "pool": PoolOf("before", (3, 2), (1, 3))},
    "largest of 3x3 spikes": {"pool": PoolOf("max", 3, 2, 1)},
    "averages of 3x2 spikes": {"stride": (1, 2), "pool": PoolOf("after", (3, 2), 1, (1, 0))},
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


def slow_convolution(
    values: Array,
    weight: Array,
    *,
    stride: int | tuple[int, int] = 1,
    padding: tuple[int, int, int, int] | None = None,
) -> Array:
    """Output [sample, out, y, x] by loops, zero outside the image; a weight of fewer inputs falls into groups.

    ``padding`` is left, right, top, bottom; None: half of the kernel.
    """
    samples, inputs, height, width = values.shape
    groups = inputs // weight.shape[1]
    rows, columns = weight.shape[2:]
    left, right, top, bottom = padding or (columns // 2, columns // 2, rows // 2, rows // 2)
    down, across = stride if isinstance(stride, tuple) else (stride, stride)
    tops = range(-top, height + bottom - rows + 1, down)
    lefts = range(-left, width + right - columns + 1, across)
    out = np.zeros((samples, len(weight), len(tops), len(lefts)))
    for (i, y), (j, x), dy, dx in itertools.product(enumerate(tops), enumerate(lefts), range(rows), range(columns)):
        if 0 <= y + dy < height and 0 <= x + dx < width:
            seen = np.split(values[:, :, y + dy, x + dx], groups, axis=1)
            kernels = np.split(weight[:, :, dy, dx], groups, axis=0)
            parts = [one @ kernel.T for one, kernel in zip(seen, kernels, strict=True)]
            out[:, :, i, j] += np.concatenate(parts, axis=1)
    return out


def convolved(layer: SpikingConv2d | Shortcut, values: Array, weight: Array) -> Array:
    return slow_convolution(values, weight, stride=layer.kernel.strides, padding=layer.kernel.padding)


def blocks(window: Any, height: int, width: int) -> list[list[list[tuple[int, int]]]]:
    """The pixels of a map that lie under each place of a window."""
    (rows, columns), (down, across) = window.sizes, window.strides
    left, right, top, bottom = window.padding
    return [
        [
            [
                (y, x)
                for y in range(begin, begin + rows)
                for x in range(first, first + columns)
                if 0 <= y < height and 0 <= x < width
            ]
            for first in range(-left, width + right - columns + 1, across)
        ]
        for begin in range(-top, height + bottom - rows + 1, down)
    ]


def slow_pool(values: Array, window: Any = None, *, largest: bool = False) -> Array:
    """The mean of every whole block, 2x2 if none is given, in which padding is 0; or the largest, which it never is."""
    if window is None:
        height, width = values.shape[2] // 2, values.shape[3] // 2
        corners = [values[:, :, y : 2 * height : 2, x : 2 * width : 2] for y in (0, 1) for x in (0, 1)]
        return np.mean(corners, axis=0)
    rows = []
    for row in blocks(window, *values.shape[2:]):
        seen = [np.stack([values[:, :, y, x] for y, x in block], axis=-1) for block in row]
        rows.append(np.stack([one.max(-1) if largest else one.sum(-1) / window.area for one in seen], axis=-1))
    return np.stack(rows, axis=2)


def pools_before(layer: SpikingConv2d | Shortcut) -> bool:
    return layer.pool is not None and layer.pool.is_before


def taken(layer: SpikingConv2d | Shortcut, values: Array) -> Array:
    """Leave out the last rows and columns that pooling behind the neurons has no block for."""
    if layer.pool is None or layer.pool.is_before:
        return values
    found = [pixel for row in blocks(layer.pool.window, *values.shape[2:]) for block in row for pixel in block]
    return values[:, :, : max(y for y, _ in found) + 1, : max(x for _, x in found) + 1]


def pooled_before(layer: SpikingConv2d | Shortcut, sums: Array, affine: Callable[[Array], Array]) -> Array:
    """The current of sums, ``affine`` of them: an average is pooled before it, a maximum behind it."""
    if layer.pool is not None and layer.pool.kind == "before":
        return affine(slow_pool(sums, layer.pool.window))
    if layer.pool is not None and layer.pool.kind == "max-before":
        return slow_pool(affine(sums), layer.pool.window, largest=True)
    return taken(layer, affine(sums))


def slow_current(layer: SpikingConv2d | Shortcut, spikes: Spikes) -> Array:
    """What evaluation is defined as: a * A + d, of a and d rounded to what one number of fraction bits leaves them."""
    bits = layer.precision.weight_bits
    if bits == FLOAT_BITS:
        return slow_real_current(layer, spikes)
    integers, scale = quantize_weight(layer.weight, bits)
    sums = convolved(layer, array(spikes.values), array(integers))
    slope, offset = (array(one) for one in layer.real_affine(scale, spikes.divisor))
    unit = 2.0 ** -fraction_bits(slope, offset)
    column = (slice(None), None, None)
    terms = layer.pool.window.area if layer.pool is not None and layer.pool.kind == "before" else 1
    slope, offset = np.rint(slope / unit)[column] * unit, np.rint(offset / unit)[column] * unit
    return pooled_before(layer, sums, lambda sums: slope * (terms * sums) + offset)


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
    largest_sum = abs(array(integers)).sum(axis=(1, 2, 3)).max() * spikes.largest * layer.terms
    bound = (largest_sum + 1) / 2 * 2.0 ** -fraction_bits(slope, offset)
    assert abs(array(found) - slow_real_current(layer, spikes)).max() <= bound + atol


def slow_real_current(layer: SpikingConv2d | Shortcut, spikes: Spikes) -> Array:
    """Batch norm of the pooled convolution of real-valued weights with real-valued inputs, in double precision."""
    integers, scale = quantize_weight(layer.weight, layer.precision.weight_bits)
    values = array(spikes.values) / spikes.divisor
    summed = convolved(layer, values, array(integers * scale))
    norm = layer.norm
    if norm is None:
        assert layer.bias is not None
        bias = array(layer.bias)[:, None, None]
        return pooled_before(layer, summed, lambda sums: sums + bias)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance, gamma, beta = map(array, (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    column = (slice(None), None, None)
    slope = (gamma / np.sqrt(variance + norm.eps))[column]
    return pooled_before(layer, summed, lambda sums: (sums - mean[column]) * slope + beta[column])


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
