"""One layer in its one defined form of evaluation, in training, and what is counted of it, against slow loops."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.activity import Activity
from spquant_search.snn.convolution import Shortcut, pooled_kernel
from spquant_search.snn.layers import measured
from spquant_search.snn.networks.vgg import Vgg9
from spquant_search.snn.neuron.parameters import THRESHOLD
from spquant_search.snn.neuron.reference import fire_step_by_step
from spquant_search.snn.neuron.training import fire
from spquant_search.snn.quantize import highest_integer, quantize_membrane, quantize_weight
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.fields import Quantizer
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


# The evaluation form


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
    return np.rint(slope / unit)[column] * unit * sums + np.rint(offset / unit)[column] * unit


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
        return summed + array(layer.bias)[:, None, None]
    assert norm.running_mean is not None
    assert norm.running_var is not None
    mean, variance, gamma, beta = map(array, (norm.running_mean, norm.running_var, norm.weight, norm.bias))
    column = (slice(None), None, None)
    return (summed - mean[column]) / np.sqrt(variance[column] + norm.eps) * gamma[column] + beta[column]


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


@pools
@pytest.mark.parametrize("bits", [1, 8, 32])
@pytest.mark.parametrize("largest", [4, 200_000], ids=["small-sums", "sums-beyond-fp32"])
def test_a_norm_in_training_normalizes_an_evaluation_by_its_batch(pool: Pool, bits: int, largest: int) -> None:
    layer = precise(a_layer(pool), bits, 3)
    spikes = Spikes(values=whole_numbers(3, 6, 5, largest=largest), time_steps=TIME, largest=largest, divisor=4)
    norm = layer.norm
    assert norm is not None
    norm.train().reset_running_stats()
    with torch.no_grad():
        found = layer._evaluation_current(spikes)
        gathered = norm.running_mean.clone(), norm.running_var.clone()
        norm.reset_running_stats()
        expected = layer.train()._training_current(spikes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gathered, (norm.running_mean, norm.running_var), rtol=1e-4, atol=1e-4)


@pools
@pytest.mark.parametrize(("bits", "levels"), [(1, 3), (2, 3), (3, 4), (4, 16), (8, 256), (32, 0), (32, 5), (2, 0)])
def test_evaluation_is_the_slow_double_precision_layer(bits: int, levels: int, pool: Pool, plain_neurons: None) -> None:
    layer = precise(a_layer(pool), bits, levels)
    # The second layer of a network whose first pools after the neuron: whole numbers up to 4, over 4.
    spikes = Spikes(values=whole_numbers(3, 6, 5, largest=4), time_steps=TIME, largest=4, divisor=4)
    assert_current(layer._evaluation_current(spikes), layer, spikes, atol=2e-6)
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


@pools
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_integers_are_convolved_exactly(bits: int, pool: Pool) -> None:
    layer = precise(a_layer(pool, inputs=7, outputs=5), bits, 3)
    values = whole_numbers(7, 7, 6, largest=15)
    integers, _ = quantize_weight(layer.weight, bits)
    expected = slow_convolution(array(values), array(integers))
    if pool == "before":
        expected = 4 * slow_pool(expected)
    np.testing.assert_array_equal(array(layer._integer_sums(values, integers, 15).round()), expected)


@pytest.mark.parametrize("pool", [None, "before"])
def test_sums_beyond_what_fp32_adds_exactly_are_still_exact(pool: Pool) -> None:
    inputs = 4500
    layer = precise(a_layer(pool, inputs=inputs, outputs=1), 8, 3)
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 16, (1, inputs, 4, 4), generator=generator).float()
    integers = torch.randint(0, 128, (1, inputs, 3, 3), generator=generator).float()
    expected = slow_convolution(array(values), array(integers))
    if pool == "before":
        expected = 4 * slow_pool(expected)
    assert expected.max() > 2**24
    assert (expected != expected.astype(np.float32)).any()
    np.testing.assert_array_equal(array(layer._integer_sums(values, integers, 15).round()), expected)


@pools
@pytest.mark.parametrize("largest", [1, 15])
def test_rounding_undoes_a_convolution_that_is_a_little_off(
    largest: int, pool: Pool, monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    layer = precise(a_layer(pool), 4, 3)
    spikes = Spikes(values=whole_numbers(3, 6, 6, largest=largest), time_steps=TIME, largest=largest)
    current, fired = layer._evaluation_current(spikes), layer(spikes).values
    assert fired.any()
    convolve = layer._convolve
    monkeypatch.setattr(layer, "_convolve", lambda *arguments: convolve(*arguments) + 1e-3)
    assert torch.equal(layer._evaluation_current(spikes), current)
    assert torch.equal(layer(spikes).values, fired)


@pytest.mark.parametrize("size", [(6, 6), (7, 6), (5, 7), (2, 3)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_pooled_kernel_is_the_convolution_followed_by_pooling(kernel_size: int, size: tuple[int, int]) -> None:
    weight = torch.randn(4, 3, kernel_size, kernel_size, generator=torch.Generator().manual_seed(0))
    values = whole_numbers(3, *size, largest=9)
    pooled = F.conv2d(values, pooled_kernel(weight), stride=2, padding=kernel_size // 2)
    expected = 4 * slow_pool(slow_convolution(array(values), array(weight)))
    np.testing.assert_allclose(array(pooled), expected, atol=1e-4)


def test_samples_and_time_steps_do_not_mix(plain_neurons: None) -> None:
    layer = precise(a_layer("before"), 4, 16, mass=0.8, skip=0.0)
    values = whole_numbers(3, 6, 6)
    together = layer(Spikes(values=values, time_steps=TIME)).values
    for sample in range(BATCH):
        alone = layer(Spikes(values=values[sample::BATCH], time_steps=TIME)).values
        assert torch.equal(together[sample::BATCH], alone)


# Strides, groups, residuals and shortcuts


def four_channels(seed: int = 0) -> Spikes:
    """Whole numbers up to 4, over 4, on 7x6 pixels; the second channel is closed in half of the time steps."""
    opened = torch.ones(TIME * BATCH, 4, dtype=torch.bool)
    opened[::2, 1] = False
    values = whole_numbers(4, 7, 6, largest=4, seed=seed) * opened[:, :, None, None]
    return Spikes(values=values, time_steps=TIME, largest=4, divisor=4, open=opened)


def a_residual(layer: SpikingConv2d, spikes: Spikes) -> Tensor:
    """Some current of the shape of the layer's own."""
    shape = layer._evaluation_current(spikes).shape
    return torch.randn(shape, generator=torch.Generator().manual_seed(7))


