"""The neuron, three times: a scalar one written here from its formulas, one step at a time, all steps at once."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.utils import counters

from spquant_search.snn.kernels.compile import Compiled, compile_kernels
from spquant_search.snn.neuron import reference, training
from spquant_search.snn.neuron.exact import Fired, _positions_together, fire_sums
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.neuron.parameters import NeuronParameters, neuron_parameters, threshold_gain
from spquant_search.snn.neuron.reference import fire_step_by_step, step
from spquant_search.snn.neuron.training import fire, fire_and_pool, skipped
from spquant_search.space.grid import MembraneGrid, membrane_grid

# Levels (0: a float membrane), where skipping begins, leak.
SETTINGS = [
    (0, None, 0.5),
    (0, 0.0, 0.25),
    (2, None, 0.5),
    (3, None, 0.5),
    (3, 0.0, 0.5),
    (4, -1.0, 0.5),
    (5, None, 0.25),
    (5, -2.0, 0.5),
    (16, 0.0, 0.5),
    (16, None, 0.125),
    (256, -0.25, 0.5),
]
settings = pytest.mark.parametrize("setting", SETTINGS, ids=lambda setting: "{}-{}-{}".format(*setting))
Setting = tuple[int, float | None, float]


def grid_of(levels: int) -> MembraneGrid | None:
    return membrane_grid(levels) if levels else None


def parameters(setting: Setting) -> NeuronParameters:
    levels, skip_below, leak = setting
    return neuron_parameters(leak=leak, grid=grid_of(levels), skip_below=skip_below)


def currents(time: int, neurons: int, seed: int = 0, grain: int = 64) -> Tensor:
    """Multiples of 1 / grain, so that all sums are exact and ties and potentials on the threshold occur."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2 * grain, 2 * grain + 1, (time, neurons), generator=generator) / grain


def spikes_and_gradient(run: Callable[[Tensor], Tensor], current: Tensor, by_spike: Tensor) -> tuple[Tensor, Tensor]:
    leaf = current.clone().requires_grad_()
    spikes = run(leaf)
    spikes.backward(by_spike.to(spikes.dtype))
    assert leaf.grad is not None
    return spikes.detach(), leaf.grad


def fired_all_at_once(setting: Setting) -> Callable[[Tensor], Tensor]:
    return lambda current: fire(current, parameters(setting))[0]


def fired_step_by_step(setting: Setting) -> Callable[[Tensor], Tensor]:
    return lambda current: fire_step_by_step(current, parameters(setting))


# The scalar neuron: plain numbers, forward-mode derivatives


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


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 7, 16, 256])
def test_a_cut_on_the_stored_value_is_a_cut_on_the_potential_after_the_reset(levels: int) -> None:
    grid = membrane_grid(levels)
    ties = torch.arange(grid.lowest - 2, grid.highest + 2, grid.step / 2)
    near = [torch.nextafter(ties, torch.tensor(end)) for end in (math.inf, -math.inf)]
    resets = torch.cat([ties, *near])
    stored = torch.tensor([min(grid.values, key=lambda v: (abs(v - x), abs(v))) for x in resets.tolist()])
    for cut in {*grid.values, grid.lowest - 1, 0.1, -0.3, grid.highest + 1}:
        p = neuron_parameters(leak=0.5, grid=grid, skip_below=cut)
        assert torch.equal(resets >= p.reset_cut, stored >= torch.tensor(cut)), cut


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


# The reference's derivatives against finite differences


