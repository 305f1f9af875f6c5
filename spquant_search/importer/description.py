"""What a network computes, without the library that it was written with: its layers in order, with their weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import NamedTuple

import torch
from torch import Tensor

from spquant_search.importer.graph import Node
from spquant_search.importer.joining import Joined
from spquant_search.importer.library_neuron import Fired
from spquant_search.importer.operations import Add, Input, Membrane, Opaque, OverTime, Spiking
from spquant_search.importer.recording import Reads


class Ran(NamedTuple):
    """What a description gave."""

    logits: Tensor  # [time where it is read in all steps, batch, *features]
    fired: Mapping[int, Fired]  # of the neurons, by number


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """Layers by number, each behind those that it reads."""

    layers: Mapping[int, Node]
    output: int
    steps: int
    reads: Reads
    joined: tuple[Joined, ...] = ()  # layers of weights that were two in the network

    def readers(self, number: int) -> list[int]:
        """Return the layers that read one, as often as they do."""
        return [reader for reader, node in self.layers.items() for source in node.inputs if source == number]

    @property
    def neurons(self) -> list[int]:
        """The numbers of the layers that are neurons."""
        return [number for number, node in self.layers.items() if isinstance(node.operation, Spiking)]

    def run(self, x: Tensor, forced: Mapping[int, Tensor] | None = None) -> Ran:
        """Run on an input [time or 1, batch, *features], in its precision.

        ``forced`` are the spikes that neurons pass on and are reset by, whatever they compute.
        """
        values: dict[int, Tensor] = {}
        fired: dict[int, Fired] = {}
        for number, node in self.layers.items():
            given = [_seen(values[source], seen) for source, seen in zip(node.inputs, node.seen, strict=True)]
            if isinstance(node.operation, Input):
                made = x
            elif isinstance(node.operation, Spiking):
                force = None if forced is None else forced[number].to(x)
                fired[number] = node.operation.form.run(self._all_steps(given[0]), force)
                made = fired[number].spikes if force is None else force
            elif isinstance(node.operation, Membrane):
                made = node.operation.run(fired[node.inputs[0]].membranes)
            else:
                made = self._computed(node, given)
            values[number] = _seen(made, node.shape)
        last = values[self.output]
        return Ran(self._all_steps(last) if self.reads == "steps" else last[-1], fired)

    def _all_steps(self, values: Tensor) -> Tensor:
        return values.expand(self.steps, *values.shape[1:])

    def _computed(self, node: Node, given: list[Tensor]) -> Tensor:
        operation = node.operation
        if isinstance(operation, OverTime):
            return operation.run(self._all_steps(given[0]))
        if isinstance(operation, Add):
            return operation.run(*given)
        assert not isinstance(operation, (Input, Spiking, Membrane, Opaque))
        made = operation.run(given[0].flatten(0, 1))
        return made.reshape(*given[0].shape[:2], *made.shape[1:])

    def __str__(self) -> str:
        """Return one line a layer: its number, what it is, what it reads, the features it makes, its name."""
        lines = []
        for number, node in self.layers.items():
            reads = ", ".join(map(str, node.inputs))
            kind = type(node.operation).__name__
            lines.append(
                f"{number:3d} {kind:12s} of {reads:8s} -> {list(node.shape)!s:18s} {node.name} {_details(node)}"
            )
        return "\n".join([*lines, f"output: {self.output}, read {self.reads}, of {self.steps} time steps"])


def _seen(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    return values.reshape(*values.shape[:2], *shape)


def _details(node: Node) -> str:
    shown = []
    for part in fields(node.operation):
        value = getattr(node.operation, part.name)
        if value is not None:
            shown.append(f"{part.name} {list(value.shape) if isinstance(value, torch.Tensor) else value}")
    return ", ".join(shown)
