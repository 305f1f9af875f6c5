"""Settings, currents and sums for tests of the neuron."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from spquant_search.snn.neuron.exact import Fired, affine_step, fire_sums, positions_together
from spquant_search.snn.neuron.parameters import NeuronParameters, exact_parameters, neuron_parameters
from spquant_search.snn.neuron.reference import fire_step_by_step, step
from spquant_search.snn.neuron.training import fire
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


def slow_neuron(
    current: NDArray[np.float64],
    *,
    leak: float,
    amount: float | None,
    at_threshold: bool = False,
    grid: MembraneGrid | None = None,
    cut: float = -math.inf,
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Spikes and potentials of all time steps in double precision, from the formulas; ``amount`` None resets to 0."""
    stored = np.zeros(current.shape[1:])
    spikes, potentials = [], []
    for frame in current:
        u = leak * stored + np.where(stored >= cut, frame, 0.0)
        fired = u >= 1.0 if at_threshold else u > 1.0
        stored = np.where(fired, 0.0 if amount is None else u - amount, u)
        if grid is not None:
            steps = stored / grid.step
            nearest = np.sign(steps) * np.ceil(np.abs(steps) - 0.5)  # a tie goes toward zero
            stored = np.clip(nearest * grid.step, grid.lowest, grid.highest)
        spikes.append(fired)
        potentials.append(u)
    return np.stack(spikes), np.stack(potentials)


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
    def drawn(cls, *, positions: int, groups: int, channels: int, seed: int = 0, time_steps: int = 4) -> Sums:
        generator = torch.Generator().manual_seed(seed)
        shape = (time_steps, 3, positions, groups, channels)

        def whole(low: int, high: int, *size: int) -> Tensor:
            return torch.randint(low, high, size, generator=generator)

        return cls(
            sums=whole(-60, 81, *shape) + 1e-3,
            slope=whole(1, 2**19, groups, channels).double() / 2**24,
            offset=whole(-(2**22), 2**23, groups, channels).double() / 2**24,
            opened=whole(0, 2, time_steps, 3, 1, groups, channels).bool(),
            residual=whole(0, 2, *shape).double() / 4,
            reached=whole(0, 90, time_steps, 3, positions, groups, 1).float(),
        )

    def fired(self, setting: Setting, *, residual: bool = False, reached: bool = True, are_whole: bool = True) -> Fired:
        groups, together = self.sums.shape[3], positions_together(self.sums.shape)
        affine = self.slope.flatten(), self.offset.flatten()
        return fire_sums(
            self.sums,
            affine_step(*affine, None, groups, together, are_whole),
            exact_parameters(parameters(setting)),
            opened=self.opened,
            residual=self.residual if residual else None,
            reached=self.reached if reached else None,
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


def assert_fired(found: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert one is not None
        assert other is not None
        assert torch.equal(one, other)