@forms
@pytest.mark.parametrize("bits", [3, 32])
def test_evaluation_of_other_forms_is_the_slow_layer(form: dict[str, Any], bits: int, plain_neurons: None) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8, **form), bits, 16, mass=0.8, skip=0.0), four_channels()
    assert_current(layer._evaluation_current(spikes), layer, spikes, atol=4e-6)
    residual = a_residual(layer, spikes)
    for added in (None, residual):
        expected, _, _ = slow_layer(layer, spikes, 0.0 if added is None else array(added))
        assert 0.0 < expected.mean() < 0.9
        np.testing.assert_array_equal(array(layer(spikes, added).values), expected)


@forms
@pytest.mark.parametrize("bits", [1, 8])
def test_integers_of_other_forms_are_convolved_exactly(form: dict[str, Any], bits: int) -> None:
    layer = precise(a_layer(inputs=4, outputs=8, **form), bits, 3)
    values = whole_numbers(4, 7, 6, largest=15)
    integers, _ = quantize_weight(layer.weight, bits)
    expected = slow_convolution(array(values), array(integers), stride=layer.stride)
    if layer.pool == "before":
        expected = 4 * slow_pool(expected)
    np.testing.assert_array_equal(array(layer._integer_sums(values, integers, 15).round()), expected)


