"""The quantized leaky integrate-and-fire neuron.

For every time step t, with the input current I and the stored membrane v (v = 0 before the first step)::

    u[t] = leak * v[t-1] + (I[t] if v[t-1] >= skip_below else 0)
    s[t] = 1 if u[t] > 1 else 0
    v[t] = Q(0 if s[t] else u[t])

The threshold is 1, the reset is hard, and Q (:func:`spquant_search.snn.quantize.quantize_membrane`) acts on what is
carried on, not on what is compared with the threshold (SpQuant-SNN, released code). Gradients: the spike's is the
triangle max(0, 1 - |u - 1|) (TET); Q's is the closed form of the stacked surrogate; the reset is not detached.

A layer may learn its threshold theta (LT-SNN). Its neuron then sees I / theta, so that all of the above holds in units
of theta: spikes above theta, a stored membrane theta * Q(u / theta), a cut at theta * skip_below, and the triangle
max(0, 1 - |u - theta| / theta) / theta, which makes the spike's derivative by theta -u / theta times that. What is
learned is log theta, so that theta stays positive. Training and evaluation alike take 1 / theta rounded to sixteenths:
of the threshold and its reciprocal the one that a device multiplies by, so that currents that are whole numbers in some
unit, sums of spikes in attention and residuals among them, are whole numbers in a sixteenth of it, exactly.

There are two implementations. :func:`step` is one time step, differentiated by autograd, for reading and checking.
:func:`fire` is what networks run: all time steps in one forward and one analytic backward function, each compiled
once for every number of levels, layer and batch size.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.snn.compiled import Compiled
from spquant_search.snn.pooling import POOL
from spquant_search.snn.quantize import (
    BELOW_AN_EXACT_TIE,
    MembraneCode,
    SurrogateShape,
    fast_membrane_gradient,
    grid_code,
    membrane_code,
    membrane_gradient,
    quantize_membrane,
    surrogate_shape,
)
from spquant_search.space.grid import MembraneGrid

THRESHOLD = 1.0
# What a current is multiplied by for a learned threshold: k / 16 with k in a byte, so that thresholds reach from 16/255
# to 16. Every k fits the 8 bits of a bf16 value's mantissa.
GAIN_STEPS, LARGEST_GAIN_CODE = 16, 255


VECTOR = 16  # numbers in fp32 that the widest processors take at once


class NeuronParameters(NamedTuple):
    """Scalar tensors, so that a change of precision is a change of data and never of compiled code."""

    leak: Tensor
    lowest: Tensor
    highest: Tensor
    grid_step: Tensor
    is_float: Tensor  # the membrane is not quantized
    skip_below: Tensor  # -inf: no neuron is skipped
    # Derived from those above, so that no compiled loop has to. A potential after the reset is stored at or above
    # skip_below where it is at or above this:
    reset_cut: Tensor
    # quantize.MembraneCode, the step times the leak:
    steps_per_unit: Tensor
    leaked_step: Tensor
    lowest_code: Tensor
    highest_code: Tensor
    # quantize.SurrogateShape, the gain times the leak:
    middle: Tensor
    half_range: Tensor
    rate: Tensor
    leaked_gain: Tensor
    tail: Tensor


def neuron_parameters(
    *, leak: float, grid: MembraneGrid | None, skip_below: float | None, device: torch.device | None = None
) -> NeuronParameters:
    """The parameters of a neuron; ``grid`` None keeps the membrane in floating point."""
    is_float = torch.tensor(grid is None, device=device)
    cut = -math.inf if skip_below is None else skip_below
    reset_cut = cut if grid is None else _reset_cut(grid, cut)
    code = MembraneCode() if grid is None else membrane_code(grid)
    surrogate = SurrogateShape() if grid is None else surrogate_shape(grid)
    grid = grid or MembraneGrid(levels=3, lowest=-1.0, step=1.0)  # any: a float membrane reads none of it

    def scalar(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32, device=device)

    return NeuronParameters(
        leak=scalar(leak),
        lowest=scalar(grid.lowest),
        highest=scalar(grid.highest),
        grid_step=scalar(grid.step),
        is_float=is_float,
        skip_below=scalar(cut),
        reset_cut=scalar(reset_cut),
        steps_per_unit=scalar(code.steps_per_unit),
        leaked_step=scalar(leak * code.step),
        lowest_code=scalar(code.lowest),
        highest_code=scalar(code.highest),
        middle=scalar(surrogate.middle),
        half_range=scalar(surrogate.half_range),
        rate=scalar(surrogate.rate),
        leaked_gain=scalar(leak * surrogate.gain),
        tail=scalar(surrogate.tail),
    )


def _reset_cut(grid: MembraneGrid, skip_below: float) -> float:
    """The smallest fp32 value that the grid stores at or above ``skip_below``."""
    kept = [value for value in grid.values if value >= skip_below]
    if not kept:
        return math.inf
    if kept[0] == grid.lowest:
        return -math.inf  # whatever lies below the grid is stored as its lowest value
    tie = kept[0] - grid.step / 2
    # A tie goes toward zero: up where the value above it is 0 or negative, down where it is positive.
    return tie if kept[0] <= 0.0 else float(np.nextafter(np.float32(tie), np.float32(math.inf)))


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


# ---------------------------------------------------------------- all steps at once, exactly


class _ExactParameters(NamedTuple):
    """What evaluation knows of a neuron, scalars in double precision; membranes are stored in steps of their grid.

    Leak, grid and cut are dyadic, so that of a dyadic current nothing is rounded: integer arithmetic in other clothes.
    A float membrane has a step of 1.
    """

    steps_per_unit: Tensor
    lowest: Tensor
    highest: Tensor
    leaked_step: Tensor
    cut: Tensor  # a neuron whose membrane is stored below it is skipped
    is_float: Tensor


def _exact_parameters(p: NeuronParameters) -> _ExactParameters:
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
    """(fired, potential, what is stored) of one time step; without a stored membrane that of the first one."""
    potential = current
    if stored is not None:
        potential = stored * p.leaked_step + torch.where(stored >= p.cut, current, 0.0)
    fired = potential > THRESHOLD
    reset = torch.where(fired, 0.0, potential)
    code = grid_code(reset, p.steps_per_unit, p.lowest, p.highest)
    return fired, potential, torch.where(p.is_float, reset, code)


def _run_exactly(current: Tensor, p: _ExactParameters) -> tuple[Tensor, Tensor]:
    """As :func:`_run`, of a current in double precision: no potential is rounded. Spikes in fp32."""
    stored: Tensor | None = None
    spikes, potentials = [], []
    for frame in current:
        fired, potential, stored = _step_exactly(frame, stored, p)
        spikes.append(torch.where(fired, 1.0, 0.0))
        potentials.append(potential)
    return torch.stack(spikes), torch.stack(potentials)


def _skipped_exactly(potentials: Tensor, p: _ExactParameters) -> Tensor:
    later = []
    for frame in potentials[:-1]:
        _, _, stored = _step_exactly(frame, None, p)
        later.append(torch.where(stored >= p.cut, 0.0, 1.0))
    return torch.stack([torch.zeros_like(potentials[0], dtype=torch.float32), *later])


class Fired(NamedTuple):
    """What comes of a convolution's sums: spikes, and what skipping neurons saved, per sample, step and group."""

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
    """Spikes and, if asked for, 1 where a neuron of an open channel is skipped, from the second step on."""
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
    # What is counted of them is counted elsewhere: sums in here would split the one loop into many.
    return torch.stack(spikes), torch.stack(skipped) if skipped else None


