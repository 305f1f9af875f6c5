"""Attention's sums, neurons, gradients and counts against loops over samples, heads, tokens and channels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from spquant_search.costs.memory import cost_report
from spquant_search.snn import attention
from spquant_search.snn.activity import Activity
from spquant_search.snn.attention import SpikingSelfAttention, attend
from spquant_search.snn.neuron.reference import fire_step_by_step
from spquant_search.snn.spikes import Spikes
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import NeuronSpace

Array = NDArray[np.float64]
TIME, BATCH = 3, 2
NEURON = NeuronSpace()
# Tokens and channels of one head: more of the one, more of the other, and as many.
sizes = pytest.mark.parametrize(
    ("height", "width", "channels", "heads"), [(2, 4, 6, 2), (1, 3, 10, 2), (2, 2, 8, 2), (3, 4, 4, 4), (2, 3, 7, 1)]
)


def binary(channels: int, height: int, width: int, *, seed: int, rate: float = 0.6) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(TIME * BATCH, channels, height, width, generator=generator) < rate).float()


def some_inputs(channels: int, height: int, width: int, *, gated: bool = False) -> tuple[Spikes, Spikes, Spikes]:
    made = []
    for seed in range(3):
        values, opened = binary(channels, height, width, seed=seed), None
        if gated and seed != 1:  # k has no gate
            opened = torch.rand(TIME * BATCH, channels, generator=torch.Generator().manual_seed(seed + 5)) > 0.4
            values = values * opened[:, :, None, None]
        made.append(Spikes(values=values, time_steps=TIME, open=opened))
    return made[0], made[1], made[2]


def a_layer(channels: int, heads: int, *, levels: int = 0, skip: float | None = None) -> SpikingSelfAttention:
    layer = SpikingSelfAttention(channels, heads).eval()
    layer.set_precision(LayerPrecision(membrane_levels=levels, skip_below=skip), NEURON)
    return layer


# Sums and spikes


def tokens_of(spikes: Spikes) -> NDArray[np.int64]:
    """[sample, channel, token]"""
    return spikes.values.detach().long().flatten(2).numpy()


def groups(channels: int, heads: int) -> Iterator[range]:
    size = channels // heads
    return (range(head * size, (head + 1) * size) for head in range(heads))


def slow_sums(q: NDArray[np.int64], k: NDArray[np.int64], v: NDArray[np.int64], heads: int) -> NDArray[np.int64]:
    """sum over tokens j and channels a of the same head of q[a, i] k[a, j] v[c, j], for every token i and channel c."""
    out = np.zeros_like(q)
    samples, channels, tokens = q.shape
    for sample, group, i, j in itertools.product(range(samples), groups(channels, heads), range(tokens), range(tokens)):
        score = sum(int(q[sample, a, i]) * int(k[sample, a, j]) for a in group)
        for c in group:
            out[sample, c, i] += score * v[sample, c, j]
    return out


def slow_spikes(sums: NDArray[np.int64], layer: SpikingSelfAttention) -> Tensor:
    """LIF neurons of leak 1/2 and threshold 1/2 on an eighth of the sums, written as twice both."""
    current = torch.from_numpy(2 * 0.125 * sums.astype(np.float64)).float()
    return fire_step_by_step(current.view(TIME, BATCH, *sums.shape[1:]), layer.neuron.parameters_now).view(
        current.shape
    )


@sizes
@pytest.mark.parametrize("levels", [0, 3, 5, 16])
def test_evaluation_is_the_slow_loop(
    height: int, width: int, channels: int, heads: int, levels: int, plain_neurons: None
) -> None:
    layer = a_layer(channels, heads, levels=levels)
    q, k, v = some_inputs(channels, height, width)
    sums = slow_sums(tokens_of(q), tokens_of(k), tokens_of(v), heads)
    found = layer._products(q, k, v).sums.transpose(2, 3).reshape(sums.shape)
    np.testing.assert_array_equal(found.numpy(), sums)
    out = layer(q, k, v)
    expected = slow_spikes(sums, layer)
    assert 0.05 < expected.mean() < 0.95
    assert torch.equal(out.values.flatten(2), expected)
    assert (out.time_steps, out.largest, out.divisor, out.open) == (TIME, 1, 1, None)
    assert out.values.is_contiguous(memory_format=torch.channels_last)


def test_a_learned_threshold_divides_the_current(plain_neurons: None) -> None:
    layer, inputs = SpikingSelfAttention(8, 2).eval(), some_inputs(8, 2, 3)
    precision = LayerPrecision(membrane_levels=16)
    layer.set_precision(precision, NeuronSpace(learn_threshold=True))
    assert layer.neuron.log_threshold is not None
    with torch.no_grad():
        layer.neuron.log_threshold.fill_(math.log(16 / 23))
    sums = slow_sums(*(tokens_of(spikes) for spikes in inputs), heads=2)
    current = torch.from_numpy(sums).float() * attention.GAIN * 23 / 16  # exact
    expected = fire_step_by_step(current.unflatten(0, (TIME, BATCH)), layer.neuron.parameters_now)
    found = layer(*inputs).values
    assert torch.equal(found, expected.flatten(0, 1).view(found.shape))
    layer.set_precision(precision, NEURON)
    assert not torch.equal(layer(*inputs).values, found)


def test_a_channel_without_current_that_may_spike_is_passed_on_as_open(plain_neurons: None) -> None:
    """The operations of such a channel are still those of none: it has no current."""
    inputs = some_inputs(8, 2, 3, gated=True)
    layer, found = SpikingSelfAttention(8, 2).eval(), []
    for at_threshold in (False, True):
        space = NeuronSpace(leak=1, spike_at_threshold=at_threshold)
        layer.set_precision(LayerPrecision(membrane_levels=3), space)
        layer.activity = Activity()
        assert (layer(*inputs).open is None) is at_threshold
        found.append(layer.activity.per_sample().effective_macs)
    assert found[0] == found[1]


def test_a_current_at_the_threshold_does_not_fire(plain_neurons: None) -> None:
    """One channel, six tokens; k and v share 4 and then 5 spikes: currents of 1 and of 1.25 where q spikes."""
    q = torch.tensor([[1.0, 1, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0]]).view(2, 1, 1, 6)
    shared = torch.tensor([[1.0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 0]]).view(2, 1, 1, 6)
    layer = a_layer(1, 1, levels=3)
    layer.activity = Activity()
    inputs = [Spikes(values=values, time_steps=2) for values in (q, shared, shared)]
    out = layer(*inputs)
    # What is stored after the first step leaks to 1/2 and finds no current.
    assert out.values.flatten(1).tolist() == [[0.0] * 6, [0, 0, 1, 1, 1, 0]]
    found = layer.activity.per_sample()
    # One head channel against 6 tokens: the sum over tokens of k v, then its product with q, 6 products each.
    assert found.effective_macs == 2 * (6 + 6)
    assert found.synaptic_ops == (4 + 2) + (5 + 3)
    assert found.density == 3 / 12
    assert found.open_share == 1.0


@pytest.mark.parametrize("by_tokens", [False, True])
def test_whole_numbers_beyond_what_bf16_holds_are_exact_in_evaluation(by_tokens: bool) -> None:
    height, width, channels = (5, 5, 26) if by_tokens else (19, 17, 3)
    layer = a_layer(channels, 1)
    ones = Spikes(values=torch.ones(1, channels, height, width, dtype=torch.bfloat16), time_steps=1)
    assert layer._by_tokens(height * width) == by_tokens
    assert layer._products(ones, ones, ones).sums.unique().tolist() == [height * width * channels]


def test_sums_that_could_leave_what_fp32_holds_are_taken_in_double(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[torch.dtype] = []

    def spy(*parts: Tensor, by_tokens: bool) -> attention.Products:
        used.extend(part.dtype for part in parts)
        return attend(*parts, by_tokens=by_tokens)

    monkeypatch.setattr(attention, "attend", spy)
    layer, inputs = a_layer(6, 2), some_inputs(6, 2, 4)
    expected = layer._products(*inputs)
    monkeypatch.setattr(attention, "EXACT_FP32", 2 * 4 * 3)  # tokens * head channels
    found = layer._products(*inputs)
    assert used == [torch.float32] * 3 + [torch.float64] * 3
    assert [product.dtype for product in found] == [torch.float32] * 2
    assert torch.equal(found.sums, expected.sums)


@pytest.mark.parametrize(("tokens", "head_channels"), [(7, 3), (3, 7), (4, 4)])
def test_both_associations_are_the_same_whole_numbers(tokens: int, head_channels: int) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randint(0, 2, (2, 3, tokens, head_channels), generator=generator).double() for _ in range(3))
    one, other = (attend(q, k, v, by_tokens=by_tokens) for by_tokens in (True, False))
    assert one.inner.shape == (2, 3, tokens, tokens)
    assert other.inner.shape == (2, 3, head_channels, head_channels)
    assert one.sums.max() > 1
    assert torch.equal(one.sums, other.sums)


def test_samples_and_time_steps_do_not_mix(plain_neurons: None) -> None:
    layer, inputs = a_layer(6, 2, levels=16), some_inputs(6, 2, 4)
    together = layer(*inputs).values
    for sample in range(BATCH):
        alone = [Spikes(values=spikes.values[sample::BATCH], time_steps=TIME) for spikes in inputs]
        assert torch.equal(together[sample::BATCH], layer(*alone).values)


# Training


def gradients(layer: SpikingSelfAttention, inputs: tuple[Spikes, ...]) -> tuple[Tensor, list[Tensor]]:
    for spikes in inputs:
        spikes.values.requires_grad_().grad = None
    out = layer(*inputs).values
    weights = torch.linspace(-1, 2, out.numel(), dtype=out.dtype).view(out.shape)
    (out * weights).sum().backward()
    found = [spikes.values.grad for spikes in inputs]
    assert all(gradient is not None for gradient in found)
    return out.detach(), [gradient for gradient in found if gradient is not None]


@sizes
def test_gradients_reach_q_k_and_v(height: int, width: int, channels: int, heads: int, plain_neurons: None) -> None:
    layer = a_layer(channels, heads, levels=5).train()
    inputs = some_inputs(channels, height, width)
    out, found = gradients(layer, inputs)

    size = channels // heads
    leaves = [spikes.values.detach().clone().requires_grad_() for spikes in inputs]
    q, k, v = (leaf.reshape(TIME * BATCH, heads, size, -1) for leaf in leaves)
    sums = torch.einsum("shai,shaj,shcj->shci", q, k, v).reshape(TIME, BATCH, channels, height, width)
    expected = fire_step_by_step(sums * 0.25, layer.neuron.parameters_now).view(out.shape)
    assert torch.equal(out, expected.detach())
    (expected * torch.linspace(-1, 2, out.numel()).view(out.shape)).sum().backward()
    for gradient, leaf in zip(found, leaves, strict=True):
        assert leaf.grad is not None
        assert leaf.grad.abs().max() > 0
        torch.testing.assert_close(gradient, leaf.grad)


def test_bf16_training_under_autocast(plain_neurons: None) -> None:
    layer, inputs = a_layer(6, 2, levels=3).train(), some_inputs(6, 2, 4)
    expected, in_fp32 = gradients(layer, inputs)
    halves = tuple(
        Spikes(values=spikes.values.detach().bfloat16().to(memory_format=torch.channels_last), time_steps=TIME)
        for spikes in inputs
    )
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out, found = gradients(layer, halves)
    assert out.dtype == torch.bfloat16
    assert out.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(out.float(), expected)
    for gradient, other in zip(found, in_fp32, strict=True):
        torch.testing.assert_close(gradient.float(), other, rtol=0.05, atol=0.05 * float(other.abs().max()))


# What is counted


def slow_counts(layer: SpikingSelfAttention, inputs: tuple[Spikes, Spikes, Spikes]) -> tuple[float, float]:
    """Effective MACs and synaptic operations per sample, product by product, as the layer's docstring defines them."""
    q, k, v = (tokens_of(spikes) for spikes in inputs)
    opened = [np.ones(q.shape[:2], dtype=bool) if spikes.open is None else spikes.open.numpy() for spikes in inputs]
    samples, channels, tokens = q.shape
    computed = slow_computed(layer, slow_sums(q, k, v, layer.heads))
    macs = operations = 0
    for sample, group in itertools.product(range(samples), groups(channels, layer.heads)):
        shared = [a for a in group if opened[0][sample, a] and opened[1][sample, a]]
        wanted = [
            (i, c)
            for i, c in itertools.product(range(tokens), group)
            if computed[sample, c, i] and opened[2][sample, c] and shared
        ]
        if tokens <= len(group):
            for i, j, a in itertools.product({i for i, _ in wanted}, range(tokens), shared):
                macs += 1
                operations += q[sample, a, i] * k[sample, a, j]
            for (i, c), j in itertools.product(wanted, range(tokens)):
                macs += 1
                operations += v[sample, c, j] * any(q[sample, a, i] * k[sample, a, j] for a in group)
        else:
            for c, j, a in itertools.product({c for _, c in wanted}, range(tokens), shared):
                macs += 1
                operations += k[sample, a, j] * v[sample, c, j]
            for (i, c), a in itertools.product(wanted, shared):
                macs += 1
                operations += q[sample, a, i] * any(k[sample, a, :] * v[sample, c, :])
    return macs / BATCH, operations / BATCH


