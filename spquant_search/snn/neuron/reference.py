"""The neuron as it is defined: one time step, differentiated by autograd, for reading and checking."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from spquant_search.snn.neuron.parameters import NeuronParameters
from spquant_search.snn.neuron.rule import ABOVE_TO_ZERO, THRESHOLD, Rule, has_fired
from spquant_search.snn.quantize import (
    membrane_gradient,
    quantize_membrane,
)


class _Spike(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, potential: Tensor, rule: Rule) -> Tensor:
        ctx.save_for_backward(potential)
        return has_fired(potential, rule).to(potential.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (potential,) = ctx.saved_tensors
        slope: Tensor = (1.0 - (potential - THRESHOLD).abs()).clamp(min=0.0)
        return gradient * slope, None


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
    current: Float[Tensor, "*neurons"],
    membrane: Float[Tensor, "*neurons"],
    p: NeuronParameters,
    rule: Rule = ABOVE_TO_ZERO,
) -> tuple[Float[Tensor, "*neurons"], Float[Tensor, "*neurons"]]:
    """Take one time step: (current, stored membrane) -> (spikes, stored membrane)."""
    potential = p.leak * membrane + torch.where(membrane >= p.skip_below, current, 0.0)
    spikes: Tensor = _Spike.apply(potential, rule)  # type: ignore[no-untyped-call]
    reset = potential - p.amount * spikes if rule.subtracts else (1.0 - spikes) * potential
    stored: Tensor = reset if p.is_float else _Quantize.apply(reset, p)  # type: ignore[no-untyped-call]
    return spikes, stored


def fire_step_by_step(
    current: Float[Tensor, "time *neurons"], p: NeuronParameters, rule: Rule = ABOVE_TO_ZERO
) -> Float[Tensor, "time *neurons"]:
    """Return the spikes of all time steps by :func:`step`: the slow reference of :func:`fire`."""
    membrane, spikes = torch.zeros_like(current[0]), []
    for frame in current:
        fired, membrane = step(frame, membrane, p, rule)
        spikes.append(fired)
    return torch.stack(spikes)
