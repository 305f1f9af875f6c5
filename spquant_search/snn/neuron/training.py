"""The neuron in training: all time steps in one forward and one analytic backward function, each compiled."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels.compile import LARGE_LAYER, VECTOR
from spquant_search.snn.kernels.pooling import POOL
from spquant_search.snn.neuron.exact import behind_the_first_step
from spquant_search.snn.neuron.parameters import NeuronParameters, neuron_parameters
from spquant_search.snn.neuron.rule import (
    ABOVE_TO_ZERO,
    THRESHOLD,
    Rule,
    after_reset,
    compiled_by_rule,
    has_fired,
)
from spquant_search.snn.quantize import (
    fast_membrane_gradient,
    grid_code,
    quantize_membrane,
)

# A step here is bound by the number of operations and not by memory, so that nothing is worked out twice, and the
# parameters hold whatever is constant over a trial.


def _run(current: Tensor, p: NeuronParameters, rule: Rule) -> tuple[list[Tensor], list[Tensor]]:
    """Return every step's spikes, in fp32, and membrane potentials before the reset, in the current's type.

    The potential is rounded to that type before anything is decided on it, so that the backward pass, which reads what
    was stored, decides the same in every element.
    """
    reset = torch.zeros_like(current[0], dtype=torch.float32)
    spikes, potentials = [], []
    for t, frame in enumerate(current):
        charged = frame.float()
        if t > 0:  # the first step sees a stored membrane of 0, below which no cut lies
            leaked = _leaked(reset, p, holds=None if rule.subtracts else current.dtype)
            charged = leaked + torch.where(reset >= p.reset_cut, charged, 0.0)
        kept = charged.to(current.dtype)
        potential = kept.float()
        fired = has_fired(potential, rule)
        reset = after_reset(potential, fired, p.amount, rule)
        # In fp32: from booleans the compiler makes scalar code.
        spikes.append(torch.where(fired, 1.0, 0.0))
        potentials.append(kept)
    return spikes, potentials


def _forward(current: Tensor, p: NeuronParameters, *, rule: Rule = ABOVE_TO_ZERO) -> tuple[Tensor, Tensor]:
    """Return spikes and potentials, both in the current's type."""
    spikes, potentials = _run(current, p, rule)
    return torch.stack([spike.to(current.dtype) for spike in spikes]), torch.stack(potentials)


def _potentials(current: Tensor, p: NeuronParameters, *, rule: Rule = ABOVE_TO_ZERO) -> Tensor:
    return torch.stack(_run(current, p, rule)[1])


def _leaked(reset: Tensor, p: NeuronParameters, *, holds: torch.dtype | None) -> Tensor:
    """Return leak * Q(reset), what the next step keeps of a potential; ``holds``: a type that holds it exactly."""
    if holds is torch.bfloat16:
        return grid_code(reset, p.steps_per_unit, p.lowest_code, p.highest_code) * p.leaked_step
    return p.leak * _stored(reset, p)


def _stored(reset: Tensor, p: NeuronParameters) -> Tensor:
    quantized = quantize_membrane(reset, p.lowest, p.highest, p.grid_step)
    return torch.where(p.is_float, reset, quantized)


class _Gradients(NamedTuple):
    """What a backward pass finds of every step, the last one first."""

    by_current: list[Tensor]  # in the type of the spikes' gradient
    by_potential: list[Tensor]
    by_reset: list[Tensor]  # not of the last step, as nobody reads what it stores
    resets: list[Tensor]  # of the steps in their order
    fired: list[Tensor]


def _gradients(gradient: Tensor, potentials: Tensor, p: NeuronParameters, rule: Rule) -> _Gradients:
    """Return the gradients, given that by the spikes; the two may have shapes that broadcast."""
    values = [frame.float() for frame in potentials]
    fired = [has_fired(potential, rule) for potential in values]
    resets = [after_reset(value, one, p.amount, rule) for one, value in zip(fired, values, strict=True)]
    shape = (p.middle, p.half_range, p.rate, p.leaked_gain, p.tail)
    found = _Gradients([], [], [], resets, fired)
    for t in reversed(range(len(values))):
        triangle = (1.0 - (values[t] - THRESHOLD).abs()).relu()
        by_potential = gradient[t].float() * triangle
        if found.by_potential:
            by_reset = found.by_potential[-1] * fast_membrane_gradient(resets[t], *shape)
            if rule.subtracts:
                by_potential = by_potential + by_reset - by_reset * p.amount * triangle
            else:
                by_potential = by_potential + torch.where(fired[t], 0.0, by_reset) - by_reset * values[t] * triangle
            found.by_reset.append(by_reset)
        taken = by_potential if t == 0 else torch.where(resets[t - 1] >= p.reset_cut, by_potential, 0.0)
        found.by_current.append(taken.to(gradient.dtype))
        found.by_potential.append(by_potential)
    return found


