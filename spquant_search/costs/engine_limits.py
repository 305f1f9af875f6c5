"""What the engine in C can hold: sizes and sums that a network must stay below, most of them known before training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from spquant_search.costs.device import largest_code
from spquant_search.space.configuration import FLOAT_BITS
from spquant_search.space.search_space import LayerSpace
from spquant_search.space.shapes import LayerShape

MOST_ADDED = 255  # of a sum of two signals, or of the values in a pool's window: a byte
MOST_AVERAGED = 65_535  # of the sum under an average: 16 bits
MOST_SIDE = 65_535  # channels, rows, columns or classes: 16 bits
MOST_KERNEL = 255
MOST_NUMBERS = 2**28  # of a map: their bits are counted in 32 bits
MOST_ATTENDED = 2**24 - 1  # of the sums of an attention: exact in fp32
SUM_BITS = 32  # of signed sums of products


def signal_excess(name: str, operation: str, largest: int) -> str | None:
    """Say which limit the largest value of a ``sum``, ``pool`` or ``average`` exceeds; None if it does not."""
    limit = {"sum": MOST_ADDED, "pool": MOST_ADDED, "average": MOST_AVERAGED}.get(operation)
    if limit is None or largest <= limit:
        return None
    return f"{name}: sums of up to {largest:,} are more than the C engine's {limit:,}"


def side_excess(name: str, sides: Iterable[int]) -> str | None:
    """Say that a number of channels, rows, columns or classes exceeds the limit; None if none does."""
    widest = max(sides, default=0)
    return None if widest <= MOST_SIDE else f"{name}: a side of {widest:,} is more than the C engine's {MOST_SIDE:,}"


def map_excess(name: str, numbers: int) -> str | None:
    """Say that a map has more numbers than the limit; None if it has not."""
    if numbers <= MOST_NUMBERS:
        return None
    return f"{name}: a map of {numbers:,} numbers is more than the C engine's {MOST_NUMBERS:,}"


def window_excess(name: str, spans: Iterable[tuple[int, int, int, int]]) -> str | None:
    """Say which side of a kernel is larger than the limit, or its stride or padding; None if none is.

    ``spans`` are, along each axis, the kernel's size, its stride, and the padding before and after.
    """
    for size, stride, before, after in spans:
        for word, number in (("kernel", size), ("stride", stride), ("padding", max(before, after))):
            if number > MOST_KERNEL:
                return f"{name}: a {word} of {number} is more than the C engine's {MOST_KERNEL}"
    return None


def attention_excess(name: str, largest: int) -> str | None:
    """Say that sums of an attention exceed the limit; None if they do not."""
    if largest <= MOST_ATTENDED:
        return None
    return f"{name}: sums of up to {largest:,}, of which {MOST_ATTENDED:,} are exact in evaluation"


def sum_excess(name: str, bits: int) -> str | None:
    """Say that signed sums of so many bits exceed the limit; None if they do not."""
    return None if bits <= SUM_BITS else f"{name}: sums of {bits} bits leave the C engine's {SUM_BITS}"


def code_sum_excess(name: str, largest: int, weight_bits: int) -> str | None:
    """Say that sums of up to ``largest`` of the codes of weights exceed the limit; None if they do not."""
    # Weights are sums of codes less a sum of inputs; codes of one bit count twice.
    if largest * (2 if weight_bits == 1 else 1) < 2 ** (SUM_BITS - 1):
        return None
    return f"{name}: sums of codes of up to {largest:,} leave the C engine's {SUM_BITS} bits"


def widest_sums(
    layers: Sequence[LayerSpace], shapes: Sequence[LayerShape], largest: Mapping[str, int], *, time_steps: int
) -> list[str]:
    """Say which layers' sums leave the engine's bits, or may, in the widest weights that a space lets them have.

    ``largest`` is the largest value that each layer reads.
    """
    found = []
    for layer, shape in zip(layers, shapes, strict=True):
        for bits in sorted(set(layer.weight_bits) - {FLOAT_BITS}, reverse=True):
            sentence = _excess(shape, bits, largest[shape.name], time_steps) if shape.has_weights else None
            if sentence is not None:
                found.append(sentence)
                break
    return found


def narrowest_sums(
    layers: Sequence[LayerSpace], shapes: Sequence[LayerShape], largest: Mapping[str, int]
) -> str | None:
    """Say which layer's sums of codes leave the engine's bits in every choice of weights; None if none's do."""
    for layer, shape in zip(layers, shapes, strict=True):
        bits = min(layer.weight_bits)
        if shape.kind in ("convolution", "shortcut") and bits != FLOAT_BITS:
            sentence = code_sum_excess(shape.name, _inputs(shape, largest[shape.name]) * largest_code(bits), bits)
            if sentence is not None:
                return f"{sentence} with weights of {bits} bits, its fewest"
    return None


def _inputs(shape: LayerShape, largest: int) -> int:
    """Return the largest sum of the values that one sum of a layer takes in."""
    return shape.in_channels // shape.groups * shape.kernel_area * shape.terms * largest


def _excess(shape: LayerShape, bits: int, largest: int, time_steps: int) -> str | None:
    """Say which sums leave the engine's bits at so many bits of weight.

    Sums of weights take the largest weights throughout: a trained network has smaller ones, and may fit.
    """
    inputs = _inputs(shape, largest)
    weight = max(1, 2 ** (bits - 1) - 1)
    if shape.kind != "readout":
        sentence = code_sum_excess(shape.name, inputs * largest_code(bits), bits)
        if sentence is not None:
            return f"{sentence} with weights of {bits} bits"
    if shape.kind == "readout":  # over all time steps; of membranes, which do so themselves, in each of them again
        inputs *= time_steps**2 if shape.sums_membranes else time_steps
    sums = inputs * weight
    sentence = sum_excess(shape.name, sums.bit_length() + 1)
    return None if sentence is None else f"{sentence} if all weights of {bits} bits are large"
