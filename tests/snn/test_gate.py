"""The channel gate: its target, its decision, its learning, and what a closed channel does."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.gate import ChannelGate, channel_target
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace

HALF = 0.5  # the share at which nothing but the bias itself counts: its log-odds are 0


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_counts(samples: int, channels: int, seed: int = 0) -> Tensor:
    return torch.randint(0, 30, (samples, channels), generator=torch.Generator().manual_seed(seed)).float()


def random_gate(inputs: int, outputs: int, seed: int = 0) -> ChannelGate:
    gate = ChannelGate(inputs, outputs)
    with torch.no_grad():
        gate.weight.copy_(random(outputs, inputs, seed=seed))
        gate.bias.copy_(random(outputs, seed=seed + 1))
    return gate


def test_the_bias_follows_the_log_odds_of_the_share() -> None:
    gate = random_gate(4, 6)
    with torch.no_grad():
        gate.mass_slope.copy_(random(6, seed=9))
    torch.testing.assert_close(gate.bias_at(0.8), gate.bias + math.log(4.0) * gate.mass_slope)
    torch.testing.assert_close(gate.bias_at(0.2), gate.bias - math.log(4.0) * gate.mass_slope)
    assert torch.equal(gate.bias_at(HALF), gate.bias)
    # Without input spikes the bias decides.
    for share in (0.2, 0.8):
        assert torch.equal(gate.open(torch.zeros(1, 4), share)[0], gate.bias_at(share) > 0)


def test_one_gate_learns_two_shares() -> None:
    """A channel that holds a fifth of the activity is wanted at a share of 0.9 and not at one of 0.7."""
    gate, counts = ChannelGate(3, 2), random_counts(64, 3) + 1.0
    activity = torch.tensor([[4.0, 1.0]]).expand(64, 2)
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        (gate.loss(counts, activity, 0.9) + gate.loss(counts, activity, 0.7)).backward()
        optimizer.step()
    assert gate.open(counts, 0.9).all()
    assert gate.open(counts, 0.7).tolist() == [[True, False]] * 64


# The target


@pytest.mark.parametrize(
    ("mass", "target"),
    [
        (0.1, [0, 0, 1, 0]),  # one channel at least
        (0.5, [0, 0, 1, 0]),  # 5 of 10 hold the half
        (0.55, [0, 1, 1, 0]),
        (0.8, [0, 1, 1, 0]),
        (0.85, [1, 1, 1, 0]),
        (0.95, [1, 1, 1, 0]),  # the silent one is never needed
    ],
)
def test_a_hand_worked_target(mass: float, target: list[int]) -> None:
    activity = torch.tensor([[2.0, 3.0, 5.0, 0.0]])
    assert channel_target(activity, mass).int().tolist() == [target]


def test_without_activity_no_channel_is_wanted() -> None:
    assert not channel_target(torch.zeros(2, 5), 0.9).any()


@given(
    activity=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    sixteenths=st.integers(1, 15),
)
def test_no_smaller_set_of_channels_holds_the_share(activity: list[int], sixteenths: int) -> None:
    chosen = channel_target(torch.tensor([activity]).double(), sixteenths / 16)[0].tolist()
    held = sum(value for value, wanted in zip(activity, chosen, strict=True) if wanted)
    # Sixteenths are exact in binary, and so is every comparison here.
    assert 16 * held >= sixteenths * sum(activity)
    smaller = itertools.combinations(activity, sum(chosen) - 1) if any(chosen) else []
    assert all(16 * sum(others) < sixteenths * sum(activity) for others in smaller)


def test_samples_are_decided_each_on_its_own() -> None:
    activity = random(20, 7).abs()
    together = channel_target(activity, 0.8)
    alone = torch.cat([channel_target(row[None], 0.8) for row in activity])
    assert torch.equal(together, alone)


# The decision


def test_the_predictor_is_8_bit_integers_of_which_each_row_uses_the_whole_range() -> None:
    gate = random_gate(12, 9)
    integers = gate.integers(HALF)
    assert torch.equal(integers, integers.round())
    assert (integers.abs().amax(dim=1) == 127).all()
    exact = 12 * gate.weight + gate.bias[:, None]
    scale = exact.abs().amax(dim=1, keepdim=True) / 127
    assert ((integers * scale - exact).abs() <= scale / 2 * (1 + 1e-5)).all()


def test_a_channel_opens_by_the_sign_of_an_integer_sum_that_is_the_sign_of_its_logit() -> None:
    gate, counts = random_gate(12, 9), random_counts(200, 12)
    opened = gate.open(counts, HALF)
    rows = gate.integers(HALF).int().tolist()
    for sample, decided in zip(counts.int().tolist(), opened.tolist(), strict=True):
        assert decided == [sum(v * n for v, n in zip(row, sample, strict=True)) > 0 for row in rows]
    # The logit with its division: linear in the counts over their mean, plus bias, in the 8-bit predictor.
    exact = 12 * gate.weight.double() + gate.bias.double()[:, None]
    scale = exact.abs().amax(dim=1, keepdim=True) / 127
    weight = (gate.integers(HALF) * scale - gate.bias[:, None]) / 12
    logits = (counts / counts.mean(dim=1, keepdim=True)).double() @ weight.T + gate.bias
    clear = logits.abs() > 1e-4
    assert clear.float().mean() > 0.99
    assert torch.equal((logits > 0)[clear], opened[clear])
    assert 0.1 < opened.float().mean() < 0.9


def test_a_sum_of_zero_keeps_the_channel_closed() -> None:
    gate = ChannelGate(2, 1)
    with torch.no_grad():
        gate.weight.copy_(torch.tensor([[0.5, -0.5]]))
        gate.bias.zero_()
    assert gate.open(torch.tensor([[3.0, 3.0], [3.0, 2.0], [2.0, 3.0]]), HALF).tolist() == [[False], [True], [False]]


def test_sums_are_exact_for_counts_of_any_size() -> None:
    gate = ChannelGate(3, 1)
    with torch.no_grad():
        gate.weight.copy_(torch.tensor([[1.0, 1 / 127, -1.0]]))
        gate.bias.zero_()
    # 127 n0 + n1 - 127 n2 would lose n1 in fp32.
    assert gate.integers(HALF).tolist() == [[127.0, 1.0, -127.0]]
    assert gate.open(torch.tensor([[2.0**20, 1.0, 2.0**20]]), HALF).item()


def test_without_input_spikes_the_bias_decides() -> None:
    gate = random_gate(4, 6)
    assert torch.equal(gate.open(torch.zeros(3, 4), HALF), (gate.bias > 0).expand(3, 6))
    target = channel_target(random(3, 6).abs(), 0.9).float()
    loss = F.binary_cross_entropy_with_logits(gate.bias.expand(3, 6), target)
    torch.testing.assert_close(gate.loss(torch.zeros(3, 4), random(3, 6).abs(), 0.9), loss)


def test_a_new_gate_is_open() -> None:
    assert ChannelGate(5, 4).open(torch.cat([random_counts(20, 5), torch.zeros(1, 5)]), 0.9).all()


# Learning


def test_the_loss_is_the_cross_entropy_of_the_quantized_logits() -> None:
    gate, counts, activity = random_gate(5, 3), random_counts(8, 5), random(8, 3, seed=7).abs()
    exact = (5 * gate.weight + gate.bias[:, None]).detach()
    values = gate.integers(HALF) * exact.abs().amax(dim=1, keepdim=True) / 127
    target = channel_target(activity, 0.7).tolist()
    terms = []
    for sample, wanted in zip(counts, target, strict=True):
        for row, label in zip(values, wanted, strict=True):
            opened = 1 / (1 + math.exp(-float((row * sample).sum() / sample.sum())))
            terms.append(-math.log(opened if label else 1 - opened))
    assert gate.loss(counts, activity, 0.7).item() == pytest.approx(sum(terms) / len(terms), rel=1e-4)


def test_the_gate_learns_which_channels_matter() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(0, 20, (400, 6), generator=generator).float()
    # Two kinds of output: those fed by the first three inputs and those fed by the others.
    mixing = torch.zeros(8, 6)
    mixing[:4, :3] = mixing[4:, 3:] = 1.0
    activity = (counts @ mixing.T - counts.sum(dim=1, keepdim=True) / 2).clamp(min=0)
    gate = ChannelGate(6, 8)
    target = channel_target(activity, 0.9)
    optimizer = torch.optim.Adam(gate.parameters(), lr=0.05)
    first = gate.loss(counts, activity, 0.9).item()
    agreed = (gate.open(counts, 0.9) == target).float().mean().item()
    for _ in range(60):
        optimizer.zero_grad()
        gate.loss(counts, activity, 0.9).backward()
        optimizer.step()
    assert agreed == pytest.approx(0.5, abs=0.1)
    assert gate.loss(counts, activity, 0.9).item() < 0.5 * first
    assert (gate.open(counts, 0.9) == target).float().mean().item() > 0.95


# In a layer


def gated_layer(mass: float, *, seed: int = 0) -> SpikingConv2d:
    torch.manual_seed(seed)
    layer = SpikingConv2d(3, 8)
    layer.set_precision(LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=mass), NeuronSpace())
    assert layer.gate is not None
    with torch.no_grad():
        layer.gate.weight.copy_(random(8, 3))
        layer.gate.bias.zero_()
    return layer


def some_spikes(*, time: int = 3, batch: int = 4) -> Spikes:
    values = (random(time * batch, 3, 6, 5, seed=4) > 0.5).float()
    return Spikes(values=values, time_steps=time)


def test_gradients_reach_the_predictor_from_its_loss_and_the_input_from_the_task_alone(plain_neurons: None) -> None:
    layer, spikes = gated_layer(0.8), some_spikes()
    assert layer.gate is not None
    values = spikes.values.requires_grad_()
    out = layer(spikes)
    assert layer.gate_loss is not None
    layer.gate_loss.backward(retain_graph=True)
    assert values.grad is None
    assert layer.weight.grad is None
    for parameter in layer.gate.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0
        parameter.grad = None
    out.values.sum().backward()
    assert values.grad is not None
    assert values.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in layer.gate.parameters())


def test_the_gate_is_taught_the_mean_positive_current_before_it_closes_any(plain_neurons: None) -> None:
    layer, spikes = gated_layer(0.7), some_spikes()
    assert layer.gate is not None
    with torch.no_grad():
        current = layer.training_current(spikes)
        expected = layer.gate.loss(spikes.values.sum(dim=(2, 3)), current.clamp(min=0).mean(dim=(2, 3)), 0.7)
    layer(spikes)
    torch.testing.assert_close(layer.gate_loss, expected)


@pytest.mark.parametrize("training", [True, False])
def test_a_closed_channel_cannot_spike_whatever_its_offset(training: bool, plain_neurons: None) -> None:
    layer, spikes = gated_layer(0.8), some_spikes()
    with torch.no_grad():
        layer.norm.bias.fill_(50.0)
    out = layer.train(training)(spikes)
    assert out.open is not None
    by_channel = out.values.detach().sum(dim=(2, 3))
    assert (~out.open).any()
    assert (by_channel[~out.open] == 0).all()
    assert (by_channel[out.open] == 6 * 5).all(), "an open one spikes everywhere at such an offset"


@pytest.mark.parametrize("training", [True, False])
def test_with_the_whole_mass_there_is_no_gate(training: bool, plain_neurons: None) -> None:
    layer, spikes = gated_layer(1.0), some_spikes()
    layer.train(training)
    out = layer(spikes)
    assert out.open is None
    assert layer.gate_loss is None
    bare = SpikingConv2d(3, 8, can_gate=False).train(training)
    bare.load_state_dict({name: value for name, value in layer.state_dict().items() if "gate" not in name})
    bare.set_precision(layer.precision, NeuronSpace())
    assert torch.equal(bare(spikes).values, out.values)


def test_a_gate_switched_off_forgets_its_last_loss(plain_neurons: None) -> None:
    layer = gated_layer(0.8)
    layer(some_spikes())
    assert layer.gate_loss is not None
    layer.set_precision(LayerPrecision(), NeuronSpace())
    layer(some_spikes())
    assert layer.gate_loss is None
