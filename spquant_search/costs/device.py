"""Bytes of flash and RAM that the C library takes of a device, known before any training.

The network's own numbers are in :mod:`spquant_search.costs.memory`. On top come, in RAM, the input frame, which the
caller holds, the spikes between layers, whose maps share memory where they are not needed at the same time, and what
the layers work in, one at a time; in flash, the engine's code. All of it follows from the architecture and the
configuration but the code, which is as large as a compiler makes it: its sizes here are those of arm-none-eabi-gcc 12
for a Cortex-M4 at `-Os`, and a test holds them against the compiler at hand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from spquant_search.costs.memory import CostReport, LayerCost, membrane_bits
from spquant_search.space.configuration import FLOAT_BITS, FLOAT_MEMBRANE, LayerPrecision
from spquant_search.space.shapes import LayerShape

POTENTIAL_BITS = 32  # 64 only where a network's sums leave them, which is known after training
# Bytes of code: of the engine without its optional parts, of each of them, and of a layer's description and its call.
CODE_BYTES = 2245
MEMBRANES_CODE_BYTES = 680  # where there is more than one time step
GATES_CODE_BYTES = 240
REST_CODE_BYTES = 40  # where codes of 3, 5, 6 or 7 bits are laid end to end
ATTENTION_CODE_BYTES = 400
SUMS_CODE_BYTES = 100
AVERAGE_CODE_BYTES = 140
POOL_CODE_BYTES = 200
LARGEST_CODE_BYTES = 150
ADDED_UP_CODE_BYTES = 180  # where currents are averaged before neurons
LAYER_BYTES, LAYER_BYTES_AT_ONE_STEP, SUM_BYTES, POOL_BYTES = 115, 95, 50, 44


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


def channel_bytes(*, sum_bits: int, potential_bits: int, stores: bool) -> int:
    """Return the bytes that a layer works in for each of its channels; ``stores``: potentials between time steps."""
    codes = 2 if stores else 0
    return sum_bits // 8 + potential_bits // 8 + codes + 3  # sums, currents, codes; lanes, gates, spikes


def scratch_bytes(
    *, inputs: int, channels: int, by_channel: int, classes: int, heads: int, gated: bool, potential_bytes: int
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
    inputs: int  # channels, the most that any layer reads
    largest: Mapping[str, int]  # by layer: the largest value that it reads
    heads: int  # of attention, the most; 0 without
    classes: int
    frame_bytes: int  # of the input, which whoever calls the library holds
    class_membranes: bool = False  # the readout's classes have membranes beside their logits
    pools: int = 0  # steps that pool a map
    takes_largest: bool = False  # of several currents, in some layer


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on the device; ``engine_`` are those that are not the network's own numbers."""

    flash: int
    ram: int
    engine_flash: int
    engine_ram: int


class Needs(NamedTuple):
    """What a layer's precision needs of the engine; the engine has what any of its layers needs."""

    floats: bool  # there is no engine for them
    stores: bool  # potentials, from one time step to the next
    gates: bool
    rest: bool  # of a byte in which potentials laid end to end do not come out even
    wide: bool  # sums of codes of 32 bits


def needs_of(architecture: Architecture, layer: LayerCost) -> Needs:
    """Return what a layer needs of the engine."""
    shape, precision = layer.shape, layer.precision
    levels = precision.membrane_levels
    has_sums = shape.kind in ("convolution", "shortcut")
    return Needs(
        floats=kept_in_floats(precision, has_weights=shape.has_weights) is not None,
        stores=levels is not None,
        gates=precision.channel_mass < 1.0,
        rest=levels is not None and bool(8 % membrane_bits(levels)),
        wide=has_sums and sum_bits(_largest_sum(layer, architecture.largest[shape.name])) > sum_bits(0),
    )


def footprint(architecture: Architecture, cost: CostReport) -> Footprint | None:
    """Return the footprint of a configuration; None where a layer keeps floating-point numbers."""
    needs = Needs(*map(any, zip(*(needs_of(architecture, layer) for layer in cost.layers), strict=True)))
    if needs.floats:
        return None
    code, ram = engine_bytes(architecture, [layer.shape for layer in cost.layers], needs)
    numbers = cost.weight_bytes + cost.overhead_bytes
    return Footprint(flash=numbers + code, ram=cost.membrane_bytes + ram, engine_flash=code, engine_ram=ram)


def engine_bytes(architecture: Architecture, shapes: Sequence[LayerShape], needs: Needs) -> tuple[int, int]:
    """Return the bytes of an engine in flash and in RAM, without the network's own numbers."""
    scratch = scratch_bytes(
        inputs=architecture.inputs,
        channels=max((shape.out_channels for shape in shapes if shape.kind != "readout"), default=0),
        by_channel=channel_bytes(
            sum_bits=32 if needs.wide else sum_bits(0), potential_bits=POTENTIAL_BITS, stores=needs.stores
        ),
        classes=architecture.classes,
        heads=architecture.heads,
        gated=needs.gates,
        potential_bytes=POTENTIAL_BITS // 8 if architecture.takes_largest else 0,
    )
    maps = architecture.map_bytes + architecture.average_bytes
    membranes = 4 * architecture.classes * architecture.class_membranes
    return _code_bytes(architecture, shapes, needs), architecture.frame_bytes + maps + scratch + membranes


def _largest_sum(layer: LayerCost, largest: int) -> int:
    """Return the largest sum of codes at one position, or at all that one sum takes in."""
    shape = layer.shape
    products = shape.in_channels // shape.groups * shape.kernel_area * shape.terms
    return products * largest_code(layer.precision.weight_bits) * largest


def _code_bytes(architecture: Architecture, shapes: Sequence[LayerShape], needs: Needs) -> int:
    parts = (
        (MEMBRANES_CODE_BYTES, needs.stores),
        (GATES_CODE_BYTES, needs.gates),
        (REST_CODE_BYTES, needs.rest),
        (ATTENTION_CODE_BYTES, any(shape.kind == "attention" for shape in shapes)),
        (SUMS_CODE_BYTES, architecture.sums > 0),
        (AVERAGE_CODE_BYTES, architecture.averages > 0),
        (POOL_CODE_BYTES, architecture.pools > 0),
        (LARGEST_CODE_BYTES, architecture.takes_largest),
        (ADDED_UP_CODE_BYTES, any(shape.terms > 1 for shape in shapes)),
    )
    optional = sum(size for size, is_needed in parts if is_needed)
    layer_bytes = LAYER_BYTES if needs.stores else LAYER_BYTES_AT_ONE_STEP
    steps = SUM_BYTES * architecture.sums + POOL_BYTES * architecture.pools
    return CODE_BYTES + optional + layer_bytes * len(shapes) + steps
