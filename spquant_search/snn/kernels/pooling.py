"""2x2 sum-pooling of spikes: whole numbers stay whole, and the divisor travels beside them.

torch's average pooling has a slow bf16 backward pass on processors; here four shifted slices are added, compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels.compile import Compiled

POOL = 2


def _forward(values: Float[Tensor, "sample height width channels"]) -> Float[Tensor, "sample rows columns channels"]:
    """Sum 2x2 blocks; an odd last row or column is omitted."""
    height, width = values.shape[1] // POOL * POOL, values.shape[2] // POOL * POOL
    upper, lower = values[:, 0:height:POOL], values[:, 1:height:POOL]
    rows = upper + lower
    return rows[:, :, 0:width:POOL] + rows[:, :, 1:width:POOL]


def _backward(
    gradient: Float[Tensor, "sample rows columns channels"], height: int, width: int
) -> Float[Tensor, "sample height width channels"]:
    """Give each of the four values its sum's gradient, and zero to an odd last row or column."""
    samples, rows, columns, channels = gradient.shape
    spread = gradient[:, :, None, :, None].expand(samples, rows, POOL, columns, POOL, channels)
    blocks = spread.reshape(samples, rows * POOL, columns * POOL, channels)
    return F.pad(blocks, (0, 0, 0, width - columns * POOL, 0, height - rows * POOL))


_compiled_forward = Compiled(_forward)
_compiled_backward = Compiled(_backward)


class _SumPool(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        ctx.size = values.shape[1:3]
        pooled: Tensor = _compiled_forward(values)
        return pooled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        spread: Tensor = _compiled_backward(gradient.contiguous(), *ctx.size)
        return spread


def sum_pool(values: Float[Tensor, "sample channels height width"]) -> Float[Tensor, "sample channels rows columns"]:
    """Sum 2x2 blocks; ``values`` should lie in memory with their channels last."""
    last = values.permute(0, 2, 3, 1).contiguous()
    pooled: Tensor = _SumPool.apply(last)  # type: ignore[no-untyped-call]
    return pooled.permute(0, 3, 1, 2)
