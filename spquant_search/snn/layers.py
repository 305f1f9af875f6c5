"""Layers of a quantized spiking network: what every network of this package, or a user's own, is built from.

What flows between layers is a :class:`Spikes`: whole numbers with their divisor, the number of time steps, and which
channels the sender's gate left open. Averages are kept as sums until a layer divides by their count, so that in
evaluation every convolution adds integers.

Training and evaluation differ in one respect. In training a convolution takes fake-quantized weights, possibly in
bf16, and batch norm its batch's statistics. In evaluation it has one defined form: integer weights convolve integer
inputs (exact in fp32), then comes a * A + d per channel with batch norm and all scales folded, then the neuron.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spquant_search.cost import LayerShape
from spquant_search.results import LayerActivity
from spquant_search.snn.neuron import Neuron, skipped
from spquant_search.snn.pooling import POOL, sum_pool
from spquant_search.snn.quantize import fake_quantize, highest_integer, quantize_weight
from spquant_search.snn.sparsity import ChannelGate, channel_activity
from spquant_search.space import FLOAT_BITS, LayerPrecision, NeuronSpace

EXACT_FP32 = 2**24  # integers up to here are exact in fp32, and so are sums that stay below


@dataclass(frozen=True, kw_only=True, slots=True)
class Spikes:
    """What a layer passes on: ``values / divisor`` is the signal, ``values`` are whole numbers up to ``largest``."""

    values: Float[Tensor, "time_batch channels height width"]
    time_steps: int
    largest: int = 1
    divisor: int = 1
    open: Bool[Tensor, "time_batch channels"] | None = None  # None: every channel is open

    def counts(self) -> Float[Tensor, "time_batch channels"]:
        """The sum of each channel's values, in fp32."""
        return self.values.detach().float().sum(dim=(2, 3))

    def open_channels(self) -> Float[Tensor, " time_batch"]:
        """How many channels are open, per sample and time step."""
        if self.open is None:
            samples, channels = self.values.shape[:2]
            return torch.full((samples,), float(channels), device=self.values.device)
        return self.open.sum(dim=1).float()


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


def pooled_kernel(weight: Float[Tensor, "out in k k"]) -> Float[Tensor, "out in k_plus_1 k_plus_1"]:
    """The kernel whose convolution with stride 2 is the 2x2 sum-pooling of the convolution with ``weight``.

    Convolution and pooling are linear, so they can be one: a quarter of the positions, each with (k + 1)^2 instead of
    4 k^2 products. Sums of integers stay integers.
    """
    right_bottom = ((0, 1, 0, 1), (1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 1, 0))
    shifted = [F.pad(weight, padding) for padding in right_bottom]
    return torch.stack(shifted).sum(dim=0)


class SearchableLayer(nn.Module):
    """A layer whose precision can be chosen: a network's are found by this class and named by their place in it.

    ``gate_loss`` holds the channel gate's loss of the last training forward, None without a gate. What the layer does
    in evaluation goes to ``activity`` while it is :func:`measured`.
    """

    precision: LayerPrecision
    gate_loss: Tensor | None
    activity: Activity | None

    def __init__(self, precision: LayerPrecision) -> None:
        super().__init__()
        self.precision = precision
        self.gate_loss = None
        self.activity = None

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        """Take a new precision; nothing is rebuilt or recompiled."""
        raise NotImplementedError

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        """What this layer is for inputs like these (of one frame), for cost and search."""
        raise NotImplementedError


