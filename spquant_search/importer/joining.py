"""Make one layer of several whose weights meet without neurons between: one behind another, or side by side.

A product of weights is weights, and so is a sum; every step is exact in real numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from spquant_search.importer.graph import Node
from spquant_search.importer.operations import Add, Convolution, Input, Linear, Pool, Scale, Spiking
from spquant_search.importer.rewriting import Rewritten

NO_SIDES = (0, 0, 0, 0)
Weights = Convolution | Linear


@dataclass(frozen=True, slots=True)
class Joined:
    """Layers of a network that became one."""

    names: tuple[str, ...]
    weights_before: int
    weights: int

    def __str__(self) -> str:
        """Return what a person must know of it."""
        return (
            f"{' and '.join(self.names)} are one layer here, as no neurons lie between them: it has "
            f"{self.weights:,} weights in the place of {self.weights_before:,}"
        )


def join_all(net: Rewritten) -> Iterator[Joined]:
    """Join what can be joined, in the order of the nodes; return what became of which layers."""
    for number in list(net.nodes):
        while isinstance(net.nodes[number].operation, (Convolution, Linear)):
            made = _join_behind(net, number)
            if made is None:
                break
            yield made
    net.tidy()
    for number in list(net.nodes):
        if number in net.nodes and isinstance(net.nodes[number].operation, Add) and _is_current(net, number):
            _flatten(net, number)
            net.tidy()
            _as_weights(net, number)
            yield from _merge(net, number)
            net.tidy()
    for number in list(net.nodes):
        if isinstance(net.nodes[number].operation, Spiking):
            _weights_before(net, number)
    net.tidy()


# ---- one behind another


def _join_behind(net: Rewritten, number: int) -> Joined | None:
    """Join a layer of weights with that which it reads; return None where nothing was changed."""
    node = net.nodes[number]
    source = net.nodes[node.inputs[0]]
    first, second = source.operation, node.operation
    if not net.is_read_once(node.inputs[0]) or source.shape != node.seen[0]:
        return None
    if isinstance(first, Linear) and isinstance(second, Linear):
        weight = second.weight.double()
        made: Weights | None = Linear(weight @ first.weight.double(), _bias_behind(first, second, weight))
    elif isinstance(first, Convolution) and isinstance(second, Convolution):
        made = _product(first, second)
    else:
        return None
    if made is None:
        return None
    net.set_operation(number, made)
    net.set_input(number, 0, source.inputs[0], source.seen[0])
    return Joined((source.name, node.name), first.weight.numel() + second.weight.numel(), made.weight.numel())


def _bias_behind(first: Weights, second: Weights, weight: Tensor) -> Tensor | None:
    """Return the bias of both; ``weight`` [out, between] is what the second one makes of a constant."""
    bias = None if second.bias is None else second.bias.double()
    if first.bias is None:
        return bias
    constant = weight @ first.bias.double()
    return constant if bias is None else bias + constant


def _product(first: Convolution, second: Convolution) -> Convolution | None:
    """Return both as one where one of them looks at single pixels, None elsewhere.

    What the second one pads with are zeros, which the first makes of zeros only where it has no bias.
    """
    if any(one.bias is not None and one.bias.dim() != 1 for one in (first, second)):
        return None
    a, b = dense(first), dense(second)
    if b.shape[2:] == (1, 1) and second.sides == NO_SIDES:
        weight = torch.einsum("om,mcij->ocij", b[:, :, 0, 0], a)
        strides = (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1])
        windows = replace(first, stride=strides)
    elif (
        a.shape[2:] == (1, 1)
        and (first.stride, first.sides) == ((1, 1), NO_SIDES)
        and (second.sides == NO_SIDES or first.bias is None or not bool(first.bias.any()))
    ):
        weight = torch.einsum("omij,mc->ocij", b, a[:, :, 0, 0])
        windows = second
    else:
        return None
    groups = first.groups if first.groups == second.groups else 1
    bias = _bias_behind(first, second, b.sum((2, 3)))
    return replace(windows, weight=_by_group(weight, groups), bias=bias, groups=groups)


def dense(convolution: Convolution) -> Tensor:
    """Return the weight [out, in, rows, columns] of a convolution without groups that computes the same."""
    weight, groups = convolution.weight.double(), convolution.groups
    out, per_group, *kernel = weight.shape
    dense = weight.new_zeros(groups, out // groups, groups, per_group, *kernel)
    for group in range(groups):
        dense[group, :, group] = weight[group * (out // groups) : (group + 1) * (out // groups)]
    return dense.view(out, groups * per_group, *kernel)


def _by_group(weight: Tensor, groups: int) -> Tensor:
    """Return of a weight [out, in, rows, columns] what lies within groups, which is all of it."""
    out, channels, *kernel = weight.shape
    apart = weight.view(groups, out // groups, groups, channels // groups, *kernel)
    return torch.cat([apart[group, :, group] for group in range(groups)])


# ---- side by side


def _is_current(net: Rewritten, number: int) -> bool:
    """Return whether a sum goes into neurons, and nowhere else."""
    readers = net.readers(number)
    return bool(readers) and all(isinstance(net.nodes[reader].operation, Spiking) for reader in readers)


def _set_terms(net: Rewritten, number: int, terms: Sequence[tuple[float, int, tuple[int, ...]]]) -> None:
    """Give a sum other terms: their factors, nodes, and the shapes in which it sees them."""
    factors, inputs, seen = zip(*terms, strict=True)
    net.nodes[number] = replace(net.nodes[number], operation=Add(factors), inputs=inputs, seen=seen)


def _terms(net: Rewritten, number: int) -> list[tuple[float, int, tuple[int, ...]]]:
    node = net.nodes[number]
    assert isinstance(node.operation, Add)
    return list(zip(node.operation.factors, node.inputs, node.seen, strict=True))


def _flatten(net: Rewritten, number: int) -> None:
    """Take the terms of sums that are terms of this one, where nothing else reads them."""
    while True:
        terms = _terms(net, number)
        nested = next(
            (place for place, (_, source, seen) in enumerate(terms) if _is_nested_sum(net, source, seen)), None
        )
        if nested is None:
            return
        factor, source, _ = terms[nested]
        inner = [(factor * own, term, shape) for own, term, shape in _terms(net, source)]
        _set_terms(net, number, [*terms[:nested], *inner, *terms[nested + 1 :]])


def _is_nested_sum(net: Rewritten, source: int, seen: tuple[int, ...]) -> bool:
    node = net.nodes[source]
    return isinstance(node.operation, Add) and net.is_read_once(source) and node.shape == seen


def _as_weights(net: Rewritten, number: int) -> None:
    """Make weights of terms that are scaled: a convolution of single pixels and channels, or a diagonal.

    So are averages over a number of pixels by which no shift divides.
    """
    for place, (factor, source, _) in enumerate(_terms(net, number)):
        operation = net.nodes[source].operation
        if isinstance(operation, (Convolution, Linear)) and factor != 1.0 and net.is_read_once(source):
            bias = None if operation.bias is None else factor * operation.bias.double()
            net.set_operation(source, replace(operation, weight=factor * operation.weight.double(), bias=bias))
        elif isinstance(operation, Scale) and net.is_read_once(source):
            _set_weights(net, source, operation, factor)
        elif factor != 1.0 or not _is_power_of_two(divisor_of(net.nodes, source)):
            one = torch.ones(1, dtype=torch.float64)
            net.scale_input(number, place, one)
            _set_weights(net, net.nodes[number].inputs[place], Scale(one, 0 * one), factor)
        else:
            continue
        terms = _terms(net, number)
        terms[place] = (1.0, *terms[place][1:])
        _set_terms(net, number, terms)


def _weights_before(net: Rewritten, number: int) -> None:
    """Put weights of single channels before neurons that read the input, spikes, or a pool of them."""
    source = net.nodes[number].inputs[0]
    node = net.nodes[source]
    origin = node
    while isinstance(origin.operation, (Pool, Scale)):
        origin = net.nodes[origin.inputs[0]]
    if not isinstance(origin.operation, (Input, Spiking)):
        return
    scale = node.operation
    if not isinstance(scale, Scale) or not net.is_read_once(source):
        one = torch.ones(1, dtype=torch.float64)
        scale = Scale(one, 0 * one)
        net.scale_input(number, 0, scale.slope)
        source = net.nodes[number].inputs[0]
    seen = net.nodes[source].seen[0]
    if len(seen) == 1:
        net.nodes[source] = replace(net.nodes[source], seen=((*seen, 1, 1),), shape=(*seen, 1, 1))
    _set_weights(net, source, scale, 1.0)


def divisor_of(layers: Mapping[int, Node], number: int) -> int:
    """Return by what the whole numbers of spikes that were pooled and added are divided."""
    node, divisor = layers[number], 1
    while isinstance(node.operation, (Pool, Add)):
        if isinstance(node.operation, Pool) and node.operation.kind == "average":
            divisor *= math.prod(node.operation.kernel)
        node = layers[node.inputs[0]]
    return divisor if isinstance(node.operation, (Input, Spiking)) else 1


def _is_power_of_two(number: int) -> bool:
    return number & (number - 1) == 0


def _set_weights(net: Rewritten, number: int, scale: Scale, factor: float) -> None:
    """Make weights of a scaling of so many channels, times a factor."""
    node = net.nodes[number]
    channels, *sizes = node.seen[0]
    slope, offset = (factor * values.double().expand(channels) for values in (scale.slope, scale.offset))
    bias = offset.clone() if bool(offset.any()) else None
    if not sizes:
        net.set_operation(number, Linear(torch.diag(slope), bias))
        return
    shape = (channels, *[1] * (2 - len(sizes)), *sizes)
    made = Convolution(slope.reshape(-1, 1, 1, 1), bias, groups=channels)
    net.nodes[number] = replace(node, operation=made, seen=(shape,), shape=shape)


def _merge(net: Rewritten, number: int) -> Iterator[Joined]:
    """Add up the weights of terms that read one signal alike."""
    terms = _terms(net, number)
    place = 0
    while place < len(terms):
        other = place + 1
        while other < len(terms):
            made = _merged(net, terms[place][1], terms[other][1])
            if made is None:
                other += 1
                continue
            first, second = (net.nodes[terms[one][1]] for one in (place, other))
            before = _weight_of(first).numel() + _weight_of(second).numel()
            widest = max(first, second, key=lambda node: _weight_of(node)[0].numel())
            net.nodes[terms[place][1]] = replace(first, operation=made, name=widest.name)
            del terms[other]
            yield Joined((first.name, second.name), before, made.weight.numel())
        place += 1
    if len(terms) > 1:
        _set_terms(net, number, terms)
    else:
        net.nodes[number] = replace(net.nodes[number], inputs=(terms[0][1],), seen=(terms[0][2],))
        net.remove(number)


def _weight_of(node: Node) -> Tensor:
    assert isinstance(node.operation, (Convolution, Linear))
    return node.operation.weight


def _merged(net: Rewritten, one: int, other: int) -> Weights | None:
    a, b = net.nodes[one], net.nodes[other]
    if one == other or not (net.is_read_once(one) and net.is_read_once(other)):
        return None
    if (a.inputs, a.seen, a.shape) != (b.inputs, b.seen, b.shape):
        return None
    if isinstance(a.operation, Linear) and isinstance(b.operation, Linear):
        weight = a.operation.weight.double() + b.operation.weight.double()
        return Linear(weight, _sum_of(a.operation.bias, b.operation.bias))
    if isinstance(a.operation, Convolution) and isinstance(b.operation, Convolution):
        return _sum(a.operation, b.operation, a.seen[0], a.shape)
    return None


def _sum_of(a: Tensor | None, b: Tensor | None) -> Tensor | None:
    if a is None or b is None:
        return a if b is None else b
    return a.double() + b.double()


def _sum(a: Convolution, b: Convolution, seen: tuple[int, ...], shape: tuple[int, ...]) -> Convolution | None:
    """Return two convolutions as one whose kernel covers both, None where it has no padding with which it does."""
    if a.stride != b.stride or not a.dilation == b.dilation == (1, 1):
        return None
    if any(one.bias is not None and one.bias.dim() != 1 for one in (a, b)):
        return None
    kernels = [dense(one) for one in (a, b)]
    spans, sides = [], []  # of rows and columns: what the kernel has before and behind its place, and its padding
    for axis in (0, 1):
        begins = [one.sides[2 - 2 * axis] for one in (a, b)]
        before = max(begins)
        size = before + max(k.shape[2 + axis] - begin for k, begin in zip(kernels, begins, strict=True))
        behind = a.stride[axis] * (shape[1 + axis] - 1) + size - seen[1 + axis] - before
        if behind < 0:
            return None
        spans.append((size, [before - begin for begin in begins]))
        sides.append((before, behind))
    weight = kernels[0].new_zeros(*kernels[0].shape[:2], spans[0][0], spans[1][0])
    for kernel, top, left in zip(kernels, spans[0][1], spans[1][1], strict=True):
        weight[:, :, top : top + kernel.shape[2], left : left + kernel.shape[3]] += kernel
    groups = a.groups if a.groups == b.groups else 1
    bias = _sum_of(a.bias, b.bias)
    return Convolution(_by_group(weight, groups), bias, a.stride, (*sides[1], *sides[0]), (1, 1), groups)
