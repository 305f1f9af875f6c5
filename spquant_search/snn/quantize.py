"""Quantize weights and membranes.

Weights are integers times one scale per output channel (or one for the tensor). Membranes take the values of a dyadic
grid (:func:`spquant_search.space.grid.membrane_grid`); ties round toward zero, so that a silent neuron always leaks.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from spquant_search.space.configuration import FLOAT_BITS
from spquant_search.space.fields import QUANTIZER_BITS, Quantizer
from spquant_search.space.grid import MembraneGrid

# Clipping of 3, 4 and 8 bits in units of the channel's root mean square: the mean-squared-error optimum of a uniform
# quantizer with 2 n + 1 levels on a normal distribution (computed in tests/snn/test_quantize.py, not assumed).
CLIP_RMS = {3: 1.95, 4: 2.47, 8: 3.92}
# Ternary: values below 0.7 of the mean magnitude become 0 (Li & Liu, "Ternary weight networks", eq. 6).
TERNARY_CUT = 0.7
# SAWB (Choi et al., "Accurate and efficient 2-bit quantized neural networks", MLSys 2019) estimates the best clip as
# (standard deviation - z1 * mean magnitude) / z0. These (z0, z1) are those of SpQuant-SNN's released code, which has no
# other pairs; that code defines this estimate and never selects it, and takes twice the mean magnitude instead.
SAWB = {4: (0.077, 1.013), 8: (0.027, 1.114)}
TERNARY_MEAN_CUT = 0.05  # of the largest magnitude, in the released code
_ONE_SCALE = ("sawb", "mean", "ternary-mean")  # as the released code has them
SMALLEST_SCALE = 1e-8


class QuantizedWeight(NamedTuple):
    """An approximation ``integers * scale`` of a weight; ``scale`` is above 0, one a channel or one in all."""

    integers: Tensor
    scale: Tensor


def highest_integer(bits: int) -> int:
    """Return the largest magnitude of an integer weight: 1 for 1 and 2 bits, 2^(bits-1) - 1 above."""
    return 1 if bits <= 2 else 2 ** (bits - 1) - 1


def quantize_weight(
    weight: Float[Tensor, "out *rest"], bits: int, *, per_tensor: bool = False, quantizer: Quantizer = "statistics"
) -> QuantizedWeight:
    """Return the integers and the scale of a weight at ``bits`` bits; 32 bits: the weight itself with scale 1.

    ``statistics`` has one scale an output channel (or one for the tensor). 1 bit: the sign (0 counts as +1) times the
    mean magnitude, which minimises the squared error (XNOR-Net eq. 6). 2 bits: ternary, the mean magnitude of what is
    kept. 3, 4, 8 bits: round(w / scale), symmetric, clipped at the smaller of the largest magnitude and ``CLIP_RMS``
    root mean squares.

    The other quantizers are those of SpQuant-SNN's released code, with one scale for the tensor. ``sawb``: rounded in
    the same way, clipped at the estimate that ``SAWB`` gives. ``mean``: clipped at twice the mean magnitude.
    ``ternary-mean``: what is below 0.05 of the largest magnitude becomes 0, the scale is the mean magnitude of the
    rest.

    Raises:
        ValueError: the quantizer is not defined at these bits.
    """
    one_scale = per_tensor or quantizer in _ONE_SCALE
    axes = tuple(range(weight.dim())) if one_scale else tuple(range(1, weight.dim()))
    if bits == FLOAT_BITS:
        return QuantizedWeight(weight, torch.ones_like(weight.sum(axes, keepdim=True)))
    if bits not in QUANTIZER_BITS[quantizer]:
        known = ", ".join(map(str, QUANTIZER_BITS[quantizer]))
        raise ValueError(f"the quantizer {quantizer} has {known} bits; got {bits}")
    magnitude = weight.abs()
    if bits == 1:
        scale = magnitude.mean(axes, keepdim=True).clamp(min=SMALLEST_SCALE)
        return QuantizedWeight(torch.where(weight < 0, -1.0, 1.0).to(weight.dtype), scale)
    if quantizer == "ternary-mean":
        return _ternary(weight, magnitude >= TERNARY_MEAN_CUT * magnitude.max(), axes)
    if bits == 2:
        return _ternary(weight, magnitude > TERNARY_CUT * magnitude.mean(axes, keepdim=True), axes)
    limit = highest_integer(bits)
    scale = (_clip(weight, bits, axes, quantizer) / limit).clamp(min=SMALLEST_SCALE)
    return QuantizedWeight((weight / scale).round().clamp(-limit, limit), scale)


def _ternary(weight: Tensor, kept: Tensor, axes: tuple[int, ...]) -> QuantizedWeight:
    """Return the signs of what is kept, and its mean magnitude."""
    total = (weight.abs() * kept).sum(axes, keepdim=True)
    scale = (total / kept.sum(axes, keepdim=True).clamp(min=1)).clamp(min=SMALLEST_SCALE)
    return QuantizedWeight(weight.sign() * kept, scale)


def _clip(weight: Tensor, bits: int, axes: tuple[int, ...], quantizer: Quantizer) -> Tensor:
    """Return the magnitude that the largest integer stands for."""
    magnitude = weight.abs()
    mean = magnitude.mean(axes, keepdim=True)
    if quantizer == "mean":
        return 2.0 * mean
    if quantizer == "sawb":
        z0, z1 = SAWB[bits]
        estimate = (weight.std(axes, keepdim=True, correction=0) - z1 * mean) / z0
        # A line fitted to distributions with tails: for weights without tails it is far off, even negative.
        return torch.maximum(torch.minimum(estimate, magnitude.max()), mean)
    by_rms = CLIP_RMS[bits] * weight.square().mean(axes, keepdim=True).sqrt()
    return torch.minimum(magnitude.amax(axes, keepdim=True), by_rms)


def fake_quantize(
    weight: Float[Tensor, "out *rest"], bits: int, *, per_tensor: bool = False, quantizer: Quantizer = "statistics"
) -> Tensor:
    """Return ``integers * scale`` for training, with the straight-through gradient 1.

    The gradient is not cut outside the clipping range: a cut weight could never come back into it, since clipping
    follows the weights' own statistics.
    """
    if bits == FLOAT_BITS:
        return weight
    with torch.no_grad():
        integers, scale = quantize_weight(weight, bits, per_tensor=per_tensor, quantizer=quantizer)
    # The bracket is exactly 0 and carries the gradient; adding a rounded difference to the weight would not be exact.
    return integers * scale + (weight - weight.detach())


def quantize_membrane(potential: Tensor, lowest: Tensor, highest: Tensor, step: Tensor) -> Tensor:
    """Round to the nearest value of the grid ``lowest, lowest + step .. highest``; ties go toward zero.

    Toward zero, because ties away from zero would keep a potential of one step for ever: leaked to
    half a step it would round back up.
    """
    steps = potential * (1.0 / step)  # exact: the step is a power of two
    # Rounding half down and half up differ at ties only, and the one nearer to zero is meant. Written
    # without a comparison, which costs processors more than all the rest.
    half_down, half_up = (steps - 0.5).ceil(), (steps + 0.5).floor()
    return torch.maximum(half_down, half_up.clamp(max=0.0)).mul(step).clamp(lowest, highest)


def membrane_gradient(potential: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Return the surrogate derivative of :func:`quantize_membrane`: sigmoid(2 (u - lowest)) - sigmoid(2 (u - highest)).

    SpQuant-SNN stacks one bump 2 sigmoid'(2 (u - c)) on every decision boundary c of its unit grid; the sum of those
    bumps times the step is a midpoint sum for the integral written here. Its own integral is the grid's range, as the
    quantizer's rise is, so that the gain stays below 1 and near it for any step.
    """
    return torch.sigmoid(2.0 * (potential - lowest)) - torch.sigmoid(2.0 * (potential - highest))


