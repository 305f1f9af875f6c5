"""Convolutions in their one defined form of evaluation and in training, against slow loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from layers_by_loops import (
    BATCH,
    NEURON,
    TIME,
    Array,
    Pool,
    a_layer,
    array,
    as_after_training,
    assert_current,
    convolved,
    forms,
    four_channels,
    pooled_before,
    pools,
    precise,
    slow_convolution,
    slow_pool,
    whole_numbers,
)
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.activity import Activity
from spquant_search.snn.convolution import Shortcut, pooled_kernel
from spquant_search.snn.pools import TWO_BY_TWO
from spquant_search.snn.quantize import quantize_weight
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.fields import Quantizer


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
        found = layer.evaluation_current(spikes)
        gathered = norm.running_mean.clone(), norm.running_var.clone()
        norm.reset_running_stats()
        expected = layer.train().training_current(spikes)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(gathered, (norm.running_mean, norm.running_var), rtol=1e-4, atol=1e-4)


def evaluated_sums(layer: SpikingConv2d, values: Tensor) -> Array:
    """The sums of evaluation, rounded, of whole numbers up to 15."""
    return array(layer._evaluation_sums(Spikes(values=values, time_steps=1, largest=15)).sums.detach().round())


def sums_by_loops(layer: SpikingConv2d, values: Tensor, integers: Tensor) -> Array:
    """The sums of a layer's integers, pooled as its currents are: least sums where a slope is negative."""
    sums = convolved(layer, array(values), array(integers))
    if layer.pool is None or layer.pool.kind != "max-before":
        return pooled_before(layer, sums, lambda sums: sums * layer.terms)
    slope, _ = layer.real_affine(quantize_weight(layer.weight, layer.precision.weight_bits).scale, 1)
    sign = np.where(array(slope) < 0, -1.0, 1.0)[:, None, None]
    return slow_pool(sums * sign, layer.pool.window, largest=True) * sign


@pools
@pytest.mark.parametrize("bits", [1, 2, 3, 4, 8])
def test_integers_are_convolved_exactly(bits: int, pool: Pool) -> None:
    layer = precise(a_layer(pool, inputs=7, outputs=5), bits, 3)
    values = whole_numbers(7, 7, 6, largest=15)
    integers, _ = quantize_weight(layer.weight, bits)
    np.testing.assert_array_equal(evaluated_sums(layer, values), sums_by_loops(layer, values, integers))


@pytest.mark.parametrize("pool", [None, "before"])
def test_sums_beyond_what_fp32_adds_exactly_are_still_exact(pool: Pool) -> None:
    inputs = 4500
    layer = precise(a_layer(pool, inputs=inputs, outputs=1), 8, 3)
    generator = torch.Generator().manual_seed(0)
    values = torch.randint(0, 16, (1, inputs, 4, 4), generator=generator).float()
    integers = torch.randint(0, 128, (1, inputs, 3, 3), generator=generator).float()
    with torch.no_grad():
        layer.weight.copy_(integers)  # the largest, 127, has a scale of 1
    assert torch.equal(quantize_weight(layer.weight, 8).integers, integers)
    expected = slow_convolution(array(values), array(integers))
    if pool == "before":
        expected = 4 * slow_pool(expected)
    assert expected.max() > 2**24
    assert (expected != expected.astype(np.float32)).any()
    np.testing.assert_array_equal(evaluated_sums(layer, values), expected)


