"""The parameters of a neuron, as data.

All of them lie in one tensor of bytes, so that another precision is one copy on the device, which waits for nothing.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from spquant_search.snn.quantize import (
    BELOW_AN_EXACT_TIE,
    MembraneCode,
    SurrogateShape,
    membrane_code,
    surrogate_shape,
)
from spquant_search.space.grid import MembraneGrid
from spquant_search.space.neuron_form import LARGEST_LEARNED_LEAK, LEAK_STEPS, NeuronForm, Reset

# A spike that subtracts more or less than the threshold takes a whole number of 2^-20 thresholds.
AMOUNT_STEPS = 2**20
# A learned threshold multiplies currents by k / 16 with k in a byte, so that thresholds reach from 16/255 to 16. Every
# k fits the 8 bits of a bf16 value's mantissa.
GAIN_STEPS, LARGEST_GAIN_CODE = 16, 255


class NeuronParameters(NamedTuple):
    """Scalar tensors, so that a change of precision is a change of data and never of compiled code."""

    leak: Tensor
    lowest: Tensor
    highest: Tensor
    grid_step: Tensor
    is_float: Tensor  # the membrane is not quantized
    amount: Tensor  # what a spike subtracts, where it does not reset to 0
    skip_below: Tensor  # -inf: no neuron is skipped
    # Derived from the fields above, so that no compiled loop has to. A potential after the reset is stored at or above
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


class ExactParameters(NamedTuple):
    """The parameters of a neuron in evaluation: scalars in double precision, with membranes in steps of their grid.

    Leak, grid, cut and amount of a quantized membrane are dyadic, so that nothing of a dyadic current is rounded. A
    float membrane has a step of 1, and a leak and an amount as they were given.
    """

    steps_per_unit: Tensor
    lowest: Tensor
    highest: Tensor
    leaked_step: Tensor
    cut: Tensor  # a neuron whose membrane is stored below it is skipped
    is_float: Tensor
    amount: Tensor  # in thresholds


def exact_parameters(p: NeuronParameters) -> ExactParameters:
    """Convert parameters to those of evaluation."""
    step = torch.where(p.is_float, 1.0, p.grid_step).double()
    return ExactParameters(
        steps_per_unit=BELOW_AN_EXACT_TIE / step,
        lowest=p.lowest / step,
        highest=p.highest / step,
        leaked_step=p.leak * step,
        cut=p.skip_below / step,
        is_float=p.is_float,
        amount=p.amount.double(),
    )


# A parameter's place in the packed tensor begins where the widest loads of a GPU may.
_SLOT_BYTES = 16
PACKED_BYTES = _SLOT_BYTES * (len(NeuronParameters._fields) + len(ExactParameters._fields))


class UnpackedParameters(NamedTuple):
    """The parameters of a neuron in the memory of one packed tensor, whose changes they show."""

    training: NeuronParameters
    exact: ExactParameters


def unpack_parameters(packed: UInt8[Tensor, " bytes"]) -> UnpackedParameters:
    """Return the parameters that lie in a packed tensor, without copying any."""
    first = len(NeuronParameters._fields)
    training = (
        _unpacked(packed, slot, torch.bool if name == "is_float" else torch.float32)
        for slot, name in enumerate(NeuronParameters._fields)
    )
    exact = (
        _unpacked(packed, slot, torch.bool if name == "is_float" else torch.float64)
        for slot, name in enumerate(ExactParameters._fields, start=first)
    )
    return UnpackedParameters(NeuronParameters(*training), ExactParameters(*exact))


@torch.inference_mode(False)  # in which views are made that training cannot use
def _unpacked(packed: Tensor, slot: int, dtype: torch.dtype) -> Tensor:
    start = slot * _SLOT_BYTES
    # Detached, as the compiler looks for what a view is of.
    return packed[start : start + dtype.itemsize].view(dtype).squeeze(0).detach()


@lru_cache(maxsize=1024)
def packed_parameters(
    form: NeuronForm, grid: MembraneGrid | None, skip_below: float | None, device: torch.device
) -> UInt8[Tensor, " bytes"]:
    """Return the parameters of a precision in one tensor on ``device``, made once a process; it must not be written to.

    Of neurons that learn their leak they are those of a leak of 1, see :func:`with_leak`. Making the tensor waits for
    no earlier work of a GPU.
    """
    # On the host and as ordinary tensors, whatever is in force where it is called.
    with torch.inference_mode(False), torch.no_grad(), torch.device("cpu"):
        packed = torch.zeros(PACKED_BYTES, dtype=torch.uint8)
        unpacked = unpack_parameters(packed)
        training = _scalars(form, grid=grid, skip_below=skip_below)
        for place, value in zip(unpacked.training, training, strict=True):
            place.copy_(value)
        for place, value in zip(unpacked.exact, exact_parameters(training), strict=True):
            place.copy_(value)
        if device.type == "cuda":
            return packed.pin_memory().to(device, non_blocking=True)
        return packed.to(device)


def neuron_parameters(
    *,
    leak: float = 0.5,
    reset: Reset = "zero",
    grid: MembraneGrid | None,
    skip_below: float | None,
    device: torch.device | None = None,
) -> NeuronParameters:
    """Return the parameters of a neuron; ``grid`` None keeps the membrane in floating point."""
    device = torch.get_default_device() if device is None else device
    form = NeuronForm(leak=leak, reset=reset)
    return unpack_parameters(packed_parameters(form, grid, skip_below, device)).training


def _scalars(form: NeuronForm, *, grid: MembraneGrid | None, skip_below: float | None) -> NeuronParameters:
    cut = -math.inf if skip_below is None else skip_below
    reset_cut = cut if grid is None else _reset_cut(grid, cut)
    code = MembraneCode() if grid is None else membrane_code(grid)
    surrogate = SurrogateShape() if grid is None else surrogate_shape(grid)
    is_float = torch.tensor(grid is None)
    leak = 1.0 if form.learn_leak else form.leak if grid is None else form.rounded_leak
    grid = grid or MembraneGrid(levels=3, lowest=-1.0, step=1.0)  # any: a float membrane reads none of it

    def scalar(value: float) -> Tensor:
        return torch.tensor(value, dtype=torch.float32)

    return NeuronParameters(
        leak=scalar(leak),
        lowest=scalar(grid.lowest),
        highest=scalar(grid.highest),
        grid_step=scalar(grid.step),
        is_float=is_float,
        amount=delayed_amount(scalar(leak), is_float) if form.reset == "delayed-subtract" else scalar(1.0),
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


def delayed_amount(leak: Float[Tensor, ""], is_float: Bool[Tensor, ""]) -> Float[Tensor, ""]:
    """Return 1 / leak, of quantized neurons in whole 2^-20; the gradient is that of the unrounded value.

    It is rounded twice, to fp32 and to these: the nearest where the leak is 1/16 or more, below to 24 bits.

    Subtracted before the potential leaks, it is what subtracting 1 one step later is.
    """
    amount = 1.0 / leak
    with torch.no_grad():
        rounded = torch.where(is_float, amount, (amount * AMOUNT_STEPS).round() / AMOUNT_STEPS)
    return rounded + (amount - amount.detach())


def learned_leak(leak_logit: Float[Tensor, ""], is_float: Bool[Tensor, ""]) -> Float[Tensor, ""]:
    """Return the leak, of quantized neurons a k / 4096; the gradient is that of the unrounded value."""
    leak = torch.sigmoid(leak_logit)
    with torch.no_grad():
        quantized = (leak * LEAK_STEPS).round().clamp(min=1) / LEAK_STEPS
        rounded = torch.where(is_float, leak, quantized)
    return rounded + (leak - leak.detach())


def leak_logit_of(leak: float) -> float:
    """Return the parameter of a learned leak that begins at ``leak``; 1 is out of its reach by less than is rounded."""
    kept = min(leak, LARGEST_LEARNED_LEAK)
    return math.log(kept / (1.0 - kept))


def with_leak(p: NeuronParameters, leak: Float[Tensor, ""], *, is_delayed: bool) -> NeuronParameters:
    """Return the parameters of a leak of 1 at another leak; ``is_delayed``: spikes subtract the threshold over it."""
    now = leak.detach()
    return p._replace(
        leak=leak,
        leaked_step=p.leaked_step * now,
        leaked_gain=p.leaked_gain * now,
        amount=delayed_amount(leak, p.is_float) if is_delayed else p.amount,
    )


def _reset_cut(grid: MembraneGrid, skip_below: float) -> float:
    """Return the smallest fp32 value that the grid stores at or above ``skip_below``."""
    kept = [value for value in grid.values if value >= skip_below]
    if not kept:
        return math.inf
    if kept[0] == grid.lowest:
        return -math.inf  # whatever lies below the grid is stored as its lowest value
    tie = kept[0] - grid.step / 2
    # A tie goes toward zero: up where the value above it is 0 or negative, down where it is positive.
    return tie if kept[0] <= 0.0 else float(np.nextafter(np.float32(tie), np.float32(math.inf)))


def threshold_gain(log_threshold: Float[Tensor, ""]) -> Float[Tensor, ""]:
    """Return 1 / threshold, rounded to sixteenths; the gradient is that of the unrounded value."""
    gain = (-log_threshold).exp()
    with torch.no_grad():
        rounded = (gain * GAIN_STEPS).round().clamp(1, LARGEST_GAIN_CODE) / GAIN_STEPS
    return rounded + (gain - gain.detach())
