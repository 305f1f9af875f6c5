"""The edges of a NIR graph: graphs within it taken apart, and the order in which nodes run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any

from spquant_search.errors import first_of
from spquant_search.importer.nir_file import kind_of
from spquant_search.importer.refusals import Reason


@dataclass(slots=True)
class FlatGraph:
    """Nodes by name, those of inner graphs behind the name of these, and the edges between them."""

    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    input: str | None = None
    output: str | None = None

    def sources(self, name: str) -> list[str]:
        """Return the nodes that one reads."""
        return [source for source, reader in self.edges if reader == name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """The nodes that the output depends on, each behind those that it reads; ``cut`` are those in circles."""

    names: tuple[str, ...]
    cut: frozenset[str]
    reasons: tuple[Reason, ...]


def flat_graph(graph: Any) -> tuple[FlatGraph, list[Reason]]:
    """Return a graph without graphs in it, and what is wrong with its edges, inputs and outputs."""
    return _flat(graph, "", ())


def _flat(graph: Any, prefix: str, within: tuple[int, ...]) -> tuple[FlatGraph, list[Reason]]:
    flat, reasons, inner = FlatGraph(), [], {}
    for name, node in graph.nodes.items():
        full = f"{prefix}{name}"
        if kind_of(node) != "NIRGraph":
            flat.nodes[full] = node
        elif id(node) in (*within, id(graph)):
            reasons.append(Reason(module=full, what="NIRGraph", why="it contains itself"))
            flat.nodes[full] = None
        else:
            inner[name], found = _flat(node, f"{full}.", (*within, id(graph)))
            reasons += found
            flat.nodes.update(inner[name].nodes)
            flat.edges += inner[name].edges
    flat.input, flat.output = (_only(graph, prefix, kind, reasons) for kind in ("Input", "Output"))
    for source, reader in _pairs(graph.edges, prefix, reasons):
        if source not in graph.nodes or reader not in graph.nodes:
            missing = source if source not in graph.nodes else reader
            why = f"of {source!r} and {reader!r}: there is no node {missing!r}"
            reasons.append(Reason(module=prefix[:-1], what="edge", why=why))
            continue
        start = inner[source].output if source in inner else f"{prefix}{source}"
        end = inner[reader].input if reader in inner else f"{prefix}{reader}"
        if start is None or end is None:
            continue  # to an inner graph without input or output, which is said already
        new = (start, end)
        if new in flat.edges:
            reasons.append(
                Reason(module=prefix[:-1], what="edge", why=f"of {source!r} and {reader!r}: it stands twice")
            )
        flat.edges.append(new)
    return flat, reasons


def _pairs(edges: Any, prefix: str, reasons: list[Reason]) -> Iterator[tuple[Any, Any]]:
    for edge in edges:
        if isinstance(edge, (tuple, list)) and len(edge) == 2:
            yield edge[0], edge[1]
        else:
            reasons.append(Reason(module=prefix[:-1], what="edge", why=f"{edge!r} is no pair of names"))


def _only(graph: Any, prefix: str, kind: str, reasons: list[Reason]) -> str | None:
    names = [name for name, node in graph.nodes.items() if kind_of(node) == kind]
    if len(names) != 1:
        why = f"a graph with one has a form; it has {len(names)}" + (f": {first_of(names, 5)}" if names else "")
        reasons.append(Reason(module=prefix[:-1], what=kind, why=why))
    return f"{prefix}{names[0]}" if names else None


def ordered(flat: FlatGraph) -> Order:
    """Return the nodes that the output depends on in the order in which they run, and the circles among them."""
    sources = _reached(flat)
    reasons: list[Reason] = []
    cut: set[str] = set()
    while True:
        try:
            names = tuple(TopologicalSorter(sources).static_order())
            return Order(names=names, cut=frozenset(cut), reasons=tuple(reasons))
        except CycleError as error:
            circle: Sequence[str] = error.args[1]
            why = f"{' -> '.join(circle)}: what comes out goes in again in the next step"
            reasons.append(Reason(module=circle[0], what="recurrence", why=why))
            cut.add(circle[1])
            sources[circle[1]] = [one for one in sources[circle[1]] if one != circle[0]]


def _reached(flat: FlatGraph) -> dict[str, list[str]]:
    """Return what the output depends on, with what each reads."""
    reached: dict[str, list[str]] = {}
    left = list(flat.nodes) if flat.output is None else [flat.output]
    while left:
        name = left.pop()
        if name not in reached:
            reached[name] = flat.sources(name)
            left += reached[name]
    return {name: reached[name] for name in flat.nodes if name in reached}
