"""2x2 sum-pooling of spikes: whole numbers stay whole, and the divisor travels beside them.

torch's own average pooling has a slow bf16 backward on processors; here four shifted slices are added, compiled.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.kernels.compile import Compiled

POOL = 2


def _forward(values: Tensor) -> Tensor:
    """[sample, height, width, channels] -> half the height and width; an odd last row or column is left out."""
    height, width = values.shape[1] // POOL * POOL, values.shape[2] // POOL * POOL
    upper, lower = values[:, 0:height:POOL], values[:, 1:height:POOL]
    rows = upper + lower
    return rows[:, :, 0:width:POOL] + rows[:, :, 1:width:POOL]


def _backward(gradient: Tensor, height: int, width: int) -> Tensor:
    """Each of the four values gets its sum's gradient; what was left out gets none."""
    samples, rows, columns, channels = gradient.shape
    spread = gradient[:, :, None, :, None].expand(samples, rows, POOL, columns, POOL, channels)
    whole = spread.reshape(samples, rows * POOL, columns * POOL, channels)
    return F.pad(whole, (0, 0, 0, width - columns * POOL, 0, height - rows * POOL))


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
    """The sums of 2x2 blocks; ``values`` should lie in memory with their channels last."""
    last = values.permute(0, 2, 3, 1).contiguous()
    pooled: Tensor = _SumPool.apply(last)  # type: ignore[no-untyped-call]
    return pooled.permute(0, 3, 1, 2)
