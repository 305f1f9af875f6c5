"""Which of this package's layers carry a description: one layer for all neurons with what lies before them.

Everything that these layers do not carry is refused, with all reasons at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from spquant_search.importer.description import Description
from spquant_search.importer.graph import Node
from spquant_search.importer.joining import divisor_of
from spquant_search.importer.operations import Add, Convolution, Input, Linear, Pool, Spiking, words_of
from spquant_search.importer.refusals import Reason, Refused

Kind = Literal["spikes", "current", "other"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Weighted:
    """A convolution or a product with weights of spikes, and the pool behind it."""

    operation: Convolution | Linear
    source: int
    map: tuple[int, ...]  # the shape of what it reads
    flattens: bool = False  # it reads every number of a map as a channel
    pool: Pool | None = None
    number: int  # of the node whose values are the current


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerOfNeurons:
    """Neurons, the weights before them, currents that are added, and the pool of their spikes."""

    number: int  # of the signal that it gives
    name: str
    neurons: int
    weighted: Weighted
    shortcuts: tuple[Weighted, ...] = ()
    identities: tuple[int, ...] = ()
    pool: Pool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikePool:
    """A pool of spikes that are read elsewhere, too."""

    number: int
    source: int
    pool: Pool
    covers_map: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeSum:
    """The sum of two signals of spikes."""

    number: int
    sources: tuple[int, int]


Step = LayerOfNeurons | SpikePool | SpikeSum


class Planner:
    """Goes through a description and gathers the steps of its network, and what has none."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.reasons: list[Reason] = []
        self._kinds = _kinds_of(description.layers)
        self._pooled: dict[int, int] = {}  # spikes that are pooled in the layer that makes them, by the pool

    def steps(self, ends: Iterable[int]) -> list[Step]:
        """Return the steps up to ``ends``, the signals that the readout reads."""
        ends = list(ends)
        needed = self._needed(ends)
        self.reasons += [self._no_spikes(end) for end in ends if self._kinds[end] == "current"]
        made = []
        for number, node in self.description.layers.items():
            if number not in needed or isinstance(node.operation, Input) or number in self._pooled:
                continue
            try:
                step = self._step(number, node)
            except Refused as refused:
                what = words_of(node.operation)
                self.reasons.append(Reason(module=node.name, what=what, why=refused.why, remedy=refused.remedy))
                continue
            if step is not None:
                made.append(step)
        return made

    def _needed(self, ends: Iterable[int]) -> set[int]:
        needed, left = set(), list(ends)
        while left:
            number = left.pop()
            if number not in needed:
                needed.add(number)
                left += self.description.layers[number].inputs
        return needed

    def _no_spikes(self, end: int) -> Reason:
        node = self.description.layers[end]
        why = "what it gives is read at the network's end, and no neurons lie between"
        return Reason(module=node.name, what=words_of(node.operation), why=why, remedy="put neurons behind it")

    def _step(self, number: int, node: Node) -> Step | None:
        operation, kind = node.operation, self._kinds[number]
        if isinstance(operation, Spiking):
            return self._neurons(number, node)
        if kind == "current":
            return None  # a part of the layer whose neurons read it
        if isinstance(operation, Pool) and kind == "spikes":
            self._check_pool(operation, node)
            covers = operation.kernel == tuple(node.seen[0][-2:]) and operation.padding == (0, 0)
            return SpikePool(number=number, source=node.inputs[0], pool=operation, covers_map=covers)
        if isinstance(operation, Add) and kind == "spikes":
            if set(operation.factors) != {1.0} or len(node.inputs) != 2:
                raise Refused("spikes that are subtracted or scaled are no whole numbers", "add them as they are")
            if len({self._shape(source) for source in node.inputs}) > 1:
                raise Refused("signals of other shapes are added as if they had one")
            if len({divisor_of(self.description.layers, source) for source in node.inputs}) > 1:
                raise Refused("spikes are added to averages of others", "add them first, and average the sum")
            return SpikeSum(number=number, sources=(node.inputs[0], node.inputs[1]))
        raise Refused("it lies between neurons, and no layer has it")

    def _neurons(self, number: int, node: Node) -> LayerOfNeurons:
        weighted, identities = [], []
        for term in self._terms(node.inputs[0]):
            if self._kinds[term] == "spikes":
                identities.append(term)
            else:
                weighted.append(self._weighted(term))
        for identity in identities:
            if self._shape(identity) != _image(node.seen[0]):
                raise Refused(_seen_otherwise(self._shape(identity), node.seen[0]))
        if not weighted:
            raise Refused("neurons read spikes, and no weights lie between them")
        if len(weighted) + len(identities) > 2:
            raise Refused("more than two currents are added before neurons")
        weighted.sort(key=lambda one: (one.pool is None, -_kernel_area(one.operation)))
        if any(one.pool is not None or one.flattens or isinstance(one.operation, Linear) for one in weighted[1:]):
            raise Refused("a shortcut of pooled currents, or of a linear layer, has no form")
        name = self.description.layers[weighted[0].number].name
        layer = LayerOfNeurons(
            number=number,
            name=_first_name(self.description, weighted[0], name),
            neurons=number,
            weighted=weighted[0],
            shortcuts=tuple(weighted[1:]),
            identities=tuple(identities),
        )
        return self._with_pool(layer)

    def _with_pool(self, layer: LayerOfNeurons) -> LayerOfNeurons:
        """Let a layer pool its own spikes, where nothing else reads them and it pools nothing yet."""
        readers = self.description.readers(layer.neurons)
        if layer.weighted.pool is not None or len(readers) != 1:
            return layer
        node = self.description.layers[readers[0]]
        if not isinstance(node.operation, Pool) or node.operation.kernel == tuple(node.seen[0][-2:]):
            return layer
        self._check_pool(node.operation, node)
        self._pooled[readers[0]] = layer.neurons
        return LayerOfNeurons(
            number=readers[0],
            name=layer.name,
            neurons=layer.neurons,
            weighted=layer.weighted,
            shortcuts=layer.shortcuts,
            identities=layer.identities,
            pool=node.operation,
        )

    def _terms(self, number: int) -> list[int]:
        node = self.description.layers[number]
        if not isinstance(node.operation, Add) or self._kinds[number] == "spikes":
            return [number]
        if set(node.operation.factors) != {1.0}:
            raise Refused("currents that are subtracted or scaled have no form")
        return [term for source in node.inputs for term in self._terms(source)]

    def _shape(self, number: int) -> tuple[int, int, int]:
        return _image(self.description.layers[number].shape)

    def _check_pool(self, pool: Pool, node: Node) -> None:
        if _image(node.seen[0]) != self._shape(node.inputs[0]):
            raise Refused(_seen_otherwise(self._shape(node.inputs[0]), node.seen[0]))
        _check_pool(pool, node)

    def _weighted(self, number: int) -> Weighted:
        node = self.description.layers[number]
        pool = None
        if isinstance(node.operation, Pool):
            pool = node.operation
            self._check_pool(pool, node)
            node = self.description.layers[node.inputs[0]]
        if not isinstance(node.operation, (Convolution, Linear)):
            raise Refused(f"its current is made by {words_of(node.operation)} of currents, and no layer does that")
        source = node.inputs[0]
        if self._kinds[source] != "spikes":
            raise Refused("weights read a current and not spikes", "put neurons between two layers of weights")
        _check_weights(node.operation)
        seen, shape = _image(node.seen[0]), self._shape(source)
        if seen not in (shape, (math.prod(shape), 1, 1)):
            raise Refused(_seen_otherwise(shape, seen))
        flattens = isinstance(node.operation, Linear) or seen != shape
        if flattens and isinstance(node.operation, Convolution) and not _is_linear(node.operation):
            raise Refused(_seen_otherwise(shape, seen))
        before = self.description.layers[source].shape
        return Weighted(
            operation=node.operation, source=source, map=before, flattens=flattens, pool=pool, number=number
        )


