"""What a network is made of once it has been read: operations on the features of one time step, as values.

Features are [channels, height, width], or one vector; a signal of one dimension has height 1. Operations see them in
the shape in which the network's code gave them to torch, and neurons are the only ones that join time steps but for
the sums over time at the end.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from spquant_search.importer.library_neuron import LibraryNeuron

Pair = tuple[int, int]
Sides = tuple[int, int, int, int]  # left, right, top, bottom, as torch.nn.functional.pad takes them
PoolKind = Literal["average", "max"]


def _channels_first(values: Tensor, like: Tensor) -> Tensor:
    """Return one value a channel as it is broadcast over [samples, channels, ...]."""
    return values.to(like).view(-1, *[1] * (like.dim() - 2))


@dataclass(frozen=True, slots=True, eq=False)
class Input:
    """What the network is given."""


@dataclass(frozen=True, slots=True, eq=False)
class Convolution:
    """A two-dimensional convolution; its bias is one number an output channel, or a map of them."""

    weight: Tensor  # [out, in / groups, height, width]
    bias: Tensor | None
    stride: Pair = (1, 1)
    sides: Sides = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def run(self, x: Tensor) -> Tensor:
        """Compute [samples, out, height, width]."""
        padded = F.pad(x, self.sides)
        y = F.conv2d(padded, self.weight.to(x), None, self.stride, 0, self.dilation, self.groups)
        if self.bias is None:
            return y
        return y + (_channels_first(self.bias, y) if self.bias.dim() == 1 else self.bias.to(y))


@dataclass(frozen=True, slots=True, eq=False)
class Linear:
    """A weight [out, in] and a bias [out], on vectors."""

    weight: Tensor
    bias: Tensor | None

    def run(self, x: Tensor) -> Tensor:
        """Compute [samples, out]."""
        return F.linear(x, self.weight.to(x), None if self.bias is None else self.bias.to(x))


@dataclass(frozen=True, slots=True, eq=False)
class Scale:
    """slope * x + offset, each one number or one a channel."""

    slope: Tensor
    offset: Tensor

    def run(self, x: Tensor) -> Tensor:
        """Compute it in the shape of ``x``."""
        return x * _channels_first(self.slope, x) + _channels_first(self.offset, x)


@dataclass(frozen=True, slots=True, eq=False)
class Pool:
    """The average or the largest value of windows; of the channels in ``least`` the smallest."""

    kind: PoolKind
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    rounds_up: bool = False
    counts_padding: bool = True
    least: Tensor | None = None  # bool, one a channel or one

    def run(self, x: Tensor) -> Tensor:
        """Compute [samples, channels, height, width]."""
        if self.kind == "average":
            return F.avg_pool2d(x, self.kernel, self.stride, self.padding, self.rounds_up, self.counts_padding)
        sign = torch.ones(1) if self.least is None else torch.where(self.least, -1.0, 1.0)
        sign = _channels_first(sign, x)
        return sign * F.max_pool2d(sign * x, self.kernel, self.stride, self.padding, ceil_mode=self.rounds_up)


@dataclass(frozen=True, slots=True, eq=False)
class Add:
    """The sum of several signals, each with its factor."""

    factors: tuple[float, ...]

    def run(self, *values: Tensor) -> Tensor:
        """Compute it in the shape of the values."""
        total = self.factors[0] * values[0]
        for factor, value in zip(self.factors[1:], values[1:], strict=True):
            total = total + factor * value
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Spiking:
    """Neurons; ``unit`` and ``rest`` are what 1 and 0 of their potential were in their library."""

    form: LibraryNeuron
    unit: float | tuple[float, ...] = 1.0
    rest: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class Membrane:
    """The potentials of the neurons that it reads, as their library shows them."""

    unit: float | tuple[float, ...] = 1.0
    rest: float = 0.0

    def run(self, potentials: Tensor) -> Tensor:
        """Compute [time, samples, channels, ...] of the neurons' potentials."""
        unit = _channels_first(torch.tensor(self.unit, dtype=torch.float64), potentials[0])
        return potentials * unit + self.rest


@dataclass(frozen=True, slots=True, eq=False)
class OverTime:
    """Sum, mean or maximum over time steps; ``steps`` are those that went into a running sum."""

    kind: Literal["sum", "mean", "max"]
    steps: frozenset[int] = frozenset()

    def run(self, x: Tensor) -> Tensor:
        """Compute [1, samples, ...] of [time, samples, ...]."""
        if self.kind == "max":
            return x.amax(0, keepdim=True)
        return x.sum(0, keepdim=True) if self.kind == "sum" else x.mean(0, keepdim=True)


@dataclass(frozen=True, slots=True, eq=False)
class Votes:
    """The average of so many neighbours, the votes of a class."""

    size: int

    def run(self, x: Tensor) -> Tensor:
        """Compute [samples, classes] of [samples, classes * size]."""
        return x.reshape(len(x), -1, self.size).mean(-1)


@dataclass(frozen=True, slots=True, eq=False)
class Pad:
    """Zeros around height and width."""

    sides: Sides

    def run(self, x: Tensor) -> Tensor:
        """Compute [samples, channels, height, width]."""
        return F.pad(x, self.sides)


@dataclass(frozen=True, slots=True, eq=False)
class Repeat:
    """Each row and column so many times, as an adaptive pooling to a larger size does."""

    factors: Pair

    def run(self, x: Tensor) -> Tensor:
        """Compute [samples, channels, height, width]."""
        return x.repeat_interleave(self.factors[0], -2).repeat_interleave(self.factors[1], -1)


@dataclass(frozen=True, slots=True, eq=False)
class Softmax:
    """Softmax of the classes, or its logarithm, at a network's end."""

    is_log: bool

    def run(self, x: Tensor) -> Tensor:
        """Compute it in the shape of ``x``."""
        return (F.log_softmax if self.is_log else F.softmax)(x, 1)


@dataclass(frozen=True, slots=True, eq=False)
class Opaque:
    """What is refused: what depends on it is not followed any further."""


Stateless = Convolution | Linear | Scale | Pool | Votes | Pad | Repeat | Softmax
Operation = Stateless | Input | Add | Spiking | Membrane | OverTime | Opaque


def words_of(operation: Operation) -> str:
    """Return what people call an operation."""
    if isinstance(operation, Pool):
        return "an average of pixels" if operation.kind == "average" else "a maximum of pixels"
    return {
        Input: "the input",
        Convolution: "a convolution",
        Linear: "a linear layer",
        Scale: "a scaling",
        Add: "a sum",
        Spiking: "neurons",
        Membrane: "membranes",
        OverTime: "a sum over time",
        Votes: "an average of neighbours",
        Pad: "padding",
        Repeat: "pooling to a larger size",
        Softmax: "softmax",
    }[type(operation)]
