"""The neuron, three times: a scalar one written here from its formulas, one step at a time, all steps at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from neurons import (
    Setting,
    currents,
    fired_all_at_once,
    fired_step_by_step,
    grid_of,
    parameters,
    settings,
    spikes_and_gradient,
)
from torch import Tensor

from spquant_search.snn.neuron.training import fire, fire_and_pool, skipped


@dataclass
class Scalar:
    """One neuron's spikes, potentials, skipped steps, and the derivatives of every spike by every current."""

    spikes: list[float]
    potentials: list[float]
    skipped: list[float]
    slopes: list[list[float]]  # [spike's time][current's time]


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def scalar_neuron(
    current: list[float], setting: Setting, rounded: Callable[[float], float] = lambda value: value
) -> Scalar:
    levels, skip_below, leak = setting
    grid = grid_of(levels)
    stored, by_current = 0.0, [0.0] * len(current)
    found = Scalar([], [], [], [])
    for time, value in enumerate(current):
        taken = skip_below is None or stored >= skip_below
        potential = rounded(leak * stored + (value if taken else 0.0))
        by_current = [leak * slope for slope in by_current]
        by_current[time] += 1.0 if taken else 0.0
        spike = 1.0 if potential > 1 else 0.0
        triangle = max(0.0, 1 - abs(potential - 1))
        found.spikes.append(spike)
        found.potentials.append(potential)
        found.skipped.append(0.0 if taken else 1.0)
        found.slopes.append([triangle * slope for slope in by_current])
        # d((1 - s) u) = (1 - s) du - u ds: the reset is not detached.
        by_current = [((1 - spike) - potential * triangle) * slope for slope in by_current]
        stored = (1 - spike) * potential
        if grid is not None:
            slope = sigmoid(2 * (stored - grid.lowest)) - sigmoid(2 * (stored - grid.highest))
            by_current = [slope * value for value in by_current]
            stored = min(grid.values, key=lambda level: (abs(level - stored), abs(level)))
    return found


def scalar_spikes_and_gradient(current: Tensor, setting: Setting, by_spike: Tensor, **options: Any) -> Any:
    """As :func:`spikes_and_gradient`, with the potentials and which steps were skipped besides."""
    neurons = [scalar_neuron(column.tolist(), setting, **options) for column in current.T]
    spikes = torch.tensor([one.spikes for one in neurons]).T
    potentials = torch.tensor([one.potentials for one in neurons]).T
    missed = torch.tensor([one.skipped for one in neurons]).T
    slopes = torch.tensor([one.slopes for one in neurons])
    return spikes, potentials, missed, torch.einsum("nsc,sn->cn", slopes, by_spike)


@settings
def test_all_implementations_agree(setting: Setting, plain_neurons: None) -> None:
    current = currents(6, 300)
    by_spike = torch.randn(current.shape, generator=torch.Generator().manual_seed(1))
    spikes, potentials, missed, gradient = scalar_spikes_and_gradient(current, setting, by_spike)
    assert 0.05 < spikes.mean() < 0.95
    assert (potentials == 1.0).any(), "a potential on the threshold is wanted: it must not spike"
    for run in (fired_all_at_once(setting), fired_step_by_step(setting)):
        found, found_gradient = spikes_and_gradient(run, current, by_spike)
        assert torch.equal(found, spikes)
        torch.testing.assert_close(found_gradient, gradient, rtol=1e-5, atol=1e-5)
    assert torch.equal(fire(current, parameters(setting))[1], potentials)
    assert torch.equal(skipped(potentials, parameters(setting)), missed)


def test_a_hand_worked_neuron(plain_neurons: None) -> None:
    current = torch.tensor([[1.0], [0.75], [-1.5], [3.0], [0.25], [1.0]])
    # u: 1 (no spike: not above 1), kept as 1; .5 + .75 spikes; -1.5 is a tie between -1 and -2: -1, the lowest;
    # -.5 + 3 spikes; .25 is stored as 0; 1 again.
    spikes, potentials = fire(current, parameters((3, None, 0.5)))
    assert potentials.flatten().tolist() == [1.0, 1.25, -1.5, 2.5, 0.25, 1.0]
    assert spikes.flatten().tolist() == [0.0, 1.0, 0.0, 1.0, 0.0, 0.0]


def test_a_hand_worked_gradient(plain_neurons: None) -> None:
    # Float membrane, two steps, u = 0.75 then 0.875; only the second spike is asked about: triangle .875.
    # By the first current: .875 * .5 * (1 - .75 * .75) with triangle(.75) = .75.
    current = torch.tensor([[0.75], [0.5]])
    _, gradient = spikes_and_gradient(fired_all_at_once((0, None, 0.5)), current, torch.tensor([[0.0], [1.0]]))
    assert gradient.flatten().tolist() == [0.875 * 0.5 * (1 - 0.75 * 0.75), 0.875]


