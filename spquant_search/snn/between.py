"""What lies between layers as a module: pools of whole numbers, and a map as one row of channels."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from spquant_search.snn import tracing
from spquant_search.snn.pools import Pool, pooled
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.window import Sides


class MaxPool2d(nn.Module):
    """:class:`torch.nn.MaxPool2d` of whole numbers."""

    def __init__(self, kernel_size: Sides, stride: Sides | None = None, padding: Sides = 0) -> None:
        super().__init__()
        self.pool = Pool("max", kernel_size, stride, padding)

    def forward(self, spikes: Spikes) -> Spikes:
        return _pooled(spikes, self.pool)


class AvgPool2d(nn.Module):
    """:class:`torch.nn.AvgPool2d` of whole numbers, which counts zeros of the padding: sums, and their divisor."""

    def __init__(self, kernel_size: Sides, stride: Sides | None = None, padding: Sides = 0) -> None:
        super().__init__()
        self.pool = Pool("after", kernel_size, stride, padding)

    def forward(self, spikes: Spikes) -> Spikes:
        height, width = spikes.values.shape[2:]
        if self.pool.window.sizes == (height, width) and not any(self.pool.window.padding):
            return global_average(spikes)
        return _pooled(spikes, self.pool)


def _pooled(spikes: Spikes, pool: Pool) -> Spikes:
    height, width = spikes.values.shape[2:]
    if min(pool.window.size_on(height, width)) < 1:
        raise ValueError(f"a map of {height}x{width} cannot be pooled by {pool.window}")
    made = pooled(spikes, pool)
    tracing.record("pool", (spikes.signal,), made.signal, pool=pool)
    return made


class Flatten(nn.Module):
    """Take every number of a map as a channel of one pixel, in the order of :class:`torch.nn.Flatten`.

    A device computes nothing here: what reads it is a convolution whose kernel is the map.
    """

    def forward(self, spikes: Spikes) -> Spikes:
        height, width = spikes.values.shape[2:]
        if height * width == 1:
            return spikes
        opened = None if spikes.open is None else spikes.open.repeat_interleave(height * width, dim=1)
        flat = replace(spikes, values=spikes.values.flatten(1)[:, :, None, None], open=opened)
        tracing.record("flatten", (spikes.signal,), flat.signal)
        return flat
