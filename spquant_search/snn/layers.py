"""Layers of a quantized spiking network: what every network of this package, or a user's own, is built from.

What flows between layers is a :class:`Spikes`: whole numbers with their divisor, the number of time steps, and which
channels the sender's gate left open. Averages are kept as sums until a layer divides by their count, so that in
evaluation every convolution adds integers.

Training and evaluation differ in one respect. In training a convolution takes fake-quantized weights, possibly in
bf16, and batch norm its batch's statistics. In evaluation it has one defined form: integer weights convolve integer
inputs (exact in fp32), then comes a * A + d per channel with batch norm and all scales folded, then the neuron. Where
two branches meet, each has its own a and d, and their currents are added before the neuron. A batch norm that is set to
training in a network that otherwise evaluates normalizes by its batch's statistics and gathers them.

a and d are dyadic (:mod:`spquant_search.snn.fixedpoint`), as are the membrane's grid, the leak and a learned threshold.
So is every current and potential then, and double precision holds each of them exactly: evaluation is integer
arithmetic in other clothes, and what a device computes in integers is equal, not close. Layers with float weights have
no such form: their convolutions are those of fp32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.runs.results import LayerActivity
from spquant_search.snn import byte_convolution, tracing
from spquant_search.snn.batch_norm import BatchNorm2d
from spquant_search.snn.fixedpoint import OFFSET_BITS, affine_in_fixed_point
from spquant_search.snn.neuron import Fired, Neuron
from spquant_search.snn.pooling import POOL, sum_pool
from spquant_search.snn.quantize import fake_quantize, highest_integer, quantize_weight
from spquant_search.snn.sparsity import ChannelGate, channel_activity
from spquant_search.space.configuration import FLOAT_BITS, LayerPrecision
from spquant_search.space.fields import Quantizer
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import LayerShape

# Averaged spikes have a mean square of about 1/16 where a quarter of the neurons fires: this makes currents of about 1.
UNNORMED_GAIN = 4.0
EXACT_FP32 = 2**24  # integers up to here are exact in fp32, and so are sums that stay below


@dataclass(frozen=True, kw_only=True)
class Spikes:
    """What a layer passes on: ``values / divisor`` is the signal, ``values`` are whole numbers up to ``largest``.

    A ``constant`` signal, a still image, is the same in every time step; its values are [batch, ...], without time.
    Only training has it, where the first convolution then is computed once instead of once a step.
    """

    values: Float[Tensor, "time_batch channels height width"]
    time_steps: int
    largest: int = 1
    divisor: int = 1
    open: Bool[Tensor, "time_batch channels"] | None = None  # None: every channel is open
    constant: bool = False

    @cached_property
    def counts(self) -> Float[Tensor, "time_batch channels"]:
        """The sum of each channel's values, in fp32; gates and figures ask for it."""
        return self.over_time(self.values.detach().float().sum(dim=(2, 3)))

    def repeated(self) -> Spikes:
        """The same signal with its values written out for every time step."""
        return replace(self, values=self.over_time(self.values), constant=False)

    def over_time(self, values: Tensor) -> Tensor:
        """``values``, made from this signal's, for every time step."""
        return values.repeat(self.time_steps, *[1] * (values.dim() - 1)) if self.constant else values

    def open_channels(self) -> Float[Tensor, " time_batch"]:
        """How many channels are open, per sample and time step."""
        return self.open_channels_by_group(1).flatten()

    def open_channels_by_group(self, groups: int) -> Float[Tensor, "time_batch groups"]:
        """How many channels are open in each of ``groups`` equal runs of neighbouring channels."""
        samples, channels = self.values.shape[:2]
        if self.open is None:
            return torch.full((samples, groups), float(channels // groups), device=self.values.device)
        return self.open.view(samples, groups, -1).sum(dim=2).float()

    def current(self) -> Float[Tensor, "time_batch channels height width"]:
        """The signal itself, as the identity shortcut of a residual block adds it to a layer's current."""
        current = self.over_time(self.values if self.divisor == 1 else self.values / self.divisor)
        tracing.record("identity", (self.values,), current)
        return current


class Activity:
    """What a layer did while it was measured: sums over samples and time steps, kept on the device."""

    def __init__(self) -> None:
        self.samples = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, name: str, value: Tensor) -> None:
        total = value.detach().double().sum()
        self._sums[name] = self._sums[name] + total if name in self._sums else total

    def total(self, name: str) -> float:
        return float(self._sums[name]) if name in self._sums else 0.0

    def per_sample(self) -> LayerActivity:
        """The figures of one sample over all its time steps."""
        samples = max(self.samples, 1)
        neuron_steps, channel_steps = self.total("neuron_steps"), self.total("channel_steps")
        return LayerActivity(
            effective_macs=self.total("effective_macs") / samples,
            synaptic_ops=self.total("synaptic_ops") / samples,
            density=self.total("spikes") / neuron_steps if neuron_steps else 0.0,
            open_share=self.total("open_channels") / channel_steps if channel_steps else 1.0,
        )


def global_average(spikes: Spikes) -> Spikes:
    """The mean of each channel over its pixels, [time_batch, channels, 1, 1]: whole numbers and their divisor."""
    pixels = spikes.values.shape[2] * spikes.values.shape[3]
    # In fp32, as bf16 holds whole numbers up to 256 only.
    values = spikes.values.float().sum(dim=(2, 3), keepdim=True)
    tracing.record("average", (spikes.values,), values)
    return replace(spikes, values=values, largest=spikes.largest * pixels, divisor=spikes.divisor * pixels)


def added(a: Spikes, b: Spikes) -> Spikes:
    """The sum of two signals of whole numbers; a channel is open where either has it open."""
    if (a.time_steps, a.divisor, b.divisor) != (b.time_steps, 1, 1):
        raise ValueError("only whole numbers of the same time steps can be added")
    values = a.values + b.values
    tracing.record("sum", (a.values, b.values), values)
    return Spikes(
        values=values,
        time_steps=a.time_steps,
        largest=a.largest + b.largest,
        open=None if a.open is None or b.open is None else a.open | b.open,
    )


def pooled_kernel(weight: Float[Tensor, "out in k k"], stride: int = 1) -> Float[Tensor, "out in k_more k_more"]:
    """The kernel whose convolution with twice the stride is the 2x2 sum-pooling of the convolution with ``weight``.

    Convolution and pooling are linear, so they can be one: a quarter of the positions, each with (k + stride)^2
    instead of 4 k^2 products. Sums of integers stay integers.
    """
    s = stride
    right_bottom = ((0, s, 0, s), (s, 0, 0, s), (0, s, s, 0), (s, 0, s, 0))
    shifted = [F.pad(weight, padding) for padding in right_bottom]
    return torch.stack(shifted).sum(dim=0)


class SearchableLayer(nn.Module):
    """A layer whose precision can be chosen: a network's are found by this class and named by their place in it.

    ``gate_loss`` holds the channel gate's loss of the last training forward, None without a gate. What the layer does
    in evaluation goes to ``activity`` while it is :func:`measured`.
    """

    precision: LayerPrecision
    quantizers: Mapping[int, Quantizer]  # of its weights, by their bits; "statistics" where none is named
    gate_loss: Tensor | None
    activity: Activity | None

    def __init__(self, precision: LayerPrecision) -> None:
        super().__init__()
        self.precision = precision
        self.quantizers = {}
        self.gate_loss = None
        self.activity = None

    @property
    def quantizer(self) -> Quantizer:
        """That of the weight bits in force."""
        return self.quantizers.get(self.precision.weight_bits, "statistics")

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        """Take a new precision; nothing is rebuilt or recompiled."""
        raise NotImplementedError

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        """What this layer is for inputs like these (of one frame), for cost and search."""
        raise NotImplementedError


class Sums(NamedTuple):
    """A convolution's sums A with the a and d of ``a * A + d``; those that ``are_whole`` are still to be rounded."""

    sums: Float[Tensor, "time_batch out height width"]
    slope: Float[Tensor, " out"]
    offset: Float[Tensor, " out"]
    are_whole: bool


class _Convolution(SearchableLayer):
    """What convolutions with and without neurons have in common: spikes in, current out, and what that takes.

    The current is batch norm of the convolution or, with ``norm`` False, the convolution with a bias.
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
        pools_before: bool,
        norm: bool,
    ) -> None:
        super().__init__(precision)
        _refuse_misfits(in_channels, out_channels, kernel_size=kernel_size, stride=stride, groups=groups)
        self.in_channels, self.out_channels, self.kernel_size = in_channels, out_channels, kernel_size
        self.stride, self.groups, self.pools_before = stride, groups, pools_before
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, kernel_size, kernel_size))
        if norm:
            nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5.0))  # as nn.Conv2d: smaller weights learn faster here
        else:
            # No batch norm brings the current up to the threshold: with the weights above no neuron would fire, and
            # the next layer would learn nothing.
            nn.init.normal_(self.weight, std=UNNORMED_GAIN * self.weight[0].numel() ** -0.5)
        self.norm = BatchNorm2d(out_channels) if norm else None
        self.bias = None if norm else nn.Parameter(torch.zeros(out_channels))

    def _current(self, spikes: Spikes) -> Float[Tensor, "time_batch out height width"]:
        return spikes.over_time(self._training_current(spikes) if self.training else self._evaluation_current(spikes))

    def _convolve(self, values: Tensor, weight: Tensor, by: Callable[..., Tensor] | None = None) -> Tensor:
        """The convolution, with 2x2 sum-pooling inside where the pooling comes before the neuron."""
        convolution, padding = by or F.conv2d, self.kernel_size // 2
        if self.pools_before:
            weight, stride = pooled_kernel(weight, self.stride), self.stride * POOL
            return convolution(values, weight, stride=stride, padding=padding, groups=self.groups)
        if self.kernel_size == 1 and self.stride > 1:
            # The other pixels are not looked at. With a stride, the weight gradient of torch's library writes past its
            # buffer on processors without AVX-512, where channels are no multiples of 8 (oneDNN issue 6035).
            seen = values[:, :, :: self.stride, :: self.stride]
            return convolution(seen.contiguous(memory_format=torch.channels_last), weight, groups=self.groups)
        return convolution(values, weight, stride=self.stride, padding=padding, groups=self.groups)

    @property
    def _pooled_positions(self) -> int:
        return POOL**2 if self.pools_before else 1

    def _output_size(self, spikes: Spikes) -> tuple[int, int]:
        """Height and width of the convolution's output, before any pooling."""
        height, width = spikes.values.shape[2:]
        return -(-height // self.stride), -(-width // self.stride)

    def _training_current(self, spikes: Spikes) -> Tensor:
        weight = fake_quantize(self.weight, self.precision.weight_bits, quantizer=self.quantizer)
        weight = weight / (spikes.divisor * self._pooled_positions)
        current: Tensor = self._convolve(spikes.values, weight)
        if self.norm is not None:
            current = self.norm(current)
        elif self.bias is not None:
            current = current + self.bias[:, None, None].to(current.dtype)
        return current

    def _evaluation_current(self, spikes: Spikes) -> Tensor:
        sums, slope, offset, are_whole = self._evaluation_sums(spikes)
        sums = sums.double().round_() if are_whole else sums.to(slope.dtype)
        return sums.mul_(slope[:, None, None]).add_(offset[:, None, None])  # in place: no further memory to fetch

    def _evaluation_sums(self, spikes: Spikes) -> Sums:
        integers, scale = quantize_weight(self.weight, self.precision.weight_bits, quantizer=self.quantizer)
        values, are_whole = spikes.values.float(), self.precision.weight_bits != FLOAT_BITS
        sums = self._integer_sums(values, integers, spikes.largest) if are_whole else self._convolve(values, integers)
        if self.norm is not None and self.norm.training:
            unit = scale.flatten() / (spikes.divisor * self._pooled_positions)
            current = self.norm(sums.float().mul_(unit[:, None, None]))
            return Sums(current, torch.ones_like(self.norm.bias), torch.zeros_like(self.norm.bias), are_whole=False)
        return Sums(sums, *self.affine(scale, spikes.divisor), are_whole=are_whole)

    def _integer_sums(self, values: Tensor, integers: Tensor, largest: int) -> Tensor:
        """A before rounding, which undoes what a library's fast convolution algorithms may do to sums of integers."""
        products = self.in_channels // self.groups * self.kernel_size**2
        largest_weight = highest_integer(self.precision.weight_bits) * self._pooled_positions
        if products * largest_weight * largest >= EXACT_FP32:
            return self._convolve(values.double(), integers.double())
        if byte_convolution.convolves(values, largest_value=largest, largest_weight=largest_weight):
            by_bytes = partial(byte_convolution.convolution, largest_value=largest, largest_weight=largest_weight)
            return self._convolve(values, integers, by_bytes)
        return self._convolve(values, integers)

    def affine(self, scale: Tensor, divisor: int) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
        """a and d of ``a * A + d``: batch norm, weight scale, and the divisors of pooling and input folded.

        With integer weights they are dyadic, in double precision; see :func:`affine_in_fixed_point`.
        """
        slope, offset = self.real_affine(scale, divisor)
        if self.precision.weight_bits == FLOAT_BITS:
            return slope, offset
        return affine_in_fixed_point(slope, offset).values

    def real_affine(self, scale: Tensor, divisor: int) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
        """a and d before they are rounded."""
        slope, offset = self._folded_norm()
        return slope * scale.flatten() / (divisor * self._pooled_positions), offset

    def _folded_norm(self) -> tuple[Tensor, Tensor]:
        if self.bias is not None:
            return torch.ones_like(self.bias), self.bias
        if self.norm is None or self.norm.running_mean is None or self.norm.running_var is None:
            raise AssertionError("batch norm without running statistics cannot be folded")
        slope = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        return slope, self.norm.bias - self.norm.running_mean * slope

    def _count(
        self,
        activity: Activity,
        spikes: Spikes,
        *,
        opened: Bool[Tensor, "time_batch out"],
        present: Float[Tensor, "time_batch groups height width"],
        fired: Fired | None = None,
    ) -> None:
        """Count the operations of the outputs in ``opened`` channels, less those of the neurons that were skipped.

        With pooling before the neuron, one neuron stands for four outputs.
        """
        height, width = self._output_size(spikes)
        opened = opened.view(len(opened), self.groups, -1).sum(dim=2)
        outputs, synaptic_ops = opened * (height * width), self._reached_in_all(present) * opened
        if fired is not None and fired.skipped is not None and fired.saved is not None:
            outputs = outputs - fired.skipped.flatten(0, 1) * self._pooled_positions
            synaptic_ops = synaptic_ops - fired.saved.flatten(0, 1)
        inputs = spikes.open_channels_by_group(self.groups)
        activity.add("effective_macs", outputs * self.kernel_size**2 * inputs)
        activity.add("synaptic_ops", synaptic_ops)

    def _present(self, spikes: Spikes) -> Float[Tensor, "time_batch groups height width"]:
        """How many of the inputs of each group are not zero, at each of their positions."""
        # Vectors take a product with ones, and a cast to booleans, but neither a sum over few numbers nor "is not 0".
        present = spikes.values if spikes.largest == 1 else spikes.values.bool().float()
        last = present.permute(0, 2, 3, 1).reshape(*present.shape[:1], *present.shape[2:], self.groups, -1)
        return (last @ torch.ones(last.shape[-1], device=last.device)).permute(0, 3, 1, 2)

    def _reached(
        self, present: Float[Tensor, "time_batch groups height width"]
    ) -> Float[Tensor, "time_batch groups rows columns"]:
        """How many non-zero inputs lie under the kernel of one output of each group, at each of its positions."""
        for _axis in range(2):
            present = _box_sums(present, self.kernel_size, self.stride).transpose(2, 3)
        return present

    def _reached_in_all(self, present: Float[Tensor, "time_batch groups height width"]) -> Tensor:
        """The sum of :meth:`_reached` over all positions: every input counts as often as there are kernels above it."""
        rows, columns = (
            _kernels_above(size, self.kernel_size, self.stride).to(present.device) for size in present.shape[2:]
        )
        return (present @ columns).double() @ rows.double()  # a row's sum is exact in fp32, that of all may not be


def _box_sums(values: Tensor, size: int, stride: int) -> Tensor:
    """The sums under a window of ``size`` that moves along the last axis as a convolution's kernel does."""
    padded = F.pad(values, [size // 2, size // 2])
    return torch.stack([padded[..., k : k + values.shape[-1] : stride] for k in range(size)]).sum(dim=0)


def _kernels_above(inputs: int, size: int, stride: int) -> Float[Tensor, " inputs"]:
    """Of each input along one axis, for how many outputs it lies under the kernel."""
    distance = torch.arange(inputs)[:, None] - torch.arange(0, inputs, stride)
    return (distance.abs() <= size // 2).sum(dim=1).float()


def _refuse_misfits(in_channels: int, out_channels: int, *, kernel_size: int, stride: int, groups: int) -> None:
    if kernel_size % 2 == 0:
        raise ValueError(f"kernel_size must be odd, so that a pixel has a middle to lie under; got {kernel_size}")
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2; got {stride}")
    if groups < 1 or in_channels % groups or out_channels % groups:
        channels = f"{in_channels} input and {out_channels} output channels"
        raise ValueError(f"groups must divide the channels of both sides; got {groups} with {channels}")


def _refuse_misfit_of_residual(residual: Tensor, shape: torch.Size) -> None:
    if residual.shape != shape:
        shapes = f"{tuple(shape)}; got {tuple(residual.shape)}"
        raise ValueError(f"a residual must have the shape of the current that it is added to, {shapes}")


class SpikingConv2d(_Convolution):
    """Convolution, batch norm, pooling before or after the neuron (or none), channel gate, residual, neuron.

    Its precision (:meth:`set_precision`) may change between any two calls. A layer made with ``can_gate`` owns a gate,
    which works where ``channel_mass`` is below 1.

    ``pool`` is 2x2: "before" averages the current, "after" averages the spikes, "max" takes the largest of four spikes.
    ``groups`` as in :class:`torch.nn.Conv2d`: with as many as input channels the convolution is depthwise. With
    ``norm`` False a bias replaces batch norm: a fully connected layer is one with kernel 1 on maps of one pixel.
    """

    def __init__(  # noqa: PLR0913 - options by name, each with the value that most layers have
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        stride: int = 1,
        groups: int = 1,
        pool: Literal["before", "after", "max"] | None = None,
        can_gate: bool = True,
        norm: bool = True,
    ) -> None:
        super().__init__(
            in_channels,
            out_channels,
            precision=LayerPrecision(),
            kernel_size=kernel_size,
            stride=stride,
            groups=groups,
            pools_before=pool == "before",
            norm=norm,
        )
        self.pool = pool
        self.gate = ChannelGate(in_channels, out_channels) if can_gate else None
        self.neuron = Neuron()

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        levels = precision.membrane_levels
        grid = neuron.grid(levels) if levels else None
        self.neuron.configure(
            leak=neuron.leak, grid=grid, skip_below=precision.skip_below, learn_threshold=neuron.learn_threshold
        )
        self.precision = precision

    @property
    def is_gated(self) -> bool:
        return self.gate is not None and self.precision.channel_mass < 1.0

    def forward(self, spikes: Spikes, residual: Float[Tensor, "time_batch out height width"] | None = None) -> Spikes:
        """Spikes of the convolution's current plus ``residual``, a current from elsewhere.

        The gate judges and closes the convolution alone: a closed channel takes the residual as its whole current. It
        may spike, so that with a residual no output channel is known to be silent, and all count as open. A skipped
        neuron takes neither current.
        """
        if not self.training:
            return self._evaluate(spikes, residual)
        current = self._current(spikes)
        opened = self._open(spikes, current)
        if opened is not None:
            current = current * opened[:, :, None, None].to(current.dtype)
        if residual is not None:
            _refuse_misfit_of_residual(residual, current.shape)
            current = current + residual.to(current.dtype)
        known = opened if residual is None else None
        if self.pool == "after":
            sums = self._fire_and_pool(current, spikes.time_steps)
            return Spikes(values=sums, time_steps=spikes.time_steps, largest=POOL**2, divisor=POOL**2, open=known)
        return self._pooled(
            Spikes(values=self._fire(current, spikes.time_steps), time_steps=spikes.time_steps, open=known)
        )

    @torch.no_grad()
    def _evaluate(self, spikes: Spikes, residual: Tensor | None) -> Spikes:
        """The layer in evaluation, without gradients."""
        spikes = spikes.repeated() if spikes.constant else spikes
        sums, slope, offset, are_whole = self._evaluation_sums(spikes)
        opened = self._open(spikes)
        if residual is not None:
            _refuse_misfit_of_residual(residual, sums.shape)
        open_now = torch.ones(sums.shape[:2], dtype=torch.bool, device=sums.device) if opened is None else opened
        present = None if self.activity is None else self._present(spikes)
        reached = None if present is None or not self.neuron.skips else self._reached(present)
        fired = self.neuron.of_sums(
            self._by_time(sums, spikes.time_steps),
            slope.view(self.groups, -1),
            offset.view(self.groups, -1),
            opened=self._by_time(open_now[:, :, None, None], spikes.time_steps),
            residual=None if residual is None else self._by_time(residual.detach(), spikes.time_steps),
            reached=None if reached is None else self._of_neurons(reached, spikes.time_steps),
            are_whole=are_whole,
        )
        samples, channels, height, width = sums.shape
        values = fired.spikes.view(samples, height, width, channels).permute(0, 3, 1, 2)
        out = Spikes(values=values, time_steps=spikes.time_steps, open=opened if residual is None else None)
        if self.activity is not None and present is not None:
            self._measure(self.activity, spikes, out, open_now, present, fired)
        return self._pooled(out)

    def _by_time(self, values: Tensor, time_steps: int) -> Float[Tensor, "time batch positions groups channels"]:
        samples, channels, height, width = values.shape
        last = values.permute(0, 2, 3, 1).contiguous()
        return last.view(time_steps, samples // time_steps, height * width, self.groups, channels // self.groups)

    def _of_neurons(self, reached: Tensor, time_steps: int) -> Float[Tensor, "time batch positions groups 1"]:
        """:meth:`_reached` of all the outputs that one neuron takes in."""
        return self._by_time(F.avg_pool2d(reached, POOL) * POOL**2 if self.pools_before else reached, time_steps)

    def _pooled(self, spikes: Spikes) -> Spikes:
        if self.pool == "after":
            return replace(spikes, values=sum_pool(spikes.values), largest=POOL**2, divisor=POOL**2)
        return replace(spikes, values=F.max_pool2d(spikes.values, POOL)) if self.pool == "max" else spikes

    def _open(self, spikes: Spikes, current: Tensor | None = None) -> Bool[Tensor, "time_batch out"] | None:
        """Which channels the gate leaves open; with a training ``current``, the loss of a gate that learns as well."""
        if self.gate is None or not self.is_gated:
            self.gate_loss = None
            return None
        counts = spikes.counts
        if current is not None:
            self.gate_loss = None
        if current is not None and torch.is_grad_enabled() and self.gate.weight.requires_grad:
            activity = channel_activity(current)
            with torch.autocast(current.device.type, enabled=False):
                self.gate_loss = self.gate.loss(counts, activity, self.precision.channel_mass)
        return self.gate.open(counts, self.precision.channel_mass)

    def _fire(self, current: Tensor, time_steps: int) -> Tensor:
        """Neurons see [time, everything else], in memory order, so that one compiled graph fits all layers."""
        last = current.permute(0, 2, 3, 1).contiguous()
        fired: Tensor = self.neuron(last.reshape(time_steps, -1))[0]
        return fired.view(last.shape).permute(0, 3, 1, 2)

    def _fire_and_pool(self, current: Tensor, time_steps: int) -> Tensor:
        """As :meth:`_fire` and sum-pooling, in one: what is not measured need not be written out."""
        last = current.permute(0, 2, 3, 1).contiguous()
        sums = self.neuron.pooled(last.view(time_steps, -1, *last.shape[1:]))
        return sums.flatten(0, 1).permute(0, 3, 1, 2)

    def _measure(
        self,
        activity: Activity,
        spikes: Spikes,
        out: Spikes,
        opened: Tensor,
        present: Tensor,
        fired: Fired,
    ) -> None:
        samples, channels = out.values.shape[:2]
        activity.samples += samples // spikes.time_steps
        activity.add("spikes", out.counts)  # each is exact: it is far below 2^24
        activity.add("neuron_steps", torch.tensor(float(out.values.numel())))
        activity.add("open_channels", opened)
        activity.add("channel_steps", torch.tensor(float(opened.numel())))
        self._count(activity, spikes, opened=opened, present=present, fired=fired)
        if self.is_gated:
            predictor = torch.tensor(float(samples * self.in_channels * channels))
            activity.add("effective_macs", predictor)
            activity.add("synaptic_ops", (spikes.counts != 0).sum(dim=1) * channels)

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        height, width = self._output_size(inputs[0])
        shrink = POOL if self.pools_before else 1
        return LayerShape(
            name=name,
            kind="convolution",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_area=self.kernel_size**2,
            positions=height * width,
            neurons=self.out_channels * (height // shrink) * (width // shrink),
            can_gate=self.gate is not None,
            groups=self.groups,
        )


class Shortcut(_Convolution):
    """The 1x1 convolution with batch norm that fits a residual to a block of another shape: a current, no neuron.

    All its outputs are computed: it knows neither the gate nor the skipped neurons of the layer that adds them.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__(
            in_channels,
            out_channels,
            precision=LayerPrecision(membrane_levels=None),
            kernel_size=1,
            stride=stride,
            groups=1,
            pools_before=False,
            norm=True,
        )

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        del neuron  # there is none here
        self.precision = precision

    def forward(self, spikes: Spikes) -> Float[Tensor, "time_batch out height width"]:
        current = self._current(spikes)
        if self.activity is not None:
            self._measure(self.activity, spikes, current)
        return current

    def _measure(self, activity: Activity, spikes: Spikes, current: Tensor) -> None:
        samples, channels = current.shape[:2]
        activity.samples += samples // spikes.time_steps
        opened = torch.ones(samples, channels, dtype=torch.bool, device=current.device)
        self._count(activity, spikes, opened=opened, present=self._present(spikes))

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        height, width = self._output_size(inputs[0])
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


class ReadOut(SearchableLayer):
    """The linear read-out: logits at every time step; the prediction is their mean over time."""

    def __init__(self, in_channels: int, positions: int, classes: int) -> None:
        super().__init__(LayerPrecision(membrane_levels=None))
        self.in_channels, self.positions, self.classes = in_channels, positions, classes
        self.linear = nn.Linear(in_channels * positions, classes)

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        del neuron  # there is none here
        self.precision = precision

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        values = spikes.over_time(spikes.values).flatten(1)
        if self.activity is not None:
            self._measure(self.activity, spikes)
        bits, divisor = self.precision.weight_bits, spikes.divisor
        if self.training:
            weight = fake_quantize(self.linear.weight, bits, per_tensor=True, quantizer=self.quantizer)
            logits = F.linear(values, weight / divisor, self.linear.bias)
        else:
            integers, scale = quantize_weight(self.linear.weight, bits, per_tensor=True, quantizer=self.quantizer)
            sums = self._sums(values.float(), integers, spikes.largest)
            if bits != FLOAT_BITS:
                return self._in_units(sums.reshape(spikes.time_steps, -1, self.classes), scale.reshape(()) / divisor)
            logits = sums * (scale.reshape(()) / divisor) + self.linear.bias
        return logits.reshape(spikes.time_steps, -1, self.classes).float()

    def _in_units(
        self, sums: Float[Tensor, "time batch classes"], unit: Float[Tensor, ""]
    ) -> Float[Tensor, "time batch classes"]:
        """Logits as whole numbers of ``unit``, in double precision: their sums over time are exact.

        The biases of all time steps come with the first one, as whole numbers too: an accumulator starts from them.
        """
        sums = sums.double()
        sums[0] += self.start(unit, len(sums))
        return sums * unit.double()

    def start(self, unit: Float[Tensor, ""], time_steps: int) -> Float[Tensor, " classes"]:
        """What the accumulators of the classes start from: the biases of all time steps, rounded to ``unit``s."""
        limit = 2.0 ** (OFFSET_BITS - 1) - 1
        return (self.linear.bias.double() * time_steps / unit.double()).round().clamp(-limit, limit)

    def _sums(self, values: Tensor, integers: Tensor, largest: int) -> Tensor:
        bound = self.in_channels * self.positions * highest_integer(self.precision.weight_bits) * largest
        if self.precision.weight_bits == FLOAT_BITS or bound < EXACT_FP32:
            return F.linear(values, integers)
        return F.linear(values.double(), integers.double())

    def _measure(self, activity: Activity, spikes: Spikes) -> None:
        activity.samples += spikes.values.shape[0] // spikes.time_steps
        activity.add("effective_macs", spikes.open_channels() * self.positions * self.classes)
        activity.add("synaptic_ops", (spikes.values != 0).sum(dim=(1, 2, 3)) * self.classes)

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        del inputs
        return LayerShape(
            name=name,
            kind="readout",
            in_channels=self.in_channels * self.positions,
            out_channels=self.classes,
            kernel_area=1,
            positions=1,
            neurons=0,
            can_gate=False,
        )


def searchable_layers(network: nn.Module) -> dict[str, SearchableLayer]:
    """The layers of a network whose precision can be chosen, by name, in the order of their definition."""
    return {name: module for name, module in network.named_modules() if isinstance(module, SearchableLayer)}


@contextmanager
def measured(network: nn.Module) -> Iterator[dict[str, Activity]]:
    """Within this context the network's layers record what they do."""
    layers = searchable_layers(network)
    activities = {name: Activity() for name in layers}
    try:
        for name, layer in layers.items():
            layer.activity = activities[name]
        yield activities
    finally:
        for layer in layers.values():
            layer.activity = None
