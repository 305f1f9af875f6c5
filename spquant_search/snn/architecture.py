"""Describe how a network's layers are connected, and from that what it needs on a device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from spquant_search.costs.device import Architecture, KeptMap, place_maps, spike_map_bytes
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.layers import SearchableLayer
from spquant_search.snn.tracing import Step
from spquant_search.space.shapes import LayerShape


def describe_architecture(
    steps: Sequence[Step], layers: Mapping[str, SearchableLayer], shapes: Sequence[LayerShape]
) -> Architecture:
    """Return what a footprint needs of a network, from the steps that its trace has found."""
    by_name = {shape.name: shape for shape in shapes}
    kept = []
    for step in steps:
        size, shape = 0, by_name.get(step.name)
        if step.operation == "sum":
            size = math.prod(step.shape[1:])
        elif shape is not None and shape.has_neurons:
            size = spike_map_bytes(shape.neurons, shape.out_channels)
        is_current = step.operation == "identity" or (shape is not None and shape.kind == "shortcut")
        inputs = tuple(steps[number].name for number in step.inputs)
        kept.append(KeptMap(step.name, inputs, size, is_current=is_current))
    averages = [step for step in steps if step.operation == "average"]
    running = [layers[step.name] for step in steps if step.operation == "layer"]
    return Architecture(
        map_bytes=place_maps(kept)[1],
        average_bytes=sum(4 * step.shape[1] for step in averages),
        sums=sum(step.operation == "sum" for step in steps),
        averages=len(averages),
        inputs=max(steps[number].shape[1] for step in steps for number in step.inputs),
        heads=max((layer.heads for layer in running if isinstance(layer, SpikingSelfAttention)), default=0),
        classes=steps[-1].shape[-1],
        class_membranes=getattr(layers.get(steps[-1].name), "membrane", None) is not None,
        largest={step.name: steps[step.inputs[0]].largest or 0 for step in steps if step.operation == "layer"},
    )
