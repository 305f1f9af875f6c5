"""The neurons of a layer: another precision in the same buffers, and a learned threshold."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import pytest
import torch
from neurons import SETTINGS, Setting, currents, grid_of, parameters, settings, spikes_and_gradient
from torch import Tensor

from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.neuron.parameters import exact_parameters
from spquant_search.snn.neuron.training import fire
from spquant_search.space.grid import MembraneGrid, membrane_grid
from spquant_search.space.neuron_form import NeuronForm


def smooth_spike(x: Tensor) -> Tensor:
    """The integral of the spike's triangle, in units of the threshold."""
    x = (x - 1.0).clamp(-1.0, 1.0)
    return x - x * x.abs() / 2


def smooth_levels(x: Tensor, grid: MembraneGrid) -> Tensor:
    """The integral of the membrane quantizer's surrogate."""
    rise = torch.nn.functional.softplus
    return (rise(2 * (x - grid.lowest)) - rise(2 * (x - grid.highest))) / 2


def with_slope(value: Tensor, smooth: Tensor) -> Tensor:
    return value + smooth - smooth.detach()


def fired_in_absolute_units(current: Tensor, threshold: Tensor, setting: Setting) -> Tensor:
    """The neuron as LT-SNN and SpQuant-SNN write it: u is compared with theta and stored on a grid in theta."""
    levels, skip_below, leak = setting
    grid = grid_of(levels)
    stored, spikes = torch.zeros_like(current[0]), []
    for frame in current:
        taken = stored >= threshold * (-math.inf if skip_below is None else skip_below) - 1e-9
        u = leak * stored + torch.where(taken, frame, 0.0)
        spikes.append(with_slope((u > threshold).double(), smooth_spike(u / threshold)))
        stored = (1 - spikes[-1]) * u
        if grid is not None:
            x = stored / threshold
            # Rounded, as what a skipped neuron leaks to may be a tie that another unit hides.
            nearest = [min(grid.values, key=lambda level: (round(abs(level - v), 9), abs(level))) for v in x.tolist()]
            stored = threshold * with_slope(torch.tensor(nearest).double(), smooth_levels(x, grid))
    return torch.stack(spikes)


@settings
@pytest.mark.parametrize("code", [10, 16, 40])
def test_a_learned_threshold_is_that_of_the_neuron_in_absolute_units(
    setting: Setting, code: int, plain_neurons: None
) -> None:
    # Off the grid of ties: in other units they would round to the other side.
    current = currents(5, 60) + torch.rand(5, 60, generator=torch.Generator().manual_seed(2)) / 512 + 2**-12
    by_spike = torch.randn(5, 60, generator=torch.Generator().manual_seed(1))
    levels, skip_below, leak = setting
    module = Neuron()
    module.configure(NeuronForm(leak=leak), grid=grid_of(levels), skip_below=skip_below, learn_threshold=True)
    assert module.log_threshold is not None
    with torch.no_grad():
        module.log_threshold.fill_(-math.log((code + 0.3) / 16))  # rounded to code / 16
    assert module.threshold == 16 / code
    found, gradient = spikes_and_gradient(lambda leaf: module(leaf)[0], current, by_spike)

    reference = current.double().requires_grad_()
    gain = torch.tensor(code / 16, dtype=torch.float64, requires_grad=True)
    spikes = fired_in_absolute_units(reference, 1.0 / gain, setting)
    (spikes * by_spike.double()).sum().backward()
    assert torch.equal(found.double(), spikes.detach().round())
    assert 0.02 < found.mean() < 0.98
    assert reference.grad is not None
    torch.testing.assert_close(gradient.double(), reference.grad, rtol=1e-4, atol=1e-4)
    # Straight through the rounding: d gain / d log theta is minus the gain before it.
    assert gain.grad is not None
    assert module.log_threshold.grad is not None
    expected = -gain.grad.item() * (code + 0.3) / 16
    assert module.log_threshold.grad.item() == pytest.approx(expected, rel=1e-3, abs=1e-3)


def test_a_hand_worked_threshold(plain_neurons: None) -> None:
    # theta 2: u = 2, not above it, stored as 2 (one threshold); 1 + 1.5 spikes; -3 is a tie between -2 and -4: -2, the
    # lowest; -1 + 4 spikes.
    module = Neuron()
    module.configure(NeuronForm(leak=0.5), grid=membrane_grid(3), skip_below=None, learn_threshold=True)
    assert module.log_threshold is not None
    with torch.no_grad():
        module.log_threshold.fill_(math.log(2.0))
    spikes, potentials = module(torch.tensor([[2.0], [1.5], [-3.0], [4.0]]))
    assert (2.0 * potentials).flatten().tolist() == [2.0, 2.5, -3.0, 3.0]
    assert spikes.flatten().tolist() == [0.0, 1.0, 0.0, 1.0]
    # One step, u = 1.5 or .75 thetas: the triangle .75, and by log theta -u / theta of it.
    module.zero_grad()
    module(torch.tensor([[1.5]]))[0].sum().backward()
    assert module.log_threshold.grad is not None
    assert module.log_threshold.grad.item() == -0.75 * 0.75


