"""Functions that pool pixels, votes and time steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from spquant_search.importer.axes import Axis, Dimensions, Kind, feature_dimensions, is_time, lead_of
from spquant_search.importer.calls import Call
from spquant_search.importer.functions.arithmetic import scaled
from spquant_search.importer.functions.sizes import image_dimensions, image_shape, images, pair
from spquant_search.importer.functions.time import over_time
from spquant_search.importer.graph import Followed
from spquant_search.importer.operations import Pool, PoolKind, Repeat, Votes
from spquant_search.importer.refusals import Refused

Reduction = Literal["sum", "mean", "max"]


def average_pool(  # noqa: PLR0913 - what torch gives it
    call: Call,
    x: Followed,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Followed:
    if divisor_override:
        raise Refused("divisor_override has no form")
    if _are_votes(x):
        return _votes_of_windows(call, x, kernel_size, stride, padding)
    return _pooled(call, x, "average", kernel_size, stride, padding, ceil_mode, count_include_pad)


def max_pool(  # noqa: PLR0913 - what torch gives it
    call: Call,
    x: Followed,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Followed:
    if pair(x, dilation, in_height=1) != (1, 1) or return_indices:
        raise Refused("dilation and indices of a max-pool have no form")
    return _pooled(call, x, "max", kernel_size, stride, padding, ceil_mode)


def _pooled(  # noqa: PLR0913 - what torch gives it
    call: Call,
    x: Followed,
    kind: PoolKind,
    kernel: Any,
    stride: Any,
    padding: Any,
    rounds_up: bool,
    counts: bool = True,
) -> Followed:
    size = pair(x, kernel, in_height=1)
    operation = Pool(
        kind,
        size,
        pair(x, stride, in_height=1) if stride not in (None, (), []) else size,
        pair(x, padding, in_height=0),
        rounds_up,
        counts,
    )
    shape = image_shape(x, call.output.shape)
    return call.emit(operation, x, seen=[images(x)], shape=shape, dimensions=image_dimensions(x, shape))


def _are_votes(x: Followed) -> bool:
    """Tell whether a function of images is given vectors, with an axis of one channel put in front of them."""
    behind = x.dimensions[lead_of(x.dimensions) :]
    return len(behind) == 2 and not behind[0]


def _votes_of_windows(call: Call, x: Followed, kernel: Any, stride: Any, padding: Any) -> Followed:
    size, step = (pair(x, value, in_height=1)[1] for value in (kernel, stride or kernel))
    if size != step or pair(x, padding, in_height=0)[1]:
        raise Refused("votes that overlap")
    lead = lead_of(x.dimensions)
    without = replace(x, dimensions=(*x.dimensions[:lead], *x.dimensions[lead + 1 :]))
    voted = _voted(call, without, size)
    return replace(voted, dimensions=(*voted.dimensions[:lead], (), *voted.dimensions[lead:]))


def _voted(call: Call, x: Followed, size: int) -> Followed:
    """Follow the average of ``size`` neighbours of a vector."""
    return call.emit(Votes(size), x, shape=[x.features[0] // size])


def adaptive_average_pool(call: Call, x: Followed, output_size: Any) -> Followed:
    return _adapted(call, x, "average")


def adaptive_max_pool(call: Call, x: Followed, output_size: Any, return_indices: bool = False) -> Followed:
    if return_indices:
        raise Refused("indices of a max-pool have no form")
    return _adapted(call, x, "max")


def _adapted(call: Call, x: Followed, kind: PoolKind) -> Followed:
    _, height, width = images(x)
    shape = image_shape(x, call.output.shape)
    rows, columns = shape[1:]
    if (rows, columns) == (height, width):
        return x
    if rows % height == 0 and columns % width == 0:
        operation: Repeat | Pool = Repeat((rows // height, columns // width))
    elif height % rows == 0 and width % columns == 0:
        window = (height // rows, width // columns)
        operation = Pool(kind, window, window)
    else:
        raise Refused(
            f"pooling of {height}x{width} to {rows}x{columns} has uneven windows", "choose a size that divides"
        )
    return call.emit(operation, x, seen=[images(x)], shape=shape, dimensions=image_dimensions(x, shape))


def mean(call: Call, x: Followed, dim: Any = None, keepdim: bool = False, **_named: Any) -> Followed:
    return _reduced(call, x, dim, keepdim, "mean")


def sum_of(call: Call, x: Followed, dim: Any = None, keepdim: bool = False, **_named: Any) -> Followed:
    return _reduced(call, x, dim, keepdim, "sum")


def amax(call: Call, x: Followed, dim: Any = (), keepdim: bool = False, **_named: Any) -> Followed:
    return _reduced(call, x, dim, keepdim, "max")


def largest(call: Call, x: Followed, dim: Any = None, keepdim: bool = False, **_named: Any) -> list[Followed | None]:
    """Follow values and places of the largest, as torch.max returns them."""
    if not isinstance(dim, int):
        raise Refused("a maximum of two signals, or of all values, has no form")
    return [_reduced(call, x, dim, keepdim, "max"), None]


def _reduced(call: Call, x: Followed, dim: Any, keepdim: bool, kind: Reduction) -> Followed:
    given = [dim] if isinstance(dim, int) else list(dim) if dim else list(range(len(x.dimensions)))
    places = sorted(place % len(x.dimensions) for place in given)
    times = [place for place in places if is_time(x.dimensions[place])]
    if times and places != times:  # time and pixels at once
        x = _reduced(call, x, [place for place in places if place not in times], True, kind)
        left = _reduced(call, x, times, True, kind)
        return left if keepdim else _without(left, places)
    if times:
        return over_time(call, x, kind, keepdim=keepdim)
    lead = lead_of(x.dimensions)
    if kind != "max" and places == [len(x.dimensions) - 1] and _is_inner_part(x):
        return _votes_of_part(call, x, kind, keepdim)
    if places == list(range(lead + 1, len(x.dimensions))) and len(places) in (1, 2):
        made = _over_pixels(call, x, kind)
        return made if keepdim else _without(made, places)
    raise Refused(f"a {kind} over these axes has no form", "sums over time, over all pixels and over votes have one")


def _without(x: Followed, places: Sequence[int]) -> Followed:
    return replace(x, dimensions=tuple(one for place, one in enumerate(x.dimensions) if place not in places))


def _over_pixels(call: Call, x: Followed, kind: Reduction) -> Followed:
    """Follow what all pixels are pooled to, [channels, 1, 1], in as many dimensions as they had."""
    channels, height, width = images(x)
    shape, lead = (channels, 1, 1), lead_of(x.dimensions)
    dimensions: Dimensions = x.dimensions[:lead] + feature_dimensions(shape)[: len(x.features)]
    pool = Pool("max" if kind == "max" else "average", (height, width), (height, width))
    made = call.emit(pool, x, seen=[images(x)], shape=shape, dimensions=dimensions)
    return scaled(call, made, float(height * width), 0.0) if kind == "sum" else made


def _is_inner_part(x: Followed) -> bool:
    """Tell whether the last dimension is the inner part of a vector that was split in two."""
    last = x.dimensions[-1]
    before = x.dimensions[-2]
    return (
        len(last) == len(before) == 1
        and last[0].kind == before[0].kind == Kind.FEATURE
        and ((last[0].place, last[0].stride * last[0].size) == (before[0].place, before[0].stride))
    )


def _votes_of_part(call: Call, x: Followed, kind: Reduction, keepdim: bool) -> Followed:
    size, classes = x.dimensions[-1][0].size, x.dimensions[-2][0].size
    whole = (Axis(Kind.FEATURE, size * classes, x.dimensions[-1][0].place, x.dimensions[-1][0].stride),)
    voted = _voted(call, replace(x, dimensions=(*x.dimensions[:-2], whole)), size)
    voted = voted if kind == "mean" else scaled(call, voted, float(size), 0.0)
    return replace(voted, dimensions=(*voted.dimensions, ())) if keepdim else voted