def _backward(gradient: Tensor, potentials: Tensor, p: NeuronParameters, *, rule: Rule = ABOVE_TO_ZERO) -> Tensor:
    """Return the gradient by the current, given that by the spikes; the two may have shapes that broadcast."""
    return torch.stack(_gradients(gradient, potentials, p, rule).by_current[::-1])


def _backward_to_leak(
    gradient: Tensor, potentials: Tensor, p: NeuronParameters, *, rule: Rule = ABOVE_TO_ZERO
) -> tuple[Tensor, ...]:
    """Return the gradient by the current, and of every neuron those by its leak and, if it does, by what it subtracts
    for a spike; in one time step the first alone, as nothing leaks."""
    found = _gradients(gradient, potentials, p, rule)
    by_current, by_leak = torch.stack(found.by_current[::-1]), torch.zeros_like(found.by_potential[0])
    last = len(found.by_potential) - 1
    if last == 0:
        return (by_current,)
    for t, by_potential in zip(range(last, 0, -1), found.by_potential, strict=False):
        by_leak = by_leak + by_potential * _stored(found.resets[t - 1], p)
    if not rule.subtracts:
        return by_current, by_leak
    by_amount = torch.zeros_like(by_leak)
    for t, by_reset in zip(range(last - 1, -1, -1), found.by_reset, strict=True):
        by_amount = by_amount - torch.where(found.fired[t], by_reset, 0.0)
    return by_current, by_leak, by_amount


def _backward_of_pooled(
    gradient: Float[Tensor, "time sample rows columns channel"],
    potentials: Float[Tensor, "time sample height width channel"],
    p: NeuronParameters,
    *,
    rule: Rule = ABOVE_TO_ZERO,
) -> Float[Tensor, "time sample rows 2 columns 2 channel"]:
    """Return the gradient by the current, given that by sums of spikes over 2x2 neurons.

    The four of a block share their sum's gradient. ``potentials`` have twice the rows and columns, none left over. What
    is returned is contiguous, and a view of it has their shape: made in here, it would be a copy at one time step.
    """
    return _backward(*_by_blocks(gradient, potentials), p, rule=rule)


def _backward_of_pooled_to_leak(
    gradient: Tensor, potentials: Tensor, p: NeuronParameters, *, rule: Rule = ABOVE_TO_ZERO
) -> tuple[Tensor, ...]:
    """Do :func:`_backward_to_leak`, given the gradient by sums of spikes over 2x2 neurons."""
    return _backward_to_leak(*_by_blocks(gradient, potentials), p, rule=rule)


def _by_blocks(gradient: Tensor, potentials: Tensor) -> tuple[Tensor, Tensor]:
    time_steps, samples, rows, columns, channels = gradient.shape
    blocks = potentials.view(time_steps, samples, rows, POOL, columns, POOL, channels)
    return gradient[:, :, :, None, :, None], blocks


def _pooled_spikes(
    potentials: Float[Tensor, "time sample height width channel"], *, rule: Rule = ABOVE_TO_ZERO
) -> Float[Tensor, "time sample rows columns channel"]:
    """Count how many of each 2x2 neurons fired; no row or column may be left over."""
    corners = [potentials[..., i::POOL, j::POOL, :] for i in range(POOL) for j in range(POOL)]
    fired = [torch.where(has_fired(corner.float(), rule), 1.0, 0.0) for corner in corners]
    return (fired[0] + fired[1] + fired[2] + fired[3]).to(potentials.dtype)


def _skipped(potentials: Tensor, p: NeuronParameters, *, rule: Rule = ABOVE_TO_ZERO) -> Tensor:
    fired = has_fired(potentials, rule)
    resets = after_reset(potentials.float(), fired, p.amount, rule)
    return behind_the_first_step(torch.where(resets >= p.reset_cut, 0.0, 1.0))


_compiled_forward = compiled_by_rule(_forward, unrolled=True)
_compiled_backward = compiled_by_rule(_backward, unrolled=True)
_compiled_backward_to_leak = compiled_by_rule(_backward_to_leak, unrolled=True)
_compiled_potentials = compiled_by_rule(_potentials, unrolled=True)
_compiled_pooled_spikes = compiled_by_rule(_pooled_spikes)
_compiled_backward_of_pooled = compiled_by_rule(_backward_of_pooled, unrolled=True)
_compiled_backward_of_pooled_to_leak = compiled_by_rule(_backward_of_pooled_to_leak, unrolled=True)
_compiled_skipped = compiled_by_rule(_skipped, unrolled=True)

# Where the two parameters that may be learned stand among the others.
_LEAK, _AMOUNT = (NeuronParameters._fields.index(name) for name in ("leak", "amount"))