@pools
@pytest.mark.parametrize("largest", [1, 15])
def test_rounding_undoes_a_convolution_that_is_a_little_off(
    largest: int, pool: Pool, monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    layer = precise(a_layer(pool), 4, 3)
    spikes = Spikes(values=whole_numbers(3, 6, 6, largest=largest), time_steps=TIME, largest=largest)
    current, fired = layer.evaluation_current(spikes), layer(spikes).values
    assert fired.any()
    convolve = layer._convolve
    monkeypatch.setattr(layer, "_convolve", lambda *arguments: convolve(*arguments) + 1e-3)
    assert torch.equal(layer.evaluation_current(spikes), current)
    assert torch.equal(layer(spikes).values, fired)


@pytest.mark.parametrize("size", [(6, 6), (7, 6), (5, 7), (2, 3)])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_a_pooled_kernel_is_the_convolution_followed_by_pooling(kernel_size: int, size: tuple[int, int]) -> None:
    weight = torch.randn(4, 3, kernel_size, kernel_size, generator=torch.Generator().manual_seed(0))
    values = whole_numbers(3, *size, largest=9)
    pooled = F.conv2d(values, pooled_kernel(weight, (1, 1), TWO_BY_TWO), stride=2, padding=kernel_size // 2)
    expected = 4 * slow_pool(slow_convolution(array(values), array(weight)))
    np.testing.assert_allclose(array(pooled), expected, atol=1e-4)


@forms
@pytest.mark.parametrize("bits", [1, 8])
def test_integers_of_other_forms_are_convolved_exactly(form: dict[str, Any], bits: int) -> None:
    layer = precise(a_layer(inputs=4, outputs=8, **form), bits, 3)
    values = whole_numbers(4, 7, 6, largest=15)
    integers, _ = quantize_weight(layer.weight, bits)
    np.testing.assert_array_equal(evaluated_sums(layer, values), sums_by_loops(layer, values, integers))


@pytest.mark.parametrize("size", [(9, 8), (7, 10), (5, 6)])
@pytest.mark.parametrize("kernel_size", [1, 3, 7])
def test_a_pooled_kernel_of_stride_2(kernel_size: int, size: tuple[int, int]) -> None:
    weight = torch.randn(4, 3, kernel_size, kernel_size, generator=torch.Generator().manual_seed(0))
    values = whole_numbers(3, *size, largest=9)
    pooled = F.conv2d(values, pooled_kernel(weight, (2, 2), TWO_BY_TWO), stride=4, padding=kernel_size // 2)
    expected = 4 * slow_pool(slow_convolution(array(values), array(weight), stride=2))
    np.testing.assert_allclose(array(pooled), expected, atol=1e-4)


@pytest.mark.usefixtures("plain_neurons")
@forms
@pytest.mark.parametrize("bits", [4, 32])
def test_other_forms_with_the_batch_as_its_statistics_evaluate_as_they_train(form: dict[str, Any], bits: int) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8, **form), bits, 3).train(), four_channels()
    if layer.norm is not None:
        layer.norm.momentum = 1.0
    in_training = layer.training_current(spikes)
    if layer.norm is not None:
        assert layer.norm.running_var is not None
        numbers = numbers_of_a_channel(layer, spikes, in_training)
        layer.norm.running_var.mul_((numbers - 1) / numbers)
    in_evaluation = layer.eval().evaluation_current(spikes).float()
    torch.testing.assert_close(in_evaluation, in_training, rtol=1e-3, atol=1e-3)  # a and d are rounded in evaluation


@pytest.mark.parametrize(("quantizer", "bits"), [("sawb", 4), ("mean", 3), ("ternary-mean", 2)])
def test_a_layer_computes_with_what_its_quantizer_makes_of_its_weight(quantizer: Quantizer, bits: int) -> None:
    layer, spikes = precise(a_layer(inputs=4, outputs=8), bits, 3), four_channels()
    assert layer.norm is not None
    layer.norm.momentum = 0.0  # its statistics stay
    readout = Readout(4, spikes.values[0, 0].numel(), 3).eval()
    readout.set_precision(LayerPrecision(weight_bits=bits, membrane_levels=None), NEURON)

    def says() -> tuple[Tensor, ...]:
        trained = layer.train().training_current(spikes)
        return trained, layer.eval().evaluation_current(spikes).float(), readout(spikes).sum(dim=0).float()

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
    assert (shape.kind, shape.neurons, shape.can_gate, shape.has_neurons) == ("shortcut", 0, False, False)
    assert shape.dense_macs == 4 * 5 * rows * columns


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kernel_size": (3, 0)},
            "kernel_size must be an int of at least 1, or two of them, (rows, columns); got (3, 0)",
        ),
        ({"stride": 0}, "stride must be an int of at least 1, or two of them, (rows, columns); got 0"),
        (
            {"padding": (1, 2, 3)},
            "padding must be an int of at least 0, or two of them, (rows, columns), or four, (left, right, top, "
            "bottom); got (1, 2, 3)",
        ),
        ({"groups": 3}, "groups must divide the channels of both sides; got 3 with 4 input and 6 output channels"),
        ({"groups": 0}, "groups must be an int of at least 1; got 0"),
    ],
)
def test_a_form_that_does_not_fit_is_refused(options: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match="got") as error:
        SpikingConv2d(4, 6, **options)
    assert str(error.value) == message


def numbers_of_a_channel(layer: SpikingConv2d, spikes: Spikes, current: Tensor) -> int:
    """How many numbers batch norm sees: where the largest is taken behind it, all that there are before."""
    rows, columns = current.shape[2:]
    if layer.pool is not None and layer.pool.kind == "max-before":
        rows, columns = layer.output_size(*spikes.values.shape[2:])
    return len(current) * rows * columns


@pools
def test_with_the_batch_as_its_statistics_evaluation_is_the_training_forward(pool: Pool, plain_neurons: None) -> None:
    layer = precise(a_layer(pool), 4, 16).train()
    spikes = Spikes(values=whole_numbers(3, 8, 8, largest=15), time_steps=TIME, largest=15)
    layer.norm.momentum = 1.0
    in_training = layer.training_current(spikes)
    assert layer.norm.running_var is not None
    # Running statistics hold the unbiased variance.
    numbers = numbers_of_a_channel(layer, spikes, in_training)
    layer.norm.running_var.mul_((numbers - 1) / numbers)
    in_evaluation = layer.eval().evaluation_current(spikes).float()
    torch.testing.assert_close(in_evaluation, in_training, rtol=1e-3, atol=1e-3)  # a and d are rounded in evaluation


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


@pools
@pytest.mark.parametrize(("bits", "rows"), [(4, BATCH), (32, BATCH * TIME)])
def test_an_evaluation_convolves_a_still_image_once_where_that_is_exact(
    pool: Pool, bits: int, rows: int, monkeypatch: pytest.MonkeyPatch, plain_neurons: None
) -> None:
    seen: list[int] = []
    layer = precise(a_layer(pool, can_gate=False), bits, 3, skip=0.0)
    convolve = layer._convolve
    monkeypatch.setattr(
        layer, "_convolve", lambda values, *rest: (seen.append(len(values)), convolve(values, *rest))[1]
    )
    still = Spikes(values=whole_numbers(3, 6, 6, largest=3)[:BATCH], time_steps=TIME, largest=3, constant=True)
    plain = Spikes(values=still.values.repeat(TIME, 1, 1, 1), time_steps=TIME, largest=3)
    found = []
    for spikes in (still, still.repeated(), plain):
        layer.activity = Activity()
        values = layer(spikes).values
        found.append((values, *(layer.activity.total(name) for name in ("effective_macs", "synaptic_ops", "spikes"))))
    assert seen == [rows, rows, BATCH * TIME]
    for one in found[:2]:
        assert torch.equal(one[0], found[2][0])
        assert one[1:] == found[2][1:]
