"""Describe how a network's layers are connected, and from that what it needs on a device."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.costs.device import Architecture, KeptMap, place_maps, spike_map_bytes
from spquant_search.snn import tracing
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape, LayerShape


def describe_architecture(model: ModelSpace, shape: InputShape, layers: Sequence[LayerShape]) -> Architecture:
    """Return what a footprint needs of a network, from one pass on the meta device.

    Raises:
        Untraceable: the network has no integer form.
    """
    with torch.device("meta"):
        network = build(model, shape, source="model").eval()
    largest: dict[str, int] = {}
    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(_largest_read(largest, name))
    with torch.no_grad(), uncompiled():
        steps = trace_network(network, shape, time_steps=1).steps
    by_name = {layer.name: layer for layer in layers}
    kept = []
    for step in steps:
        size, layer_shape = 0, by_name.get(step.name)
        if step.operation == "sum":
            size = math.prod(step.shape)
        elif layer_shape is not None and layer_shape.has_neurons:
            size = spike_map_bytes(layer_shape.neurons, layer_shape.out_channels)
        is_current = step.operation == "identity" or (layer_shape is not None and layer_shape.kind == "shortcut")
        inputs = tuple(steps[number].name for number in step.inputs)
        kept.append(KeptMap(step.name, inputs, size, is_current=is_current))
    averages = [step for step in steps if step.operation == "average"]
    return Architecture(
        map_bytes=place_maps(kept)[1],
        average_bytes=sum(4 * step.shape[1] for step in averages),
        sums=sum(step.operation == "sum" for step in steps),
        averages=len(averages),
        inputs=max(steps[number].shape[1] for step in steps for number in step.inputs),
        heads=max((layer.heads for layer in network.modules() if isinstance(layer, SpikingSelfAttention)), default=0),
        largest=largest,
    )


def _largest_read(found: dict[str, int], name: str) -> Any:
    def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found[name] = inputs[0].largest

    return hook


def trace_network(network: nn.Module, shape: InputShape, *, time_steps: int) -> tracing.Trace:
    """Return the network's steps, each layer once.

    Raises:
        Untraceable: a layer runs twice, something other than layers and this package's operations lies between them,
            or the last is no Readout.
    """
    device = next(network.parameters()).device
    frames = torch.zeros(time_steps, shape.channels, shape.height, shape.width, device=device)
    seen: set[str] = set()

    def report(name: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            given = [value for value in (*args, *kwargs.values()) if isinstance(value, (Spikes, Tensor))]
            inputs = [value.values if isinstance(value, Spikes) else value for value in given]
            if name in seen:
                raise tracing.Untraceable(f"{name}: runs more than once a time step")
            seen.add(name)
            tracing.record("layer", inputs, output.values if isinstance(output, Spikes) else output, name)

        return hook

    layers = searchable_layers(network)
    handles = [layer.register_forward_hook(report(name), with_kwargs=True) for name, layer in layers.items()]
    try:
        with tracing.traced() as trace:
            tracing.record("input", (), frames, "input")
            logits = network(Spikes(values=frames, time_steps=time_steps, largest=shape.largest))
            last = trace.steps[trace.maker(logits, "the network's output")]
    finally:
        for handle in handles:
            handle.remove()
    if last.name not in layers or not isinstance(layers[last.name], Readout):
        raise tracing.Untraceable(f"{last.name}: the network must end with its Readout")
    # A layer may have the name of an operation, such as input; no layer's name ends with a dot.
    trace.steps = [
        replace(step, name=f"{step.name}.") if step.operation != "layer" and step.name in layers else step
        for step in trace.steps
    ]
    return trace
