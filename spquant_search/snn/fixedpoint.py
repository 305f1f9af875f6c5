"""Round the affine step a * A + d of a layer to fixed point, so that a device multiplies and adds integers.

a and d become dyadic, as are the membrane's grid, the leak and a learned threshold. So is every current and potential
then, and double precision holds each of them exactly: evaluation is integer arithmetic in other clothes, and what a
device computes in integers is equal, not close.

All channels of a layer share one number of fraction bits, the ``shift``: with it, a is an integer of 16 bits and d one
of 32, both times 2^-shift. The shift is the largest that fits all channels, so that the largest slope uses all of its
bits. Values are rounded to the nearest, ties to even.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

SLOPE_BITS, OFFSET_BITS = 16, 32
LARGEST_SLOPE, LARGEST_OFFSET = 2 ** (SLOPE_BITS - 1) - 1, 2 ** (OFFSET_BITS - 1) - 1
LARGEST_SHIFT = 24  # slopes below 2^-9 lose bits with it; currents of a device stay in a word


class FixedPoint(NamedTuple):
    """``slope`` and ``offset`` are whole numbers in double precision, in units of 2^-``shift``."""

    slope: Float[Tensor, " channels"]
    offset: Float[Tensor, " channels"]
    shift: Float[Tensor, ""]

    @property
    def values(self) -> tuple[Float[Tensor, " channels"], Float[Tensor, " channels"]]:
        """a and d in real numbers, exact in double precision."""
        unit = torch.exp2(-self.shift)
        return self.slope * unit, self.offset * unit


def affine_in_fixed_point(slope: Float[Tensor, " channels"], offset: Float[Tensor, " channels"]) -> FixedPoint:
    """Return the nearest fixed-point a and d; values too large even without fraction bits are clipped."""
    slope, offset = slope.double(), offset.double()
    shift = torch.minimum(_room(slope, LARGEST_SLOPE), _room(offset, LARGEST_OFFSET)).clamp(0, LARGEST_SHIFT)
    unit = torch.exp2(shift)
    return FixedPoint(
        (slope * unit).round().clamp(-LARGEST_SLOPE, LARGEST_SLOPE),
        (offset * unit).round().clamp(-LARGEST_OFFSET, LARGEST_OFFSET),
        shift,
    )


def _room(values: Tensor, largest: int) -> Tensor:
    """Return the most fraction bits with which no magnitude exceeds ``largest``."""
    return (largest / values.abs().max().clamp(min=1e-30)).log2().floor()
