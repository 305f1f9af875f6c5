"""A graph whose nodes are moved and merged, one small step at a time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from graphlib import TopologicalSorter

import torch
from torch import Tensor

from spquant_search.importer.graph import Node
from spquant_search.importer.operations import Add, Convolution, Linear, Operation, Pool, Scale, Spiking

NOTHING = torch.zeros(1, dtype=torch.float64)


@dataclass(slots=True)
class Rewritten:
    """Nodes by number, and which of them is the output."""

    nodes: dict[int, Node]
    output: int

    def readers(self, number: int) -> list[int]:
        """Return the nodes that read one, as often as they do."""
        return [reader for reader, node in self.nodes.items() for source in node.inputs if source == number]

    def is_read_once(self, number: int) -> bool:
        """Return whether a node has a single reader and is not the output."""
        return len(self.readers(number)) == 1 and number != self.output

    def reaches_neurons(self, number: int) -> bool:
        """Return whether neurons depend on a node."""
        readers = self.readers(number)
        return any(isinstance(self.nodes[one].operation, Spiking) or self.reaches_neurons(one) for one in readers)

    def set_operation(self, number: int, operation: Operation) -> None:
        """Give a node another operation."""
        self.nodes[number] = replace(self.nodes[number], operation=operation)

    def set_input(self, number: int, place: int, source: int, seen: tuple[int, ...]) -> None:
        """Have a node read another one, in the shape in which it sees its features."""
        node = self.nodes[number]
        inputs, shapes = list(node.inputs), list(node.seen)
        inputs[place], shapes[place] = source, seen
        self.nodes[number] = replace(node, inputs=tuple(inputs), seen=tuple(shapes))

    def scale_input(self, number: int, place: int, slope: Tensor, offset: Tensor = NOTHING) -> None:
        """Put slope * x + offset in front of one of a node's inputs."""
        node, made = self.nodes[number], max(self.nodes) + 1
        seen = node.seen[place]
        self.nodes[made] = Node(
            operation=Scale(slope, offset), inputs=(node.inputs[place],), seen=(seen,), shape=seen, name=node.name
        )
        self.set_input(number, place, made, seen)

    def scale_output(self, number: int, slope: Tensor, offset: Tensor) -> None:
        """Put slope * x + offset in front of everything that reads a node."""
        for reader in set(self.readers(number)):
            for place, source in enumerate(self.nodes[reader].inputs):
                if source == number:
                    self.scale_input(reader, place, slope, offset)

    def remove(self, number: int) -> None:
        """Have what reads a node of one input read that input."""
        source = self.nodes[number].inputs[0]
        for reader, node in self.nodes.items():
            inputs = tuple(source if one == number else one for one in node.inputs)
            self.nodes[reader] = replace(node, inputs=inputs)
        self.output = source if self.output == number else self.output

    def origin(self, number: int) -> Operation:
        """Return what a chain of pools and scales starts from, as far as nothing else reads it."""
        node = self.nodes[number]
        while isinstance(node.operation, (Pool, Scale)) and self.is_read_once(node.inputs[0]):
            node = self.nodes[node.inputs[0]]
        return node.operation

    def starts_from_sums(self, number: int) -> bool:
        """Return whether a chain of pools and scales starts from what weights or adds can take a scale into."""
        return isinstance(self.origin(number), (Convolution, Linear, Add))

    def tidy(self) -> None:
        """Drop what the output does not depend on, and order the rest."""
        reached, left = set(), [self.output]
        while left:
            number = left.pop()
            if number not in reached:
                reached.add(number)
                left += self.nodes[number].inputs
        self.nodes = {number: self.nodes[number] for number in self._ordered(sorted(reached))}

    def _ordered(self, numbers: Iterable[int]) -> Iterable[int]:
        return TopologicalSorter({number: self.nodes[number].inputs for number in numbers}).static_order()
