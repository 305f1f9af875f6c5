"""Convolutions: from spikes to the current of neurons, or of a residual.

Training and evaluation differ in one respect. In training a convolution takes fake-quantized weights, possibly in
bf16, and batch norm its batch's statistics. In evaluation it has one defined form: integer weights convolve integer
inputs (exact in fp32), then comes ``a * A + d`` per channel, with batch norm and all scales folded into a and d
(:mod:`spquant_search.snn.fixedpoint`), then the neuron. Where two branches meet, each has a and d for itself, and their
currents are added before the neuron. Layers with float weights have no integer form: their convolutions are those of
fp32. A batch norm that is set to training in a network that otherwise evaluates normalizes by its batch's statistics
and gathers them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.snn.activity import Activity, Operations
from spquant_search.snn.constants import kept
from spquant_search.snn.fixedpoint import affine_in_fixed_point
from spquant_search.snn.kernels import byte_convolution
from spquant_search.snn.kernels.batch_norm import BatchNorm2d
from spquant_search.snn.kernels.pooling import POOL
from spquant_search.snn.layers import SearchableLayer, check_channels, check_count
from spquant_search.snn.neuron.exact import Fired
from spquant_search.snn.quantize import fake_quantize, highest_integer, quantize_weight
from spquant_search.snn.spikes import Spikes
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.fields import Quantizer
from spquant_search.space.shapes import LayerShape

# Averaged spikes have a mean square of about 1/16 where a quarter of the neurons fires: this makes currents of about 1.
UNNORMED_GAIN = 4.0
Pool = Literal["before", "after", "max"]
EXACT_FP32 = 2**24  # integers up to here are exact in fp32, and so are sums that stay below


def pooled_kernel(weight: Float[Tensor, "out in k k"], stride: int = 1) -> Float[Tensor, "out in k_more k_more"]:
    """Make the kernel whose convolution, with twice the stride, is that with ``weight`` and then 2x2 sum-pooling.

    Convolution and pooling are linear, so they can be one: a quarter of the positions, each with (k + stride)^2
    instead of 4 k^2 products. Sums of integers stay integers.
    """
    s = stride
    right_bottom = ((0, s, 0, s), (s, 0, 0, s), (0, s, s, 0), (s, 0, s, 0))
    shifted = [F.pad(weight, padding) for padding in right_bottom]
    return torch.stack(shifted).sum(dim=0)


def whole_blocks(values: Tensor) -> Float[Tensor, "sample channels rows columns"]:
    """Leave out an odd last row and column, which no 2x2 block holds."""
    height, width = values.shape[2:]
    if height % POOL == width % POOL == 0:
        return values
    taken = values[:, :, : height - height % POOL, : width - width % POOL]
    return taken.contiguous(memory_format=torch.channels_last)


class Sums(NamedTuple):
    """A convolution's sums A with the a and d of ``a * A + d``; sums that ``are_whole`` numbers are still to be
    rounded."""

    sums: Float[Tensor, "time_batch out height width"]
    slope: Float[Tensor, " out"]
    offset: Float[Tensor, " out"]
    are_whole: bool


class _EvaluationKernel(NamedTuple):
    """What evaluation convolves with, integers or a float weight, and the scale of these."""

    kernel: Float[Tensor, "out in_of_group k k"]
    scale: Tensor


def _evaluation_kernel(
    weight: Tensor, bits: int, quantizer: Quantizer, pooled_stride: int | None, dtype: torch.dtype
) -> _EvaluationKernel:
    integers, scale = quantize_weight(weight, bits, quantizer=quantizer)
    kernel = integers if pooled_stride is None else pooled_kernel(integers, pooled_stride)
    return _EvaluationKernel(kernel.to(dtype), scale)


class _NormState(NamedTuple):
    """What a batch norm is folded from; of a convolution with a bias that alone."""

    bias: Float[Tensor, " out"]
    weight: Float[Tensor, " out"] | None = None
    mean: Float[Tensor, " out"] | None = None
    variance: Float[Tensor, " out"] | None = None
    epsilon: float = 0.0


def _real_affine(scale: Tensor, divisor: int, *state: Any) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
    slope, offset = _folded(_NormState(*state))
    return slope * scale.flatten() / divisor, offset


def _folded(state: _NormState) -> tuple[Tensor, Tensor]:
    if state.weight is None or state.mean is None or state.variance is None:
        return torch.ones_like(state.bias), state.bias
    slope = state.weight / (state.variance + state.epsilon).sqrt()
    return slope, state.bias - state.mean * slope


def _fixed_affine(scale: Tensor, divisor: int, *state: Any) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
    return affine_in_fixed_point(*_real_affine(scale, divisor, *state)).values


class Convolution(SearchableLayer):
    """A convolution, with or without neurons behind it: spikes in, current out, and what that takes.

    The current is batch norm of the convolution or, with ``norm`` False, the convolution with a bias. Where 2x2
    pooling follows, an odd last row or column is left out: it is in no block. Neither batch norm nor gates nor neurons
    see it, in training and in evaluation, and none of its operations are counted, as a device does not compute it.
    """

    def __init__(  # noqa: PLR0913 - a convolution has that many sides
        self,
        in_channels: int,
        out_channels: int,
        *,
        precision: LayerPrecision,
        kernel_size: int,
        stride: int,
        groups: int,
        pool: Pool | None,
        norm: bool,
    ) -> None:
        super().__init__(precision)
        _check_form(in_channels, out_channels, kernel_size=kernel_size, stride=stride, groups=groups)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.groups = stride, groups
        self.pool, self.pools_before = pool, pool == "before"
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        if norm:
            # As nn.Conv2d does: smaller weights learn faster here.
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5.0))
        else:
            # No batch norm brings the current up to the threshold: with the weights above no neuron would fire, and
            # the next layer would learn nothing.
            nn.init.normal_(self.weight, std=UNNORMED_GAIN * self.weight[0].numel() ** -0.5)
        self.norm = BatchNorm2d(out_channels) if norm else None
        self.bias = None if norm else nn.Parameter(torch.zeros(out_channels))

    def current(self, spikes: Spikes) -> Float[Tensor, "time_batch out height width"]:
        return spikes.over_time(self.training_current(spikes) if self.training else self.evaluation_current(spikes))

    def _convolve(self, values: Tensor, weight: Tensor, by: Callable[..., Tensor] | None = None) -> Tensor:
        """Convolve, and sum-pool by 2x2 in the same step where the pooling comes before the neuron.

        There ``weight`` is a :func:`pooled_kernel`.
        """
        made = self._convolve_all(values, weight, by or F.conv2d)
        return whole_blocks(made) if self.pool in ("after", "max") else made

    def _convolve_all(self, values: Tensor, weight: Tensor, convolution: Callable[..., Tensor]) -> Tensor:
        padding = self.kernel_size // 2
        if self.pools_before:
            return convolution(values, weight, stride=self.stride * POOL, padding=padding, groups=self.groups)
        if self.kernel_size == 1 and self.stride > 1:
            # The other pixels are not looked at. With a stride, the weight gradient of torch's library writes past its
            # buffer on processors without AVX-512, where channels are no multiples of 8 (oneDNN issue 6035).
            seen = values[:, :, :: self.stride, :: self.stride]
            return convolution(seen.contiguous(memory_format=torch.channels_last), weight, groups=self.groups)
        return convolution(values, weight, stride=self.stride, padding=padding, groups=self.groups)

    @property
    def _pooled_positions(self) -> int:
        return POOL**2 if self.pools_before else 1

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the convolution's output on a map of this size."""
        return -(-height // self.stride), -(-width // self.stride)

    def taken_size(self, height: int, width: int) -> tuple[int, int]:
        """Return how many rows and columns of the output are computed: all but what no pooling takes in.

        Raises:
            ValueError: the output is too small to be pooled.
        """
        rows, columns = self.output_size(height, width)
        if self.pool is None:
            return rows, columns
        if min(rows, columns) < POOL:
            raise ValueError(f"a map of {rows}x{columns} cannot be pooled by {POOL}x{POOL}")
        return rows - rows % POOL, columns - columns % POOL

    def training_current(self, spikes: Spikes) -> Tensor:
        weight = fake_quantize(self.weight, self.precision.weight_bits, quantizer=self.quantizer)
        weight = weight / (spikes.divisor * self._pooled_positions)
        if self.pools_before:
            weight = pooled_kernel(weight, self.stride)
        current: Tensor = self._convolve(spikes.values, weight)
        if self.norm is not None:
            current = self.norm(current)
        elif self.bias is not None:
            current = current + self.bias[:, None, None].to(current.dtype)
        return current

    def evaluation_current(self, spikes: Spikes) -> Tensor:
        sums, slope, offset, are_whole = self._evaluation_sums(spikes)
        sums = sums.double().round_() if are_whole else sums.to(slope.dtype)
        return sums.mul_(slope[:, None, None]).add_(offset[:, None, None])  # in place: no further memory to fetch

    def _evaluation_sums(self, spikes: Spikes) -> Sums:
        bits = self.precision.weight_bits
        products = self.in_channels // self.groups * self.kernel_size**2
        largest_weight = highest_integer(bits) * self._pooled_positions
        are_whole = bits != FLOAT_BITS
        is_exact = not are_whole or products * largest_weight * spikes.largest < EXACT_FP32
        dtype, pooled_stride = torch.float32 if is_exact else torch.float64, self.stride if self.pools_before else None
        kernel, scale = kept(self, _evaluation_kernel, self.weight, bits, self.quantizer, pooled_stride, dtype)
        by = self._by_bytes(spikes, largest_weight) if are_whole and is_exact else None
        sums = self._convolve(spikes.values.to(dtype), kernel, by)
        if self.norm is not None and self.norm.training:
            unit = scale.flatten() / (spikes.divisor * self._pooled_positions)
            current = self.norm(sums.float().mul_(unit[:, None, None]))
            return Sums(current, torch.ones_like(self.norm.bias), torch.zeros_like(self.norm.bias), are_whole=False)
        return Sums(sums, *self.affine(scale, spikes.divisor), are_whole=are_whole)

    def _by_bytes(self, spikes: Spikes, largest_weight: int) -> Callable[..., Tensor] | None:
        """Return the convolution by bytes where it is the faster one, None elsewhere."""
        largest_value = spikes.largest
        if not byte_convolution.convolves(spikes.values, largest_value=largest_value, largest_weight=largest_weight):
            return None
        return partial(byte_convolution.convolution, largest_value=largest_value, largest_weight=largest_weight)

    def affine(self, scale: Tensor, divisor: int) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
        """Return a and d of ``a * A + d``: batch norm, weight scale, and the divisors of pooling and input folded.

        With integer weights they are dyadic, in double precision; see :func:`affine_in_fixed_point`.
        """
        affine = _real_affine if self.precision.weight_bits == FLOAT_BITS else _fixed_affine
        return kept(self, affine, scale, divisor * self._pooled_positions, *self._norm_state)

    def real_affine(self, scale: Tensor, divisor: int) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
        """Return a and d before they are rounded."""
        return _real_affine(scale, divisor * self._pooled_positions, *self._norm_state)

    @property
    def _norm_state(self) -> _NormState:
        if self.bias is not None:
            return _NormState(self.bias)
        if self.norm is None or self.norm.running_mean is None or self.norm.running_var is None:
            raise AssertionError("batch norm without running statistics cannot be folded")
        norm = self.norm
        return _NormState(norm.bias, norm.weight, norm.running_mean, norm.running_var, norm.eps)

    def _operations(
        self,
        spikes: Spikes,
        *,
        opened: Bool[Tensor, "time_batch out"],
        present: Float[Tensor, "time_batch groups height width"],
        size: tuple[int, int],
        fired: Fired | None = None,
    ) -> Operations:
        """Count the operations of the outputs in ``opened`` channels, less those of the neurons that were skipped.

        Outputs are those in the first ``size`` rows and columns. With pooling before the neuron, one neuron stands for
        four of them.
        """
        opened = opened.view(len(opened), self.groups, -1).sum(dim=2)
        outputs, synaptic_ops = opened * (size[0] * size[1]), self._reached_in_all(present, size) * opened
        if fired is not None and fired.skipped is not None and fired.saved is not None:
            outputs = outputs - fired.skipped.flatten(0, 1) * self._pooled_positions
            synaptic_ops = synaptic_ops - fired.saved.flatten(0, 1)
        inputs = spikes.open_channels_by_group(self.groups)
        return Operations((outputs * self.kernel_size**2 * inputs).sum(), synaptic_ops.sum())

    def _present(self, spikes: Spikes) -> Float[Tensor, "time_batch groups height width"]:
        """Count the inputs of each group that are not zero, at each of their positions."""
        # Vectors take a product with ones, and a cast to booleans, but neither a sum over few numbers nor "is not 0".
        present = spikes.values if spikes.largest == 1 else spikes.values.bool().float()
        last = present.permute(0, 2, 3, 1).reshape(*present.shape[:1], *present.shape[2:], self.groups, -1)
        return (last @ torch.ones(last.shape[-1], device=last.device)).permute(0, 3, 1, 2)

    def _reached(
        self, present: Float[Tensor, "time_batch groups height width"]
    ) -> Float[Tensor, "time_batch groups rows columns"]:
        """Count the non-zero inputs under the kernel of one output of each group, at each of its positions."""
        for _axis in range(2):
            present = _box_sums(present, self.kernel_size, self.stride).transpose(2, 3)
        return present

    def _reached_in_all(
        self, present: Float[Tensor, "time_batch groups height width"], size: tuple[int, int]
    ) -> Tensor:
        """Sum :meth:`_reached` over ``size`` positions: an input counts as often as there are kernels above it."""
        height, width = present.shape[2:]
        sizes = ((height, size[0]), (width, size[1]))
        rows, columns = kept(self, _kernels_above, sizes, self.kernel_size, self.stride, present.device)
        return (present @ columns).double() @ rows  # a row's sum is exact in fp32, that of all may not be


def _box_sums(values: Tensor, size: int, stride: int) -> Tensor:
    """Sum under a window of ``size`` that moves along the last axis as a convolution's kernel does."""
    padded = F.pad(values, [size // 2, size // 2])
    return torch.stack([padded[..., k : k + values.shape[-1] : stride] for k in range(size)]).sum(dim=0)


def _kernels_above(
    sizes: tuple[tuple[int, int], tuple[int, int]], size: int, stride: int, device: torch.device
) -> tuple[Float[Tensor, " rows"], Float[Tensor, " columns"]]:
    """Count, for each input along both axes, the outputs under whose kernel it lies; those of rows in fp64.

    ``sizes`` are the inputs and the outputs of each axis.
    """
    counts = []
    for inputs, outputs in sizes:
        middles = torch.arange(outputs, device=device) * stride
        distance = torch.arange(inputs, device=device)[:, None] - middles
        counts.append((distance.abs() <= size // 2).sum(dim=1))
    return counts[0].double(), counts[1].float()


def _check_form(in_channels: int, out_channels: int, *, kernel_size: int, stride: int, groups: int) -> None:
    given = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size, "groups": groups}
    for name, value in given.items():
        check_count(name, value)
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, so that a pixel has a middle to lie under; got {kernel_size}")
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2; got {stride}")
    if in_channels % groups or out_channels % groups:
        channels = f"{in_channels} input and {out_channels} output channels"
        raise ValueError(f"groups must divide the channels of both sides; got {groups} with {channels}")


class TakenCurrent:
    """The count of a shortcut's operations in one pass: of all outputs, until a layer adds them and says how many."""

    def __init__(self, activity: Activity, operations: Callable[[tuple[int, int]], Operations], size: tuple[int, int]):
        self._activity, self._operations, self._size = activity, operations, size
        self._all: Operations | None = operations(size)  # None once a layer has said how many it takes
        activity.add_operations(self._all)

    def take(self, size: tuple[int, int]) -> None:
        """Count the outputs in the first ``size`` rows and columns, once for each layer that adds them."""
        before, self._all = self._all, None
        if before is not None and size == self._size:  # as is usual: the count stands
            return
        if before is not None:
            self._activity.add_operations(before.negative())
        self._activity.add_operations(self._operations(size))


class Shortcut(Convolution):
    """The 1x1 convolution with batch norm that fits a residual to a block of another shape: a current, no neuron.

    Its outputs are computed where a layer adds them: all that the layer takes, as a shortcut knows neither the layer's
    gate nor its skipped neurons. While it is measured, its current carries a ``taken``, which the layer tells how many.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(
            in_channels,
            out_channels,
            precision=LayerPrecision(membrane_levels=None),
            kernel_size=1,
            stride=stride,
            groups=1,
            pool=None,
            norm=True,
        )

    def forward(self, spikes: Spikes) -> Float[Tensor, "time_batch out height width"]:
        current = self.current(spikes)
        if self.activity is not None:
            current.taken = self._measure(self.activity, spikes, current)  # type: ignore[attr-defined]
        return current

    def _measure(self, activity: Activity, spikes: Spikes, current: Tensor) -> TakenCurrent:
        activity.samples += len(current) // spikes.time_steps
        opened = torch.ones(current.shape[:2], dtype=torch.bool, device=current.device)
        present = self._present(spikes)
        height, width = current.shape[2:]
        return TakenCurrent(
            activity,
            lambda size: self._operations(spikes, opened=opened, present=present, size=size),
            (height, width),
        )

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        check_channels(inputs, self.in_channels)
        height, width = self.taken_size(*inputs[0].values.shape[2:])
        return LayerShape(
            name=name,
            kind="shortcut",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_area=1,
            positions=height * width,
            neurons=0,
            can_gate=False,
        )
