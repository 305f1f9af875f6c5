"""Functions that compute with signals: sums, factors, convolutions, products with weights, batch norm."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from spquant_search.importer.axes import Dimensions, feature_dimensions, in_order, lead_of, size_of
from spquant_search.importer.calls import Call
from spquant_search.importer.functions.sizes import image_dimensions, image_shape, images, pair
from spquant_search.importer.functions.time import running_sum
from spquant_search.importer.graph import Followed
from spquant_search.importer.operations import Add, Convolution, Linear, Pad, Scale, Sides, Softmax
from spquant_search.importer.refusals import Refused

Constant = float | Tensor


def scaled(call: Call, x: Followed, slope: Constant, offset: Constant) -> Followed:
    """Follow slope * x + offset, each a number or one value a channel."""
    behind = _has_features_behind(x.dimensions)
    shape = x.features if behind else call.graph.nodes[x.node].shape
    values = [_by_channel(value, x.dimensions, shape) for value in (slope, offset)]
    if bool((values[0] == 1).all()) and bool((values[1] == 0).all()):
        return x
    dimensions = x.dimensions[: lead_of(x.dimensions)] + feature_dimensions(shape) if behind else x.dimensions
    return call.emit(Scale(values[0], values[1]), x, seen=[shape], shape=shape, dimensions=dimensions)


def _has_features_behind(dimensions: Dimensions) -> bool:
    try:
        lead_of(dimensions)
    except Refused:
        return False
    return True


def _by_channel(value: Constant, dimensions: Dimensions, shape: tuple[int, ...]) -> Tensor:
    """Return a constant as one number or one a channel, in float64.

    Raises:
        Refused: it differs between samples, time steps or pixels.
    """
    given = torch.as_tensor(value, dtype=torch.float64).detach().cpu()
    if bool((given == given.flatten()[0]).all()):
        return given.flatten()[:1].clone()
    whole = in_order(given.expand([size_of(dimension) for dimension in dimensions]), dimensions, shape)
    by_channel = whole.reshape(-1, shape[0], math.prod(shape[1:]))
    first = by_channel[0, :, 0]
    if bool((by_channel != first[:, None]).any()):
        raise Refused("a constant that differs between samples, time steps or pixels has no form")
    return first.clone()


def add(call: Call, a: Any, b: Any, alpha: float = 1, *, sign: int = 1, **_named: Any) -> Followed:
    if not isinstance(a, Followed):
        return scaled(call, b, sign * alpha, a)
    if not isinstance(b, Followed):
        return scaled(call, a, 1.0, sign * alpha * b)
    if sign * alpha == 1 and (total := running_sum(call, a, b)) is not None:
        return total
    if a.features != b.features:
        raise Refused(f"adds features of shape {a.features} and {b.features}", "add signals of one shape")
    return call.emit(Add((1.0, float(sign * alpha))), a, b, shape=a.features)


def sub(call: Call, a: Any, b: Any, alpha: float = 1, **_named: Any) -> Followed:
    return add(call, a, b, alpha, sign=-1)


def rsub(call: Call, a: Any, b: Any, **_named: Any) -> Followed:
    return add(call, b, a, sign=-1)


def neg(call: Call, x: Followed) -> Followed:
    return scaled(call, x, -1.0, 0.0)


def mul(call: Call, a: Any, b: Any, **_named: Any) -> Followed:
    signal, factor = (a, b) if isinstance(a, Followed) else (b, a)
    if isinstance(factor, Followed):
        raise Refused("a product of two signals has no form", "a shortcut that adds spikes has one")
    return scaled(call, signal, factor, 0.0)


def div(call: Call, a: Any, b: Any, *, rounding_mode: str | None = None) -> Followed:
    if not isinstance(a, Followed) or isinstance(b, Followed) or rounding_mode:
        raise Refused("a quotient with rounding, or by a signal, has no form")
    return scaled(call, a, 1.0 / torch.as_tensor(b, dtype=torch.float64), 0.0)


def convolution(  # noqa: PLR0913 - what torch gives it
    call: Call,
    x: Followed,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Followed:
    kernel = weight.detach() if weight.dim() == 4 else weight.detach()[:, :, None]
    spread, size = pair(x, dilation, in_height=1), (kernel.shape[2], kernel.shape[3])
    operation = Convolution(
        weight=kernel,
        bias=None if bias is None else bias.detach(),
        stride=pair(x, stride, in_height=1),
        sides=_sides(x, padding, [step * (length - 1) for step, length in zip(spread, size, strict=True)]),
        dilation=spread,
        groups=groups,
    )
    shape = image_shape(x, call.output.shape)
    return call.emit(operation, x, seen=[images(x)], shape=shape, dimensions=image_dimensions(x, shape))


def _sides(x: Followed, padding: Any, spans: list[int]) -> Sides:
    """Return the padding of all sides; "same" puts what is odd to the right and to the bottom, as torch does."""
    if padding == "same":
        high, wide = spans
        return wide // 2, wide - wide // 2, high // 2, high - high // 2
    high, wide = pair(x, 0 if padding == "valid" else padding, in_height=0)
    return wide, wide, high, high


def linear(call: Call, x: Followed, weight: Tensor, bias: Tensor | None = None) -> Followed:
    if isinstance(weight, Followed):
        raise Refused("its weight depends on the input")
    if len(x.features) != 1:
        raise Refused(f"works on the last of several feature axes, {x.features}", "flatten what goes into it")
    return call.emit(Linear(weight.detach(), None if bias is None else bias.detach()), x)


def matmul(call: Call, x: Any, weight: Any) -> Followed:
    if not isinstance(x, Followed) or isinstance(weight, Followed):
        raise Refused("a product of two signals has no form: attention", "")
    return linear(call, x, weight.T)


def addmm(call: Call, bias: Tensor, x: Any, weight: Any, *, beta: float = 1, alpha: float = 1) -> Followed:
    if not isinstance(x, Followed) or isinstance(weight, Followed) or isinstance(bias, Followed):
        raise Refused("a product of two signals has no form")
    return linear(call, x, alpha * weight.T, beta * bias)


def batch_norm(  # noqa: PLR0913 - what torch gives it
    call: Call,
    x: Followed,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
    **_named: Any,
) -> Followed:
    del momentum
    if training or running_mean is None or running_var is None:
        raise Refused("batch norm by the statistics of the batch", "have it track running statistics, and train it")
    slope = (running_var.detach().double() + eps).rsqrt()
    slope = slope if weight is None else slope * weight.detach().double()
    offset = -running_mean.detach().double() * slope
    offset = offset if bias is None else offset + bias.detach().double()
    behind = [1] * (call.output.dim() - 2)
    return scaled(call, x, slope.view(-1, *behind), offset.view(-1, *behind))


def dropout(call: Call, x: Followed, p: float = 0.5, training: bool = True, inplace: bool = False) -> Followed:
    if training and p:
        raise Refused("dropout that stays on in evaluation", "call F.dropout with training=self.training")
    return x


def softmax(call: Call, x: Followed, *_given: Any, **_named: Any) -> Followed:
    return call.emit(Softmax(is_log=False), x, shape=x.features)


def log_softmax(call: Call, x: Followed, *_given: Any, **_named: Any) -> Followed:
    return call.emit(Softmax(is_log=True), x, shape=x.features)


def pad(call: Call, x: Followed, pad: Any, mode: str = "constant", value: float | None = None) -> Followed:
    if mode != "constant" or value:
        raise Refused(f"padding in mode {mode!r} with {value} has no form", "zeros have one")
    left, right, top, bottom = (*pad, 0, 0, 0, 0)[:4]
    if len(pad) > 4 or min(pad) < 0 or (len(x.features) == 2 and (top or bottom)):
        raise Refused("pads channels or samples, or crops")
    shape = image_shape(x, call.output.shape)
    operation = Pad((left, right, top, bottom))
    return call.emit(operation, x, seen=[images(x)], shape=shape, dimensions=image_dimensions(x, shape))
