"""Sum-pooling against torch's own average pooling."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from spquant_search.snn.kernels.pooling import sum_pool


@pytest.mark.parametrize(("height", "width"), [(4, 6), (5, 7), (2, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_four_times_the_average_and_its_gradient(plain_neurons, height, width, dtype):
    values = torch.randint(0, 2, (3, 5, height, width)).to(dtype).contiguous(memory_format=torch.channels_last)
    weights = torch.randint(-3, 4, (3, 5, height // 2, width // 2)).to(dtype)
    mine, theirs = values.clone().requires_grad_(), values.clone().requires_grad_()
    pooled, expected = sum_pool(mine), 4 * F.avg_pool2d(theirs, 2)
    assert torch.equal(pooled, expected)
    (pooled * weights).sum().backward()
    (expected * weights).sum().backward()
    assert torch.equal(mine.grad, theirs.grad)


def test_what_flows_on_keeps_its_channels_last(plain_neurons):
    values = torch.rand(2, 8, 6, 6).contiguous(memory_format=torch.channels_last)
    assert sum_pool(values).is_contiguous(memory_format=torch.channels_last)
