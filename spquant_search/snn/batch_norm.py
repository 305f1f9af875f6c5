"""Batch norm of few channels on a processor, whose own one takes them singly.

In memory a pixel's channels lie side by side, and torch's batch norm runs along them: of 8 it fills half a vector of 16
numbers, and is five to ten times slower than memory would allow. Here pixels are taken together until they fill four
vectors, their sums are made as if each had channels of its own, and then added. Sums are in fp32, of at most a
thirty-second of the pixels each, so that they do not depend on the number of threads; squares are those of distances
from the mean.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.compiled import Compiled
from spquant_search.snn.neuron import VECTOR

WIDTH = 4 * VECTOR  # numbers taken together, at least
MOST_CHANNELS = WIDTH // 2  # of more, torch's own is as fast
MOST_PARTS = 32  # that sums are made of


class BatchNorm2d(nn.BatchNorm2d):
    """:class:`torch.nn.BatchNorm2d`, faster in training where there are few channels."""

    def forward(self, values: Float[Tensor, "batch channels height width"]) -> Tensor:
        together = self._pixels_together(values)
        if together is None:
            own: Tensor = super().forward(values)
            return own
        last = values.permute(0, 2, 3, 1)
        rows = last.numel() // (together * self.num_features)
        parts = math.gcd(rows, MOST_PARTS)
        folded = last.reshape(parts, rows // parts, together * self.num_features)
        normed, mean, variance = _Normalize.apply(folded, self.weight, self.bias, self.eps)  # type: ignore[no-untyped-call]
        self._gather(mean, variance, count=rows * together)
        out: Tensor = normed.view(last.shape).permute(0, 3, 1, 2)
        return out

    def _pixels_together(self, values: Tensor) -> int | None:
        """How many pixels are taken together; None where torch's own batch norm is what to take."""
        channels = self.num_features
        if not (self.training and self.track_running_stats and self.affine and channels <= MOST_CHANNELS):
            return None
        if values.device.type != "cpu" or not Compiled.works() or values.dtype not in (torch.float32, torch.bfloat16):
            return None
        if not values.is_contiguous(memory_format=torch.channels_last):
            return None
        vectors = channels * VECTOR // math.gcd(channels, VECTOR)
        together = vectors * -(-WIDTH // vectors) // channels
        pixels = values.numel() // channels
        return together if pixels % together == 0 and pixels > together else None

    @torch.no_grad()
    def _gather(self, mean: Tensor, variance: Tensor, *, count: int) -> None:
        """Bring the running statistics up to date, as torch's do: the variance is the unbiased one there."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        share = 1.0 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (count / (count - 1)), share)


def compile_backward(dtype: torch.dtype) -> None:
    """Compile what the backward pass runs on a processor, before anything was trained."""
    zeros, zero = torch.zeros(2, 3, WIDTH, dtype=dtype), torch.zeros(WIDTH)
    _compiled_gradient_sums(zeros, zeros, zero)
    _compiled_gradient(zeros, zeros, zero, zero, zero)


class _Normalize(torch.autograd.Function):
    """(values, weight, bias, epsilon) -> (normed values, mean, biased variance); no gradient by the last two."""

    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "parts rows together"], weight: Tensor, bias: Tensor, epsilon: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        parts, rows, width = values.shape
        channels = len(weight)
        count, times = parts * rows * width // channels, width // channels
        mean = _by_channel(_compiled_sums(values), channels) / count
        variance = _by_channel(_compiled_squares(values, mean.repeat(times)), channels) / count
        scale = (variance + epsilon).rsqrt()
        slope = weight * scale
        normed = _compiled_affine(values, slope.repeat(times), (bias - mean * slope).repeat(times))
        ctx.save_for_backward(values, weight, mean, scale)
        ctx.mark_non_differentiable(mean, variance)
        return normed, mean, variance

    @staticmethod
    def backward(ctx: Any, gradient: Tensor, _mean: Tensor, _variance: Tensor) -> tuple[Tensor | None, ...]:
        values, weight, mean, scale = ctx.saved_tensors
        channels = len(weight)
        parts, rows, width = values.shape
        count, times = parts * rows * width // channels, width // channels
        gradient = gradient.contiguous()
        by_bias, by_distance = _compiled_gradient_sums(gradient, values, mean.repeat(times))
        by_bias, by_distance = _by_channel(by_bias, channels), _by_channel(by_distance, channels)
        by_weight = by_distance * scale
        # by value x: slope * (g - mean of g - x^ * mean of g x^), x^ = (x - mean) * scale the normed value
        slope = weight * scale
        by_value = -slope * scale * by_weight / count
        rest = -slope * by_bias / count - by_value * mean
        by_values = _compiled_gradient(gradient, values, *(one.repeat(times) for one in (slope, by_value, rest)))
        return by_values, by_weight, by_bias, None


def _by_channel(sums: Float[Tensor, "parts together"], channels: int) -> Float[Tensor, " channels"]:
    return sums.sum(dim=0).view(-1, channels).sum(dim=0)


def _sums(values: Tensor) -> Tensor:
    return values.float().sum(1)


def _squares(values: Tensor, mean: Tensor) -> Tensor:
    return (values.float() - mean).square().sum(1)


def _affine(values: Tensor, slope: Tensor, offset: Tensor) -> Tensor:
    return (values.float() * slope + offset).to(values.dtype)


def _gradient_sums(gradient: Tensor, values: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
    given = gradient.float()
    return given.sum(1), (given * (values.float() - mean)).sum(1)


def _gradient(gradient: Tensor, values: Tensor, slope: Tensor, by_value: Tensor, rest: Tensor) -> Tensor:
    return (gradient.float() * slope + values.float() * by_value + rest).to(values.dtype)


_compiled_sums = Compiled(_sums)
_compiled_squares = Compiled(_squares)
_compiled_affine = Compiled(_affine)
_compiled_gradient_sums = Compiled(_gradient_sums)
_compiled_gradient = Compiled(_gradient)
