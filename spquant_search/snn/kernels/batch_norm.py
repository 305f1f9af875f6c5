"""Normalize batches of few channels on a processor, faster than torch.

In memory a pixel's channels lie side by side, and torch's batch norm runs along them: 8 channels fill half a vector of
16 numbers, which is five to ten times slower than memory would allow. Here pixels are taken together until they fill
four vectors; sums are made as if each pixel had other channels, and then added. Sums are in fp32, each over a
thirty-second of the pixels where that divides, so that they do not depend on the number of threads. Squares are those
of distances from a number near the mean.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.kernels.compile import VECTOR, Compiled

WIDTH = 4 * VECTOR  # numbers taken together, at least
MOST_CHANNELS = WIDTH // 2  # with more, torch is as fast
MOST_PARTS = 32  # that sums are made of


class BatchNorm2d(nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d`, faster in training where there are few channels."""

    def forward(self, values: Float[Tensor, "batch channels height width"]) -> Tensor:
        together = self._pixels_together(values)
        if together is None:
            normal: Tensor = super().forward(values)
            return normal
        last = values.permute(0, 2, 3, 1)
        rows = last.numel() // (together * self.num_features)
        parts = math.gcd(rows, MOST_PARTS)
        folded = last.reshape(parts, rows // parts, together * self.num_features)
        normed, mean, variance = _Normalize.apply(folded, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        self._gather(mean, variance, count=rows * together)
        out: Tensor = normed.view(last.shape).permute(0, 3, 1, 2)
        return out

    def _pixels_together(self, values: Tensor) -> int | None:
        """Return how many pixels to take together; None if torch's batch norm is to be used."""
        channels = self.num_features
        if not (self.training and self.track_running_stats and self.affine and channels <= MOST_CHANNELS):
            return None
        if values.device.type != "cpu" or not Compiled.works() or values.dtype not in (torch.float32, torch.bfloat16):
            return None
        if not values.is_contiguous(memory_format=torch.channels_last):
            return None
        vectors = channels * VECTOR // math.gcd(channels, VECTOR)
        together = vectors * -(-WIDTH // vectors) // channels
        rows, left_over = divmod(values.numel() // channels, together)
        # Of one part, or of parts of one row, the compiler would make code of its own; few rows are fast anyway.
        return together if left_over == 0 and rows % 2 == 0 and rows > MOST_PARTS else None

    @torch.no_grad()
    def _gather(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        """Update the running statistics as torch does: the variance in them is unbiased."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)


@torch.no_grad()
def compile_ahead(dtype: torch.dtype) -> None:
    """Compile everything for values of this type, before there are any values."""
    zeros, zero = torch.zeros(2, 3, WIDTH, dtype=dtype), torch.zeros(WIDTH)
    _compiled_sums(zeros, zeros.detach(), zero, zero.detach())
    _compiled_blend(zeros, zeros.detach(), zero, zero.detach(), zero.detach())


class _Normalize(torch.autograd.Function):
    """(values, weight, bias, epsilon) -> (normed values, mean, biased variance), with a gradient by values, weight,
    bias."""

    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "parts rows together"], weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        # Each a tensor of its own, none with a gradient: whatever differs between calls would be compiled again.
        values, again = values.detach(), values.detach()
        wide = _Folding(values.shape, len(weight))
        # Any number near the mean will do: of distances from it, little is lost in the difference of their squares.
        guess = wide.spread(wide.by_channel(values[:, 0].float()) / (values.shape[0] * wide.times))
        sums, squares = _compiled_sums(values, again, guess, guess.detach())
        distance = wide.by_channel(sums) / wide.count
        mean = guess[: len(weight)] + distance
        variance = (wide.by_channel(squares) / wide.count - distance.square()).clamp(min=0.0)
        scale = (variance + epsilon).rsqrt()
        slope = weight * scale
        zero = torch.zeros_like(guess)
        normed = _compiled_blend(values, again, wide.spread(slope), zero, wide.spread(bias - mean * slope))
        ctx.save_for_backward(values, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        return normed, mean, variance

    @staticmethod
    def backward(
        ctx: Any, gradient: Tensor, _mean: Tensor | None, _variance: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        values, weight, mean, scale = ctx.saved_tensors
        wide, gradient = _Folding(values.shape, len(weight)), gradient.contiguous()
        middle = wide.spread(mean)
        sums, products = _compiled_sums(gradient, values, torch.zeros_like(middle), middle)
        by_bias, by_weight = wide.by_channel(sums), wide.by_channel(products) * scale
        # by value x: slope * (g - mean of g - x^ * mean of g x^), x^ = (x - mean) * scale the normed value
        slope = weight * scale
        by_value = -slope * scale * by_weight / wide.count
        rest = -slope * by_bias / wide.count - by_value * mean
        by_values = _compiled_blend(gradient, values, *map(wide.spread, (slope, by_value, rest)))
        return by_values, by_weight, by_bias, None


class _Folding:
    """The channels of values [parts, rows, together], in which several pixels lie side by side."""

    def __init__(self, shape: torch.Size, channels: int) -> None:
        self._channels = channels
        self.times = shape[2] // channels
        self.count = shape[0] * shape[1] * self.times  # values of each channel

    def by_channel(self, sums: Float[Tensor, "parts together"]) -> Float[Tensor, " channels"]:
        return sums.sum(dim=0).view(-1, self._channels).sum(dim=0)

    def spread(self, channels: Float[Tensor, " channels"]) -> Float[Tensor, " together"]:
        return channels.repeat(self.times)


# Two loops, each for both directions: compiling one takes seconds.


def _sums(a: Tensor, b: Tensor, from_a: Tensor, from_b: Tensor) -> tuple[Tensor, Tensor]:
    """Sum ``a - from_a``, and its product with ``b - from_b``, over each part's rows."""
    distance = a.float() - from_a
    return distance.sum(1), (distance * (b.float() - from_b)).sum(1)


def _blend(a: Tensor, b: Tensor, by_a: Tensor, by_b: Tensor, rest: Tensor) -> Tensor:
    """Return ``by_a * a + by_b * b + rest``, in the type of ``a``."""
    return (a.float() * by_a + b.float() * by_b + rest).to(a.dtype)


_compiled_sums = Compiled(_sums)
_compiled_blend = Compiled(_blend)
