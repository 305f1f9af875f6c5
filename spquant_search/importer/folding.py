"""Fold into weights what can be: batch norm on either side, 1/tau, thresholds, rest potentials, input scaling, padding.

What is left are convolutions, products with weights, pools and sums between neurons with gain and threshold 1. Every
step is exact in real numbers; the proof says what rounding does.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from spquant_search.importer.description import Description
from spquant_search.importer.graph import Node
from spquant_search.importer.joining import join_all
from spquant_search.importer.operations import (
    Add,
    Convolution,
    Linear,
    Membrane,
    OverTime,
    Pad,
    Pool,
    Repeat,
    Scale,
    Spiking,
)
from spquant_search.importer.recording import Recording
from spquant_search.importer.rewriting import NOTHING, Rewritten


def folded(recording: Recording) -> Description:
    """Return what a recorded network computes, as few layers as can be."""
    net = Rewritten(dict(enumerate(recording.graph.nodes)), recording.output)
    net.tidy()
    for number, node in list(net.nodes.items()):
        _in_thresholds(net, number)
        if isinstance(node.operation, OverTime):  # a sum has been found to be of all steps
            net.set_operation(number, OverTime(node.operation.kind))
    while any(_move(net, number, recording.steps) for number in list(net.nodes) if number in net.nodes):
        net.tidy()
    net.tidy()
    _average_first(net)
    joined = tuple(join_all(net))
    return Description(layers=net.nodes, output=net.output, steps=recording.steps, reads=recording.reads, joined=joined)


def _average_first(net: Rewritten) -> None:
    """Average spikes before the classes' weights of single pixels, and not what these make: a linear layer reads it."""
    for number, node in list(net.nodes.items()):
        pool, source = node.operation, net.nodes[node.inputs[0]] if node.inputs else node
        weights = source.operation
        if not isinstance(pool, Pool) or not isinstance(weights, Convolution) or not net.is_read_once(node.inputs[0]):
            continue
        single = weights.weight.shape[2:] == (1, 1) and (weights.stride, weights.sides) == ((1, 1), (0, 0, 0, 0))
        covers = pool.kernel == node.seen[0][1:] and pool.kind == "average" and pool.padding == (0, 0)
        if not (single and covers) or net.reaches_neurons(number):
            continue
        averaged = (source.seen[0][0], 1, 1)
        net.nodes[node.inputs[0]] = replace(source, operation=pool, shape=averaged)
        net.nodes[number] = replace(node, operation=weights, seen=(averaged,), name=source.name)


def _in_thresholds(net: Rewritten, number: int) -> None:
    """Count a neuron's potentials in thresholds: the factor goes to its current, and comes back where it is read."""
    operation = net.nodes[number].operation
    if not isinstance(operation, Spiking):
        return
    form, unit = operation.form, operation.form.unit
    net.set_operation(number, Spiking(form.in_thresholds(), unit, form.rest))
    slope = form.gain / torch.tensor(unit, dtype=torch.float64).reshape(-1)
    if bool((slope != 1).any()):
        net.scale_input(number, 0, slope)
    for reader in net.readers(number):
        if isinstance(net.nodes[reader].operation, Membrane):
            net.set_operation(reader, Membrane(unit, form.rest))


def _move(net: Rewritten, number: int, steps: int) -> bool:
    """Merge a node with its neighbours, or move it nearer to weights; return whether something changed."""
    operation = net.nodes[number].operation
    if isinstance(operation, Pad):
        return _pad_in_readers(net, number, operation)
    if isinstance(operation, Repeat):
        return _repeat_in_readers(net, number, operation)
    if not isinstance(operation, Scale):
        return False
    if bool((operation.slope == 1).all()) and bool((operation.offset == 0).all()):
        net.remove(number)
        return True
    return (
        _into_source(net, number, operation)
        or _mean_of_sum(net, number, operation, steps)
        or _before_pool(net, number, operation)
        or _before_add(net, number, operation)
        or _into_readers(net, number, operation)
        or _behind_pool(net, number, operation)
    )