def test_in_bf16_a_threshold_keeps_the_type_and_is_learned(plain_neurons: None) -> None:
    module = Neuron()
    module.configure(NeuronForm(leak=0.5), grid=membrane_grid(3), skip_below=None, learn_threshold=True)
    assert module.log_threshold is not None
    with torch.no_grad():
        module.log_threshold.fill_(math.log(0.5))
    current = currents(4, 200).bfloat16().requires_grad_()
    spikes, potentials = module(current)
    assert spikes.dtype == potentials.dtype == torch.bfloat16
    assert torch.equal(spikes, fire(2 * current.detach(), parameters((3, None, 0.5)))[0])
    spikes.sum().backward()
    assert current.grad is not None
    assert current.grad.dtype == torch.bfloat16
    assert module.log_threshold.grad is not None
    assert module.log_threshold.grad.dtype == torch.float32
    assert module.log_threshold.grad.item() != 0.0


def test_a_threshold_is_a_weight_that_is_kept_and_that_older_weights_may_lack(plain_neurons: None) -> None:
    learned, plain = Neuron(), Neuron()
    learned.configure(NeuronForm(leak=0.5), grid=None, skip_below=None, learn_threshold=True)
    assert (learned.threshold, plain.threshold) == (1.0, 1.0)
    learned.load_state_dict({"log_threshold": torch.tensor(-math.log(2.0))})
    parameter = learned.log_threshold
    learned.configure(NeuronForm(leak=0.25), grid=membrane_grid(3), skip_below=0.0, learn_threshold=True)
    assert learned.log_threshold is parameter, "another precision keeps it"
    assert learned.threshold == 0.5
    with pytest.raises(RuntimeError, match="log_threshold"):
        plain.load_state_dict(learned.state_dict())
    learned.load_state_dict(plain.state_dict())
    assert learned.threshold == 1.0
    learned.configure(NeuronForm(leak=0.5), grid=None, skip_below=None)
    assert learned.state_dict() == {}


def test_a_module_takes_a_new_precision_in_the_same_buffers(plain_neurons: None) -> None:
    module = Neuron()
    buffers = {name: buffer.data_ptr() for name, buffer in module.named_buffers()}
    current = currents(4, 100)
    for levels, skip_below, leak in SETTINGS:
        module.configure(NeuronForm(leak=leak), grid=grid_of(levels), skip_below=skip_below)
        assert module.skips == (skip_below is not None)
        assert torch.equal(module(current)[0], fire(current, parameters((levels, skip_below, leak)))[0])
    assert {name: buffer.data_ptr() for name, buffer in module.named_buffers()} == buffers
    assert module.state_dict() == {}, "precision belongs to the configuration, not to the weights"


def test_parameters_are_those_of_the_formulas_and_each_begins_where_wide_loads_may() -> None:
    module = Neuron()
    for levels, skip_below, leak in SETTINGS:
        module.configure(NeuronForm(leak=leak), grid=grid_of(levels), skip_below=skip_below)
        for found, expected in zip(module.exact_parameters_now, exact_parameters(module.parameters_now), strict=True):
            assert found.dtype == expected.dtype
            assert torch.equal(found, expected)
        p = module.parameters_now
        assert (p.leak.item(), p.is_float.item()) == (leak, levels == 0)
        assert p.skip_below.item() == (-math.inf if skip_below is None else skip_below)
        places = [tensor.data_ptr() for tensor in (*p, *module.exact_parameters_now)]
        assert len(set(places)) == len(places)
        assert not any((place - module.packed.data_ptr()) % 16 for place in places)


@pytest.mark.parametrize(
    "moved",
    [copy.deepcopy, lambda module: module.to("meta").to_empty(device="cpu"), lambda module: module.half()],
    ids=["a copy", "another device and back", "another type"],
)
def test_a_module_that_was_moved_shows_the_parameters_of_its_own_buffer(
    moved: Callable[[Neuron], Neuron], plain_neurons: None
) -> None:
    original = Neuron()
    original.configure(NeuronForm(leak=0.25), grid=grid_of(16), skip_below=0.0)
    before = [value.item() for value in original.parameters_now]
    module = moved(original)
    module.configure(NeuronForm(leak=0.5), grid=grid_of(3), skip_below=None)
    assert [value.item() for value in module.parameters_now] == [value.item() for value in parameters((3, None, 0.5))]
    assert module.parameters_now.leak.dtype == torch.float32
    if module is not original:
        assert [value.item() for value in original.parameters_now] == before


def test_neurons_run_on_the_meta_device() -> None:
    with torch.device("meta"):
        spikes, potentials = Neuron()(torch.empty(3, 10))
    assert spikes.shape == potentials.shape == (3, 10)
    assert spikes.is_meta
