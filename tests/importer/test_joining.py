"""Layers of weights that meet without neurons between are one, and compute the same."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
import torch
from importer.libraries import spikingjelly
from importer.livening import liven
from torch import Tensor, nn

from spquant_search.importer import from_torch
from spquant_search.importer.graph import Node
from spquant_search.importer.joining import join_all
from spquant_search.importer.library_neuron import LibraryNeuron
from spquant_search.importer.operations import Add, Convolution, Input, Linear, Operation, Spiking
from spquant_search.importer.rewriting import Rewritten

CHANNELS, SIZE = 4, 9


def node(operation: Operation, inputs: tuple[int, ...], seen: tuple[int, ...], shape: tuple[int, ...]) -> Node:
    return Node(operation=operation, inputs=inputs, seen=(seen,) * len(inputs), shape=shape, name=f"layer{inputs}")


def drawn(
    chance: random.Random, channels: int, *, single: bool = False, strides: tuple[int, ...] = (1, 2)
) -> Convolution:
    """Return a convolution of any kernel, stride, padding and groups."""
    groups, out = chance.choice((1, 2, 4)), chance.choice((4, 8))
    kernel = (1, 1) if single else (chance.randint(1, 3), chance.randint(1, 3))
    sides = (0, 0, 0, 0) if single else tuple(chance.randint(0, 2) for _ in range(4))
    stride = (1, 1) if single else (chance.choice(strides), chance.choice(strides))
    weight = torch.randn(out, channels // groups, *kernel, dtype=torch.float64)
    bias = torch.randn(out, dtype=torch.float64) if chance.random() < 0.5 else None
    return Convolution(weight, bias, stride, sides, (1, 1), groups)  # type: ignore[arg-type]


def shape_of(operation: Convolution, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(operation.run(torch.zeros(1, *shape, dtype=torch.float64)).shape[1:])


@pytest.mark.parametrize("seed", range(40))
def test_a_convolution_of_single_pixels_before_or_behind_another(seed: int) -> None:
    torch.manual_seed(seed)
    chance = random.Random(seed)
    first = drawn(chance, CHANNELS, single=seed % 2 == 0)
    second = drawn(chance, first.weight.shape[0], single=seed % 2 == 1)
    start = (CHANNELS, SIZE, SIZE)
    between = shape_of(first, start)
    end = shape_of(second, between)
    nodes = {0: node(Input(), (), (), start), 1: node(first, (0,), start, between), 2: node(second, (1,), between, end)}
    net = Rewritten(nodes, 2)
    made = list(join_all(net))
    if seed % 2 == 0 and any(second.sides) and first.bias is not None:  # a border of another constant
        assert not made
        assert len(net.nodes) == 3
        return
    assert len(made) == 1
    assert len(net.nodes) == 2
    x = torch.randn(2, *start, dtype=torch.float64)
    torch.testing.assert_close(net.nodes[2].operation.run(x), second.run(first.run(x)))  # type: ignore[union-attr]


def test_two_kernels_of_more_than_a_pixel_are_not_joined() -> None:
    first, second = (Convolution(torch.randn(4, 4, 3, 3), None) for _ in range(2))
    nodes = {
        0: node(Input(), (), (), (4, 9, 9)),
        1: node(first, (0,), (4, 9, 9), (4, 7, 7)),
        2: node(second, (1,), (4, 7, 7), (4, 5, 5)),
    }
    assert not list(join_all(Rewritten(nodes, 2)))


def test_products_of_vectors() -> None:
    sizes = (6, 5, 4, 3)
    layers = [
        Linear(torch.randn(b, a, dtype=torch.float64), torch.randn(b, dtype=torch.float64)) for a, b in pairwise(sizes)
    ]
    nodes = {0: node(Input(), (), (), (6,))}
    nodes |= {k: node(layers[k - 1], (k - 1,), (sizes[k - 1],), (sizes[k],)) for k in (1, 2, 3)}
    net = Rewritten(nodes, 3)
    joined = list(join_all(net))
    assert [(one.weights_before, one.weights) for one in joined] == [(50, 24), (36, 18)]
    x = torch.randn(2, 6, dtype=torch.float64)
    expected = layers[2].run(layers[1].run(layers[0].run(x)))
    torch.testing.assert_close(net.nodes[3].operation.run(x), expected)  # type: ignore[union-attr]


def beside(chance: random.Random, other: Convolution, end: tuple[int, ...]) -> Convolution:
    """Return another convolution of the same signal, which makes a map of the same shape."""
    kernel, sides = [], []
    for stride, positions in zip(other.stride, end[1:], strict=True):
        reached = stride * (positions - 1) - SIZE  # with the kernel, how much padding its places take
        size = chance.randint(max(1, -reached - stride + 1), 4 + max(0, -reached))
        padding = max(0, reached + size)
        before = chance.randint(0, padding)
        kernel.append(size)
        sides.append((before, padding - before))
    groups, out = chance.choice((1, 2, 4)), end[0]
    weight = torch.randn(out, CHANNELS // groups, *kernel, dtype=torch.float64)
    bias = torch.randn(out, dtype=torch.float64) if chance.random() < 0.5 else None
    return Convolution(weight, bias, other.stride, (*sides[1], *sides[0]), (1, 1), groups)


@pytest.mark.parametrize("seed", range(40))
def test_convolutions_side_by_side(seed: int) -> None:
    torch.manual_seed(seed)
    chance = random.Random(seed)
    start = (CHANNELS, SIZE, SIZE)
    first = drawn(chance, CHANNELS)
    end = shape_of(first, start)
    others = [beside(chance, first, end) for _ in range(2)]
    terms = [first, *others]
    factors = (1.0, -1.0, 0.5)
    assert {shape_of(term, start) for term in terms} == {end}
    nodes = {0: node(Input(), (), (), start)}
    nodes |= {k: node(term, (0,), start, end) for k, term in enumerate(terms, 1)}
    nodes[4] = node(Add(factors[:2]), (1, 2), end, end)
    nodes[5] = node(Add((1.0, factors[2])), (4, 3), end, end)
    nodes[6] = node(Spiking(LibraryNeuron()), (5,), end, end)
    x = torch.randn(2, *start, dtype=torch.float64)
    expected = sum(factor * term.run(x) for factor, term in zip(factors, terms, strict=True))
    net = Rewritten(nodes, 6)
    list(join_all(net))
    (source,) = net.nodes[6].inputs
    found = net.nodes[source].operation
    if isinstance(found, Add):  # a kernel that looks at less than the padded map
        values = [net.nodes[one].operation.run(x) for one in net.nodes[source].inputs]  # type: ignore[union-attr]
        torch.testing.assert_close(found.run(*values), expected)
        assert set(found.factors) == {1.0}
    else:
        torch.testing.assert_close(found.run(x), expected)  # type: ignore[union-attr]


class Branches(nn.Module):
    """Three branches of one signal, one of them a batch norm, and two linear layers at the end."""

    def __init__(self) -> None:
        super().__init__()
        neuron = spikingjelly("neuron")
        self.stem, self.lif1 = nn.Conv2d(2, 4, 3, padding=1), neuron.LIFNode()
        self.three = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4))
        self.one, self.same = nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4)
        self.lif2 = neuron.LIFNode()
        self.head = nn.Sequential(nn.AvgPool2d(4), nn.Flatten(), nn.Linear(16, 7), nn.Linear(7, 3))

    def forward(self, x: Tensor) -> Tensor:
        steps = []
        for frame in x:
            h = self.lif1(self.stem(frame))
            steps.append(self.head(self.lif2(self.three(h) + self.one(h) - 0.5 * self.same(h))))
        return torch.stack(steps).mean(0)


def test_a_network_says_what_became_one() -> None:
    torch.manual_seed(0)
    example = torch.randint(0, 4, (3, 3, 2, 8, 8)).float()
    made = from_torch(liven(Branches(), example), example)
    assert list(made.neurons) == ["stem", "three_0"]
    notes = [note for note in made.notes if "one layer here" in note]
    assert len(notes) == 3
    lost = "head.2 and head.3 are one layer here, as no neurons lie between them: it has 48 weights in the place of 133"
    assert lost in notes