def _count_skipped(
    skipped: Float[Tensor, "later batch positions groups channels"],
    reached: Float[Tensor, "time batch positions groups 1"],
) -> tuple[Float[Tensor, "time batch groups"], Float[Tensor, "time batch groups"]]:
    """How many neurons are skipped, and what that saves; in the first time step it is none."""
    # A product with ones goes by vectors, a sum over few channels does not. In fp32 it is exact.
    count = (skipped @ torch.ones(skipped.shape[4], device=skipped.device)).double()
    counts = count.sum(2), (count * reached[1:, ..., 0]).sum(2)
    skipped_now, saved_now = (F.pad(one, (0, 0, 0, 0, 1, 0)) for one in counts)
    return skipped_now, saved_now


# ---------------------------------------------------------------- all steps at once, for training


# A step here is bound by the number of operations and not by memory, so that nothing is worked out twice, and what is
# constant over a trial stands ready in the parameters.


def _run(current: Tensor, p: NeuronParameters) -> tuple[list[Tensor], list[Tensor]]:
    """Of every step, the spikes in fp32 and the membrane potentials before the reset in the current's type.

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
    """Spikes and potentials, both in the current's type."""
    spikes, potentials = _run(current, p)
    return torch.stack([spike.to(current.dtype) for spike in spikes]), torch.stack(potentials)