def _has_channels_of(shape: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether features seen as one shape and as another have the same channels."""
    return shape[0] == other[0] and math.prod(shape) == math.prod(other)


def _pad_in_readers(net: Rewritten, number: int, pad: Pad) -> bool:
    node, readers = net.nodes[number], net.readers(number)
    operations = [net.nodes[reader].operation for reader in readers]
    if not readers or number == net.output or not all(isinstance(one, Convolution) for one in operations):
        return False
    for reader, convolution in zip(readers, operations, strict=True):
        assert isinstance(convolution, Convolution)
        left, right, top, bottom = (a + b for a, b in zip(convolution.sides, pad.sides, strict=True))
        net.set_operation(reader, replace(convolution, sides=(left, right, top, bottom)))
        net.set_input(reader, 0, node.inputs[0], node.seen[0])
    return True


def _repeat_in_readers(net: Rewritten, number: int, repeat: Repeat) -> bool:
    """Sum the weights of the rows and columns that are equal."""
    node, readers = net.nodes[number], net.readers(number)
    operations = [net.nodes[reader].operation for reader in readers]
    if not readers or number == net.output or not all(isinstance(one, Linear) for one in operations):
        return False
    channels, height, width = node.seen[0]
    rows, columns = repeat.factors
    for reader, linear in zip(readers, operations, strict=True):
        assert isinstance(linear, Linear)
        weight = linear.weight.double().view(-1, channels, height, rows, width, columns).sum((3, 5)).flatten(1)
        net.set_operation(reader, Linear(weight, linear.bias))
        net.set_input(reader, 0, node.inputs[0], (channels * height * width,))
    return True


def _into_source(net: Rewritten, number: int, scale: Scale) -> bool:
    node = net.nodes[number]
    source = net.nodes[node.inputs[0]]
    if not net.is_read_once(node.inputs[0]) or not _has_channels_of(node.seen[0], source.shape):
        return False
    operation = source.operation
    if isinstance(operation, Scale):
        made: Scale | Convolution | Linear = Scale(
            operation.slope * scale.slope, operation.offset * scale.slope + scale.offset
        )
    elif isinstance(operation, (Convolution, Linear)):
        weight = operation.weight.double()
        bias = _bias_of(operation)
        rows = [-1, *[1] * (bias.dim() - 1)]
        made = replace(
            operation,
            weight=weight * scale.slope.view(-1, *[1] * (weight.dim() - 1)),
            bias=bias * scale.slope.view(rows) + scale.offset.view(rows),
        )
    else:
        return False
    net.set_operation(node.inputs[0], made)
    net.remove(number)
    return True


def _bias_of(operation: Convolution | Linear) -> Tensor:
    if operation.bias is None:
        return torch.zeros(len(operation.weight), dtype=torch.float64)
    return operation.bias.double()


def _mean_of_sum(net: Rewritten, number: int, scale: Scale, steps: int) -> bool:
    """Make a sum over time, divided by the number of steps, a mean: what the user wrote for any number of them."""
    source = net.nodes[number].inputs[0]
    operation = net.nodes[source].operation
    if not isinstance(operation, OverTime) or operation.kind != "sum" or not net.is_read_once(source):
        return False
    if not bool((scale.slope == 1.0 / steps).all()):
        return False
    net.set_operation(source, OverTime("mean"))
    net.set_operation(number, Scale(torch.ones_like(scale.slope), scale.offset))
    return True


def _before_pool(net: Rewritten, number: int, scale: Scale) -> bool:
    source = net.nodes[number].inputs[0]
    pool = net.nodes[source].operation
    if not isinstance(pool, Pool) or not net.is_read_once(source) or not net.starts_from_sums(source):
        return False
    if not _has_channels_of(net.nodes[number].seen[0], net.nodes[source].shape):
        return False
    if pool.kind == "average" and bool((scale.offset != 0).any()) and pool.padding != (0, 0) and pool.counts_padding:
        return False
    if pool.kind == "max":  # the largest becomes the smallest where the slope is negative
        flips = (scale.slope < 0).expand(net.nodes[source].shape[0])
        least = flips if pool.least is None else pool.least ^ flips
        net.set_operation(source, replace(pool, least=least if bool(least.any()) else None))
    net.scale_input(source, 0, scale.slope, scale.offset)
    net.remove(number)
    return True


def _before_add(net: Rewritten, number: int, scale: Scale) -> bool:
    node = net.nodes[number]
    source = node.inputs[0]
    add = net.nodes[source].operation
    if not isinstance(add, Add) or not net.is_read_once(source):
        return False
    if not _has_channels_of(node.seen[0], net.nodes[source].shape):
        return False
    for place, factor in enumerate(add.factors):
        net.scale_input(source, place, scale.slope, scale.offset / factor if place == 0 else NOTHING)
    net.remove(number)
    return True


def _into_readers(net: Rewritten, number: int, scale: Scale) -> bool:
    node, readers = net.nodes[number], net.readers(number)
    if not readers or number == net.output:
        return False
    made: list[Convolution | Linear] = []
    for reader in readers:
        operation, seen = net.nodes[reader].operation, net.nodes[reader].seen[0]
        if isinstance(operation, Convolution) and _has_channels_of(node.shape, seen):
            made.append(_of_scaled(operation, seen, scale))
        elif isinstance(operation, Linear):
            made.append(_linear_of_scaled(operation, node, scale))
        else:
            return False
    for reader, operation in zip(readers, made, strict=True):
        net.set_operation(reader, operation)
    net.remove(number)
    return True


def _of_scaled(convolution: Convolution, shape: tuple[int, ...], scale: Scale) -> Convolution:
    """Return the convolution of slope * x + offset; zeros around it stay zeros, so that its bias may become a map."""
    channels, weight = shape[0], convolution.weight.double()
    fill = scale.offset.expand(channels).view(1, channels, 1, 1).expand(1, *shape)
    constant = replace(convolution, weight=weight, bias=None).run(fill)[0]
    inner = constant[:, :1, :1]
    constant = inner[:, 0, 0] if bool((constant == inner).all()) else constant
    slopes = scale.slope.expand(channels).view(convolution.groups, 1, -1, 1, 1)
    by_group = weight.reshape(convolution.groups, -1, *weight.shape[1:])
    weight = (by_group * slopes).flatten(0, 1)
    bias = _bias_of(convolution)
    if constant.dim() == 3 and bias.dim() == 1:
        bias = bias.view(-1, 1, 1)
    elif bias.dim() == 3 and constant.dim() == 1:
        constant = constant.view(-1, 1, 1)
    return replace(convolution, weight=weight, bias=bias + constant)


def _linear_of_scaled(linear: Linear, node: Node, scale: Scale) -> Linear:
    channels, pixels = node.shape[0], math.prod(node.shape[1:])
    weight = linear.weight.double()
    constant = weight @ scale.offset.expand(channels).repeat_interleave(pixels)
    slope = scale.slope.expand(channels).repeat_interleave(pixels)
    return Linear(weight * slope, _bias_of(linear) + constant)


def _behind_pool(net: Rewritten, number: int, scale: Scale) -> bool:
    """Move a scale that no weight in front of it can take behind the pool that reads it."""
    readers = net.readers(number)
    if len(readers) != 1 or number == net.output or readers[0] == net.output or not bool((scale.slope > 0).all()):
        return False
    pool, node = net.nodes[readers[0]].operation, net.nodes[number]
    if not isinstance(pool, Pool) or not _has_channels_of(node.shape, net.nodes[readers[0]].seen[0]):
        return False
    if pool.kind == "average" and pool.padding != (0, 0) and bool((scale.offset != 0).any()):
        return False
    net.scale_output(readers[0], scale.slope, scale.offset)
    net.remove(number)
    return True
