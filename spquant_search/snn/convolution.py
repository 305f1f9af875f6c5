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
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.snn.activity import Activity, Operations
from spquant_search.snn.constants import kept
from spquant_search.snn.fixedpoint import affine_in_fixed_point
from spquant_search.snn.kernels import byte_convolution
from spquant_search.snn.kernels.batch_norm import BatchNorm2d
from spquant_search.snn.layers import SearchableLayer, check_channels, check_count
from spquant_search.snn.neuron.exact import Fired
from spquant_search.snn.pools import Pool, pooled_largest, pooled_sums
from spquant_search.snn.quantize import fake_quantize, highest_integer, quantize_weight
from spquant_search.snn.reached import kernels_above, present_inputs, reached_in_all
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.window import Padding, Sides, Window, window
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.fields import Quantizer
from spquant_search.space.shapes import LayerShape

# Averaged spikes have a mean square of about 1/16 where a quarter of the neurons fires: this makes currents of about 1.
UNNORMED_GAIN = 4.0
EXACT_FP32 = 2**24  # integers up to here are exact in fp32, and so are sums that stay below


def pooled_kernel(
    weight: Float[Tensor, "out in k_rows k_columns"], strides: tuple[int, int], pool: Window
) -> Float[Tensor, "out in more_rows more_columns"]:
    """Make the kernel whose convolution, with the strides multiplied by those of the pool, is that with ``weight``,
    whose strides are given, and then sum-pooling.

    Convolution and pooling are linear, so they can be one: at 2x2 a quarter of the positions, each with (k + stride)^2
    instead of 4 k^2 products. Sums of integers stay integers. The pool must have no padding.
    """
    (rows, columns), (down, right) = pool.sizes, strides
    shifted = [
        F.pad(weight, (column * right, (columns - 1 - column) * right, row * down, (rows - 1 - row) * down))
        for row in range(rows)
        for column in range(columns)
    ]
    return torch.stack(shifted).sum(dim=0)


def cropped(values: Tensor, size: tuple[int, int]) -> Float[Tensor, "sample channels rows columns"]:
    """Leave out the last rows and columns beyond ``size``, which no pool takes in."""
    if values.shape[2:] == size:
        return values
    return values[:, :, : size[0], : size[1]].contiguous(memory_format=torch.channels_last)


class Sums(NamedTuple):
    """A convolution's sums A with the a and d of ``a * A + d``; sums that ``are_whole`` numbers are still to be
    rounded."""

    sums: Float[Tensor, "time_batch out height width"]
    slope: Float[Tensor, " out"]
    offset: Float[Tensor, " out"]
    are_whole: bool


class _EvaluationKernel(NamedTuple):
    """What evaluation convolves with, integers or a float weight, and the scale of these."""

    kernel: Float[Tensor, "out in_of_group k_rows k_columns"]
    scale: Tensor