def _potentials(current: Tensor, p: NeuronParameters) -> Tensor:
    return torch.stack(_run(current, p)[1])


def _leaked(reset: Tensor, p: NeuronParameters, dtype: torch.dtype) -> Tensor:
    """What is left in the next step of ``reset``, a potential that ``dtype`` holds exactly: leak * Q(reset)."""
    if dtype is torch.bfloat16:
        return grid_code(reset, p.steps_per_unit, p.lowest_code, p.highest_code) * p.leaked_step
    quantized = quantize_membrane(reset, p.lowest, p.highest, p.grid_step)
    return p.leak * torch.where(p.is_float, reset, quantized)


def _backward(gradient: Tensor, potentials: Tensor, p: NeuronParameters) -> Tensor:
    """The gradient by the input current, given that by the spikes; the two may have shapes that broadcast."""
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


def _backward_of_pooled(gradient: Tensor, potentials: Tensor, p: NeuronParameters) -> Tensor:
    """The same, given the gradient [time, sample, rows, columns, channel] by sums of spikes over 2x2 neurons.

    The four of a block share their sum's gradient. ``potentials`` have twice the rows and columns, none left over.
    """
    time_steps, samples, rows, columns, channels = gradient.shape
    blocks = potentials.view(time_steps, samples, rows, POOL, columns, POOL, channels)
    by_current = _backward(gradient[:, :, :, None, :, None], blocks, p)
    return by_current.view(time_steps, samples, rows * POOL, columns * POOL, channels)


def _pooled_spikes(potentials: Tensor) -> Tensor:
    """[..., height, width, channel] -> how many of each 2x2 neurons fired; no row and no column is left over."""
    corners = [potentials[..., i::POOL, j::POOL, :] for i in range(POOL) for j in range(POOL)]
    fired = [torch.where(corner.float() > THRESHOLD, 1.0, 0.0) for corner in corners]
    return (fired[0] + fired[1] + fired[2] + fired[3]).to(potentials.dtype)


def _skipped(potentials: Tensor, p: NeuronParameters) -> Tensor:
    resets = [torch.where(frame > THRESHOLD, 0.0, frame.float()) for frame in potentials[:-1]]
    later = [torch.where(reset >= p.reset_cut, 0.0, 1.0) for reset in resets]
    return torch.stack([torch.zeros_like(potentials[0], dtype=torch.float32), *later])