@pytest.mark.parametrize("size", [(9, 8), (7, 10), (5, 6)])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_a_pooled_kernel_of_stride_2(kernel_size: int, size: tuple[int, int]) -> None:
    weight = torch.randn(4, 3, kernel_size, kernel_size, generator=torch.Generator().manual_seed(0))
    values = whole_numbers(3, *size, largest=9)
    pooled = F.conv2d(values, pooled_kernel(weight, 2), stride=4, padding=kernel_size // 2)
    expected = 4 * slow_pool(slow_convolution(array(values), array(weight), stride=2))
    np.testing.assert_allclose(array(pooled), expected, atol=1e-4)


@pytest.mark.usefixtures("plain_neurons")
@forms
@pytest.mark.parametrize("bits", [4, 32])
def test_other_forms_with_the_batch_as_its_statistics_evaluate_as_they_train(form: dict[str, Any], bits: int) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8, **form), bits, 3).train(), four_channels()
    if layer.norm is not None:
        layer.norm.momentum = 1.0
    in_training = layer._training_current(spikes)
    if layer.norm is not None:
        assert layer.norm.running_var is not None
        numbers = in_training.numel() // in_training.shape[1]
        layer.norm.running_var.mul_((numbers - 1) / numbers)
    in_evaluation = layer.eval()._evaluation_current(spikes).float()
    torch.testing.assert_close(in_evaluation, in_training, rtol=1e-3, atol=1e-3)  # a and d are rounded in evaluation


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


@pytest.mark.parametrize(("quantizer", "bits"), [("sawb", 4), ("mean", 3), ("ternary-mean", 2)])
def test_a_layer_computes_with_what_its_quantizer_makes_of_its_weight(quantizer: Quantizer, bits: int) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8), bits, 3), four_channels()
    assert layer.norm is not None
    layer.norm.momentum = 0.0  # its statistics stay
    readout = Readout(4, spikes.values[0, 0].numel(), 3).eval()
    readout.set_precision(LayerPrecision(weight_bits=bits, membrane_levels=None), NEURON)

    def says() -> tuple[Tensor, ...]:
        trained = layer.train()._training_current(spikes)
        return trained, layer.eval()._evaluation_current(spikes).float(), readout(spikes).sum(dim=0).float()

    by_default = says()
    for one in (layer, readout):
        one.quantizers = {bits: quantizer}
    found = says()
    assert all(not torch.allclose(now, before) for now, before in zip(found, by_default, strict=True))
    with torch.no_grad():
        for weight, per_tensor in ((layer.weight, False), (readout.linear.weight, True)):
            integers, scale = quantize_weight(weight, bits, quantizer=quantizer, per_tensor=per_tensor)
            weight.copy_(integers * scale)
    readout.set_precision(LayerPrecision(membrane_levels=None), NEURON)
    precise(layer, 32, 3)
    for now, wanted in zip(found, says(), strict=True):
        torch.testing.assert_close(now, wanted, rtol=1e-3, atol=0.05)  # evaluation rounds a, d and the biases


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


@pytest.mark.parametrize("bits", [2, 8, 32])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_shortcut_is_the_slow_current_and_counts_its_open_inputs(bits: int, stride: int) -> None:
    torch.manual_seed(0)
    shortcut, spikes = Shortcut(4, 5, stride=stride).eval(), four_channels()
    with torch.no_grad():
        as_after_training(shortcut)
    shortcut.set_precision(LayerPrecision(weight_bits=bits, membrane_levels=None), NEURON)
    shortcut.activity = Activity()
    current = shortcut(spikes)
    assert_current(current, shortcut, spikes, atol=4e-6)

    rows, columns = (4, 3) if stride == 2 else (7, 6)
    found = shortcut.activity.per_sample()
    # Of 4 inputs one is closed in half of the time steps.
    assert found.effective_macs == 5 * rows * columns * TIME * 3.5
    assert found.synaptic_ops == 5 * np.count_nonzero(array(spikes.values)[:, :, ::stride, ::stride]) / BATCH
    assert (found.density, found.open_share) == (0.0, 1.0)
    shape = shortcut.shape("s2b1shortcut", spikes)
    assert (shape.kind, shape.neurons, shape.can_gate, shape.has_membrane) == ("shortcut", 0, False, False)
    assert shape.dense_macs == 4 * 5 * rows * columns


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