def test_the_reference_differentiates_its_smooth_form(monkeypatch: pytest.MonkeyPatch) -> None:
    """With spike and quantizer replaced by the integrals of their surrogates, the gradient must be the true one."""

    def smooth_spike(ctx: Any, potential: Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        x = (potential - 1.0).clamp(-1.0, 1.0)
        return 0.5 + x - x * x.abs() / 2

    def smooth_levels(ctx: Any, potential: Tensor, p: NeuronParameters) -> Tensor:
        ctx.save_for_backward(potential)
        ctx.parameters = p
        integral = torch.nn.functional.softplus
        rise = integral(2 * (potential - p.lowest)) - integral(2 * (potential - p.highest))
        return rise / 2 + p.lowest

    monkeypatch.setattr(reference._Spike, "forward", staticmethod(smooth_spike))
    monkeypatch.setattr(reference._Quantize, "forward", staticmethod(smooth_levels))
    current = currents(4, 5, seed=3, grain=7).double().requires_grad_()
    for levels in (0, 3, 16):
        p = NeuronParameters(*(value.double() for value in parameters((levels, None, 0.5))))
        p = p._replace(is_float=p.is_float.bool())
        assert torch.autograd.gradcheck(lambda leaf, p=p: fire_step_by_step(leaf, p), current, atol=1e-6)


# A learned threshold


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
    module.configure(leak=leak, grid=grid_of(levels), skip_below=skip_below, learn_threshold=True)
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
    module.configure(leak=0.5, grid=membrane_grid(3), skip_below=None, learn_threshold=True)
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
    module.configure(leak=0.5, grid=membrane_grid(3), skip_below=None, learn_threshold=True)
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


@pytest.mark.parametrize(
    ("theta", "gain"), [(1.0, 1.0), (1.02, 1.0), (1.04, 15 / 16), (0.3, 53 / 16), (1e-6, 255 / 16), (1e6, 1 / 16)]
)
def test_a_threshold_is_positive_and_its_reciprocal_in_sixteenths(theta: float, gain: float) -> None:
    log_threshold = torch.tensor(math.log(theta), requires_grad=True)
    found = threshold_gain(log_threshold)
    found.backward()
    assert found.item() == gain
    assert found.bfloat16().item() == gain
    assert log_threshold.grad is not None
    assert log_threshold.grad.item() == pytest.approx(-1 / theta, rel=1e-4)


def test_a_threshold_is_a_weight_that_is_kept_and_that_older_weights_may_lack(plain_neurons: None) -> None:
    learned, plain = Neuron(), Neuron()
    learned.configure(leak=0.5, grid=None, skip_below=None, learn_threshold=True)
    assert (learned.threshold, plain.threshold) == (1.0, 1.0)
    learned.load_state_dict({"log_threshold": torch.tensor(-math.log(2.0))})
    parameter = learned.log_threshold
    learned.configure(leak=0.25, grid=membrane_grid(3), skip_below=0.0, learn_threshold=True)
    assert learned.log_threshold is parameter, "another precision keeps it"
    assert learned.threshold == 0.5
    with pytest.raises(RuntimeError, match="log_threshold"):
        plain.load_state_dict(learned.state_dict())
    learned.load_state_dict(plain.state_dict())
    assert learned.threshold == 1.0
    learned.configure(leak=0.5, grid=None, skip_below=None)
    assert learned.state_dict() == {}


# bf16


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


# Modules and devices


def test_a_module_takes_a_new_precision_in_the_same_buffers(plain_neurons: None) -> None:
    module = Neuron()
    buffers = {name: buffer.data_ptr() for name, buffer in module.named_buffers()}
    current = currents(4, 100)
    for levels, skip_below, leak in SETTINGS:
        module.configure(leak=leak, grid=grid_of(levels), skip_below=skip_below)
        assert module.skips == (skip_below is not None)
        assert torch.equal(module(current)[0], fire(current, parameters((levels, skip_below, leak)))[0])
    assert {name: buffer.data_ptr() for name, buffer in module.named_buffers()} == buffers
    assert module.state_dict() == {}, "precision belongs to the configuration, not to the weights"


def test_neurons_run_on_the_meta_device() -> None:
    with torch.device("meta"):
        spikes, potentials = Neuron()(torch.empty(3, 10))
    assert spikes.shape == potentials.shape == (3, 10)
    assert spikes.is_meta


def test_a_potential_that_is_not_a_number_stays_visible(plain_neurons: None) -> None:
    current = torch.tensor([[math.nan], [0.5]])
    _, potentials = fire(current, parameters((3, None, 0.5)))
    assert potentials.isnan().all()


# From a convolution's sums to spikes


@dataclass
class Sums:
    """What :func:`fire_sums` takes, drawn: sums a little beside whole numbers, a and d in 24 fraction bits, a gate."""

    sums: Tensor
    slope: Tensor
    offset: Tensor
    opened: Tensor
    residual: Tensor
    reached: Tensor

    @classmethod
    def drawn(cls, *, positions: int, groups: int, channels: int, seed: int = 0) -> Sums:
        generator = torch.Generator().manual_seed(seed)
        shape = (4, 3, positions, groups, channels)

        def whole(low: int, high: int, *size: int) -> Tensor:
            return torch.randint(low, high, size, generator=generator)

        return cls(
            sums=whole(-60, 81, *shape) + 1e-3,
            slope=whole(1, 2**19, groups, channels).double() / 2**24,
            offset=whole(-(2**22), 2**23, groups, channels).double() / 2**24,
            opened=whole(0, 2, 4, 3, 1, groups, channels).bool(),
            residual=whole(0, 2, *shape).double() / 4,
            reached=whole(0, 90, 4, 3, positions, groups, 1).float(),
        )

    def fired(self, setting: Setting, *, residual: bool = False, reached: bool = True, are_whole: bool = True) -> Fired:
        return fire_sums(
            self.sums,
            self.slope,
            self.offset,
            parameters(setting),
            opened=self.opened,
            residual=self.residual if residual else None,
            reached=self.reached if reached else None,
            are_whole=are_whole,
        )

    def fired_one_after_the_other(self, setting: Setting, *, residual: bool) -> Fired:
        """The same, one operation and one step after the other."""
        p, (_, skip_below, _) = parameters(setting), setting
        current = (self.sums.round().double() * self.slope + self.offset) * self.opened
        current = current + self.residual if residual else current
        membrane, spikes, missed = torch.zeros_like(current[0]), [], []
        for frame in current:
            missed.append(membrane < (-math.inf if skip_below is None else skip_below))
            now, membrane = step(frame, membrane, p)
            spikes.append(now.float())
        counted = (torch.stack(missed) * self.opened).double()
        return Fired(torch.stack(spikes), counted.sum((2, 4)), (counted * self.reached).sum((2, 4)))


def assert_fired(found: Fired, expected: Fired) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)


