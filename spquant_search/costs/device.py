"""Bytes of flash and RAM that the C library takes of a device, known before any training.

The network's own numbers are in :mod:`spquant_search.costs.memory`. On top come, in RAM, the input frame, which the
caller holds, the spikes between layers, whose maps share memory where they are not needed at the same time, and what
the layers work in, one at a time; in flash, the engine's code. All of it follows from the architecture and the
configuration but the code, which is as large as a compiler makes it: its sizes here are those of arm-none-eabi-gcc 12
for a Cortex-M4 at `-Os`, and a test holds them against the compiler at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from spquant_search.costs.fast_path import LAYER_BYTES as FAST_LAYER_BYTES
from spquant_search.costs.fast_path import FastLayer, FastNeeds, Form, fast_layer, needs_of_fast
from spquant_search.costs.memory import CostReport, LayerCost, membrane_bits
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, LayerPrecision
from spquant_search.space.shapes import LayerShape

READ_BEYOND = 3  # bytes of maps: strings of bits are read by fours of bytes
POTENTIAL_BITS = 32  # 64 only where a network's sums leave them, which is known after training
# Bytes of code: of the engine without its optional parts, of each of them, and of a layer's description and its call.
CODE_BYTES = 565
CONVOLUTION_CODE_BYTES = 1400  # on the plain path, and
NEURONS_CODE_BYTES = 500
MEMBRANES_CODE_BYTES = 472  # where there is more than one time step
GATES_CODE_BYTES = 319
REST_CODE_BYTES = 92  # where codes of 3, 5, 6 or 7 bits are laid end to end
ATTENTION_CODE_BYTES = 476
SUMS_CODE_BYTES = 176
AVERAGE_CODE_BYTES = 140
POOL_CODE_BYTES = 200
LARGEST_CODE_BYTES = 150
ADDED_UP_CODE_BYTES = 307  # where currents are averaged before neurons
LAYER_BYTES, LAYER_BYTES_AT_ONE_STEP, SUM_BYTES, POOL_BYTES = 110, 73, 57, 44


def kept_in_floats(precision: LayerPrecision, *, has_weights: bool) -> str | None:
    """Return what a layer in this precision keeps in floating point, so that it has no integer form."""
    if has_weights and precision.weight_bits == FLOAT_BITS:
        return "float weights"
    return "a float membrane" if precision.membrane_levels == FLOAT_MEMBRANE else None


@dataclass(frozen=True, slots=True)
class KeptMap:
    """A map that a step passes on, in bytes; 0 for a current, whose reader reads the map that it was made of."""

    name: str
    inputs: tuple[str, ...]
    bytes: int
    is_current: bool = False


def place_maps(steps: Sequence[KeptMap]) -> tuple[dict[str, int], int]:
    """Return where each map begins in the memory that they share, and its size in bytes: first fit, in order."""
    made = {step.name: index for index, step in enumerate(steps)}
    last = dict(made)
    for index, step in enumerate(steps):
        for name in step.inputs:
            last[name] = max(last[name], index)
    for step in reversed(steps):
        if step.is_current:
            source = step.inputs[0]
            last[source] = max(last[source], last[step.name])
    taken: list[tuple[int, int, int]] = []  # begin, end, last reader
    places: dict[str, int] = {}
    size = 0
    for step in steps:
        if not step.bytes:
            continue
        now = made[step.name]
        taken = [(start, end, reader) for start, end, reader in taken if reader >= now]
        begin = 0
        for start, end, _ in sorted(taken):
            if start - begin >= step.bytes:
                break
            begin = max(begin, end)
        places[step.name] = begin
        taken.append((begin, begin + step.bytes, last[step.name]))
        size = max(size, begin + step.bytes)
    return places, size


def spike_map_bytes(neurons: int, channels: int) -> int:
    """Return the bytes of a layer's spikes: the channels of a position take whole bytes."""
    return -(-channels // 8) * (neurons // channels)


def channel_bytes(*, sum_bits: int | None, potential_bits: int, stores: bool) -> int:
    """Return the bytes that a layer on the plain path works in for each of its channels.

    ``sum_bits`` is None where no convolution is; ``stores``: potentials between time steps.
    """
    sums = 0 if sum_bits is None else sum_bits // 8 + 1  # with lanes
    return sums + potential_bits // 8 + (2 if stores else 0) + 1  # currents, codes, spikes


def scratch_bytes(
    *,
    inputs: int,
    channels: int,
    by_channel: int,
    classes: int,
    heads: int,
    gated: bool,
    potential_bytes: int,
) -> int:
    """Return the bytes that layers work in, one at a time; ``inputs`` and ``channels`` are the most of any layer.

    ``potential_bytes``: of a further current a channel, where the largest of several is taken; otherwise 0.
    """
    gates = 4 * (inputs + channels) if gated else 0
    return 4 * inputs + (by_channel + potential_bytes) * channels + gates + 4 * heads + 4 * classes


def sum_bits(largest: int) -> int:
    """Return the bits of the integer type that sums of codes up to ``largest`` take."""
    return 16 if largest < 2**16 else 32


def largest_code(weight_bits: int) -> int:
    """Return the largest code of a weight: weights are stored with the largest of them added, so none is negative."""
    return 1 if weight_bits == 1 else 2**weight_bits - 2


@dataclass(frozen=True, slots=True)
class Architecture:
    """Facts of a network that the footprint needs besides its layers' shapes."""

    map_bytes: int  # of all spikes between layers, sharing memory
    average_bytes: int  # of averages over all positions
    sums: int  # how many sums of two signals
    averages: int
    inputs: int  # channels, the most that any step reads which is no convolution
    largest: Mapping[str, int]  # by layer: the largest value that it reads
    heads: int  # of attention, the most; 0 without
    classes: int
    frame_bytes: int  # of the input, which whoever calls the library holds
    class_membranes: bool = False  # the readout's classes have membranes beside their logits
    pools: int = 0  # steps that pool a map
    takes_largest: bool = False  # of several currents, in some layer
    forms: Mapping[str, Form] = field(default_factory=dict)  # of the convolutions that may take the fast path


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on the device; ``engine_`` are those that are not the network's own numbers."""

    flash: int
    ram: int
    engine_flash: int
    engine_ram: int


class Needs(NamedTuple):
    """What a layer's precision needs of the engine: 1 where it needs a part, and sizes. The engine has the largest of
    each that any of its layers needs."""

    floats: int = 0  # there is no engine for them
    # Of the plain path:
    convolutions: int = 0
    neurons: int = 0
    stores: int = 0  # potentials, from one time step to the next
    gates: int = 0
    rest: int = 0  # of a byte in which potentials laid end to end do not come out even
    wide: int = 0  # sums of codes of 32 bits
    adds_up: int = 0  # currents that are averaged before neurons
    takes_largest: int = 0  # of several currents
    inputs: int = 0  # channels that are read
    channels: int = 0  # channels that are made
    # Of the fast path:
    fast: FastNeeds = FastNeeds()

    @property
    def numbers(self) -> tuple[int, ...]:
        """All of them in one row."""
        return (*self[:-1], *self.fast)

    @classmethod
    def of_numbers(cls, numbers: Sequence[Any]) -> Needs:
        """Make needs of their row; the numbers may be arrays, of many configurations at once."""
        own = len(cls._fields) - 1
        plain = dict(zip(cls._fields[:own], numbers[:own], strict=True))
        return cls(**plain, fast=FastNeeds(*numbers[own:]))


def path_of(architecture: Architecture, layer: LayerCost) -> FastLayer | None:
    """Return how a layer is computed on the fast path; None where it takes the plain one."""
    precision = layer.precision
    return fast_layer(
        architecture.forms.get(layer.shape.name),
        weight_bits=precision.weight_bits,
        levels=precision.membrane_levels,
        gated=precision.channel_mass < 1.0,
        halves=layer.shape.halves,
    )


def needs_of(architecture: Architecture, layer: LayerCost) -> Needs:
    """Return what a layer needs of the engine."""
    shape, precision = layer.shape, layer.precision
    levels = precision.membrane_levels
    if kept_in_floats(precision, has_weights=shape.has_weights) is not None:
        return Needs(floats=1)
    if (fast := path_of(architecture, layer)) is not None:
        return Needs(fast=needs_of_fast(fast))
    form = architecture.forms.get(shape.name)
    has_sums = shape.kind in ("convolution", "shortcut")
    largest = _largest_sum(layer, architecture.largest[shape.name]) if has_sums else 0
    return Needs(
        convolutions=int(has_sums),
        neurons=int(shape.has_neurons),
        stores=int(levels is not None),
        gates=int(precision.channel_mass < 1.0),
        rest=int(levels is not None and bool(8 % membrane_bits(levels))),
        wide=int(sum_bits(largest) > sum_bits(0)),
        adds_up=int(shape.terms > 1),
        takes_largest=int(architecture.takes_largest and (form is None or form.takes_largest)),
        inputs=max(shape.in_channels, shape.out_channels if form is not None and form.has_residual else 0),
        channels=shape.out_channels if shape.kind != "readout" else 0,
    )


def flash_of(architecture: Architecture, layer: LayerCost) -> int:
    """Return the bytes of a layer's own numbers in flash, its description and call among them."""
    if (fast := path_of(architecture, layer)) is not None:
        return fast.table_bytes + FAST_LAYER_BYTES
    described = LAYER_BYTES if layer.precision.membrane_levels is not None else LAYER_BYTES_AT_ONE_STEP
    return layer.weight_bytes + layer.overhead_bytes + described


def membranes_of(architecture: Architecture, layer: LayerCost) -> int:
    """Return the bytes of a layer's membranes."""
    fast = path_of(architecture, layer)
    return layer.membrane_bytes if fast is None else 4 * fast.membrane_words


def footprint(architecture: Architecture, cost: CostReport) -> Footprint | None:
    """Return the footprint of a configuration; None where a layer keeps floating-point numbers."""
    rows = [needs_of(architecture, layer).numbers for layer in cost.layers]
    needs = Needs.of_numbers([max(column) for column in zip(*rows, strict=True)])
    if needs.floats:
        return None
    code, scratch = map(int, engine_bytes(architecture, [layer.shape for layer in cost.layers], needs))
    flash = code + sum(flash_of(architecture, layer) for layer in cost.layers)
    ram = scratch + sum(membranes_of(architecture, layer) for layer in cost.layers)
    numbers = cost.weight_bytes + cost.overhead_bytes
    return Footprint(flash=flash, ram=ram, engine_flash=flash - numbers, engine_ram=ram - cost.membrane_bytes)


def engine_bytes(architecture: Architecture, shapes: Sequence[LayerShape], needs: Needs) -> tuple[int, int]:
    """Return the bytes of an engine in flash and in RAM, without what lies there for each layer.

    All of it is sums and products: the needs may be arrays, of many configurations at once.
    """
    opened = max((shape.out_channels for shape in shapes if shape.kind != "readout"), default=0)
    by_channel = (sum_bits(0) // 8 + 1 + 2 * needs.wide) * needs.convolutions
    by_channel = by_channel + (POTENTIAL_BITS // 8 + 1) * needs.neurons + 2 * needs.stores
    by_channel = by_channel + POTENTIAL_BITS // 8 * needs.takes_largest + 4 * needs.gates
    inputs = np.maximum(needs.inputs, architecture.inputs)
    scratch = 4 * inputs + 4 * inputs * needs.gates + by_channel * needs.channels + opened
    classes = 4 * architecture.classes * (1 + architecture.class_membranes)
    maps = architecture.frame_bytes + architecture.map_bytes + READ_BEYOND + architecture.average_bytes
    ram = maps + scratch + classes + 4 * architecture.heads + needs.fast.ram_bytes(opened)
    return _code_bytes(architecture, shapes, needs), ram


def _largest_sum(layer: LayerCost, largest: int) -> int:
    """Return the largest sum of codes at one position, or at all that one sum takes in."""
    shape = layer.shape
    products = shape.in_channels // shape.groups * shape.kernel_area * shape.terms
    return products * largest_code(layer.precision.weight_bits) * largest


def _code_bytes(architecture: Architecture, shapes: Sequence[LayerShape], needs: Needs) -> int:
    parts = (
        (CONVOLUTION_CODE_BYTES, needs.convolutions),
        (NEURONS_CODE_BYTES, needs.neurons),
        (MEMBRANES_CODE_BYTES, needs.stores),
        (GATES_CODE_BYTES, needs.gates),
        (REST_CODE_BYTES, needs.rest),
        (ATTENTION_CODE_BYTES, any(shape.kind == "attention" for shape in shapes)),
        (SUMS_CODE_BYTES, architecture.sums > 0),
        (AVERAGE_CODE_BYTES, architecture.averages > 0),
        (POOL_CODE_BYTES, architecture.pools > 0),
        (LARGEST_CODE_BYTES, needs.takes_largest),
        (ADDED_UP_CODE_BYTES, needs.adds_up),
    )
    optional = sum(size * needed for size, needed in parts)
    steps = SUM_BYTES * architecture.sums + POOL_BYTES * architecture.pools
    return CODE_BYTES + optional + steps + needs.fast.code_bytes()
