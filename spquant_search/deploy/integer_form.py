"""Write a trained network in its integer form: the numbers that its layers compute with in evaluation.

Evaluation already works on dyadic numbers (:mod:`spquant_search.snn.layers`). This module takes them from the layers:
weights, slopes and offsets as integers, the order of the steps, and how many bits sums and potentials can take in the
worst case. :mod:`spquant_search.deploy.reference` runs the result and explains the arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.costs.device import kept_in_floats
from spquant_search.costs.engine_limits import attention_excess, signal_excess
from spquant_search.deploy.integer_neuron import in_lowest_terms, integer_neuron, least_fraction
from spquant_search.deploy.names import identifier
from spquant_search.deploy.reference import EXACT_DOUBLE, GAIN_BITS
from spquant_search.deploy.segments import NoIntegerForm, Segment, Segments
from spquant_search.snn import tracing
from spquant_search.snn.architecture import pool_behind
from spquant_search.snn.attention import GAIN, SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut, pooled_kernel
from spquant_search.snn.dry_run import trace_network
from spquant_search.snn.fixedpoint import affine_in_fixed_point
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.layers import SearchableLayer, searchable_layers
from spquant_search.snn.neuron.parameters import GAIN_STEPS
from spquant_search.snn.pools import Pool, needs_a_step, pool_step_name
from spquant_search.snn.quantize import QuantizedWeight, quantize_weight
from spquant_search.snn.readout import Readout
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.snn.window import Span, Window
from spquant_search.space.shapes import InputShape

assert 1 << GAIN_BITS == GAIN_STEPS
ATTENTION_SHIFT = -round(math.log2(GAIN))


@dataclass(frozen=True, kw_only=True, slots=True)
class IntegerNetwork:
    """The steps of a network as the manifest describes them, and the numbers of their layers."""

    steps: tuple[dict[str, Any], ...]
    segments: tuple[Segment, ...]
    time_steps: int


@dataclass(frozen=True, slots=True)
class _Signal:
    """The output of a step: [channels, height, width], whole numbers up to ``largest``, over ``divisor``."""

    shape: tuple[int, int, int]
    largest: int
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class _Current:
    """A current in units of 2^-shift, channel by channel between ``low`` and ``high``.

    What is formed on the way to it is at most ``reach`` from 0, such as a * A before d is added.
    """

    shift: int
    low: NDArray[Any]
    high: NDArray[Any]
    reach: int

    def in_units(self, fraction: int) -> _Current:
        """Return the same current in units of 2^-fraction, which are not coarser."""
        times = 2 ** (fraction - self.shift)
        return _Current(fraction, self.low * times, self.high * times, self.reach * times)


def integer_network(network: nn.Module, shape: InputShape, *, time_steps: int) -> IntegerNetwork:
    """Return the integer form of a network in the precision that it has now, for inputs of ``shape``.

    Raises:
        NoIntegerForm: a layer keeps floating-point numbers, a layer runs twice, or something other than layers and
            this package's operations lies between them.
    """
    with torch.no_grad(), uncompiled():
        builder = _FormBuilder(network.eval(), shape, time_steps)
        for name, layer in builder.layers.items():
            kept = kept_in_floats(
                layer.precision.at(time_steps), has_weights=not isinstance(layer, SpikingSelfAttention)
            )
            if kept is not None:
                raise NoIntegerForm(f"{name}: keeps {kept}")
        return builder.build()


class _FormBuilder:
    """Go through the steps of a network in their order and collect its numbers, signals and currents."""

    def __init__(self, network: nn.Module, shape: InputShape, time_steps: int) -> None:
        self.shape, self.time_steps = shape, time_steps
        try:
            self.trace = trace_network(network, shape, time_steps=time_steps)
        except tracing.Untraceable as error:
            raise NoIntegerForm(str(error)) from None
        found = searchable_layers(network)
        self.layers = {step.name: found[step.name] for step in self.trace.steps if step.operation == "layer"}
        self.steps: list[dict[str, Any]] = []
        self.kept = Segments()
        self.signals: dict[str, _Signal] = {}
        self.currents: dict[str, _Current] = {}
        self.made: dict[str, str] = {}  # the step that makes what a layer or Flatten gives, where it is another one
        self.flat: set[str] = set()  # names of flattened maps
        self.reads_flat = False  # whether the step that is written now reads one

    def build(self) -> IntegerNetwork:
        for step in self.trace.steps:
            names = [self.trace.steps[made_by].name for made_by in step.inputs]
            inputs = [self.made.get(name, name) for name in names]
            if step.operation == "flatten":
                self.made[step.name] = inputs[0]
                self.flat.add(step.name)
                continue
            self.reads_flat = bool(self.flat.intersection(names))
            self._add(step.name, inputs, self._step(step, inputs))
            if (pool := pool_behind(self.layers.get(step.name))) is not None:
                self.made[step.name] = name = pool_step_name(step.name)
                self._add(name, [step.name], self._pool(name, step.name, pool))
        return IntegerNetwork(steps=tuple(self.steps), segments=tuple(self.kept.segments), time_steps=self.time_steps)

    def _add(self, name: str, inputs: list[str], described: dict[str, Any]) -> None:
        named = {"name": name, "identifier": identifier(len(self.steps), name), "inputs": inputs}
        self.steps.append(named | described)

    def _step(self, step: tracing.Step, inputs: list[str]) -> dict[str, Any]:
        name = step.name
        if step.operation == "input":
            largest, size = self.shape.largest, (self.shape.channels, self.shape.height, self.shape.width)
            self.signals[name] = _Signal(size, largest)
            return {"kind": "input", "largest": largest, "shape": list(size)}
        if step.operation == "layer":
            return self._layer(name, self.layers[name], inputs)
        signal = self._signal(inputs[0], name)
        if step.pool is not None:
            return self._pool(name, inputs[0], step.pool)
        if step.operation == "identity":
            self.currents[name] = self._identity(signal, name)
            return {"kind": "identity", "shape": list(signal.shape)}
        if step.operation == "count":
            return _counted(signal, classes=step.shape[-1], time_steps=self.time_steps)
        if step.operation == "average":
            channels, height, width = signal.shape
            pixels = height * width
            out = _Signal((channels, 1, 1), signal.largest * pixels, signal.divisor * pixels)
        else:
            out = _Signal(signal.shape, signal.largest + self._signal(inputs[1], name).largest, signal.divisor)
        self.signals[name] = out
        return {"kind": step.operation, "shape": list(out.shape), "largest": out.largest}

    def _pool(self, name: str, source: str, pool: Pool) -> dict[str, Any]:
        signal = self.signals[source]
        self.signals[name] = out = _pooled(name, signal, pool)
        described = {"kind": "pool", "in_shape": list(signal.shape), "shape": list(out.shape), "largest": out.largest}
        return described | _described_pool(pool)

    def _signal(self, source: str, reader: str) -> _Signal:
        if source not in self.signals:
            raise NoIntegerForm(f"{reader}: reads the current of {source} as if it were spikes")
        return self.signals[source]

    def _identity(self, signal: _Signal, reader: str) -> _Current:
        shift = signal.divisor.bit_length() - 1
        if signal.divisor != 1 << shift:
            raise NoIntegerForm(f"{reader}: adds an average over {signal.divisor}, which is no power of two")
        low = np.zeros(signal.shape[0], dtype=object)
        return _Current(shift, low, low + signal.largest, signal.largest)

    def _layer(self, name: str, layer: SearchableLayer, inputs: list[str]) -> dict[str, Any]:
        signal = self._signal(inputs[0], name)
        if isinstance(layer, SpikingConv2d):
            return self._convolution(name, layer, inputs)
        if isinstance(layer, Shortcut):
            described, current = self._affine(name, layer, signal)
            self.currents[name] = current
            return {"kind": "shortcut"} | described
        if isinstance(layer, SpikingSelfAttention):
            return self._attention(name, layer, signal)
        if isinstance(layer, Readout):
            return self._readout(name, layer, signal)
        raise NoIntegerForm(f"{name}: {type(layer).__name__} has no integer form")

    def _convolution(self, name: str, layer: SpikingConv2d, inputs: list[str]) -> dict[str, Any]:
        described, current = self._affine(name, layer, self.signals[inputs[0]])
        height, width = described["positions"]
        if layer.is_gated:
            assert layer.gate is not None
            mass = layer.precision.channel_mass
            self.kept.add(name, "gate", layer.gate.integers(mass).T.cpu().numpy(), "<i1")
            self.kept.add_codes(name, "gate_at_rest", (layer.gate.bias_at(mass) > 0)[None], bits=1)
            current = replace(current, low=np.minimum(current.low, 0), high=np.maximum(current.high, 0))
        neuron = integer_neuron(layer.neuron, stores=self.time_steps > 1)
        residual = None
        if len(inputs) > 1:
            source = inputs[1]
            # Spikes.current divides; a signal's values themselves are whole numbers, whatever their divisor.
            residual = self.currents.get(source) or self._identity(replace(self._signal(source, name), divisor=1), name)
        fraction = max(current.shift, residual.shift if residual else 0, least_fraction(neuron))
        total = current.in_units(fraction)
        if residual:
            other = residual.in_units(fraction)
            reach = max(total.reach, other.reach)
            total = _Current(fraction, total.low + other.low, total.high + other.high, reach)
        made, largest = (height, width), 1
        if layer.pool is not None and not layer.pool.is_before and not needs_a_step(layer.pool):
            made, largest = layer.pool.window.size_on(height, width), layer.pool.terms
        self.signals[name] = _Signal((layer.out_channels, *made), largest, largest)
        return (
            {"kind": "convolution"}
            | described
            | {
                "gated": layer.is_gated,
                "fraction": fraction,
                "residual_shift": residual.shift if residual else None,
            }
            | self._neuron_fields(name, neuron, total)
        )

    def _neuron_fields(self, name: str, neuron: dict[str, Any], current: _Current) -> dict[str, Any]:
        """Describe the neuron of a layer, and how many bits its potentials and all on the way to them take."""
        gain = neuron["gain"]
        times = 1 if gain is None else gain
        threshold_bits = current.shift + (GAIN_BITS if gain is not None else 0)
        if gain is not None:
            self.kept.add(name, "gain", np.array([[gain]]), "<u1")
        if neuron["levels"] is not None and neuron["learned_leak"]:
            self.kept.add(name, "leak", np.array([[neuron["leak"]]]), "<u2")
        step = 2 ** (threshold_bits - neuron["step_bits"])
        leaked = neuron["leak"] * step // 2 ** neuron["leak_bits"]
        # A skipped neuron takes no current; half a step is added to all before they are rounded.
        highest = neuron["lowest"] + (neuron["levels"] or 1) - 1
        least = min(0, *current.low) * times + neuron["lowest"] * leaked
        most = max(0, *current.high) * times + highest * leaked + step // 2
        # A spike leaves no less than the threshold less what it subtracts.
        subtracted = (neuron["subtracts"] or 0) << (threshold_bits - neuron["subtracts_bits"])
        bound = max(current.reach, -least, most, 1 << threshold_bits, subtracted)
        exact = max(bound, current.reach * times)  # in PyTorch the gain is among the slopes
        if exact >= EXACT_DOUBLE:
            raise NoIntegerForm(f"{name}: potentials of up to {exact.bit_length()} bits; 53 are exact in evaluation")
        return {"neuron": neuron, "potential_bits": bound.bit_length() + 1}

    def _affine(self, name: str, layer: SpikingConv2d | Shortcut, signal: _Signal) -> tuple[dict[str, Any], _Current]:
        """Describe a convolution with its a and d; return the description and the range of its current."""
        bits, groups = layer.precision.weight_bits, layer.groups
        integers, scale = _quantized(layer.weight, layer)
        kernel, positions = layer.kernel, (1, 1)
        if self.reads_flat:  # the kernel is the map
            integers = integers.view(layer.out_channels, *signal.shape)
            kernel = Window(*map(Span, signal.shape[1:]))
        else:
            positions = layer.current_size(*signal.shape[1:])
        fixed = affine_in_fixed_point(*layer.real_affine(scale, signal.divisor))
        shift = round(float(fixed.shift))
        rows = integers.permute(2, 3, 1, 0).reshape(-1, layer.out_channels)  # [kernel row, column, input] x outputs
        self.kept.add_weights(name, rows, bits)
        slopes, offsets = (numbers.cpu().numpy()[None] for numbers in (fixed.slope, fixed.offset))
        self.kept.add(name, "slope", slopes, "<i2")
        self.kept.add(name, "offset", offsets, "<i4")

        lowest, highest = _range_of_sums(integers, layer, signal.largest)
        described = {
            "in_shape": list(signal.shape),
            "largest": signal.largest,
            "out_channels": layer.out_channels,
            "positions": list(positions),
            "kernel": list(kernel.sizes),
            "stride": list(kernel.strides),
            "padding": list(kernel.padding),
            "groups": groups,
            "pool": None if layer.pool is None or needs_a_step(layer.pool) else _described_pool(layer.pool),
            "weight_bits": bits,
            "shift": shift,
            "accumulator_bits": max(max(map(abs, lowest)), max(highest)).bit_length() + 1,
        }
        return described, _affine_current(shift, slopes[0], offsets[0], lowest, highest)

    def _attention(self, name: str, layer: SpikingSelfAttention, signal: _Signal) -> dict[str, Any]:
        channels, height, width = signal.shape
        neuron = integer_neuron(layer.neuron, stores=self.time_steps > 1)
        fraction = max(ATTENTION_SHIFT, least_fraction(neuron))
        largest = height * width * (channels // layer.heads)
        excess = attention_excess(name, largest)
        if excess is not None:
            raise NoIntegerForm(excess)
        most = np.array([largest], dtype=object)
        current = _Current(ATTENTION_SHIFT, 0 * most, most, largest).in_units(fraction)
        self.signals[name] = _Signal(signal.shape, 1)
        return {
            "kind": "attention",
            "in_shape": list(signal.shape),
            "out_channels": channels,
            "positions": [height, width],
            "heads": layer.heads,
            "shift": ATTENTION_SHIFT,
            "accumulator_bits": largest.bit_length() + 1,
            "fraction": fraction,
        } | self._neuron_fields(name, neuron, current)

    def _readout(self, name: str, layer: Readout, signal: _Signal) -> dict[str, Any]:
        bits = layer.precision.weight_bits
        integers, scale = _quantized(layer.linear.weight, layer, per_tensor=True)
        unit = scale.reshape(()) / signal.divisor
        start = layer.start(unit, self.time_steps)
        channels, height, width = signal.shape
        by_position = integers.reshape(layer.classes, channels, height, width).permute(0, 2, 3, 1)
        self.kept.add_weights(name, by_position.reshape(layer.classes, -1), bits)  # classes x [row, column, channel]
        self.kept.add(name, "offset", start.cpu().numpy()[None], "<i4")
        sums = int(integers.abs().sum(dim=1).max()) * signal.largest
        biases = self.time_steps if layer.membrane else 1  # a membrane takes the bias of every step
        bound = sums * self.time_steps + int(start.abs().max()) * biases
        leak, leak_bits = in_lowest_terms(layer.rounded_leak)
        # Summed over time, the last membrane is there as often as there are steps.
        times = self.time_steps if layer.membrane == "last" else 1
        if layer.membrane == "sum":
            bound *= self.time_steps
        return {
            "kind": "readout",
            "in_shape": list(signal.shape),
            "largest": signal.largest,
            "classes": layer.classes,
            "weight_bits": bits,
            "unit": float(unit) * times,  # a logit times this is that of PyTorch, summed over time
            "membrane": layer.membrane,
            "leak": leak,
            "leak_bits": leak_bits,
            "accumulator_bits": bound.bit_length() + 1,
        }


def _pooled(name: str, signal: _Signal, pool: Pool) -> _Signal:
    """Return what a pool that is a step of its own makes of a signal.

    Raises:
        NoIntegerForm: its sums do not fit a byte.
    """
    channels, height, width = signal.shape
    shape, terms = (channels, *pool.window.size_on(height, width)), pool.terms
    out = _Signal(shape, signal.largest * terms, signal.divisor * terms)
    excess = signal_excess(name, "pool", out.largest)
    if excess is not None:
        raise NoIntegerForm(excess)
    return out


def _described_pool(pool: Pool) -> dict[str, Any]:
    sizes, strides, padding = pool.window.sizes, pool.window.strides, pool.window.padding
    return {"pool": pool.kind, "window": list(sizes), "stride": list(strides), "padding": list(padding)}


def _range_of_sums(integers: Tensor, layer: SpikingConv2d | Shortcut, largest: int) -> tuple[list[int], list[int]]:
    """Return the least and the largest sum of each output channel, of inputs up to ``largest``."""
    window = None if layer.terms == 1 or layer.pool is None else layer.pool.window
    kernel = integers if window is None else pooled_kernel(integers, layer.kernel.strides, window)
    flat = kernel.reshape(layer.out_channels, -1).double()
    lowest = [-int(total) * largest for total in flat.clamp(max=0).abs().sum(dim=1)]
    return lowest, [int(total) * largest for total in flat.clamp(min=0).sum(dim=1)]


def _counted(signal: _Signal, *, classes: int, time_steps: int) -> dict[str, Any]:
    """Describe a readout that counts spikes."""
    channels, height, width = signal.shape
    largest = channels // classes * height * width * signal.largest * time_steps
    return {
        "kind": "count",
        "in_shape": list(signal.shape),
        "largest": signal.largest,
        "classes": classes,
        "votes": channels // classes,
        "unit": 1.0,
        "accumulator_bits": largest.bit_length() + 1,
    }


def _affine_current(
    shift: int, slopes: NDArray[Any], offsets: NDArray[Any], lowest: list[int], highest: list[int]
) -> _Current:
    """Return the range of a * A + d, where A lies between ``lowest`` and ``highest`` [channel]."""
    # Exact numbers of any size, as a product may leave 64 bits.
    a, d, at_lowest, at_highest = (
        np.array(list(map(int, v)), dtype=object) for v in (slopes, offsets, lowest, highest)
    )
    ends = np.stack([a * at_lowest, a * at_highest])
    reach = max(np.abs(ends).max(), np.abs(ends + d).max())
    return _Current(shift, ends.min(axis=0) + d, ends.max(axis=0) + d, int(reach))


def _quantized(weight: Tensor, layer: SearchableLayer, *, per_tensor: bool = False) -> QuantizedWeight:
    return quantize_weight(weight, layer.precision.weight_bits, per_tensor=per_tensor, quantizer=layer.quantizer)
