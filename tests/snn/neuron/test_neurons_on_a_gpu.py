"""On a GPU the compiled functions of the neuron give what the definition gives; the comparisons run on a CPU as well.

On a CPU functions run as they stand: what compiling does there has tests of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import fields
from typing import Any

import pytest
import torch
from neurons import SETTINGS, Setting, Sums, assert_fired, currents, grid_of, spikes_and_gradient
from on_a_gpu import NEEDS_A_GPU, all_compiled
from torch import Tensor

from spquant_search.snn.kernels.compile import Compiled, uncompiled
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.neuron.parameters import NeuronParameters, neuron_parameters
from spquant_search.snn.neuron.reference import fire_step_by_step
from spquant_search.snn.neuron.training import fire, fire_and_pool
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.schema import NeuronSpace

DEVICES = ["cpu", pytest.param("cuda", marks=NEEDS_A_GPU)]
TIME_STEPS = (1, 4, 10)
FEW_SETTINGS = SETTINGS[1::3]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    with uncompiled() if request.param == "cpu" else nullcontext():
        yield torch.device(request.param)


def on(device: torch.device, setting: Setting) -> NeuronParameters:
    levels, skip_below, leak = setting
    return neuron_parameters(leak=leak, grid=grid_of(levels), skip_below=skip_below, device=device)


def weights_of(spikes: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(spikes.shape, generator=generator).to(spikes.device)


@pytest.mark.parametrize("time_steps", TIME_STEPS)
def test_spikes_and_gradients_are_those_of_the_definition(device: torch.device, time_steps: int) -> None:
    for number, setting in enumerate(FEW_SETTINGS):
        current, p = currents(time_steps, 640 + 100 * number, seed=number).to(device), on(device, setting)
        by_spike = weights_of(current)
        found = spikes_and_gradient(lambda leaf, p=p: fire(leaf, p)[0], current, by_spike)
        expected = spikes_and_gradient(lambda leaf, p=p: fire_step_by_step(leaf, p), current, by_spike)
        assert torch.equal(found[0], expected[0])
        torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("time_steps", TIME_STEPS)
def test_in_bf16_they_are_those_of_plain_functions(device: torch.device, time_steps: int) -> None:
    for number, setting in enumerate(FEW_SETTINGS):
        current, p = currents(time_steps, 4_000, seed=number).bfloat16().to(device), on(device, setting)
        by_spike = weights_of(current)
        spikes, gradient = spikes_and_gradient(lambda leaf, p=p: fire(leaf, p)[0], current, by_spike)
        with uncompiled():
            plain = spikes_and_gradient(lambda leaf, p=p: fire(leaf, p)[0], current, by_spike)
            _, potentials = fire(current, p)
        assert torch.equal(spikes, plain[0])
        assert torch.equal(spikes > 0, potentials > 1)  # decided on what was stored
        torch.testing.assert_close(gradient, plain[1], rtol=2**-7, atol=1e-3)


@pytest.mark.parametrize("time_steps", TIME_STEPS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [(6, 8), (5, 7)])
def test_pooled_neurons_count_the_spikes_of_all_four(
    device: torch.device, time_steps: int, dtype: torch.dtype, size: tuple[int, int]
) -> None:
    samples, channels = 3, 5
    shape = (time_steps, samples, *size, channels)
    current = currents(time_steps, samples * size[0] * size[1] * channels).view(shape).to(device, dtype)
    p = on(device, (3, 0.0, 0.5))

    def apart(leaf: Tensor) -> Tensor:
        spikes = fire(leaf.flatten(1), p)[0].view(shape)[:, :, : size[0] // 2 * 2, : size[1] // 2 * 2]
        return spikes.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).sum(dim=(3, 5))

    by_sum = weights_of(apart(current))
    found = spikes_and_gradient(lambda leaf: fire_and_pool(leaf, p), current, by_sum)
    expected = spikes_and_gradient(apart, current, by_sum)
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=2**-7 if dtype is torch.bfloat16 else 1e-5, atol=1e-3)


@pytest.mark.parametrize("reset", ["zero", "delayed-subtract"])
def test_other_rules_and_learned_leaks_are_those_of_plain_functions(device: torch.device, reset: Any) -> None:
    """The two rules that differ most from the default's; what a spike subtracts, and by how much one leaks, is data."""
    form = NeuronForm(leak=0.9, reset=reset, spike_at_threshold=True, learn_leak=True)
    neuron = Neuron(form).to(device)
    neuron.set_precision(LayerPrecision(membrane_levels=16), NeuronSpace())
    assert neuron.leak_logit is not None
    current = currents(4, 4_000).to(device)
    by_spike = weights_of(current)

    def found() -> list[Tensor]:
        leaf = current.clone().requires_grad_()
        spikes, potentials = neuron(leaf)
        gradients = torch.autograd.grad((spikes * by_spike).sum(), [leaf, neuron.leak_logit])  # type: ignore[list-item]
        return [spikes.detach(), potentials.detach(), *neuron(current.double()), *gradients]

    compiled = found()
    with uncompiled():
        plain = found()
    for one, other in zip(compiled[:4], plain[:4], strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(compiled[4], plain[4], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(compiled[5], plain[5], rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("time_steps", TIME_STEPS)
@pytest.mark.parametrize("residual", [False, True])
def test_sums_fire_as_one_operation_after_the_other(device: torch.device, time_steps: int, residual: bool) -> None:
    for number, setting in enumerate(FEW_SETTINGS):
        drawn = Sums.drawn(
            positions=9 + number, groups=1 + number % 2, channels=5 + 3 * number, seed=number, time_steps=time_steps
        )
        there = Sums(*(getattr(drawn, field.name).to(device) for field in fields(Sums)))
        with device:  # on which the neuron's parameters are made
            found = there.fired(setting, residual=residual, reached=time_steps > 1)
        expected = drawn.fired_one_after_the_other(setting, residual=residual)
        if time_steps == 1:  # of which nothing is skipped, and nothing counted
            assert found[1:] == (None, None)
            found, expected = found[:1], expected[:1]
        assert_fired([one.cpu() for one in found], expected)


def test_a_test_of_a_gpu_fails_where_the_compiler_gives_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "enabled", True)
    monkeypatch.setattr(Compiled, "failed", True)  # by an earlier test: no concern of the next one
    with all_compiled():
        assert Compiled.works()
    with pytest.raises(AssertionError, match="gave up"), all_compiled():
        Compiled.failed = True
    with pytest.raises(AssertionError, match="SPQUANT_COMPILE"), uncompiled(), all_compiled():
        pass