def test_spikes_are_their_own_current_as_identity_shortcut() -> None:
    spikes = four_channels()
    assert torch.equal(spikes.current(), spikes.values / 4)
    plain = Spikes(values=whole_numbers(2, 3, 3), time_steps=TIME)
    assert plain.current() is plain.values


def test_a_global_average_is_a_sum_of_whole_numbers_and_its_divisor() -> None:
    spikes = four_channels()
    pooled = global_average(spikes)
    assert pooled.values.shape == (TIME * BATCH, 4, 1, 1)
    assert torch.equal(pooled.values, pooled.values.round())
    np.testing.assert_allclose(
        array(pooled.values) / pooled.divisor, array(spikes.values / 4).mean(axis=(2, 3), keepdims=True)
    )
    assert (pooled.largest, pooled.divisor) == (4 * 42, 4 * 42)
    assert pooled.open is spikes.open
    full = Spikes(values=torch.ones(1, 1, 19, 27, dtype=torch.bfloat16), time_steps=1)
    assert global_average(full).values.item() == 19 * 27, "more than bf16 counts"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kernel_size": 2}, "kernel_size must be odd, so that a pixel has a middle to lie under; got 2"),
        ({"stride": 3}, "stride must be 1 or 2; got 3"),
        ({"groups": 3}, "groups must divide the channels of both sides; got 3 with 4 input and 6 output channels"),
        ({"groups": 0}, "groups must divide the channels of both sides; got 0 with 4 input and 6 output channels"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match="got") as error:
        SpikingConv2d(4, 6, **options)
    assert str(error.value) == message


# The subnet


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


# Training


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
    mean, variance = current.mean(dim=(0, 2, 3)), current.var(dim=(0, 2, 3), correction=0)
    column = (slice(None), None, None)
    normed = (current - mean[column]) / (variance[column] + layer.norm.eps).sqrt()
    normed = normed * layer.norm.weight[column] + layer.norm.bias[column]
    fired = fire_step_by_step(normed.view(TIME, BATCH, *normed.shape[1:]), layer.neuron.parameters_now)
    expected = fired.view(normed.shape)
    assert layer.norm.running_mean is not None
    before = layer.norm.running_mean.clone()
    out = layer(spikes).values
    pooled = {"after": F.avg_pool2d(expected, 2) * 4, "max": F.max_pool2d(expected, 2)}
    assert torch.equal(out, pooled.get(str(pool), expected))
    torch.testing.assert_close(layer.norm.running_mean, 0.9 * before + 0.1 * mean)


@pools
def test_with_the_batch_as_its_statistics_evaluation_is_the_training_forward(pool: Pool, plain_neurons: None) -> None:
    layer = precise(a_layer(pool), 4, 16).train()
    spikes = Spikes(values=whole_numbers(3, 8, 8, largest=15), time_steps=TIME, largest=15)
    layer.norm.momentum = 1.0
    in_training = layer._training_current(spikes)
    assert layer.norm.running_var is not None
    # Running statistics hold the unbiased variance.
    numbers = in_training.numel() // in_training.shape[1]
    layer.norm.running_var.mul_((numbers - 1) / numbers)
    in_evaluation = layer.eval()._evaluation_current(spikes).float()
    torch.testing.assert_close(in_evaluation, in_training, rtol=1e-3, atol=1e-3)  # a and d are rounded in evaluation


# What is counted