def _evaluation_kernel(
    weight: Tensor,
    bits: int,
    quantizer: Quantizer,
    strides: tuple[int, int],
    pool: Window | None,
    dtype: torch.dtype,
) -> _EvaluationKernel:
    """``pool`` is that of the sums where the kernel takes it over."""
    integers, scale = quantize_weight(weight, bits, quantizer=quantizer)
    kernel = integers if pool is None else pooled_kernel(integers, strides, pool)
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

    The current is batch norm of the convolution or, with ``norm`` False, the convolution with a bias. An average of
    currents is one of sums, before batch norm; the largest current is taken behind it, as slopes may be negative.
    Outputs that no pool takes in are left out. Neither batch norm nor gates nor neurons see them, in training and in
    evaluation, and none of their operations are counted, as a device does not compute them.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        precision: LayerPrecision,
        kernel: Window,
        groups: int,
        pool: Pool | None,
        norm: bool,
    ) -> None:
        super().__init__(precision)
        _check_channels(in_channels, out_channels, groups)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel, self.pool = kernel, pool
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *kernel.sizes))
        if norm:
            # As nn.Conv2d does: smaller weights learn faster here.
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5.0))
        else:
            # No batch norm brings the current up to the threshold: with the weights above no neuron would fire, and
            # the next layer would learn nothing.
            nn.init.normal_(self.weight, std=UNNORMED_GAIN * self.weight[0].numel() ** -0.5)
        self.norm = BatchNorm2d(out_channels) if norm else None
        self.bias = None if norm else nn.Parameter(torch.zeros(out_channels))

    @property
    def pool_before(self) -> Window | None:
        """The window in which currents are pooled, if they are."""
        return self.pool.window if self.pool is not None and self.pool.is_before else None

    @property
    def _summed(self) -> Window | None:
        """The window in which sums are added up, if they are."""
        return self.pool.window if self.pool is not None and self.pool.kind == "before" else None

    @property
    def terms(self) -> int:
        """How many outputs a sum takes in, at most."""
        return 1 if self._summed is None else self._summed.area

    @property
    def pool_in_kernel(self) -> Window | None:
        """The window of a pool of sums that the kernel takes over: what lies beyond a map is no zero to a kernel."""
        return None if self._summed is None or any(self._summed.padding) else self._summed

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of the convolution's output on a map of this size.

        Raises:
            ValueError: the kernel is larger than the map with its padding.
        """
        rows, columns = self.kernel.size_on(height, width)
        if min(rows, columns) < 1:
            left, right, top, bottom = self.kernel.padding
            padded = f"{height + top + bottom}x{width + left + right} with its padding"
            raise ValueError(f"a kernel of {self.kernel} does not fit on a map of {height}x{width}, {padded}")
        return rows, columns

    def current_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of the current on a map of this size: all but what no pool takes in.

        Raises:
            ValueError: the output is too small to be pooled, or there is none.
        """
        rows, columns = self.output_size(height, width)
        if self.pool is None:
            return rows, columns
        window = self.pool.window
        pooled = window.size_on(rows, columns)
        if min(pooled) < 1:
            raise ValueError(f"a map of {rows}x{columns} cannot be pooled by {window}")
        if self.pool.is_before:
            return pooled
        return window.rows.reach(pooled[0], rows), window.columns.reach(pooled[1], columns)

    @property
    def outputs_of_a_current(self) -> int:
        """How many outputs of the convolution are computed for one current: a whole window, padding included."""
        return 1 if self.pool_before is None else self.pool_before.area

    def current(self, spikes: Spikes) -> Float[Tensor, "time_batch out height width"]:
        return spikes.over_time(self.training_current(spikes) if self.training else self.evaluation_current(spikes))

    def _convolve(self, values: Tensor, weight: Tensor, by: Callable[..., Tensor] | None = None) -> Tensor:
        """Convolve, and sum-pool where the pool adds up sums.

        Where the kernel takes over the pool, ``weight`` is a :func:`pooled_kernel`.
        """
        made = self._convolve_all(values, weight, by or F.conv2d)
        if self.pool is not None and not self.pool.is_before:
            return cropped(made, self.current_size(*values.shape[2:]))
        if self._summed is not None and self.pool_in_kernel is None:
            return pooled_sums(made, self._summed)
        return made

    def _convolve_all(self, values: Tensor, weight: Tensor, convolution: Callable[..., Tensor]) -> Tensor:
        strides, pool = self.kernel.strides, self.pool_in_kernel
        if pool is not None:
            strides = (strides[0] * pool.rows.stride, strides[1] * pool.columns.stride)
        elif self.kernel.area == 1 and max(strides) > 1:
            # The other pixels are not looked at. With a stride, the weight gradient of torch's library writes past its
            # buffer on processors without AVX-512, where channels are no multiples of 8 (oneDNN issue 6035).
            padded = F.pad(values, self.kernel.padding) if any(self.kernel.padding) else values
            seen = padded[:, :, :: strides[0], :: strides[1]]
            return convolution(seen.contiguous(memory_format=torch.channels_last), weight, groups=self.groups)
        values, padding = self.kernel.on_even_sides(values)
        return convolution(values, weight, stride=strides, padding=padding, groups=self.groups)

    def training_current(self, spikes: Spikes) -> Tensor:
        weight = fake_quantize(self.weight, self.precision.weight_bits, quantizer=self.quantizer)
        weight = weight / (spikes.divisor * self.terms)
        if self.pool_in_kernel is not None:
            weight = pooled_kernel(weight, self.kernel.strides, self.pool_in_kernel)
        current: Tensor = self._convolve(spikes.values, weight)
        if self.norm is not None:
            current = self.norm(current)
        elif self.bias is not None:
            current = current + self.bias[:, None, None].to(current.dtype)
        return self._largest(current)

    def _largest(self, current: Tensor) -> Tensor:
        """Take the largest current under a window, where the pool does."""
        if self.pool is None or self.pool.kind != "max-before":
            return current
        return pooled_largest(current, self.pool.window)

    def evaluation_current(self, spikes: Spikes) -> Tensor:
        sums, slope, offset, are_whole = self._evaluation_sums(spikes)
        sums = sums.double().round_() if are_whole else sums.to(slope.dtype)
        return sums.mul_(slope[:, None, None]).add_(offset[:, None, None])  # in place: no further memory to fetch

    def _evaluation_sums(self, spikes: Spikes) -> Sums:
        bits = self.precision.weight_bits
        products = self.in_channels // self.groups * self.kernel.area
        largest_weight = highest_integer(bits) * self.terms
        are_whole = bits != FLOAT_BITS
        is_exact = not are_whole or products * largest_weight * spikes.largest < EXACT_FP32
        dtype = torch.float32 if is_exact else torch.float64
        form = (bits, self.quantizer, self.kernel.strides, self.pool_in_kernel, dtype)
        kernel, scale = kept(self, _evaluation_kernel, self.weight, *form)
        by = self._by_bytes(spikes, largest_weight) if are_whole and is_exact else None
        sums = self._convolve(spikes.values.to(dtype), kernel, by)
        if self.norm is not None and self.norm.training:
            unit = scale.flatten() / (spikes.divisor * self.terms)
            current = self._largest(self.norm(sums.float().mul_(unit[:, None, None])))
            return Sums(current, torch.ones_like(self.norm.bias), torch.zeros_like(self.norm.bias), are_whole=False)
        slope, offset = self.affine(scale, spikes.divisor)
        if self.pool is not None and self.pool.kind == "max-before":
            sums = _largest_sums(sums, slope, self.pool.window)
        return Sums(sums, slope, offset, are_whole=are_whole)

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
        return kept(self, affine, scale, divisor * self.terms, *self._norm_state)

    def real_affine(self, scale: Tensor, divisor: int) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
        """Return a and d before they are rounded."""
        return _real_affine(scale, divisor * self.terms, *self._norm_state)

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
        """Count the operations of the current in ``opened`` channels, less those of the neurons that were skipped.

        The current is taken in the first ``size`` rows and columns. Where it is pooled, an output counts once for each
        window that it is in: a device computes it anew.
        """
        opened = opened.view(len(opened), self.groups, -1).sum(dim=2)
        height, width = present.shape[2:]
        rows, columns = self.output_size(height, width)
        lengths = (height, rows, size[0]), (width, columns, size[1])
        above = kept(self, kernels_above, self.kernel, self.pool_before, lengths, present.device)
        outputs = opened * (math.prod(size) * self.outputs_of_a_current)
        synaptic_ops = reached_in_all(present, *above) * opened
        if fired is not None and fired.skipped is not None and fired.saved is not None:
            outputs = outputs - fired.skipped.flatten(0, 1) * self.outputs_of_a_current
            synaptic_ops = synaptic_ops - fired.saved.flatten(0, 1)
        inputs = spikes.open_channels_by_group(self.groups)
        return Operations((outputs * self.kernel.area * inputs).sum(), synaptic_ops.sum())