def slow_computed(layer: SpikingSelfAttention, sums: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which neurons were not skipped, of a float membrane with leak 1/2; in the first step all of them."""
    cut = layer.precision.skip_below
    stored = np.zeros((BATCH, *sums.shape[1:]))
    computed = []
    for time, frame in enumerate(0.25 * sums.reshape(TIME, *stored.shape)):
        computed.append(np.full(stored.shape, True) if cut is None or time == 0 else stored >= cut)
        potential = stored / 2 + np.where(computed[-1], frame, 0.0)
        stored = np.where(potential > 1, 0.0, potential)
    return np.concatenate(computed)


@sizes
@pytest.mark.parametrize("gated", [False, True])
# No space file offers a cut above 0, and any other skips nothing here: what is counted must be right all the same.
@pytest.mark.parametrize("skip", [None, 0.0, 0.5])
def test_operations_are_those_that_loops_count(
    height: int, width: int, channels: int, heads: int, gated: bool, skip: float | None, plain_neurons: None
) -> None:
    layer = a_layer(channels, heads, skip=skip)
    inputs = some_inputs(channels, height, width, gated=gated)
    macs, operations = slow_counts(layer, inputs)
    layer.activity = Activity()
    out = layer(*inputs)
    found = layer.activity.per_sample()
    assert found.effective_macs == macs
    assert found.synaptic_ops == operations
    assert 0 < operations < macs
    dense = layer.shape("attention", *inputs).dense_macs * TIME
    assert macs < dense if gated or skip == 0.5 else macs == dense
    assert found.density == pytest.approx(float(out.values.mean()))
    assert layer.activity.samples == BATCH


def test_a_channel_is_closed_where_no_current_can_come(plain_neurons: None) -> None:
    """Two heads of two channels: v's second channel is closed; in the second head q and k have none in common."""
    gates = {"q": [True, False, True, False], "k": [True, True, False, True], "v": [True, False, True, True]}
    inputs = []
    for opened in gates.values():
        mask = torch.tensor([opened] * 2)
        inputs.append(Spikes(values=mask.float()[:, :, None, None].expand(-1, -1, 2, 3), time_steps=2, open=mask))
    layer = a_layer(4, 2)
    layer.activity = Activity()
    out = layer(*inputs)
    assert out.open is not None
    assert out.open.tolist() == [[True, False, False, False]] * 2
    # One channel shared, one wanted: 6 products over tokens, then one for each of 6 tokens; all factors are ones.
    found = layer.activity.per_sample()
    assert (found.effective_macs, found.synaptic_ops) == (24, 24)
    assert out.values[:, 0].sum() > 0
    assert out.values[:, 1:].sum() == 0


@sizes
def test_dense_macs_are_half_the_operations_that_torch_counts(
    height: int, width: int, channels: int, heads: int, plain_neurons: None
) -> None:
    layer, inputs = a_layer(channels, heads), some_inputs(channels, height, width)
    with FlopCounterMode(display=False) as counter:
        layer(*inputs)
    shape = layer.shape("attention", *inputs)
    assert shape.dense_macs * TIME * BATCH == counter.get_total_flops() / 2
    assert shape.dense_macs == 2 * channels * height * width * min(height * width, channels // heads)
    assert shape.neurons == channels * height * width


def test_attention_costs_its_membranes_only() -> None:
    layer, inputs = a_layer(6, 2), some_inputs(6, 2, 4)
    shape = layer.shape("b1attention", *inputs)
    assert (shape.kind, shape.weights, shape.has_neurons, shape.has_weights) == ("attention", 0, True, False)
    assert not shape.can_gate
    config = NetworkConfig(time_steps=TIME, layers=(("b1attention", LayerPrecision(membrane_levels=3)),))
    report = cost_report((shape,), config)
    assert (report.memory_bytes, report.membrane_bytes) == (12, 12)  # 48 neurons of 2 bits


# Wrong requests


def test_heads_must_divide_the_channels() -> None:
    with pytest.raises(ValueError, match=r"^the heads must divide the channels; got 6 channels and 4 heads$"):
        SpikingSelfAttention(6, 4)


@pytest.mark.parametrize(("largest", "divisor"), [(2, 1), (4, 4)])
def test_counts_and_averages_are_refused(largest: int, divisor: int) -> None:
    q, k, v = some_inputs(6, 2, 4)
    counts = Spikes(values=v.values, time_steps=TIME, largest=largest, divisor=divisor)
    with pytest.raises(ValueError, match=r"^attention takes binary spikes: no counts, no averages$"):
        a_layer(6, 2)(q, k, counts)
