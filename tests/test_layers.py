"""One layer in its one defined form of evaluation, in training, and what is counted of it, against slow loops."""

from __future__ import annotations

import itertools
from typing import Literal

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.layers import Activity, ReadOut, Spikes, SpikingConv2d, measured, pooled_kernel
from spquant_search.snn.networks.vgg import Vgg9
from spquant_search.snn.neuron import THRESHOLD, fire_step_by_step
from spquant_search.snn.quantize import highest_integer, quantize_membrane, quantize_weight
from spquant_search.space import LayerPrecision, NeuronSpace, membrane_grid

Pool = Literal["before", "after"] | None
Array = NDArray[np.float64]
TIME, BATCH = 3, 2
NEURON = NeuronSpace()
pools = pytest.mark.parametrize("pool", [None, "before", "after"])


def whole_numbers(channels: int, height: int, width: int, *, largest: int = 1, seed: int = 0) -> Tensor:
    """[TIME * BATCH, channels, height, width]; more than half of them zero."""
    generator = torch.Generator().manual_seed(seed)
    numbers = torch.randint(-largest, largest + 1, (TIME * BATCH, channels, height, width), generator=generator)
    return numbers.clamp(min=0).float()


def a_layer(
    pool: Pool, *, inputs: int = 3, outputs: int = 4, kernel_size: int = 3, can_gate: bool = True, seed: int = 0
) -> SpikingConv2d:
    """In evaluation, with batch-norm values as after training, some of them negative, and a gate that knows nothing."""
    torch.manual_seed(seed)
    layer = SpikingConv2d(inputs, outputs, kernel_size=kernel_size, pool=pool, can_gate=can_gate).eval()
    with torch.no_grad():
        layer.norm.weight.copy_(torch.linspace(-1.5, 2.5, outputs))
        layer.norm.bias.uniform_(-0.5, 1.0)
        assert layer.norm.running_mean is not None
        assert layer.norm.running_var is not None
        layer.norm.running_mean.uniform_(-0.2, 0.2)
        layer.norm.running_var.uniform_(0.05, 0.5)
        if layer.gate is not None:
            layer.gate.weight.normal_()
            layer.gate.bias.normal_(std=0.1)
    return layer


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


def slow_convolution(values: Array, weight: Array) -> Array:
    """Output [sample, out, y, x] by loops, zero outside the image."""
    samples, _, height, width = values.shape
    reach = weight.shape[2] // 2
    out = np.zeros((samples, len(weight), height, width))
    for y, x, dy, dx in itertools.product(range(height), range(width), *(2 * [range(-reach, reach + 1)])):
        if 0 <= y + dy < height and 0 <= x + dx < width:
            out[:, :, y, x] += values[:, :, y + dy, x + dx] @ weight[:, :, dy + reach, dx + reach].T
    return out


def slow_pool(values: Array) -> Array:
    """The mean of every whole 2x2 block."""
    height, width = values.shape[2] // 2, values.shape[3] // 2
    corners = [values[:, :, y : 2 * height : 2, x : 2 * width : 2] for y in (0, 1) for x in (0, 1)]
    return np.mean(corners, axis=0)


def slow_current(layer: SpikingConv2d, spikes: Spikes) -> Array:
    """Batch norm of the pooled convolution of real-valued weights with real-valued inputs, in double precision."""
    integers, scale = quantize_weight(layer.weight, layer.precision.weight_bits)
    summed = slow_convolution(array(spikes.values) / spikes.divisor, array(integers * scale))
    if layer.pool == "before":
        summed = slow_pool(summed)
    norm = layer.norm
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


