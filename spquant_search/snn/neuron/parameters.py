"""The parameters of a neuron, as data."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from spquant_search.snn.quantize import (
    MembraneCode,
    SurrogateShape,
    membrane_code,
    surrogate_shape,
)
from spquant_search.space.grid import MembraneGrid

# A whole number, as a constant of compiled code: a float would be an argument of it, in double precision.
THRESHOLD = 1
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


def neuron_parameters(
    *, leak: float, grid: MembraneGrid | None, skip_below: float | None, device: torch.device | None = None
) -> NeuronParameters:
    """Work out the parameters of a neuron; ``grid`` None keeps the membrane in floating point."""
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