def slow_counts(layer: SpikingConv2d, spikes: Spikes, residual: Array | float = 0.0) -> dict[str, float]:
    """The figures per sample, output by output, as the contract of design and docstrings defines them."""
    fired, computed, opened = slow_layer(layer, spikes, residual)
    values = array(spikes.values)
    samples, inputs = values.shape[:2]
    height, width = (math.ceil(side / layer.stride) for side in values.shape[2:])
    inputs_open = np.ones((samples, inputs)) if spikes.open is None else spikes.open.numpy()
    reach = layer.kernel_size // 2
    per_group = inputs // layer.groups, layer.out_channels // layer.groups
    macs = operations = 0
    for sample, channel, y, x in itertools.product(
        range(samples), range(layer.out_channels), range(height), range(width)
    ):
        neuron = (y // 2, x // 2) if layer.pool == "before" else (y, x)
        inside = neuron[0] < computed.shape[2] and neuron[1] < computed.shape[3]
        if not opened[sample, channel] or (inside and not computed[(sample, channel, *neuron)]):
            continue
        first = channel // per_group[1] * per_group[0]
        connected = slice(first, first + per_group[0])
        macs += layer.kernel_size**2 * inputs_open[sample, connected].sum()
        rows, columns = (slice(max(0, at * layer.stride - reach), at * layer.stride + reach + 1) for at in (y, x))
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
    assert shape.neurons == math.prod(layer._evaluation_current(spikes).shape[1:])
    assert shape.weights == layer.weight.numel()


def predictor(layer: SpikingConv2d, mass: float) -> float:
    """The gate's own operations, of one sample."""
    return 0.0 if mass == 1.0 else float(TIME * layer.in_channels * layer.out_channels)


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
    assert shape.positions == size[0] * size[1]
    assert shape.can_gate


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


def test_layers_measure_within_the_context_only(plain_neurons: None) -> None:
    network = Vgg9(in_channels=1, height=16, width=16, classes=2, width_factor=1 / 64, pool="before").eval()
    spikes = Spikes(values=torch.ones(2, 1, 16, 16), time_steps=2)
    with measured(network) as activities:
        network(spikes)
    counted = [activity.samples for activity in activities.values()]
    assert counted == [1] * 9
    network(spikes)
    assert [activity.samples for activity in activities.values()] == counted
    assert all(layer.activity is None for layer in network.modules() if isinstance(layer, SpikingConv2d | Readout))


# A trained network's values


def test_a_trained_network_stores_only_values_that_its_bits_allow(plain_neurons: None) -> None:
    torch.manual_seed(0)
    network = Vgg9(in_channels=2, height=16, width=16, classes=3, width_factor=1 / 8, pool="before")
    convolutions = [layer for layer in network.modules() if isinstance(layer, SpikingConv2d)]
    levels_and_bits = list(itertools.islice(itertools.cycle([(3, 1), (5, 2), (16, 4), (4, 3)]), len(convolutions)))
    for layer, (levels, bits) in zip(convolutions, levels_and_bits, strict=True):
        precise(layer, bits, levels)
        layer.norm.momentum = 1.0  # three steps are too few for a running mean
    network.readout.set_precision(LayerPrecision(weight_bits=2, membrane_levels=None), NEURON)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.05)
    spikes = Spikes(values=torch.rand(4, 2, 16, 16).mul(3).floor(), time_steps=2, largest=2)
    for _ in range(3):
        optimizer.zero_grad()
        network(spikes).square().mean().backward()
        optimizer.step()

    inputs: list[Spikes] = []
    for layer in convolutions:
        layer.register_forward_pre_hook(lambda _module, arguments: inputs.append(arguments[0]))
    network.eval()(spikes)
    for layer, (levels, bits), seen_by in zip(convolutions, levels_and_bits, inputs, strict=True):
        now = layer.neuron.parameters_now
        _, seen = fire(layer._evaluation_current(seen_by).detach().contiguous().view(seen_by.time_steps, -1), now)
        reset = torch.where(seen > THRESHOLD, 0.0, seen)
        stored = quantize_membrane(reset, now.lowest, now.highest, now.grid_step).unique().tolist()
        assert set(stored) <= set(membrane_grid(levels).values)
        assert len(stored) > 1
        integers, scale = quantize_weight(layer.weight, bits)
        for channel in integers * scale:
            assert len(channel.unique()) <= (2 if bits == 1 else 2 * highest_integer(bits) + 1)
    integers, scale = quantize_weight(network.readout.linear.weight, 2, per_tensor=True)
    assert len((integers * scale).unique()) == 3


# A still image


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


def test_a_convolution_of_a_still_image_is_computed_once(monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    seen: list[int] = []
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(
        torch.nn.functional,
        "conv2d",
        lambda values, *rest, **more: seen.append(len(values)) or convolve(values, *rest, **more),
    )
    SpikingConv2d(3, 4).train()(Spikes(values=torch.rand(BATCH, 3, 6, 6), time_steps=TIME, constant=True))
    assert seen == [BATCH]