class SpikingConv2d(SearchableLayer):
    """Convolution, batch norm, average pooling before or after the neuron (or none), channel gate, neuron.

    Its precision (:meth:`set_precision`) may change between any two calls. A layer made with ``can_gate`` owns a gate,
    which works where ``channel_mass`` is below 1.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int = 3,
        pool: Literal["before", "after"] | None = None,
        can_gate: bool = True,
    ) -> None:
        super().__init__(LayerPrecision())
        self.in_channels, self.out_channels, self.kernel_size, self.pool = in_channels, out_channels, kernel_size, pool
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5.0))  # as nn.Conv2d: smaller weights learn faster here
        self.norm = nn.BatchNorm2d(out_channels)
        self.gate = ChannelGate(in_channels, out_channels) if can_gate else None
        self.neuron = Neuron()

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        levels = precision.membrane_levels
        grid = neuron.grid(levels) if levels else None
        self.neuron.configure(leak=neuron.leak, grid=grid, skip_below=precision.skip_below)
        self.precision = precision

    @property
    def is_gated(self) -> bool:
        return self.gate is not None and self.precision.channel_mass < 1.0

    def forward(self, spikes: Spikes) -> Spikes:
        current = self._training_current(spikes) if self.training else self._evaluation_current(spikes)
        opened = self._open(spikes, current)
        if opened is not None:
            current = current * opened[:, :, None, None].to(current.dtype)
        fired, potentials = self._fire(current, spikes.time_steps)
        if self.activity is not None:
            self._measure(self.activity, spikes, fired, potentials, opened)
        out = Spikes(values=fired, time_steps=spikes.time_steps, open=opened)
        if self.pool == "after":
            out = replace(out, values=sum_pool(fired), largest=POOL**2, divisor=POOL**2)
        return out

    def _convolve(self, values: Tensor, weight: Tensor) -> Tensor:
        """The convolution, with 2x2 sum-pooling inside where the pooling comes before the neuron."""
        padding = self.kernel_size // 2
        if self.pool == "before":
            return F.conv2d(values, pooled_kernel(weight), stride=POOL, padding=padding)
        return F.conv2d(values, weight, padding=padding)

    @property
    def _pooled_positions(self) -> int:
        return POOL**2 if self.pool == "before" else 1

    def _training_current(self, spikes: Spikes) -> Tensor:
        weight = fake_quantize(self.weight, self.precision.weight_bits) / (spikes.divisor * self._pooled_positions)
        current: Tensor = self.norm(self._convolve(spikes.values, weight))
        return current

    def _evaluation_current(self, spikes: Spikes) -> Tensor:
        integers, scale = quantize_weight(self.weight, self.precision.weight_bits)
        values = spikes.values.float()
        if self.precision.weight_bits == FLOAT_BITS:
            sums = self._convolve(values, integers)
        else:
            sums = self._integer_sums(values, integers, spikes.largest)
        slope, offset = self.affine(scale, spikes.divisor)
        return sums * slope[:, None, None] + offset[:, None, None]

    def _integer_sums(self, values: Tensor, integers: Tensor, largest: int) -> Tensor:
        """A, exactly: rounding undoes what a library's fast convolution algorithms may do to sums of integers."""
        products = self.in_channels * self.kernel_size**2 * self._pooled_positions
        bound = products * highest_integer(self.precision.weight_bits) * largest
        if bound < EXACT_FP32:
            return self._convolve(values, integers).round()
        return self._convolve(values.double(), integers.double()).round().float()

    def affine(self, scale: Tensor, divisor: int) -> tuple[Float[Tensor, " out"], Float[Tensor, " out"]]:
        """a and d of ``a * A + d``: batch norm, weight scale, and the divisors of pooling and input folded."""
        if self.norm.running_mean is None or self.norm.running_var is None:
            raise AssertionError("batch norm without running statistics cannot be folded")
        slope = self.norm.weight / (self.norm.running_var + self.norm.eps).sqrt()
        offset = self.norm.bias - self.norm.running_mean * slope
        return slope * scale.flatten() / (divisor * self._pooled_positions), offset

    def _open(self, spikes: Spikes, current: Tensor) -> Bool[Tensor, "time_batch out"] | None:
        if self.gate is None or not self.is_gated:
            self.gate_loss = None
            return None
        counts = spikes.counts()
        if self.training:
            activity = channel_activity(current)
            with torch.autocast(current.device.type, enabled=False):
                self.gate_loss = self.gate.loss(counts, activity, self.precision.channel_mass)
        return self.gate.open(counts)

    def _fire(self, current: Tensor, time_steps: int) -> tuple[Tensor, Tensor]:
        """Neurons see [time, everything else], in memory order, so that one compiled graph fits all layers."""
        last = current.permute(0, 2, 3, 1).contiguous()
        fired, potentials = self.neuron(last.reshape(time_steps, -1))
        return fired.view(last.shape).permute(0, 3, 1, 2), potentials

    def _measure(
        self, activity: Activity, spikes: Spikes, fired: Tensor, potentials: Tensor, opened: Tensor | None
    ) -> None:
        samples, channels, height, width = fired.shape
        opened = torch.ones(samples, channels, dtype=torch.bool, device=fired.device) if opened is None else opened
        activity.samples += samples // spikes.time_steps
        activity.add("spikes", fired.sum(dim=(1, 2, 3)))  # each sum is exact: it is far below 2^24
        activity.add("neuron_steps", torch.tensor(float(fired.numel())))
        activity.add("open_channels", opened)
        activity.add("channel_steps", torch.tensor(float(opened.numel())))

        missed = self._skipped_in_open_channels(potentials, (samples, height, width), opened)
        positions = spikes.values.shape[2] * spikes.values.shape[3]
        outputs = opened.sum(dim=1) * positions - missed.sum(dim=(1, 2)) * self._pooled_positions
        activity.add("effective_macs", outputs * self.kernel_size**2 * spikes.open_channels())
        activity.add("synaptic_ops", self._synaptic_ops(spikes, opened, missed))
        if self.is_gated:
            predictor = torch.tensor(float(samples * self.in_channels * channels))
            activity.add("effective_macs", predictor)
            activity.add("synaptic_ops", (spikes.counts() != 0).sum(dim=1) * channels)

    def _skipped_in_open_channels(
        self, potentials: Tensor, shape: tuple[int, int, int], opened: Tensor
    ) -> Float[Tensor, "time_batch height width"]:
        """How many of the open channels' neurons were skipped, at each position."""
        samples, height, width = shape
        if not self.neuron.skips:
            return torch.zeros(shape, device=potentials.device)
        by_channel = skipped(potentials, self.neuron.parameters_now).view(samples, height, width, self.out_channels)
        return torch.einsum("nhwc,nc->nhw", by_channel, opened.float())

    def _synaptic_ops(self, spikes: Spikes, opened: Tensor, missed: Tensor) -> Float[Tensor, " time_batch"]:
        """Non-zero inputs under the kernel, summed over the outputs that are computed."""
        present = spikes.values if spikes.largest == 1 else (spikes.values != 0).float()
        present = present.sum(dim=1, keepdim=True)
        box = torch.ones(1, 1, self.kernel_size, self.kernel_size, device=present.device)
        reached = F.conv2d(present, box, padding=self.kernel_size // 2)[:, 0]
        saved = reached
        if self.pool == "before":
            saved = F.avg_pool2d(reached[:, None], POOL)[:, 0] * POOL**2
        return reached.sum(dim=(1, 2)) * opened.sum(dim=1) - (saved * missed).sum(dim=(1, 2))

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        height, width = inputs[0].values.shape[2:]
        shrink = 1 if self.pool != "before" else POOL
        return LayerShape(
            name=name,
            kind="convolution",
            in_channels=self.in_channels,
            out_channels=self.out_channels,
            kernel_area=self.kernel_size**2,
            positions=height * width,
            neurons=self.out_channels * (height // shrink) * (width // shrink),
            can_gate=self.gate is not None,
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
        values = spikes.values.flatten(1)
        if self.activity is not None:
            self._measure(self.activity, spikes)
        bits, divisor = self.precision.weight_bits, spikes.divisor
        if self.training:
            weight = fake_quantize(self.linear.weight, bits, per_tensor=True)
            logits = F.linear(values, weight / divisor, self.linear.bias)
        else:
            integers, scale = quantize_weight(self.linear.weight, bits, per_tensor=True)
            logits = F.linear(values.float(), integers) * (scale.reshape(()) / divisor) + self.linear.bias
        return logits.reshape(spikes.time_steps, -1, self.classes).float()

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