@settings
@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("groups", [1, 3, 6])
def test_sums_fire_as_one_operation_after_the_other(
    setting: Setting, residual: bool, groups: int, plain_neurons: None
) -> None:
    drawn = Sums.drawn(positions=9, groups=groups, channels=6 // groups)
    found = drawn.fired(setting, residual=residual)
    assert 0.05 < found.spikes.mean() < 0.95
    assert_fired(found, drawn.fired_one_after_the_other(setting, residual=residual))
    uncounted = drawn.fired(setting, residual=residual, reached=False)
    assert torch.equal(uncounted.spikes, found.spikes)
    assert uncounted[1:] == (None, None)


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize(
    ("positions", "channels", "together"), [(10, 8, 2), (24, 6, 8), (10, 16, 1), (2, 8, 1), (9, 8, 1)]
)
def test_positions_taken_together_fire_as_one_by_one(
    positions: int, channels: int, together: int, residual: bool, plain_neurons: None
) -> None:
    drawn = Sums.drawn(positions=positions, groups=1, channels=channels)
    assert _positions_together(drawn.sums.shape) == together
    found = drawn.fired((16, 0.0, 0.5), residual=residual, reached=False)
    assert torch.equal(found.spikes, drawn.fired_one_after_the_other((16, 0.0, 0.5), residual=residual).spikes)


def test_sums_of_float_weights_are_not_rounded(plain_neurons: None) -> None:
    drawn = Sums.drawn(positions=9, groups=1, channels=6)
    drawn.slope, drawn.offset = drawn.slope.float(), drawn.offset.float()
    drawn.sums = drawn.sums + 0.3
    current = (drawn.sums.double() * drawn.slope + drawn.offset) * drawn.opened
    expected = fire_step_by_step(current, parameters((16, 0.0, 0.5))).float()
    assert torch.equal(drawn.fired((16, 0.0, 0.5), are_whole=False).spikes, expected)
    assert not torch.equal(drawn.fired((16, 0.0, 0.5)).spikes, expected)


# Compilation


@pytest.fixture(scope="session")
def compiled() -> Callable[[Setting, Tensor], tuple[Tensor, Tensor]]:
    """Fires compiled: spikes and gradient by all ones. Compiled once, by the first call."""

    def run(setting: Setting, current: Tensor) -> tuple[Tensor, Tensor]:
        return spikes_and_gradient(fired_all_at_once(setting), current, torch.ones_like(current))

    compile_kernels(True)
    with warnings.catch_warnings():
        # The compiler's own deprecations; a failure of ours would show in Compiled.failed.
        warnings.simplefilter("ignore")
        run((3, None, 0.5), currents(4, 96))
        skipped(currents(4, 96), parameters((3, None, 0.5)))
        Sums.drawn(positions=25, groups=1, channels=8).fired((3, None, 0.5))
    return run


def graphs() -> int:
    return int(counters["stats"]["unique_graphs"])


def test_compiled_neurons_are_the_plain_ones_and_are_compiled_once(
    compiled: Callable[[Setting, Tensor], tuple[Tensor, Tensor]],
) -> None:
    before = graphs()
    assert before >= 4, "forward, backward, the skip mask and evaluation"
    for number, setting in enumerate(SETTINGS):
        current = currents(4, 64 * (number + 2) + number, seed=number)  # every layer and batch has its own size
        spikes, gradient = compiled(setting, current)
        missed = skipped(current, parameters(setting))
        drawn = Sums.drawn(positions=9 + number, groups=1, channels=5 + 3 * number, seed=number)
        fired = drawn.fired(setting)
        compile_kernels(False)
        assert_fired(fired, drawn.fired_one_after_the_other(setting, residual=False))
        expected, expected_gradient = spikes_and_gradient(fired_all_at_once(setting), current, torch.ones_like(current))
        expected_missed = skipped(current, parameters(setting))
        compile_kernels(True)
        assert torch.equal(spikes, expected)
        assert torch.equal(missed, expected_missed)
        torch.testing.assert_close(gradient, expected_gradient, rtol=1e-5, atol=1e-5)
    assert graphs() == before, "a change of precision or size is a change of data"
    assert not counters["graph_break"]
    assert not Compiled.failed


def test_compiled_in_bf16_the_potential_is_rounded_before_anything_is_decided(
    compiled: Callable[[Setting, Tensor], tuple[Tensor, Tensor]],
) -> None:
    # Left to itself the compiler decides on the unrounded value: about two spikes in ten thousand would differ.
    current = currents(4, 40_000).bfloat16()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        spikes, _ = compiled((3, None, 0.5), current)
    compile_kernels(False)
    expected, potentials = fire(current, parameters((3, None, 0.5)))
    compile_kernels(True)
    assert torch.equal(spikes, expected)
    assert torch.equal(spikes > 0, potentials > 1)


def test_a_failing_compiler_is_said_once_and_then_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def broken(function: Any, **_options: Any) -> Any:
        calls.append(function)
        raise RuntimeError("no C++ compiler found\nand a long story")

    monkeypatch.setattr(torch, "compile", broken)
    monkeypatch.setattr(training, "_compiled_forward", Compiled(training._forward))
    monkeypatch.setattr(training, "_compiled_backward", Compiled(training._backward))
    monkeypatch.setattr(Compiled, "failed", False)
    setting, current = (3, None, 0.5), currents(4, 50)
    with pytest.warns(UserWarning, match=r"^neurons run uncompiled, 2 to 3 times slower: no C\+\+ compiler found$"):
        spikes, gradient = spikes_and_gradient(fired_all_at_once(setting), current, torch.ones_like(current))
    again, _ = spikes_and_gradient(fired_all_at_once(setting), current, torch.ones_like(current))
    assert len(calls) == 1
    assert Compiled.failed
    expected, expected_gradient = spikes_and_gradient(fired_step_by_step(setting), current, torch.ones_like(current))
    assert torch.equal(spikes, expected)
    assert torch.equal(again, expected)
    torch.testing.assert_close(gradient, expected_gradient)
