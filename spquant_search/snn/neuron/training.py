"""The neuron in training: all time steps in one forward and one analytic backward function, each compiled."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels.compile import LARGE_LAYER, VECTOR, Compiled
from spquant_search.snn.kernels.pooling import POOL
from spquant_search.snn.neuron.exact import behind_the_first_step
from spquant_search.snn.neuron.parameters import THRESHOLD, NeuronParameters, neuron_parameters
from spquant_search.snn.quantize import (
    fast_membrane_gradient,
    grid_code,
    quantize_membrane,
)

# A step here is bound by the number of operations and not by memory, so that nothing is worked out twice, and the
# parameters hold whatever is constant over a trial.


def _run(current: Tensor, p: NeuronParameters) -> tuple[list[Tensor], list[Tensor]]:
    """Return every step's spikes, in fp32, and membrane potentials before the reset, in the current's type.

    The potential is rounded to that type before anything is decided on it, so that the backward pass, which reads what
    was stored, decides the same in every element.
    """
    reset = torch.zeros_like(current[0], dtype=torch.float32)
    spikes, potentials = [], []
    for t, frame in enumerate(current):
        charged = frame.float()
        if t > 0:  # the first step sees a stored membrane of 0, below which no cut lies
            charged = _leaked(reset, p, current.dtype) + torch.where(reset >= p.reset_cut, charged, 0.0)
        kept = charged.to(current.dtype)
        potential = kept.float()
        fired = potential > THRESHOLD
        reset = torch.where(fired, 0.0, potential)
        # In fp32: from booleans the compiler makes scalar code.
        spikes.append(torch.where(fired, 1.0, 0.0))
        potentials.append(kept)
    return spikes, potentials


def _forward(current: Tensor, p: NeuronParameters) -> tuple[Tensor, Tensor]:
    """Return spikes and potentials, both in the current's type."""
    spikes, potentials = _run(current, p)
    return torch.stack([spike.to(current.dtype) for spike in spikes]), torch.stack(potentials)


def _potentials(current: Tensor, p: NeuronParameters) -> Tensor:
    return torch.stack(_run(current, p)[1])


def _leaked(reset: Tensor, p: NeuronParameters, dtype: torch.dtype) -> Tensor:
    """Return leak * Q(reset), what the next step keeps of a potential that ``dtype`` holds exactly."""
    if dtype is torch.bfloat16:
        return grid_code(reset, p.steps_per_unit, p.lowest_code, p.highest_code) * p.leaked_step
    quantized = quantize_membrane(reset, p.lowest, p.highest, p.grid_step)
    return p.leak * torch.where(p.is_float, reset, quantized)


def _backward(gradient: Tensor, potentials: Tensor, p: NeuronParameters) -> Tensor:
    """Return the gradient by the current, given that by the spikes; the two may have shapes that broadcast."""
    values = [frame.float() for frame in potentials]
    fired = [potential > THRESHOLD for potential in values]
    resets = [torch.where(one, 0.0, potential) for one, potential in zip(fired, values, strict=True)]
    shape = (p.middle, p.half_range, p.rate, p.leaked_gain, p.tail)
    gradients: list[Tensor] = []
    by_next: Tensor | None = None  # the gradient by the next potential; what the last step stores is read by nobody
    for t in reversed(range(len(values))):
        triangle = (1.0 - (values[t] - THRESHOLD).abs()).relu()
        by_potential = gradient[t].float() * triangle
        if by_next is not None:
            by_reset = by_next * fast_membrane_gradient(resets[t], *shape)
            by_potential = by_potential + torch.where(fired[t], 0.0, by_reset) - by_reset * values[t] * triangle
        taken = by_potential if t == 0 else torch.where(resets[t - 1] >= p.reset_cut, by_potential, 0.0)
        gradients.append(taken.to(gradient.dtype))
        by_next = by_potential
    return torch.stack(gradients[::-1])


def _backward_of_pooled(
    gradient: Float[Tensor, "time sample rows columns channel"],
    potentials: Float[Tensor, "time sample height width channel"],
    p: NeuronParameters,
) -> Float[Tensor, "time sample rows 2 columns 2 channel"]:
    """Return the gradient by the current, given that by sums of spikes over 2x2 neurons.

    The four of a block share their sum's gradient. ``potentials`` have twice the rows and columns, none left over. What
    is returned is contiguous, and a view of it has their shape: made in here, it would be a copy at one time step.
    """
    time_steps, samples, rows, columns, channels = gradient.shape
    blocks = potentials.view(time_steps, samples, rows, POOL, columns, POOL, channels)
    return _backward(gradient[:, :, :, None, :, None], blocks, p)


