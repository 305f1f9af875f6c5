"""Count the inputs that are not zero under the kernels of a convolution: its synaptic operations."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from spquant_search.snn.spikes import Spikes
from spquant_search.snn.window import Span, Window

# Along one axis: inputs, outputs of the convolution, and positions of the neurons' current.
Lengths = tuple[int, int, int]


def present_inputs(spikes: Spikes, groups: int) -> Float[Tensor, "time_batch groups height width"]:
    """Count the inputs of each group that are not zero, at each of their positions."""
    # Vectors take a product with ones, and a cast to booleans, but neither a sum over few numbers nor "is not 0".
    present = spikes.values if spikes.largest == 1 else spikes.values.bool().float()
    last = present.permute(0, 2, 3, 1).reshape(*present.shape[:1], *present.shape[2:], groups, -1)
    return spikes.over_time((last @ torch.ones(last.shape[-1], device=last.device)).permute(0, 3, 1, 2))


def reached_by_position(
    present: Float[Tensor, "time_batch groups height width"], kernel: Window, pool: Window | None
) -> Float[Tensor, "time_batch groups rows columns"]:
    """Count the non-zero inputs under the kernel of one output of each group, at each of its positions.

    With a ``pool`` the sum over the outputs under its window.
    """
    for span in (kernel.columns, kernel.rows):
        present = _box_sums(present, span).transpose(2, 3)
    if pool is None:
        return present
    padding = (pool.rows.before, pool.columns.before)
    return F.avg_pool2d(present, pool.sizes, pool.strides, padding, divisor_override=1)


def reached_in_all(
    present: Float[Tensor, "time_batch groups height width"],
    rows: Float[Tensor, " height"],
    columns: Float[Tensor, " width"],
) -> Tensor:
    """Sum :func:`reached_by_position` over all positions: an input counts as often as there are kernels above it.

    ``rows`` and ``columns`` are those of :func:`kernels_above`.
    """
    return (present @ columns).double() @ rows  # a row's sum is exact in fp32, that of all may not be


def kernels_above(
    kernel: Window, pool: Window | None, lengths: tuple[Lengths, Lengths], device: torch.device
) -> tuple[Float[Tensor, " height"], Float[Tensor, " width"]]:
    """Count, for each input along both axes, the outputs under whose kernel it lies; those of rows in fp64.

    With a ``pool`` an output counts once for each of its windows that it is in.
    """
    rows = _above(kernel.rows, None if pool is None else pool.rows, lengths[0], device)
    columns = _above(kernel.columns, None if pool is None else pool.columns, lengths[1], device)
    return rows.double(), columns.float()


def _above(kernel: Span, pool: Span | None, lengths: Lengths, device: torch.device) -> Tensor:
    length, outputs, positions = lengths
    times = torch.ones(positions, device=device)
    if pool is not None:
        times = _times_taken(pool, outputs, positions, device)
    begins = torch.arange(len(times), device=device) * kernel.stride - kernel.before
    distance = torch.arange(length, device=device)[:, None] - begins
    return ((distance >= 0) & (distance < kernel.size)).float() @ times


def _times_taken(pool: Span, outputs: int, positions: int, device: torch.device) -> Float[Tensor, " outputs"]:
    """Count the windows that each output of a convolution is in."""
    begins = torch.arange(positions, device=device) * pool.stride - pool.before
    distance = torch.arange(outputs, device=device)[:, None] - begins
    return ((distance >= 0) & (distance < pool.size)).sum(dim=1).float()


def _box_sums(values: Tensor, span: Span) -> Tensor:
    """Sum under a window that moves along the last axis."""
    last = (span.positions(values.shape[-1]) - 1) * span.stride + 1
    padded = F.pad(values, [span.before, span.after])
    return torch.stack([padded[..., k : k + last : span.stride] for k in range(span.size)]).sum(dim=0)
