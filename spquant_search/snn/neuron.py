"""The quantized leaky integrate-and-fire neuron.

For every time step t, with the input current I and the stored membrane v (v = 0 before the first step)::

    u[t] = leak * v[t-1] + (I[t] if v[t-1] >= skip_below else 0)
    s[t] = 1 if u[t] > 1 else 0
    v[t] = Q(0 if s[t] else u[t])

The threshold is 1, the reset is hard, and Q (:func:`spquant_search.snn.quantize.quantize_membrane`) acts on what is
carried on, not on what is compared with the threshold (SpQuant-SNN, released code). Gradients: the spike's is the
triangle max(0, 1 - |u - 1|) (TET); Q's is the closed form of the stacked surrogate; the reset is not detached.

There are two implementations. :func:`step` is one time step, differentiated by autograd, for reading and checking.
:func:`fire` is what networks run: all time steps in one forward and one analytic backward function, each compiled
once for every number of levels, layer and batch size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.compiled import Compiled
from spquant_search.snn.quantize import membrane_gradient, quantize_membrane
from spquant_search.space import MembraneGrid

THRESHOLD = 1.0


class NeuronParameters(NamedTuple):
    """Scalar tensors, so that a change of precision is a change of data and never of compiled code."""

    leak: Tensor
    lowest: Tensor
    highest: Tensor
    grid_step: Tensor
    is_float: Tensor  # the membrane is not quantized
    skip_below: Tensor  # -inf: no neuron is skipped


def neuron_parameters(
    *, leak: float, grid: MembraneGrid | None, skip_below: float | None, device: torch.device | None = None
) -> NeuronParameters:
    """The parameters of a neuron; ``grid`` None keeps the membrane in floating point."""
    is_float = torch.tensor(grid is None, device=device)
    grid = grid or MembraneGrid(levels=3, lowest=-1.0, step=1.0)  # any: a float membrane reads none of it

    def scalar(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=device)

    return NeuronParameters(
        leak=scalar(leak),
        lowest=scalar(grid.lowest),
        highest=scalar(grid.highest),
        grid_step=scalar(grid.step),
        is_float=is_float,
        skip_below=scalar(float("-inf") if skip_below is None else skip_below),
    )


# ---------------------------------------------------------------- one step, for reading and checking


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor) -> Tensor:
        ctx.save_for_backward(potential)
        return (potential > THRESHOLD).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (potential,) = ctx.saved_tensors
        slope: Tensor = (1.0 - (potential - THRESHOLD).abs()).clamp(min=0.0)
        return gradient * slope


class _Quantize(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor, p: NeuronParameters) -> Tensor:
        ctx.save_for_backward(potential)
        ctx.parameters = p
        return quantize_membrane(potential, p.lowest, p.highest, p.grid_step)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (potential,) = ctx.saved_tensors
        return gradient * membrane_gradient(potential, ctx.parameters.lowest, ctx.parameters.highest), None


def step(
    current: Float[Tensor, "*neurons"], membrane: Float[Tensor, "*neurons"], p: NeuronParameters
) -> tuple[Float[Tensor, "*neurons"], Float[Tensor, "*neurons"]]:
    """One time step: (current, stored membrane) -> (spikes, stored membrane)."""
    potential = p.leak * membrane + torch.where(membrane >= p.skip_below, current, 0.0)
    spikes: Tensor = _Spike.apply(potential)  # type: ignore[no-untyped-call]
    reset = (1.0 - spikes) * potential
    stored: Tensor = reset if p.is_float else _Quantize.apply(reset, p)  # type: ignore[no-untyped-call]
    return spikes, stored


def fire_step_by_step(current: Float[Tensor, "time *neurons"], p: NeuronParameters) -> Float[Tensor, "time *neurons"]:
    """The spikes of all time steps by :func:`step`: the slow reference of :func:`fire`."""
    membrane, spikes = torch.zeros_like(current[0]), []
    for frame in current:
        fired, membrane = step(frame, membrane, p)
        spikes.append(fired)
    return torch.stack(spikes)


# ---------------------------------------------------------------- all steps at once


def _forward(current: Tensor, p: NeuronParameters) -> tuple[Tensor, Tensor]:
    """Spikes and membrane potentials before the reset, both in the current's type.

    The potential is rounded to that type before anything is decided on it, so that the backward pass, which reads what
    was stored, decides the same in every element.
    """
    stored = torch.zeros_like(current[0], dtype=torch.float32)
    spikes, potentials = [], []
    for frame in current:
        charged = p.leak * stored + torch.where(stored >= p.skip_below, frame.float(), 0.0)
        kept = charged.to(current.dtype)
        stored = _stored(kept, p)
        spikes.append(_spikes(kept).to(current.dtype))
        potentials.append(kept)
    return torch.stack(spikes), torch.stack(potentials)


def _spikes(potentials: Tensor) -> Tensor:
    # In fp32 and not boolean: from booleans the compiler makes scalar code.
    return torch.where(potentials.float() > THRESHOLD, 1.0, 0.0)


def _stored(potentials: Tensor, p: NeuronParameters) -> Tensor:
    """What is carried to the next step, in fp32: the reset potential, quantized."""
    values = potentials.float()
    reset = values - _spikes(potentials) * values
    return torch.where(p.is_float, reset, quantize_membrane(reset, p.lowest, p.highest, p.grid_step))


def _backward(gradient: Tensor, potentials: Tensor, p: NeuronParameters) -> Tensor:
    """The gradient by the input current, given that by the spikes."""
    time_steps = potentials.shape[0]
    carried = torch.zeros_like(potentials[0], dtype=torch.float32)
    gradients: list[Tensor] = [carried] * time_steps
    for t in range(time_steps - 1, -1, -1):
        potential = potentials[t].float()
        fired = potential > THRESHOLD
        reset = torch.where(fired, 0.0, potential)
        by_reset = torch.where(p.is_float, carried, carried * membrane_gradient(reset, p.lowest, p.highest))
        triangle = (1.0 - (potential - THRESHOLD).abs()).clamp(min=0.0)
        by_potential = torch.where(fired, 0.0, by_reset) + (gradient[t].float() - by_reset * potential) * triangle
        taken = by_potential
        if t > 0:  # the first step sees a stored membrane of 0, below which no cut lies
            taken = torch.where(_stored(potentials[t - 1], p) >= p.skip_below, by_potential, 0.0)
        gradients[t] = taken.to(gradient.dtype)
        carried = p.leak * by_potential
    return torch.stack(gradients)


def _skipped(potentials: Tensor, p: NeuronParameters) -> Tensor:
    later = [torch.where(_stored(frame, p) >= p.skip_below, 0.0, 1.0) for frame in potentials[:-1]]
    return torch.stack([torch.zeros_like(potentials[0], dtype=torch.float32), *later])


_compiled_forward = Compiled(_forward)
_compiled_backward = Compiled(_backward)
_compiled_skipped = Compiled(_skipped)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, *p: Tensor) -> tuple[Tensor, Tensor]:
        spikes, potentials = _compiled_forward(current, NeuronParameters(*p))
        ctx.save_for_backward(potentials, *p)
        ctx.mark_non_differentiable(potentials)
        ctx.set_materialize_grads(False)  # or the potentials' gradient, which nobody reads, would be filled with zeros
        return spikes, potentials

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _potentials: Tensor) -> tuple[Tensor | None, ...]:
        potentials, *p = ctx.saved_tensors
        return (_compiled_backward(gradient.contiguous(), potentials, NeuronParameters(*p)), *([None] * len(p)))


def fire(
    current: Float[Tensor, "time neurons"], p: NeuronParameters
) -> tuple[Float[Tensor, "time neurons"], Float[Tensor, "time neurons"]]:
    """Spikes and membrane potentials before the reset, of all time steps; the gradient reaches the current by spikes.

    ``current`` must be contiguous and flat over everything but time, so that one compiled graph serves all layers.
    """
    spikes, potentials = _Fire.apply(current, *p)  # type: ignore[no-untyped-call]
    return spikes, potentials


def skipped(potentials: Float[Tensor, "time *neurons"], p: NeuronParameters) -> Float[Tensor, "time *neurons"]:
    """1 where a neuron was skipped in that time step, as its stored membrane was below the cut; 0 elsewhere."""
    mask: Tensor = _compiled_skipped(potentials, p)
    return mask


class Neuron(nn.Module):
    """The neurons of a layer; their precision is data in buffers and may change between any two calls."""

    leak: Tensor
    lowest: Tensor
    highest: Tensor
    grid_step: Tensor
    is_float: Tensor
    skip_below: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in neuron_parameters(leak=0.5, grid=None, skip_below=None)._asdict().items():
            # Not persistent: the configuration holds them, weights are shared between configurations.
            self.register_buffer(name, value, persistent=False)
        self.skips = False

    def configure(self, *, leak: float, grid: MembraneGrid | None, skip_below: float | None) -> None:
        """Take a new precision; nothing is rebuilt or recompiled."""
        self.skips = skip_below is not None
        for name, value in neuron_parameters(leak=leak, grid=grid, skip_below=skip_below)._asdict().items():
            getattr(self, name).copy_(value)

    @property
    def parameters_now(self) -> NeuronParameters:
        return NeuronParameters(*(getattr(self, name) for name in NeuronParameters._fields))

    def forward(self, current: Float[Tensor, "time neurons"]) -> tuple[Tensor, Tensor]:
        """Spikes and potentials, see :func:`fire`."""
        return fire(current, self.parameters_now)
