"""What a network's end is as one of this package's readouts: counts of spikes, a linear layer, or membranes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from spquant_search.importer.description import Description
from spquant_search.importer.graph import Node
from spquant_search.importer.joining import dense
from spquant_search.importer.operations import (
    Convolution,
    Linear,
    Membrane,
    OverTime,
    Pool,
    Scale,
    Softmax,
    Spiking,
    Votes,
    words_of,
)
from spquant_search.importer.refusals import Refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """Spikes that are counted; ``factor`` times their mean over time is the network's output."""

    source: int
    classes: int
    votes: int
    factor: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearReadout:
    """A linear layer of spikes, or membranes without spikes behind it."""

    name: str
    source: int
    weight: Tensor  # so that the mean over time of its logits is the network's output
    bias: Tensor
    membrane: Literal["sum", "last"] | None = None
    leak: float = 1.0
    learns_leak: bool = False  # in the network that was read
    offset: float = 0.0  # of the network's output above that of the readout, the same for all classes


class _End:
    """Goes from the output back to spikes, and keeps what lies between."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.number = description.output
        self.over_time = description.reads != "once"  # every step counts alike, or the last one alone
        self.factor, self.offset = 1.0, 0.0  # of what is now looked at, in the output

    @property
    def node(self) -> Node:
        return self.description.layers[self.number]

    def back(self) -> None:
        """Go on with what the node reads."""
        self.number = self.node.inputs[0]

    def pass_time_and_scales(self) -> None:
        """Go back over sums over time, and factors that are equal for all classes: they change no prediction."""
        while True:
            operation = self.node.operation
            if isinstance(operation, OverTime):
                if operation.kind == "max":
                    raise Refused("a maximum over time has no form", "take the mean or the sum")
                self.factor *= self.description.steps if operation.kind == "sum" else 1
                self.over_time = True
            elif isinstance(operation, Scale):
                slope, offset = operation.slope[0], operation.offset[0]
                if bool((operation.slope != slope).any() or (operation.offset != offset).any() or slope <= 0):
                    raise Refused("logits are scaled by a factor for each class", "leave it out")
                self.offset += self.factor * float(offset)
                self.factor *= float(slope)
            elif isinstance(operation, Softmax) and self.number == self.description.output and self._is_of_all_steps():
                pass  # the largest stays the largest
            else:
                return
            self.back()

    def _is_of_all_steps(self) -> bool:
        return self.description.reads == "once"


def readout_of(description: Description) -> Counted | LinearReadout:
    """Return what the end of a network is.

    Raises:
        Refused: it is none of these.
    """
    end = _End(description)
    end.pass_time_and_scales()
    votes = 1
    if isinstance(end.node.operation, Votes):
        votes = end.node.operation.size
        end.back()
        end.pass_time_and_scales()
    operation = end.node.operation
    if isinstance(operation, Spiking):
        return _counted(end, votes)
    if votes > 1:
        raise Refused("votes are averaged of something else than spikes")
    if isinstance(operation, Membrane):
        return _membranes(end)
    if isinstance(operation, Linear) or _covers_map(end.node):
        return _linear(end)
    raise Refused(
        f"the output is made by {words_of(operation)}",
        "spikes, a linear layer of spikes, or membranes of neurons that do not spike can be read",
    )


def _counted(end: _End, votes: int) -> Counted:
    if end.description.reads == "last" or not end.over_time:
        raise Refused("spikes of the last time step alone are read", "add up those of all time steps")
    node = end.node
    if len(node.shape) > 1 and node.shape[1:] != (1,) * (len(node.shape) - 1):
        raise Refused(f"spikes of shape {node.shape} are read, which are no classes")
    return Counted(
        source=end.number, classes=node.shape[0] // votes, votes=votes, factor=end.factor / votes, offset=end.offset
    )


def _covers_map(node: Node) -> bool:
    """Return whether a convolution sees all pixels at once, which is a linear layer of them."""
    operation = node.operation
    if not isinstance(operation, Convolution) or operation.sides != (0, 0, 0, 0):
        return False
    return tuple(operation.weight.shape[2:]) == node.seen[0][1:] and operation.dilation == (1, 1)


def _linear(end: _End) -> LinearReadout:
    linear, name = end.node.operation, end.node.name
    if isinstance(linear, Convolution):
        linear = Linear(dense(linear).flatten(1), linear.bias)
    assert isinstance(linear, Linear)
    factor, offset = end.factor, end.offset
    end.factor, end.offset = 1.0, 0.0
    end.back()
    _pass_time(end)
    if end.description.reads == "last" or not end.over_time:
        raise Refused("a linear layer reads the last time step alone", "take the mean of all time steps")
    bias = torch.zeros(len(linear.weight)) if linear.bias is None else linear.bias
    return LinearReadout(
        name=name,
        source=end.number,
        weight=factor * end.factor * linear.weight.double(),
        bias=factor * bias.double() + offset,
    )


def _pass_time(end: _End) -> None:
    """Go back over a sum over time before the linear layer: it may as well be taken behind it."""
    operation = end.node.operation
    if isinstance(operation, OverTime):
        end.pass_time_and_scales()
    elif isinstance(operation, Pool) and operation.kind == "average":
        source = end.description.layers[end.node.inputs[0]]
        if isinstance(source.operation, OverTime):
            raise Refused("spikes are averaged over time before they are pooled", "pool them first")


def _membranes(end: _End) -> LinearReadout:
    membrane = end.node.operation
    assert isinstance(membrane, Membrane)
    reads: Literal["sum", "last"] = "last" if end.description.reads == "last" else "sum"
    end.back()
    neurons = end.node.operation
    assert isinstance(neurons, Spiking)
    form = neurons.form
    if form.reset != "none" and form.threshold != float("inf"):
        raise Refused(
            "the membranes of neurons that spike are read: a readout has no reset",
            "have their spikes counted, with output=0 where it returns those first; or give them "
            'reset_mechanism="none" or an infinite threshold',
        )
    if isinstance(form.leak, tuple) or isinstance(membrane.unit, tuple) or form.start:
        raise Refused("membranes whose leak or threshold differ between classes, or that start above 0, have no form")
    end.back()
    linear, name = end.node.operation, end.node.name
    if not isinstance(linear, Linear):
        raise Refused("membranes are read that take no linear layer's currents")
    bias = torch.zeros(len(linear.weight)) if linear.bias is None else linear.bias
    factor = end.factor * membrane.unit
    end.back()
    return LinearReadout(
        name=name,
        source=end.number,
        weight=factor * linear.weight.double(),
        bias=factor * bias.double(),
        membrane=reads,
        leak=form.leak,
        learns_leak=form.learns_leak,
        offset=end.offset + end.factor * membrane.rest,
    )