def _kinds_of(layers: Mapping[int, Node]) -> dict[int, Kind]:
    """Return which signals are spikes, whole numbers and their averages, and which are currents."""
    kinds: dict[int, Kind] = {}
    for number, node in layers.items():
        given = {kinds[source] for source in node.inputs}
        if isinstance(node.operation, (Input, Spiking)):
            kinds[number] = "spikes"
        elif isinstance(node.operation, (Convolution, Linear)):
            kinds[number] = "current" if given <= {"spikes", "current"} else "other"
        elif isinstance(node.operation, (Pool, Add)) and given == {"spikes"}:
            kinds[number] = "spikes"
        elif isinstance(node.operation, (Pool, Add)) and given <= {"spikes", "current"}:
            kinds[number] = "current"
        else:
            kinds[number] = "other"
    return kinds


def _is_linear(operation: Convolution) -> bool:
    return operation.weight.shape[2:] == (1, 1) and operation.sides == (0, 0, 0, 0) and operation.groups == 1


def _seen_otherwise(shape: tuple[int, ...], seen: tuple[int, ...]) -> str:
    return f"it sees features of shape {shape} as {seen}, which no layer does"


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the shape of features as [channels, height, width]."""
    channels, *sizes = shape
    height, width = (1, 1, *sizes)[-2:]
    return channels, height, width


def _kernel_area(operation: Convolution | Linear) -> int:
    return math.prod(operation.weight.shape[2:]) if isinstance(operation, Convolution) else 1


def _first_name(description: Description, weighted: Weighted, name: str) -> str:
    """Return the name of the weights: that of the pool behind them may be another."""
    node = description.layers[weighted.number]
    return description.layers[node.inputs[0]].name if weighted.pool is not None else name


def _check_weights(operation: Convolution | Linear) -> None:
    if isinstance(operation, Linear):
        return
    if operation.dilation != (1, 1):
        raise Refused("a dilated convolution has no form", "give it dilation=1")
    if operation.bias is not None and operation.bias.dim() != 1:
        raise Refused(
            "its bias differs from pixel to pixel: a batch norm with an offset lies before a padded convolution",
            "put the batch norm behind the convolution, or pad with its neutral value",
        )


def _check_pool(pool: Pool, node: Node) -> None:
    if pool.least is not None:
        raise Refused(
            "a batch norm with a negative slope lies behind a max-pool: it makes largest values the smallest",
            "put the batch norm before the max-pool",
        )
    if pool.kind == "average" and pool.padding != (0, 0) and not pool.counts_padding:
        raise Refused("an average pool that leaves out its padding has no form", "give it count_include_pad=True")
    if any(2 * padding > kernel for padding, kernel in zip(pool.padding, pool.kernel, strict=True)):
        raise Refused("the padding of a pool is more than half of its window")
    sizes = zip(node.seen[0][-2:], pool.kernel, pool.stride, pool.padding, strict=True)
    rounded_down = tuple((size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in sizes)
    if rounded_down != tuple(node.shape[-2:]):
        raise Refused("a pool that rounds up (ceil_mode) has no form", "give it ceil_mode=False")
