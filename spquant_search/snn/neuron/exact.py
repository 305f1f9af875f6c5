"""The neuron in evaluation: all time steps in double precision, in which every number is exact."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels.compile import VECTOR, Compiled
from spquant_search.snn.neuron.parameters import THRESHOLD, NeuronParameters
from spquant_search.snn.quantize import (
    BELOW_AN_EXACT_TIE,
    grid_code,
)


class _ExactParameters(NamedTuple):
    """The parameters of a neuron in evaluation: scalars in double precision, with membranes in steps of their grid.

    Leak, grid and cut are dyadic, so that nothing of a dyadic current is rounded. A float membrane has a step of 1.
    """

    steps_per_unit: Tensor
    lowest: Tensor
    highest: Tensor
    leaked_step: Tensor
    cut: Tensor  # a neuron whose membrane is stored below it is skipped
    is_float: Tensor


def exact_parameters(p: NeuronParameters) -> _ExactParameters:
    """Convert parameters to those of evaluation."""
    step = torch.where(p.is_float, 1.0, p.grid_step).double()
    return _ExactParameters(
        steps_per_unit=BELOW_AN_EXACT_TIE / step,
        lowest=p.lowest / step,
        highest=p.highest / step,
        leaked_step=p.leak * step,
        cut=p.skip_below / step,
        is_float=p.is_float,
    )


def _step_exactly(current: Tensor, stored: Tensor | None, p: _ExactParameters) -> tuple[Tensor, Tensor, Tensor]:
    """Take a time step, the first if nothing is stored: return (fired, potential, what is stored)."""
    potential = current
    if stored is not None:
        potential = stored * p.leaked_step + torch.where(stored >= p.cut, current, 0.0)
    fired = potential > THRESHOLD
    reset = torch.where(fired, 0.0, potential)
    code = grid_code(reset, p.steps_per_unit, p.lowest, p.highest)
    return fired, potential, torch.where(p.is_float, reset, code)


def _run_exactly(current: Tensor, p: _ExactParameters) -> tuple[Tensor, Tensor]:
    """Return the spikes, in fp32, and the potentials of all time steps; no potential is rounded."""
    stored: Tensor | None = None
    spikes, potentials = [], []
    for frame in current:
        fired, potential, stored = _step_exactly(frame, stored, p)
        spikes.append(torch.where(fired, 1.0, 0.0))
        potentials.append(potential)
    return torch.stack(spikes), torch.stack(potentials)


def _skipped_exactly(potentials: Tensor, p: _ExactParameters) -> Tensor:
    _, _, stored = _step_exactly(potentials, None, p)
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
    p: _ExactParameters,
    shows_skipped: bool,
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
        fired, _, stored = _step_exactly(current, stored, p)
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


compiled_exactly = Compiled(_run_exactly, unrolled=True)
compiled_skipped_exactly = Compiled(_skipped_exactly, unrolled=True)
_compiled_fire_sums = Compiled(_fire_sums, unrolled=True)


def fire_sums(  # noqa: PLR0913 - all that lies between a convolution and the next one
    sums: Float[Tensor, "time batch positions groups channels"],
    slope: Float[Tensor, "groups channels"],
    offset: Float[Tensor, "groups channels"],
    p: NeuronParameters,
    *,
    opened: Bool[Tensor, "time batch 1 groups channels"],
    residual: Float[Tensor, "time batch positions groups channels"] | None = None,
    reached: Float[Tensor, "time batch positions groups 1"] | None = None,
    are_whole: bool = True,
) -> Fired:
    """Evaluate all that follows a convolution, in one pass over memory: ``slope * sums + offset``, gate, neurons.

    Sums that ``are_whole`` numbers are rounded to them, and nothing else is: the rest is in double precision.
    ``opened`` is 1 where a channel is open, ``residual`` a current that is added behind the gate. With ``reached``,
    what one neuron's current costs at each position, skipped neurons are counted, those of open channels alone.
    """
    slope, offset, opened = slope.double(), offset.double(), opened.double()
    # As data, so that layers with float weights need no further compilation.
    whole = torch.full((), are_whole, device=sums.device)
    shape, together = sums.shape, _positions_together(sums.shape)
    if together > 1:
        wide = (shape[2] // together, 1, together * shape[4])
        sums = sums.view(*shape[:2], *wide)
        residual = None if residual is None else residual.view(*shape[:2], *wide)
        slope, offset, opened = (torch.cat([values] * together, dim=-1) for values in (slope, offset, opened))
    exact, counts = exact_parameters(p), reached is not None
    spikes, skipped = _compiled_fire_sums(sums, slope, offset, opened, residual, whole, exact, counts)
    spikes = spikes.view(shape)
    if reached is None or skipped is None:
        return Fired(spikes)
    return Fired(spikes, *_count_skipped(skipped.view(-1, *shape[1:]), reached))


def _positions_together(shape: torch.Size) -> int:
    """Choose how many positions of [time, batch, positions, groups, channels] to take as one with more channels.

    The compiled loop runs along the channels of a group, a vector at a time, and takes what is left over one by one.
    """
    positions, groups, channels = shape[2:]
    together = VECTOR // math.gcd(VECTOR, channels)
    return together if groups == 1 and positions % together == 0 and positions > together else 1
