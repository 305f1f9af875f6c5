"""The neuron in evaluation: all time steps in double precision, in which every number is exact."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels.compile import VECTOR
from spquant_search.snn.neuron.parameters import ExactParameters
from spquant_search.snn.neuron.rule import ABOVE_TO_ZERO, Rule, after_reset, compiled_by_rule, has_fired
from spquant_search.snn.quantize import grid_code


def _step_exactly(
    current: Tensor, stored: Tensor | None, p: ExactParameters, rule: Rule
) -> tuple[Tensor, Tensor, Tensor]:
    """Take a time step, the first if nothing is stored: return (fired, potential, what is stored)."""
    potential = current
    if stored is not None:
        potential = stored * p.leaked_step + torch.where(stored >= p.cut, current, 0.0)
    fired = has_fired(potential, rule)
    reset = after_reset(potential, fired, p.amount, rule)
    code = grid_code(reset, p.steps_per_unit, p.lowest, p.highest)
    return fired, potential, torch.where(p.is_float, reset, code)


def _run_exactly(current: Tensor, p: ExactParameters, *, rule: Rule = ABOVE_TO_ZERO) -> tuple[Tensor, Tensor]:
    """Return the spikes, in fp32, and the potentials of all time steps; no potential is rounded."""
    stored: Tensor | None = None
    spikes, potentials = [], []
    for frame in current:
        fired, potential, stored = _step_exactly(frame, stored, p, rule)
        spikes.append(torch.where(fired, 1.0, 0.0))
        potentials.append(potential)
    return torch.stack(spikes), torch.stack(potentials)


def _skipped_exactly(potentials: Tensor, p: ExactParameters, *, rule: Rule = ABOVE_TO_ZERO) -> Tensor:
    _, _, stored = _step_exactly(potentials, None, p, rule)
    return behind_the_first_step(torch.where(stored >= p.cut, 0.0, 1.0))


def behind_the_first_step(values: Tensor) -> Tensor:
    """Return what each time step leaves to the next one, and zeros for the first; one loop, when it is compiled."""
    return F.pad(values[:-1], (0, 0) * (values.dim() - 1) + (1, 0))


class Fired(NamedTuple):
    """The spikes of a convolution's sums, and what skipping neurons saved, per sample, step and group."""

    spikes: Float[Tensor, "time batch positions groups channels"]
    skipped: Float[Tensor, "time batch groups"] | None = None  # neurons, each of which counts its ``reached``
    saved: Float[Tensor, "time batch groups"] | None = None


def _fire_sums(  # noqa: PLR0913 - all that lies between a convolution and the next one
    sums: Tensor,
    slope: Tensor,
    offset: Tensor,
    opened: Tensor,
    residual: Tensor | None,
    are_whole: Tensor,
    p: ExactParameters,
    shows_skipped: bool,
    *,
    rule: Rule = ABOVE_TO_ZERO,
) -> tuple[Tensor, Tensor | None]:
    """Return spikes and, if asked for, 1 where a neuron of an open channel is skipped, from the second step on."""
    stored: Tensor | None = None
    spikes, skipped = [], []
    for t, frame in enumerate(sums):
        current = (torch.where(are_whole, frame.round(), frame).double() * slope + offset) * opened[t]
        if residual is not None:
            current = current + residual[t]
        if shows_skipped and stored is not None:
            skipped.append(torch.where(stored >= p.cut, 0.0, opened[t]).float())
        fired, _, stored = _step_exactly(current, stored, p, rule)
        spikes.append(torch.where(fired, 1.0, 0.0))
    # Skipped neurons are counted elsewhere: sums in here would split the one loop into many.
    return torch.stack(spikes), torch.stack(skipped) if skipped else None


def _count_skipped(
    skipped: Float[Tensor, "later batch positions groups channels"],
    reached: Float[Tensor, "time batch positions groups 1"],
) -> tuple[Float[Tensor, "time batch groups"], Float[Tensor, "time batch groups"]]:
    """Count the neurons that are skipped, and what that saves; in the first time step there are none."""
    # A product with ones is computed by vectors, a sum over few channels is not. In fp32 it is exact.
    count = (skipped @ torch.ones(skipped.shape[4], device=skipped.device)).double()
    counts = count.sum(2), (count * reached[1:, ..., 0]).sum(2)
    skipped_now, saved_now = (F.pad(one, (0, 0, 0, 0, 1, 0)) for one in counts)
    return skipped_now, saved_now


