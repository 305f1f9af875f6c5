"""Read a NIR graph: what it computes, as the same description that a recorded network has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from spquant_search.errors import UserError, first_of
from spquant_search.importer.description import Description
from spquant_search.importer.folding import folded
from spquant_search.importer.graph import Graph, Node
from spquant_search.importer.nir_edges import FlatGraph, Order, flat_graph, ordered
from spquant_search.importer.nir_file import kind_of, opened_graph
from spquant_search.importer.nir_nodes import RESETS, NirReset, Shape, Stage, Untold, check_kind, made_of
from spquant_search.importer.operations import Add, Input
from spquant_search.importer.proof import check, prove
from spquant_search.importer.reading import FIRST, SECOND, ReadNetwork, notes_of, shuffled
from spquant_search.importer.recording import Recording
from spquant_search.importer.refusals import NotImportable, Reason, Refused

Reads = Literal["steps", "last"]


class Signal(NamedTuple):
    """What a node gives: a node of the graph, None behind what is refused, and its features, where they are known."""

    node: int | None
    features: Shape | None


def read_nir(
    graph: Any,
    example: Tensor,
    *,
    dt: float = 1e-4,
    reset: NirReset = "zero",
    strict: bool = True,
    reads: Reads = "steps",
) -> ReadNetwork:
    """Read what a NIR graph computes: a ``nir.NIRGraph``, or the path of a file with one.

    The example is [time, samples, *features], the features as the graph's Input has them. A graph does not say how
    long a time step is, ``dt`` in the unit of its time constants; whether a spike sets the potential to v_reset
    (``reset`` "zero") or subtracts the threshold from it, in the same step or in the next ("subtract",
    "delayed-subtract"); whether a potential that is equal to the threshold spikes (``strict`` False); and which steps
    of its output count, all or the last one (``reads``).

    Raises:
        NotImportable: a node has no form; all reasons are in it.
        UserError: a file, an argument or the package nir is not as it should be.
    """
    untold = _untold(dt, reset, strict, reads)
    flat, reasons = flat_graph(opened_graph(graph))
    order = ordered(flat)
    _check_example(example)
    first = example.detach().cpu().double()
    recordings = {}
    for name, values in {FIRST: first, SECOND: shuffled(first)}.items():
        built = _Builder(flat, untold)
        output = built.build(order, values.shape[2:])
        if reasons or built.reasons or output is None:
            raise NotImportable([*reasons, *built.reasons])
        recordings[name] = _recorded(built.graph, output, values, reads)
    description = folded(recordings[FIRST])
    proofs = {name: prove(recording, description) for name, recording in recordings.items()}
    check(proofs)
    notes = (_told(untold, reset), *_unread(flat, order), *notes_of(recordings[FIRST], description, proofs))
    return ReadNetwork(description=description, recordings=recordings, proofs=proofs, notes=notes)


def _untold(dt: float, reset: str, strict: bool, reads: str) -> Untold:
    if not isinstance(dt, (int, float)) or not 0 < dt < math.inf:
        raise UserError(f"dt is {dt}: it is a number above 0, the length of a time step in the unit of the graph's tau")
    if reset not in RESETS:
        raise UserError(f"reset is {reset!r}: it is one of {', '.join(map(repr, RESETS))}")
    if reads not in ("steps", "last"):
        raise UserError(f"reads is {reads!r}: it is 'steps', all of the output's time steps, or 'last'")
    return Untold(dt=float(dt), reset=RESETS[reset], strict=bool(strict))


def _told(untold: Untold, reset: str) -> str:
    spikes = "above" if untold.strict else "at or above"
    return (
        f"taken as given, as a NIR graph does not say it: time steps of dt={untold.dt:g} by Euler's method, "
        f"reset={reset!r}, spikes {spikes} the threshold (strict={untold.strict})"
    )


def _unread(flat: FlatGraph, order: Order) -> list[str]:
    unread = [name for name in flat.nodes if name not in order.names]
    return [f"not read, as the output does not depend on it: {first_of(unread, 10)}"] if unread else []


def _check_example(example: Tensor) -> None:
    why = ""
    if not isinstance(example, Tensor) or example.is_complex() or example.is_meta:
        why = f"it must be a tensor of numbers; it is {type(example).__name__}"
        if isinstance(example, Tensor):
            why += f" of {example.dtype} on {example.device}"
    elif example.dim() < 3 or min(example.shape) < 1:
        why = f"{list(example.shape)} is no [time, samples, *features]"
    if why:
        remedy = "give one of [time, samples, *features], the features as the graph's Input has them"
        raise NotImportable([Reason(module="", what="example", why=why, remedy=remedy)])


class _Builder:
    """Makes operations of a graph's nodes, and goes on behind what is refused, so that all reasons come together."""

    def __init__(self, flat: FlatGraph, untold: Untold) -> None:
        self.graph = Graph()
        self.reasons: list[Reason] = []
        self._flat, self._untold = flat, untold
        self._signals: dict[str, Signal] = {}

    def build(self, order: Order, features: Sequence[int]) -> int | None:
        """Make everything that the output depends on; return the number of its node, None where it has none."""
        self.reasons += order.reasons
        for name in order.names:
            try:
                self._signals[name] = self._signal(name, order, tuple(features))
            except Refused as refused:
                what = kind_of(self._flat.nodes[name]) or type(self._flat.nodes[name]).__name__
                self.reasons.append(Reason(module=name, what=what, why=refused.why, remedy=refused.remedy))
                self._signals[name] = Signal(None, _declared(self._flat.nodes[name], "output_type"))
        output = self._signals.get(self._flat.output or "")
        return None if output is None else output.node

    def _signal(self, name: str, order: Order, example: Shape) -> Signal:
        node = self._flat.nodes[name]
        check_kind(kind_of(node), node)
        sources = [self._signals.get(source, Signal(None, None)) for source in self._flat.sources(name)]
        if name == self._flat.input:
            number = self.graph.add(Node(operation=Input(), inputs=(), seen=(), shape=example, name="input"))
            source = Signal(number, example)
        elif not sources and kind_of(node) == "Input":
            return Signal(None, None)  # one too many, which is said already
        elif not sources:
            raise Refused("nothing goes into it", "add an edge to it, or make it an Input")
        else:
            source = self._sum(name, sources)
        if source.features is None or name in order.cut:
            source = Signal(None, _declared(node, "input_type"))
        if source.features is None:
            return source
        made = made_of(kind_of(node), node, source.features, self._untold)
        if source.node is None:
            return Signal(None, made.features)
        return Signal(self._added(name, source.node, made.stages), made.features)

    def _sum(self, name: str, sources: list[Signal]) -> Signal:
        """Add the signals of all edges that meet."""
        total = sources[0]
        for source in sources[1:]:
            if source.features is None or total.features is None:
                total = Signal(None, None)
                continue
            if source.features != total.features:
                raise Refused(f"adds features of shape {list(total.features)} and {list(source.features)}")
            shape, numbers = source.features, [one for one in (total.node, source.node) if one is not None]
            add = Node(operation=Add((1.0, 1.0)), inputs=tuple(numbers), seen=(shape, shape), shape=shape, name=name)
            total = Signal(self.graph.add(add) if len(numbers) == 2 else None, shape)
        return total

    def _added(self, name: str, number: int, stages: Sequence[Stage]) -> int:
        for stage in stages:
            node = Node(operation=stage.operation, inputs=(number,), seen=(stage.seen,), shape=stage.makes, name=name)
            number = self.graph.add(node)
        return number


def _declared(node: Any, of: str) -> Shape | None:
    """Return the shape of features that a node says of itself, where it does."""
    shape = next(iter((getattr(node, of, None) or {}).values()), None)
    try:
        return None if shape is None else tuple(int(size) for size in shape)
    except (TypeError, ValueError):
        return None


def _recorded(graph: Graph, output: int, example: Tensor, reads: Reads) -> Recording:
    """Return what a graph does on an example, in double precision."""
    layers, steps = dict(enumerate(graph.nodes)), len(example)
    with torch.no_grad():
        ran = Description(layers=layers, output=output, steps=steps, reads=reads).run(example)
    graph.recorded[0].values["all"] = example
    for number, fired in ran.fired.items():
        graph.recorded[number].values["all"] = fired.spikes
        graph.recorded[number].membranes["all"] = fired.membranes
    return Recording(
        graph=graph,
        output=output,
        steps=steps,
        reads=reads,
        logits=ran.logits,
        time="all" if reads == "steps" else steps - 1,
        read_out=(),
    )