def _pooled_spikes(
    potentials: Float[Tensor, "time sample height width channel"],
) -> Float[Tensor, "time sample rows columns channel"]:
    """Count how many of each 2x2 neurons fired; no row or column may be left over."""
    corners = [potentials[..., i::POOL, j::POOL, :] for i in range(POOL) for j in range(POOL)]
    fired = [torch.where(corner.float() > THRESHOLD, 1.0, 0.0) for corner in corners]
    return (fired[0] + fired[1] + fired[2] + fired[3]).to(potentials.dtype)


def _skipped(potentials: Tensor, p: NeuronParameters) -> Tensor:
    resets = torch.where(potentials > THRESHOLD, 0.0, potentials.float())
    return behind_the_first_step(torch.where(resets >= p.reset_cut, 0.0, 1.0))


_compiled_forward = Compiled(_forward, unrolled=True)
_compiled_backward = Compiled(_backward, unrolled=True)
_compiled_potentials = Compiled(_potentials, unrolled=True)
_compiled_pooled_spikes = Compiled(_pooled_spikes)
_compiled_backward_of_pooled = Compiled(_backward_of_pooled, unrolled=True)
_compiled_skipped = Compiled(_skipped, unrolled=True)


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, *p: Tensor) -> tuple[Tensor, Tensor]:
        spikes, potentials = _compiled_forward(current, NeuronParameters(*p))
        ctx.save_for_backward(potentials, *p)
        ctx.mark_non_differentiable(potentials)
        ctx.set_materialize_grads(False)  # or the potentials' gradient, which nobody reads, would be filled with zeros
        return spikes, potentials

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _potentials: None) -> tuple[Tensor | None, ...]:
        potentials, *p = ctx.saved_tensors
        return (_compiled_backward(gradient.contiguous(), potentials, NeuronParameters(*p)), *([None] * len(p)))


def fire(
    current: Float[Tensor, "time neurons"], p: NeuronParameters
) -> tuple[Float[Tensor, "time neurons"], Float[Tensor, "time neurons"]]:
    """Return spikes and potentials before the reset, of all time steps; the gradient reaches the current by spikes.

    ``current`` must be contiguous and flat over everything but time, so that one compiled graph serves all layers.
    """
    spikes, potentials = _Fire.apply(current, *p)  # type: ignore[no-untyped-call]
    return spikes, potentials


def compile_backward(time_steps: int, dtype: torch.dtype, device: torch.device) -> None:
    """Compile what the backward pass of :func:`fire` runs, before anything was trained."""
    zeros = torch.zeros(time_steps, LARGE_LAYER if device.type == "cuda" else VECTOR, dtype=dtype, device=device)
    _compiled_backward(zeros, zeros, neuron_parameters(leak=0.5, grid=None, skip_below=None, device=device))


class _FirePooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, *p: Tensor) -> Tensor:
        height, width = current.shape[2:4]
        ctx.left_over = (height % POOL, width % POOL)
        paired = current[:, :, : height - height % POOL, : width - width % POOL]
        # Flat if possible: one graph for all layers.
        flat = paired.flatten(1) if ctx.left_over == (0, 0) else paired
        potentials = _compiled_potentials(flat, NeuronParameters(*p)).view(paired.shape)
        ctx.save_for_backward(potentials, *p)
        sums: Tensor = _compiled_pooled_spikes(potentials)
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        potentials, *p = ctx.saved_tensors
        by_current = _compiled_backward_of_pooled(gradient.contiguous(), potentials, NeuronParameters(*p))
        by_current = by_current.view(potentials.shape)
        if ctx.left_over != (0, 0):
            rows, columns = ctx.left_over
            by_current = F.pad(by_current, (0, 0, 0, columns, 0, rows))
        return (by_current, *([None] * len(p)))


def fire_and_pool(
    current: Float[Tensor, "time sample height width channel"], p: NeuronParameters
) -> Float[Tensor, "time sample rows columns channel"]:
    """Count how many of each 2x2 neurons spike: :func:`fire` and sum-pooling, without writing the spikes out.

    ``current`` must be contiguous; an odd last row or column of neurons reaches no sum.
    """
    sums: Tensor = _FirePooled.apply(current, *p)  # type: ignore[no-untyped-call]
    return sums


def skipped(potentials: Float[Tensor, "time *neurons"], p: NeuronParameters) -> Float[Tensor, "time *neurons"]:
    """Return 1 where a neuron was skipped in a time step, as its stored membrane was below the cut; 0 elsewhere."""
    mask: Tensor = _compiled_skipped(potentials, p)
    return mask
