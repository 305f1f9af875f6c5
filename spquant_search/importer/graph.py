"""The graph that recording makes: equal operations on equal inputs are one node, so that all time steps make one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, fields, replace
from typing import Literal

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from spquant_search.importer.axes import Dimensions, features_of, in_order
from spquant_search.importer.operations import Opaque, Operation, Spiking

# Of no step, of all steps, or of one.
Time = Literal["still", "all"] | int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """An operation, the nodes that it reads, and the shapes in which it sees their features."""

    operation: Operation
    inputs: tuple[int, ...]
    seen: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]  # of the features that it makes
    name: str  # of the module in which it was called


@dataclass(frozen=True, slots=True)
class Followed:
    """A tensor that depends on the input: its node, its time, and what its dimensions are made of.

    ``filled`` is how many time steps have been written into a tensor that was made for all of them, None where all.
    """

    node: int
    time: Time
    dimensions: Dimensions
    filled: int | None = None

    @property
    def features(self) -> tuple[int, ...]:
        """The shape of the features; refused where it is not in the node's order."""
        return features_of(self.dimensions)


@dataclass(slots=True)
class Recorded:
    """What a node did while the network ran, by time; [time where it is all, batch, *features]."""

    times: set[Time] = field(default_factory=set)
    values: dict[Time, Tensor] = field(default_factory=dict)
    membranes: dict[Time, Tensor] = field(default_factory=dict)  # of a neuron, as its library shows them


class Graph:
    """Nodes by number, in the order in which they were first made."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.recorded: list[Recorded] = []
        self._numbers: dict[object, int] = {}
        self._digests: WeakTensorKeyDictionary = WeakTensorKeyDictionary()

    def add(self, node: Node) -> int:
        """Return the number of a node that is equal to this one, which is added where there is none."""
        key = self._key(node)
        if key not in self._numbers:
            self._numbers[key] = len(self.nodes)
            self.nodes.append(replace(node, operation=_own(node.operation)))
            self.recorded.append(Recorded())
        return self._numbers[key]

    def in_order(self, followed: Followed, tensor: Tensor) -> Tensor:
        """Return a copy of a tensor as [time where it has it, batch, *features]."""
        return in_order(tensor.detach(), followed.dimensions, self.nodes[followed.node].shape).cpu().clone()

    def keep(self, followed: Followed, tensor: Tensor) -> None:
        """Keep the values of a tensor, for the proof."""
        self.recorded[followed.node].values[followed.time] = self.in_order(followed, tensor)

    def is_opaque(self, number: int) -> bool:
        """Return whether a node was refused."""
        return isinstance(self.nodes[number].operation, Opaque)

    def reached_from(self, number: int) -> list[int]:
        """Return the nodes that one depends on and itself, in order."""
        reached, left = set(), [number]
        while left:
            one = left.pop()
            if one not in reached:
                reached.add(one)
                left += self.nodes[one].inputs
        return sorted(reached)

    def signature(self, number: int) -> object:
        """Return what is equal for two recordings of one graph, whatever else was recorded beside it."""
        reached = self.reached_from(number)
        places = {one: place for place, one in enumerate(reached)}
        nodes = [self.nodes[one] for one in reached]
        return [self._key(replace(node, inputs=tuple(places[one] for one in node.inputs))) for node in nodes]

    def _key(self, node: Node) -> object:
        operation = node.operation
        if isinstance(operation, Opaque):
            return id(operation)
        values = [getattr(operation, part.name) for part in fields(operation)]
        plain = tuple(self._digest(value) if isinstance(value, Tensor) else value for value in values)
        name = node.name if isinstance(operation, Spiking) else ""  # two neurons with equal inputs are still two
        return type(operation), node.inputs, node.seen, node.shape, plain, name

    def _digest(self, tensor: Tensor) -> bytes:
        """Return a digest of a tensor's content, which is kept for as long as the tensor is not changed."""
        if tensor in self._digests and self._digests[tensor][0] == version_of(tensor):
            known: bytes = self._digests[tensor][1]
            return known
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        digest = hashlib.blake2b(repr((tensor.dtype, tuple(tensor.shape))).encode() + content).digest()
        self._digests[tensor] = (version_of(tensor), digest)
        return digest


def _own(operation: Operation) -> Operation:
    """Return an operation with weights of its own: those of a user's network may change afterwards."""
    tensors = {part.name: getattr(operation, part.name) for part in fields(operation)}
    copies = {name: value.clone() for name, value in tensors.items() if isinstance(value, Tensor)}
    return replace(operation, **copies) if copies else operation  # type: ignore[arg-type]


def version_of(tensor: Tensor) -> int:
    """Return a number that a change in place makes larger; a tensor of inference mode has none, and does not change."""
    return 0 if tensor.is_inference() else tensor._version