_compiled_forward = Compiled(_forward)
_compiled_backward = Compiled(_backward)
_compiled_potentials = Compiled(_potentials)
_compiled_pooled_spikes = Compiled(_pooled_spikes)
_compiled_backward_of_pooled = Compiled(_backward_of_pooled)
_compiled_skipped = Compiled(_skipped)
_compiled_exactly = Compiled(_run_exactly)
_compiled_skipped_exactly = Compiled(_skipped_exactly)
_compiled_fire_sums = Compiled(_fire_sums)


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

    ``current`` must be contiguous and flat over everything but time, so that one compiled graph serves all layers. In
    double precision, which only evaluation has, nothing is rounded, and there is no gradient.
    """
    if current.dtype is torch.float64:
        exact: tuple[Tensor, Tensor] = _compiled_exactly(current, _exact_parameters(p))
        return exact
    spikes, potentials = _Fire.apply(current, *p)  # type: ignore[no-untyped-call]
    return spikes, potentials


def compile_backward(time_steps: int, dtype: torch.dtype, device: torch.device) -> None:
    """Compile what the backward pass of :func:`fire` runs, before anything was trained."""
    zeros = torch.zeros(time_steps, VECTOR, dtype=dtype, device=device)
    _compiled_backward(zeros, zeros, neuron_parameters(leak=0.5, grid=None, skip_below=None, device=device))


class _FirePooled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, current: Tensor, *p: Tensor) -> Tensor:
        height, width = current.shape[2:4]
        ctx.left_over = (height % POOL, width % POOL)
        whole = current[:, :, : height - height % POOL, : width - width % POOL]
        # Flat where that is possible: one graph for all layers.
        flat = whole.flatten(1) if ctx.left_over == (0, 0) else whole
        potentials = _compiled_potentials(flat, NeuronParameters(*p)).view(whole.shape)
        ctx.save_for_backward(potentials, *p)
        sums: Tensor = _compiled_pooled_spikes(potentials)
        return sums

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        potentials, *p = ctx.saved_tensors
        by_current = _compiled_backward_of_pooled(gradient.contiguous(), potentials, NeuronParameters(*p))
        if ctx.left_over != (0, 0):
            rows, columns = ctx.left_over
            by_current = F.pad(by_current, (0, 0, 0, columns, 0, rows))
        return (by_current, *([None] * len(p)))


def fire_and_pool(
    current: Float[Tensor, "time sample height width channel"], p: NeuronParameters
) -> Float[Tensor, "time sample rows columns channel"]:
    """How many of each 2x2 neurons spike: :func:`fire` and the sum-pooling of its spikes, which are never written out.

    ``current`` must be contiguous; an odd last row or column of neurons reaches no sum.
    """
    sums: Tensor = _FirePooled.apply(current, *p)  # type: ignore[no-untyped-call]
    return sums


def skipped(potentials: Float[Tensor, "time *neurons"], p: NeuronParameters) -> Float[Tensor, "time *neurons"]:
    """1 where a neuron was skipped in that time step, as its stored membrane was below the cut; 0 elsewhere."""
    exactly = potentials.dtype is torch.float64
    mask: Tensor = (
        _compiled_skipped_exactly(potentials, _exact_parameters(p)) if exactly else _compiled_skipped(potentials, p)
    )
    return mask


def fire_sums(  # noqa: PLR0913 - all that lies between a convolution and the next one
    sums: Float[Tensor, "time batch positions groups channels"],
    slope: Float[Tensor, "groups channels"],
    offset: Float[Tensor, "groups channels"],
    p: NeuronParameters,
    *,
    opened: Float[Tensor, "time batch 1 groups channels"],
    residual: Float[Tensor, "time batch positions groups channels"] | None = None,
    reached: Float[Tensor, "time batch positions groups 1"] | None = None,
    are_whole: bool = True,
) -> Fired:
    """Evaluation of all that follows a convolution, in one pass over memory: ``slope * sums + offset``, gate, neurons.

    Sums that ``are_whole`` numbers are rounded to them, and nothing else is: the rest is in double precision.
    ``opened`` is 1 where a channel is open, ``residual`` a current that is added behind the gate. With ``reached``,
    what one neuron's current costs at each position, skipped neurons are counted, those of open channels alone.
    """
    slope, offset, opened = slope.double(), offset.double(), opened.double()
    # As data, so that layers with float weights take no code of their own.
    whole = torch.full((), are_whole, device=sums.device)
    shape, together = sums.shape, _positions_together(sums.shape)
    if together > 1:
        wide = (shape[2] // together, 1, together * shape[4])
        sums = sums.view(*shape[:2], *wide)
        residual = None if residual is None else residual.view(*shape[:2], *wide)
        slope, offset, opened = (torch.cat([values] * together, dim=-1) for values in (slope, offset, opened))
    exact, counts = _exact_parameters(p), reached is not None
    spikes, skipped = _compiled_fire_sums(sums, slope, offset, opened, residual, whole, exact, counts)
    spikes = spikes.view(shape)
    if reached is None or skipped is None:
        return Fired(spikes)
    return Fired(spikes, *_count_skipped(skipped.view(-1, *shape[1:]), reached))


def _positions_together(shape: torch.Size) -> int:
    """How many positions of [time, batch, positions, groups, channels] to take as one with more channels.

    The compiled loop runs along the channels of a group, a vector at a time, and what is left over takes one by one.
    """
    positions, groups, channels = shape[2:]
    together = VECTOR // math.gcd(VECTOR, channels)
    return together if groups == 1 and positions % together == 0 and positions > together else 1


def threshold_gain(log_threshold: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """1 / threshold, rounded to sixteenths; the gradient is that of the unrounded one."""
    gain = (-log_threshold).exp()
    with torch.no_grad():
        rounded = (gain * GAIN_STEPS).round().clamp(1, LARGEST_GAIN_CODE) / GAIN_STEPS
    return rounded + (gain - gain.detach())


class Neuron(nn.Module):
    """The neurons of a layer; their precision is data in buffers and may change between any two calls.

    ``log_threshold`` is there where the layer learns its threshold, and among its weights then.
    """

    log_threshold: nn.Parameter | None
    leak: Tensor
    lowest: Tensor
    highest: Tensor
    grid_step: Tensor
    is_float: Tensor
    skip_below: Tensor
    reset_cut: Tensor
    steps_per_unit: Tensor
    leaked_step: Tensor
    lowest_code: Tensor
    highest_code: Tensor
    middle: Tensor
    half_range: Tensor
    rate: Tensor
    leaked_gain: Tensor
    tail: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, value in neuron_parameters(leak=0.5, grid=None, skip_below=None)._asdict().items():
            # Not persistent: the configuration holds them, weights are shared between configurations.
            self.register_buffer(name, value, persistent=False)
        self.register_parameter("log_threshold", None)
        self.skips = False
        self.spikes = nn.Identity()  # all spikes pass through it, for hooks to see

    def configure(
        self, *, leak: float, grid: MembraneGrid | None, skip_below: float | None, learn_threshold: bool = False
    ) -> None:
        """Take a new precision; nothing is rebuilt or recompiled. A threshold that was learned is kept."""
        self.skips = skip_below is not None
        if not learn_threshold:
            self.log_threshold = None
        elif self.log_threshold is None:
            self.log_threshold = nn.Parameter(torch.zeros_like(self.leak))
        for name, value in neuron_parameters(leak=leak, grid=grid, skip_below=skip_below)._asdict().items():
            getattr(self, name).copy_(value)

    @property
    def parameters_now(self) -> NeuronParameters:
        return NeuronParameters(*(getattr(self, name) for name in NeuronParameters._fields))

    @property
    def threshold(self) -> float:
        """The threshold that is in force: 1, or the learned one after rounding."""
        return 1.0 if self.log_threshold is None else 1.0 / float(threshold_gain(self.log_threshold).detach())

    def forward(self, current: Float[Tensor, "time neurons"]) -> tuple[Tensor, Tensor]:
        """Spikes, and potentials in units of the threshold, see :func:`fire`."""
        spikes, potentials = fire(self._in_thresholds(current), self.parameters_now)
        return self.spikes(spikes), potentials

    def pooled(self, current: Float[Tensor, "time sample height width channel"]) -> Tensor:
        """Sums of spikes over 2x2 neurons, see :func:`fire_and_pool`."""
        return fire_and_pool(self._in_thresholds(current), self.parameters_now)

    def of_sums(
        self,
        sums: Float[Tensor, "time batch positions groups channels"],
        slope: Float[Tensor, "groups channels"],
        offset: Float[Tensor, "groups channels"],
        *,
        opened: Float[Tensor, "time batch 1 groups channels"],
        residual: Float[Tensor, "time batch positions groups channels"] | None = None,
        reached: Float[Tensor, "time batch positions groups 1"] | None = None,
        are_whole: bool = True,
    ) -> Fired:
        """In evaluation, spikes of a convolution's sums, see :func:`fire_sums`."""
        slope, offset = self._in_thresholds(slope), self._in_thresholds(offset)
        residual = None if residual is None else self._in_thresholds(residual)
        p = self.parameters_now
        fired = fire_sums(
            sums, slope, offset, p, opened=opened, residual=residual, reached=reached, are_whole=are_whole
        )
        return fired._replace(spikes=self.spikes(fired.spikes))

    def _in_thresholds(self, current: Tensor) -> Tensor:
        return current if self.log_threshold is None else current * threshold_gain(self.log_threshold)

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        if self.log_threshold is not None:  # weights that were trained without one had a threshold of 1
            state_dict.setdefault(f"{prefix}log_threshold", torch.zeros(()))
        super()._load_from_state_dict(state_dict, prefix, *rest)
