"""Sums and means over time steps, at once or step by step."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from spquant_search.importer.axes import Dimensions, is_time
from spquant_search.importer.calls import Call
from spquant_search.importer.graph import Followed
from spquant_search.importer.operations import OverTime


def over_time(call: Call, x: Followed, kind: Literal["sum", "mean", "max"], *, keepdim: bool) -> Followed:
    """Follow a sum, mean or maximum of all time steps, time being an axis of its own."""
    at = next(place for place, dimension in enumerate(x.dimensions) if is_time(dimension))
    steps = frozenset(range(x.dimensions[at][0].size)) if kind == "sum" else frozenset()
    kept: Dimensions = ((),) if keepdim else ()
    without = (*x.dimensions[:at], *kept, *x.dimensions[at + 1 :])
    return _made(call, OverTime(kind, steps), replace(x, dimensions=without))


def running_sum(call: Call, a: Followed, b: Followed) -> Followed | None:
    """Follow one more step of a sum over time, or two parts of it; None where it is another sum."""
    (node, first), (other, second) = _steps_of(call, a), _steps_of(call, b)
    if node is None or node != other or first & second or a.dimensions != b.dimensions:
        return None
    return _made(call, OverTime("sum", first | second), replace(a, node=node))


def _steps_of(call: Call, x: Followed) -> tuple[int | None, frozenset[int]]:
    """Return whose time steps a tensor is the sum of, and which."""
    if isinstance(x.time, int):
        return x.node, frozenset([x.time])
    node = call.graph.nodes[x.node]
    if isinstance(node.operation, OverTime) and node.operation.kind == "sum" and x.time == "still":
        return node.inputs[0], node.operation.steps
    return None, frozenset()


def _made(call: Call, operation: OverTime, x: Followed) -> Followed:
    """Follow what has no time any more."""
    made = call.emit(operation, x, shape=x.features)
    return replace(made, time="still", dimensions=x.dimensions)