def _by_parameters(needed: Sequence[bool], p: Sequence[Tensor], *by_neuron: Tensor) -> list[Tensor | None]:
    """Return the gradients by those of a layer's parameters that are ``needed``, given those of each neuron, if any."""
    found: list[Tensor | None] = [None] * len(p)
    for place, gradient in zip_longest((_LEAK, _AMOUNT), by_neuron):
        if needed[place]:
            found[place] = torch.zeros_like(p[place]) if gradient is None else gradient.sum()
    return found


class _Fire(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rule: Rule, current: Tensor, *p: Tensor) -> tuple[Tensor, Tensor]:
        spikes, potentials = _compiled_forward[rule](current, NeuronParameters(*p))
        ctx.save_for_backward(potentials, *p)
        ctx.rule = rule
        ctx.mark_non_differentiable(potentials)
        ctx.set_materialize_grads(False)  # or the potentials' gradient, which nobody reads, would be filled with zeros
        return spikes, potentials

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _potentials: None) -> tuple[Tensor | None, ...]:
        potentials, *p = ctx.saved_tensors
        arguments = (gradient.contiguous(), potentials, NeuronParameters(*p))
        if any(ctx.needs_input_grad[2:]):
            by_current, *by_neuron = _compiled_backward_to_leak[ctx.rule](*arguments)
            return (None, by_current, *_by_parameters(ctx.needs_input_grad[2:], p, *by_neuron))
        return (None, _compiled_backward[ctx.rule](*arguments), *([None] * len(p)))


def fire(
    current: Float[Tensor, "time neurons"], p: NeuronParameters, rule: Rule = ABOVE_TO_ZERO
) -> tuple[Float[Tensor, "time neurons"], Float[Tensor, "time neurons"]]:
    """Return spikes and potentials before the reset, of all time steps.

    Spikes' gradient reaches the current, and the leak and the amount among the parameters where they are learned.
    ``current`` must be contiguous and flat over everything but time, so that one compiled graph serves all layers.
    """
    spikes, potentials = _Fire.apply(rule, current, *p)  # type: ignore[no-untyped-call]
    return spikes, potentials


def compile_backward(
    time_steps: int,
    dtype: torch.dtype,
    device: torch.device,
    rule: Rule = ABOVE_TO_ZERO,
    *,
    learns_leak: bool = False,
) -> None:
    """Compile what the backward pass of :func:`fire` runs, before anything was trained."""
    zeros = torch.zeros(time_steps, LARGE_LAYER if device.type == "cuda" else VECTOR, dtype=dtype, device=device)
    compiled = (_compiled_backward_to_leak if learns_leak else _compiled_backward)[rule]
    compiled(zeros, zeros, neuron_parameters(grid=None, skip_below=None, device=device))


class _FirePooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rule: Rule, current: Tensor, *p: Tensor) -> Tensor:
        height, width = current.shape[2:4]
        ctx.rule, ctx.left_over = rule, (height % POOL, width % POOL)
        paired = current[:, :, : height - height % POOL, : width - width % POOL]
        # Flat if possible: one graph for all layers.
        flat = paired.flatten(1) if ctx.left_over == (0, 0) else paired
        potentials = _compiled_potentials[rule](flat, NeuronParameters(*p)).view(paired.shape)
        ctx.save_for_backward(potentials, *p)
        sums: Tensor = _compiled_pooled_spikes[rule](potentials)
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        potentials, *p = ctx.saved_tensors
        arguments = (gradient.contiguous(), potentials, NeuronParameters(*p))
        by_parameters: list[Tensor | None] = [None] * len(p)
        if any(ctx.needs_input_grad[2:]):
            by_current, *by_neuron = _compiled_backward_of_pooled_to_leak[ctx.rule](*arguments)
            by_parameters = _by_parameters(ctx.needs_input_grad[2:], p, *by_neuron)
        else:
            by_current = _compiled_backward_of_pooled[ctx.rule](*arguments)
        by_current = by_current.view(potentials.shape)
        if ctx.left_over != (0, 0):
            rows, columns = ctx.left_over
            by_current = F.pad(by_current, (0, 0, 0, columns, 0, rows))
        return (None, by_current, *by_parameters)


def fire_and_pool(
    current: Float[Tensor, "time sample height width channel"], p: NeuronParameters, rule: Rule = ABOVE_TO_ZERO
) -> Float[Tensor, "time sample rows columns channel"]:
    """Count how many of each 2x2 neurons spike: :func:`fire` and sum-pooling, without writing the spikes out.

    ``current`` must be contiguous; an odd last row or column of neurons reaches no sum.
    """
    sums: Tensor = _FirePooled.apply(rule, current, *p)  # type: ignore[no-untyped-call]
    return sums


def skipped(
    potentials: Float[Tensor, "time *neurons"], p: NeuronParameters, rule: Rule = ABOVE_TO_ZERO
) -> Float[Tensor, "time *neurons"]:
    """Return 1 where a neuron was skipped in a time step, as its stored membrane was below the cut; 0 elsewhere."""
    mask: Tensor = _compiled_skipped[rule](potentials, p)
    return mask