def slow_layer(layer: SpikingConv2d, spikes: Spikes) -> tuple[Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Spikes before any pooling, which neurons were not skipped, and which channels were open."""
    current = slow_current(layer, spikes)
    opened = np.ones(current.shape[:2], dtype=bool)
    if layer.precision.channel_mass < 1:
        assert layer.gate is not None
        counts = array(spikes.values).sum(axis=(2, 3))
        opened = counts @ array(layer.gate.integers()).T > 0
    current = current * opened[:, :, None, None]
    fired, computed = slow_neuron(
        by_time(current), levels=layer.precision.membrane_levels or 0, skip=layer.precision.skip_below
    )
    return fired.reshape(current.shape), computed.reshape(current.shape), opened


@pools
@pytest.mark.parametrize(("bits", "levels"), [(1, 3), (2, 3), (3, 4), (4, 16), (8, 256), (32, 0), (32, 5), (2, 0)])
def test_evaluation_is_the_slow_double_precision_layer(bits: int, levels: int, pool: Pool, plain_neurons: None) -> None:
    layer = precise(a_layer(pool), bits, levels)
    # The second layer of a network whose first pools after the neuron: whole numbers up to 4, over 4.
    spikes = Spikes(values=whole_numbers(3, 6, 5, largest=4), time_steps=TIME, largest=4, divisor=4)
    np.testing.assert_allclose(array(layer._evaluation_current(spikes)), slow_current(layer, spikes), atol=2e-6)
    expected, _, _ = slow_layer(layer, spikes)
    assert 0.1 < expected.mean() < 0.9
    out = layer(spikes)
    if pool == "after":
        np.testing.assert_array_equal(array(out.values), 4 * slow_pool(expected))
        assert (out.largest, out.divisor) == (4, 4)
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
    np.testing.assert_array_equal(array(layer._integer_sums(values, integers, 15)), expected)


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
    np.testing.assert_array_equal(array(layer._integer_sums(values, integers, 15)), expected.astype(np.float32))


@pools
@pytest.mark.parametrize("largest", [1, 15])
def test_rounding_undoes_a_convolution_that_is_a_little_off(
    largest: int, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer = precise(a_layer(pool), 4, 3)
    values, integers = whole_numbers(3, 6, 6, largest=largest), quantize_weight(layer.weight, 4).integers
    exact = layer._integer_sums(values, integers, largest)
    convolve = layer._convolve
    monkeypatch.setattr(layer, "_convolve", lambda *arguments: convolve(*arguments) + 1e-3)
    assert torch.equal(layer._integer_sums(values, integers, largest), exact)


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


# The read-out


@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8, 32])
def test_the_read_out_is_linear_with_one_scale_for_all_its_integers(bits: int) -> None:
    torch.manual_seed(0)
    readout = ReadOut(4, 6, 10).eval()
    readout.set_precision(LayerPrecision(weight_bits=bits, membrane_levels=None), NEURON)
    values = whole_numbers(4, 2, 3, largest=4)
    integers, scale = quantize_weight(readout.linear.weight, bits, per_tensor=True)
    expected = array(values).reshape(TIME * BATCH, -1) / 4 @ array(integers * scale).T + array(readout.linear.bias)
    for training in (False, True):
        logits = readout.train(training)(Spikes(values=values, time_steps=TIME, largest=4, divisor=4))
        assert logits.shape == (TIME, BATCH, 10)
        np.testing.assert_allclose(array(logits), by_time(expected), atol=1e-5)


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
    assert torch.equal(out, F.avg_pool2d(expected, 2) * 4 if pool == "after" else expected)
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
    torch.testing.assert_close(layer.eval()._evaluation_current(spikes), in_training, rtol=1e-4, atol=1e-5)


# What is counted


def slow_counts(layer: SpikingConv2d, spikes: Spikes) -> dict[str, float]:
    """The figures per sample, output by output, as the contract of design and docstrings defines them."""
    fired, computed, opened = slow_layer(layer, spikes)
    values = array(spikes.values)
    samples, inputs, height, width = values.shape
    open_inputs = np.full(samples, inputs) if spikes.open is None else spikes.open.sum(dim=1).numpy()
    reach = layer.kernel_size // 2
    macs = operations = 0
    for sample, channel, y, x in itertools.product(
        range(samples), range(layer.out_channels), range(height), range(width)
    ):
        neuron = (y // 2, x // 2) if layer.pool == "before" else (y, x)
        inside = neuron[0] < computed.shape[2] and neuron[1] < computed.shape[3]
        if not opened[sample, channel] or (inside and not computed[(sample, channel, *neuron)]):
            continue
        macs += layer.kernel_size**2 * open_inputs[sample]
        seen = values[sample, :, max(0, y - reach) : y + reach + 1, max(0, x - reach) : x + reach + 1]
        operations += np.count_nonzero(seen)
    if layer.precision.channel_mass < 1:
        macs += samples * inputs * layer.out_channels
        operations += np.count_nonzero(values.sum(axis=(2, 3))) * layer.out_channels
    return {
        "effective_macs": macs / BATCH,
        "synaptic_ops": operations / BATCH,
        "density": float(fired.mean()),
        "open_share": float(opened.mean()),
    }


def measured_counts(layer: SpikingConv2d, spikes: Spikes) -> dict[str, float]:
    layer.activity = Activity()
    layer(spikes)
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

    readout = ReadOut(2, 1, 10)
    readout.activity = Activity()
    readout(out)
    found = readout.activity.per_sample()
    assert found.effective_macs == 1 * 10  # one open input channel in one step
    assert found.synaptic_ops == 1 * 10
    assert found.density == 0.0
    assert found.open_share == 1.0


def test_a_read_out_counts_all_pixels_of_its_open_channels() -> None:
    readout = ReadOut(3, 4, 10)
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
    assert all(layer.activity is None for layer in network.modules() if isinstance(layer, SpikingConv2d | ReadOut))


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

    potentials: list[Tensor] = []
    for layer in convolutions:
        layer.neuron.register_forward_hook(lambda _module, _inputs, out: potentials.append(out[1]))
    network.eval()(spikes)
    for layer, (levels, bits), seen in zip(convolutions, levels_and_bits, potentials, strict=True):
        now = layer.neuron.parameters_now
        reset = torch.where(seen > THRESHOLD, 0.0, seen)
        stored = quantize_membrane(reset, now.lowest, now.highest, now.grid_step).unique().tolist()
        assert set(stored) <= set(membrane_grid(levels).values)
        assert len(stored) > 1
        integers, scale = quantize_weight(layer.weight, bits)
        for channel in integers * scale:
            assert len(channel.unique()) <= (2 if bits == 1 else 2 * highest_integer(bits) + 1)
    integers, scale = quantize_weight(network.readout.linear.weight, 2, per_tensor=True)
    assert len((integers * scale).unique()) == 3