def _largest_sums(sums: Tensor, slope: Float[Tensor, " out"], window: Window) -> Tensor:
    """Pool sums so that ``slope`` times what is left is the largest: the least of a channel whose slope is negative."""
    sign = torch.where(slope < 0, -1.0, 1.0).to(sums.dtype)[:, None, None]
    return pooled_largest(sums * sign, window) * sign


def _check_channels(in_channels: int, out_channels: int, groups: int) -> None:
    for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
        check_count(name, value)
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
    """The convolution with batch norm that fits a residual to a block of another shape: a current, no neuron.

    It is 1x1 if nothing else is said. Its outputs are computed where a layer adds them: all that the layer takes, as a
    shortcut knows neither the layer's gate nor its skipped neurons. While it is measured, its current carries a
    ``taken``, which the layer tells how many.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: Sides = 1,
        stride: Sides = 1,
        padding: Padding | None = None,
        groups: int = 1,
        norm: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            precision=LayerPrecision(membrane_levels=None),
            kernel=window(kernel_size, stride, padding),
            groups=groups,
            pool=None,
            norm=norm,
        )

    def forward(self, spikes: Spikes) -> Float[Tensor, "time_batch out height width"]:
        current = self.current(spikes)
        if self.activity is not None:
            current.taken = self._measure(self.activity, spikes, current)  # type: ignore[attr-defined]
        return current

    def _measure(self, activity: Activity, spikes: Spikes, current: Tensor) -> TakenCurrent:
        activity.samples += len(current) // spikes.time_steps
        opened = torch.ones(current.shape[:2], dtype=torch.bool, device=current.device)
        present = present_inputs(spikes, self.groups)
        height, width = current.shape[2:]
        return TakenCurrent(
            activity,
            lambda size: self._operations(spikes, opened=opened, present=present, size=size),
            (height, width),
        )

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        check_channels(inputs, self.in_channels)
        return LayerShape(
            name=name,
            kind="shortcut",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_area=self.kernel.area,
            positions=math.prod(self.current_size(*inputs[0].values.shape[2:])),
            neurons=0,
            can_gate=False,
            groups=self.groups,
        )
