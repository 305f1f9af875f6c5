"""Functions that move values and compute none: what is followed gets other dimensions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from spquant_search.importer.axes import Dimension, Dimensions, is_time, regrouped, size_of
from spquant_search.importer.calls import Call
from spquant_search.importer.graph import Followed
from spquant_search.importer.refusals import Refused


def unchanged(call: Call, x: Followed, *_given: Any, **_named: Any) -> Followed:
    """Follow a copy, a cast or a detached tensor."""
    return x


def constant(call: Call, *_given: Any, **_named: Any) -> None:
    """Follow nothing: only the shape of the input was used."""


def flatten(call: Call, x: Followed, start_dim: int = 0, end_dim: int = -1) -> Followed:
    first, last = start_dim % len(x.dimensions), end_dim % len(x.dimensions)
    joined: Dimension = sum(x.dimensions[first : last + 1], ())
    return replace(x, dimensions=(*x.dimensions[:first], joined, *x.dimensions[last + 1 :]))


def reshape(call: Call, x: Followed, *_shape: Any, **_named: Any) -> Followed:
    return replace(x, dimensions=regrouped(x.dimensions, call.output.shape))


def unsqueeze(call: Call, x: Followed, dim: int) -> Followed:
    place = dim % (len(x.dimensions) + 1)
    return replace(x, dimensions=(*x.dimensions[:place], (), *x.dimensions[place:]))


def squeeze(call: Call, x: Followed, dim: int | Sequence[int] | None = None) -> Followed:
    every = range(len(x.dimensions))
    given = every if dim is None else [dim] if isinstance(dim, int) else dim
    gone = {place % len(x.dimensions) for place in given if size_of(x.dimensions[place]) == 1}
    return replace(x, dimensions=tuple(x.dimensions[place] for place in every if place not in gone))


def permute(call: Call, x: Followed, *order: Any, dims: Sequence[int] | None = None) -> Followed:
    places = dims if dims is not None else order[0] if isinstance(order[0], (tuple, list)) else order
    return replace(x, dimensions=tuple(x.dimensions[place] for place in places))


def transpose(call: Call, x: Followed, dim0: int, dim1: int) -> Followed:
    dimensions = list(x.dimensions)
    dimensions[dim0], dimensions[dim1] = dimensions[dim1], dimensions[dim0]
    return replace(x, dimensions=tuple(dimensions))


def movedim(call: Call, x: Followed, source: int, destination: int) -> Followed:
    dimensions = list(x.dimensions)
    dimensions.insert(destination % len(dimensions), dimensions.pop(source))
    return replace(x, dimensions=tuple(dimensions))


def reversed_dimensions(call: Call, x: Followed) -> Followed:
    """Follow ``x.T``."""
    return replace(x, dimensions=x.dimensions[::-1])


def select(call: Call, x: Followed, dim: int, index: int) -> Followed:
    place = dim % len(x.dimensions)
    left = (*x.dimensions[:place], *x.dimensions[place + 1 :])
    at = x.dimensions[place]
    if not at:
        return replace(x, dimensions=left)
    if not is_time(at):
        raise Refused("picks some samples or features out of a signal")
    return replace(x, time=index % at[0].size, dimensions=left)


def getitem(call: Call, x: Followed, index: Any) -> Followed:
    place = 0
    for one in _indices(index, len(x.dimensions)):
        if one is None:
            x = unsqueeze(call, x, place)
            place += 1
        elif isinstance(one, int) and not isinstance(one, bool):
            x = select(call, x, place, one)
        elif isinstance(one, slice) and _is_whole(one, size_of(x.dimensions[place])):
            place += 1
        else:
            raise Refused("takes a part of a signal", "single time steps can be taken, x[t], and nothing else")
    return x


def _indices(index: Any, dimensions: int) -> list[Any]:
    """Return an index for each dimension, with slices in the place of an ellipsis."""
    given = list(index) if isinstance(index, tuple) else [index]
    places = [number for number, one in enumerate(given) if one is Ellipsis]
    if places:
        missing = dimensions - sum(one is not None for one in given) + 1
        given[places[0] : places[0] + 1] = [slice(None)] * missing
    return given


def _is_whole(part: slice, size: int) -> bool:
    return part.indices(size) == (0, size, 1)


def setitem(call: Call, target: Any, index: Any, value: Any) -> Followed:
    """Follow a tensor that was made for all steps, and into which they are written one after the other."""
    if not isinstance(value, Followed) or not isinstance(value.time, int):
        raise Refused("writes something else than the signal of one time step into a tensor")
    shape, places = call.output.shape, _indices(index, call.output.dim())
    time = [place for place, one in enumerate(places) if isinstance(one, int) and not isinstance(one, bool)]
    whole = all(
        isinstance(one, slice) and _is_whole(one, shape[place]) for place, one in enumerate(places) if place not in time
    )
    if len(time) != 1 or not whole:
        raise Refused("writes into a part of a tensor", "write time step t to out[t], or stack a list of all steps")
    steps, written = shape[time[0]], (target.filled or 0) if isinstance(target, Followed) else 0
    expected = replace(call.over_all_steps(value, time[0], steps), filled=written)
    in_turn = places[time[0]] % steps == value.time == written
    if not in_turn or (isinstance(target, Followed) and target != expected):
        raise Refused("what is written into it is not the same signal of every time step, in order")
    return replace(expected, filled=written + 1 if written + 1 < steps else None)


def unbind(call: Call, x: Followed, dim: int = 0) -> list[Followed | None]:
    return [select(call, x, dim, number) for number in range(size_of(x.dimensions[dim]))]


def stack(call: Call, tensors: Sequence[Any], dim: int = 0) -> Followed:
    return _joined(call, tensors, dim % call.output.dim())


def cat(call: Call, tensors: Sequence[Any], dim: int = 0) -> Followed:
    """Follow time steps that are joined along an axis of one entry each."""
    place = dim % call.output.dim()
    if not all(isinstance(one, Followed) and not one.dimensions[place] for one in tensors):
        raise Refused("a concatenation of channels or samples has no form")
    without = [replace(one, dimensions=(*one.dimensions[:place], *one.dimensions[place + 1 :])) for one in tensors]
    return _joined(call, without, place)


def _joined(call: Call, tensors: Sequence[Any], place: int) -> Followed:
    first = tensors[0]
    for one in tensors:
        if not isinstance(one, Followed) or (one.node, one.dimensions) != (first.node, first.dimensions):
            raise Refused("what is stacked is not the same signal of every time step")
    times = [one.time for one in tensors]
    if times != list(range(len(times))) and set(times) != {"still"}:
        raise Refused(f"stacks the time steps {', '.join(map(str, times))}", "stack all of them, in order")
    call.graph.recorded[first.node].times.add("all")
    return call.over_all_steps(first, place, len(tensors))


def repeat(call: Call, x: Followed, *_sizes: Any, **_named: Any) -> Followed:
    """Follow a still image that is repeated for every time step, by repeat or expand."""
    shape = tuple(call.output.shape)
    dimensions: Dimensions = ((),) * (len(shape) - len(x.dimensions)) + x.dimensions
    grown = [place for place, size in enumerate(shape) if size != size_of(dimensions[place])]
    if not grown:
        return replace(x, dimensions=dimensions)
    if len(grown) != 1 or dimensions[grown[0]] or x.time != "still":
        raise Refused("repeats something else than a still input over time")
    place = grown[0]
    without = replace(x, dimensions=(*dimensions[:place], *dimensions[place + 1 :]))
    return call.over_all_steps(without, place, shape[place])


def repeat_interleave(call: Call, x: Followed, repeats: int, dim: int | None = None, **_named: Any) -> Followed:
    if dim is None:
        raise Refused("repeats single values")
    return repeat(call, x)