def test_skipped_neurons_take_no_current_and_leak_back(plain_neurons: None) -> None:
    current = torch.tensor([[-1.0], [9.0], [9.0]])
    setting = (3, 0.0, 0.5)
    # -1 is below the cut: step 1 is skipped, leaks to -.5, a tie, stored as 0; step 2 is computed.
    spikes, potentials = fire(current, parameters(setting))
    assert potentials.flatten().tolist() == [-1.0, -0.5, 9.0]
    assert spikes.flatten().tolist() == [0.0, 0.0, 1.0]
    assert skipped(potentials, parameters(setting)).flatten().tolist() == [0.0, 1.0, 0.0]
    _, gradient = spikes_and_gradient(fired_all_at_once(setting), current, torch.ones(3, 1))
    assert gradient[1].item() == 0.0


def test_without_a_cut_no_step_is_skipped(plain_neurons: None) -> None:
    p = parameters((3, None, 0.5))
    assert not skipped(fire(currents(4, 50), p)[1], p).any()


@settings
@pytest.mark.parametrize("size", [(4, 6), (5, 6), (4, 3)])
def test_fired_and_pooled_at_once_is_fired_and_then_pooled(
    setting: Setting, size: tuple[int, int], plain_neurons: None
) -> None:
    height, width = size
    current = currents(3, 2 * height * width * 3).view(3, 2, height, width, 3)
    by_sums = torch.randn(3, 2, height // 2, width // 2, 3, generator=torch.Generator().manual_seed(1))

    def in_two_steps(leaf: Tensor) -> Tensor:
        spikes = fire(leaf.flatten(1), parameters(setting))[0].view(leaf.shape)
        blocks = spikes[:, :, : height // 2 * 2, : width // 2 * 2].unflatten(3, (-1, 2)).unflatten(2, (-1, 2))
        return blocks.sum(dim=(3, 5))

    expected, expected_gradient = spikes_and_gradient(in_two_steps, current, by_sums)
    found, gradient = spikes_and_gradient(lambda leaf: fire_and_pool(leaf, parameters(setting)), current, by_sums)
    assert torch.equal(found, expected)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("setting", [(0, None, 0.5), (3, 0.0, 0.5), (16, None, 0.5)])
def test_in_bf16_the_backward_pass_decides_as_the_forward_pass_did(setting: Setting, plain_neurons: None) -> None:
    def rounded(value: float) -> float:
        return torch.tensor(value).bfloat16().item()

    current = torch.randn(5, 400, generator=torch.Generator().manual_seed(2)).bfloat16() * 2
    by_spike = torch.randn(current.shape, generator=torch.Generator().manual_seed(3)).bfloat16()
    spikes, potentials, missed, gradient = scalar_spikes_and_gradient(
        current.float(), setting, by_spike.float(), rounded=rounded
    )
    p = parameters(setting)
    found_spikes, found_potentials = fire(current, p)
    assert found_spikes.dtype == found_potentials.dtype == torch.bfloat16
    assert torch.equal(found_spikes.float(), spikes)
    assert torch.equal(found_potentials.float(), potentials)
    assert torch.equal(skipped(found_potentials, p), missed)
    _, found = spikes_and_gradient(fired_all_at_once(setting), current, by_spike)
    assert found.dtype == torch.bfloat16
    # One rounding of each result; a single other decision would be off by far more.
    torch.testing.assert_close(found.float(), gradient, rtol=2**-8, atol=1e-6)


def test_in_bf16_a_potential_is_rounded_before_it_is_compared_with_the_threshold(plain_neurons: None) -> None:
    # 0.5 * 0.5078125 + 0.75 = 1 + 1/256, which bf16 rounds to 1: no spike, as the backward pass will see it.
    current = torch.tensor([[0.5078125], [0.75]], dtype=torch.bfloat16)
    spikes, potentials = fire(current, parameters((0, None, 0.5)))
    assert potentials.flatten().tolist() == [0.5078125, 1.0]
    assert spikes.flatten().tolist() == [0.0, 0.0]


def test_a_potential_that_is_not_a_number_stays_visible(plain_neurons: None) -> None:
    current = torch.tensor([[math.nan], [0.5]])
    _, potentials = fire(current, parameters((3, None, 0.5)))
    assert potentials.isnan().all()