# A compiled neuron loop spends nearly all its time on arithmetic, so it has cheaper forms of the two functions above.


class MembraneCode(NamedTuple):
    """A grid in units of its step, for :func:`grid_code` of bf16 values; the defaults are those of a float membrane.

    Without quantization the step is 2^-40 and there are no ends: a bf16 value above 2^-33 is a whole number of such
    steps.
    """

    steps_per_unit: float = 2.0**40
    step: float = 2.0**-40
    lowest: float = -math.inf
    highest: float = math.inf


# A tie that is made smaller by this much rounds toward zero, and no other bf16 value, with its 8 bits of mantissa, is
# near enough to a tie to change sides.
_BELOW_A_TIE = 1.0 - 2.0**-12
# The same for potentials in double precision, which lie in whole units of 2^-29 or more (24 fraction bits of a and d,
# 4 of a learned threshold, and a grid and a leak of fewer) on grids of up to 2^8 steps.
BELOW_AN_EXACT_TIE = 1.0 - 2.0**-40


def membrane_code(grid: MembraneGrid) -> MembraneCode:
    """Return the grid's bounds in steps; ``steps_per_unit`` brings ties to the side of zero."""
    return MembraneCode(_BELOW_A_TIE / grid.step, grid.step, grid.lowest / grid.step, grid.highest / grid.step)