_compiled_exactly = compiled_by_rule(_run_exactly, unrolled=True)
_compiled_skipped_exactly = compiled_by_rule(_skipped_exactly, unrolled=True)
_compiled_fire_sums = compiled_by_rule(_fire_sums, unrolled=True)


def fire_exactly(
    current: Float[Tensor, "time neurons"], p: ExactParameters, rule: Rule = ABOVE_TO_ZERO
) -> tuple[Float[Tensor, "time neurons"], Float[Tensor, "time neurons"]]:
    """Return spikes and potentials before the reset of currents in double precision, in which nothing is rounded."""
    fired: tuple[Tensor, Tensor] = _compiled_exactly[rule](current, p)
    return fired


def skipped_exactly(
    potentials: Float[Tensor, "time *neurons"], p: ExactParameters, rule: Rule = ABOVE_TO_ZERO
) -> Float[Tensor, "time *neurons"]:
    """Return 1 where a neuron was skipped, as its stored membrane was below the cut; 0 elsewhere."""
    mask: Tensor = _compiled_skipped_exactly[rule](potentials, p)
    return mask


class AffineStep(NamedTuple):
    """``slope * sums + offset`` in double precision, for sums that are taken ``together`` positions at a time."""

    slope: Float[Tensor, "groups channels_together"]
    offset: Float[Tensor, "groups channels_together"]
    are_whole: Bool[Tensor, ""]  # sums are whole numbers, and rounded to them; as data, for which nothing is compiled
    together: int


def affine_step(
    slope: Float[Tensor, " channels"],
    offset: Float[Tensor, " channels"],
    gain: Float[Tensor, ""] | None,
    groups: int,
    together: int,
    are_whole: bool,
) -> AffineStep:
    """Return the step of a layer's channels for :func:`fire_sums`; currents are multiplied by ``gain``."""
    slope, offset = (values if gain is None else values * gain for values in (slope, offset))
    slope, offset = (values.double().view(groups, -1).repeat(1, together) for values in (slope, offset))
    return AffineStep(slope, offset, torch.full((), are_whole, device=slope.device), together)


def fire_sums(
    sums: Float[Tensor, "time batch positions groups channels"],
    step: AffineStep,
    p: ExactParameters,
    rule: Rule = ABOVE_TO_ZERO,
    *,
    opened: Bool[Tensor, "time batch 1 groups channels"],
    residual: Float[Tensor, "time batch positions groups channels"] | None = None,
    reached: Float[Tensor, "time batch positions groups 1"] | None = None,
) -> Fired:
    """Evaluate all that follows a convolution, in one pass over memory: the affine step, gate, neurons.

    Sums that are whole numbers are rounded to them, and nothing else is: the rest is in double precision.
    ``opened`` is 1 where a channel is open, ``residual`` a current that is added behind the gate. With ``reached``,
    what one neuron's current costs at each position, skipped neurons are counted, those of open channels alone.
    """
    shape, opened = sums.shape, opened.double()
    if step.together > 1:
        wide = (shape[2] // step.together, 1, step.together * shape[4])
        sums = sums.view(*shape[:2], *wide)
        residual = None if residual is None else residual.view(*shape[:2], *wide)
        opened = torch.cat([opened] * step.together, dim=-1)
    affine, counts = (step.slope, step.offset), reached is not None
    spikes, skipped = _compiled_fire_sums[rule](sums, *affine, opened, residual, step.are_whole, p, counts)
    spikes = spikes.view(shape)
    if reached is None or skipped is None:
        return Fired(spikes)
    return Fired(spikes, *_count_skipped(skipped.view(-1, *shape[1:]), reached))


def positions_together(shape: torch.Size) -> int:
    """Choose how many positions of [time, batch, positions, groups, channels] to take as one with more channels.

    The compiled loop runs along the channels of a group, a vector at a time, and takes what is left over one by one.
    """
    positions, groups, channels = shape[2:]
    together = VECTOR // math.gcd(VECTOR, channels)
    return together if groups == 1 and positions % together == 0 and positions > together else 1