def grid_code(potential: Tensor, steps_per_unit: Tensor, lowest: Tensor, highest: Tensor) -> Tensor:
    """Do :func:`quantize_membrane` in steps, where ``steps_per_unit`` brings ties, and nothing else, to the side of
    zero.

    The product must be one that rounds as a whole number, below 2^24 steps in fp32.
    """
    code = (potential * steps_per_unit).round()
    # What clamp does, exactly, in half of its operations (a processor's clamp takes care of what is not a number).
    return code + (lowest - code).relu() - (code - highest).relu()


class SurrogateShape(NamedTuple):
    """The numbers of a grid for :func:`fast_membrane_gradient`; the defaults make it 1 everywhere, exactly."""

    middle: float = 0.0
    half_range: float = 0.0
    rate: float = 0.0
    gain: float = 2.0
    tail: float = 0.0


_SQUARINGS = 6


def surrogate_shape(grid: MembraneGrid) -> SurrogateShape:
    """Return the numbers of a grid's :func:`membrane_gradient`."""
    half_range = (grid.highest - grid.lowest) / 2
    tail = math.exp(-4.0 * half_range)
    return SurrogateShape(
        middle=(grid.lowest + grid.highest) / 2,
        half_range=half_range,
        rate=2.0 / 2**_SQUARINGS,
        gain=1.0 - tail,
        tail=tail,
    )


def fast_membrane_gradient(
    potential: Tensor, middle: Tensor, half_range: Tensor, rate: Tensor, gain: Tensor, tail: Tensor
) -> Tensor:
    """Approximate :func:`membrane_gradient` to 1e-5, in less than half of the time.

    With D = exp(2 (|u - middle| - h)), h half the grid's range, the two sigmoids' difference is
    (1 - e^-4h) D / ((1 + D) (D + e^-4h)); and D is the 64th power of an exponential near 0, for which a short series
    serves: calls of a library's exponential out of a compiled loop cost more than the arithmetic.
    """
    exponent = ((potential - middle).abs() - half_range) * rate
    # Between -1.25 and 1.25, where the series still is an exponential and its 64th power still a number.
    exponent = 1.25 - (2.5 - (exponent + 1.25).relu()).relu()
    far = 1.0 + exponent * (1.0 + exponent * (1 / 2 + exponent * (1 / 6 + exponent * (1 / 24))))
    for _ in range(_SQUARINGS):
        far = far * far
    return far * gain / ((1.0 + far) * (far + tail))
