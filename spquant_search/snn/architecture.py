"""Describe how a network's layers are connected, and from that what it needs on a device."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from spquant_search.costs.device import Architecture, KeptMap, place_maps, spike_map_bytes
from spquant_search.costs.fast_path import Form, Reads
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.layers import SearchableLayer
from spquant_search.snn.pools import Pool, needs_a_step, pool_step_name
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.snn.tracing import Step
from spquant_search.snn.window import Span, Window
from spquant_search.space.shapes import LayerShape


def describe_architecture(
    steps: Sequence[Step], layers: Mapping[str, SearchableLayer], shapes: Sequence[LayerShape]
) -> Architecture:
    """Return what a footprint needs of a network, from the steps that its trace has found."""
    by_name = {shape.name: shape for shape in shapes}
    kept: list[KeptMap] = []
    pooled: dict[str, str] = {}  # the pool behind a layer's spikes, by the layer, where it is a step of its own
    for step in steps:
        size, shape = 0, by_name.get(step.name)
        if step.operation in ("sum", "pool"):
            size = _map_bytes(step)
        elif shape is not None and shape.has_neurons:
            size = spike_map_bytes(shape.neurons, shape.out_channels)
        is_current = step.operation in ("identity", "flatten") or (shape is not None and shape.kind == "shortcut")
        names = (steps[number].name for number in step.inputs)
        kept.append(KeptMap(step.name, tuple(pooled.get(name, name) for name in names), size, is_current=is_current))
        pool = pool_behind(layers.get(step.name))
        if pool is not None:
            pooled[step.name] = pool_step_name(step.name)
            kept.append(KeptMap(pooled[step.name], (step.name,), _map_bytes(step)))
    forms = {
        step.name: _form(step, steps, layers) for step in steps if isinstance(layers.get(step.name), SpikingConv2d)
    }
    averages = [step for step in steps if step.operation == "average"]
    running = [layers[step.name] for step in steps if step.operation == "layer"]
    return Architecture(
        map_bytes=place_maps(kept)[1],
        average_bytes=sum(4 * step.shape[1] for step in averages),
        sums=sum(step.operation == "sum" for step in steps),
        averages=len(averages),
        inputs=max(
            unflattened(steps, number).shape[1] for step in steps if step.name not in forms for number in step.inputs
        ),
        heads=max((layer.heads for layer in running if isinstance(layer, SpikingSelfAttention)), default=0),
        classes=steps[-1].shape[-1],
        frame_bytes=math.prod(steps[0].shape[1:]),
        class_membranes=getattr(layers.get(steps[-1].name), "membrane", None) is not None,
        largest={step.name: steps[step.inputs[0]].largest or 0 for step in steps if step.operation == "layer"},
        pools=len(pooled) + sum(step.operation == "pool" for step in steps),
        takes_largest=any(
            isinstance(layer, SpikingConv2d) and layer.pool is not None and layer.pool.kind == "max-before"
            for layer in running
        ),
        forms=forms,
    )


def _form(step: Step, steps: Sequence[Step], layers: Mapping[str, SearchableLayer]) -> Form:
    """Return what the engine's fast path asks of a convolution."""
    layer, source = layers[step.name], steps[step.inputs[0]]
    assert isinstance(layer, SpikingConv2d)
    window = layer.kernel
    channels, height, width = unflattened(steps, step.inputs[0]).shape[1:]
    if source.operation == "flatten":  # the kernel is the map
        window = Window(Span(height), Span(width))
    size = (height, width)
    if source.operation != "flatten":
        size = layer.current_size(height, width)
    pool = None if layer.pool is None or needs_a_step(layer.pool) else layer.pool
    described = None
    if pool is not None:
        described = pool.kind, pool.window.sizes, pool.window.strides, pool.window.padding
    return Form(
        kernel=window.sizes,
        stride=window.strides,
        padding=window.padding,
        groups=layer.groups,
        pool=described,
        in_shape=(channels, height, width),
        out_channels=layer.out_channels,
        positions=size,
        reads=_reads(source, layers.get(source.name)),
        largest=source.largest or 0,
        has_residual=len(step.inputs) > 1,
    )


def _reads(source: Step, layer: SearchableLayer | None) -> Reads:
    """Return what a step gives."""
    if source.operation == "input":
        return "counts"
    if source.operation == "pool" or pool_behind(layer) is not None:
        return "spikes" if source.largest == 1 else "values"
    pool = layer.pool if isinstance(layer, SpikingConv2d) else None
    fires = isinstance(layer, SpikingConv2d | SpikingSelfAttention)
    return "spikes" if fires and (pool is None or pool.is_before) else "values"


def unflattened(steps: Sequence[Step], number: int) -> Step:
    """Return a step, or the one whose map it flattens."""
    step = steps[number]
    return steps[step.inputs[0]] if step.operation == "flatten" else step


def pool_behind(layer: SearchableLayer | None) -> Pool | None:
    """Return how a layer's spikes are pooled where a device does that in a step of its own."""
    pool = layer.pool if isinstance(layer, SpikingConv2d) else None
    return pool if pool is not None and needs_a_step(pool) else None


def _map_bytes(step: Step) -> int:
    """Return the bytes of a map that is no layer's: a bit a number where a pool's are 0 and 1, otherwise a byte."""
    channels, numbers = step.shape[1], math.prod(step.shape[1:])
    return numbers if step.operation == "sum" or step.largest != 1 else spike_map_bytes(numbers, channels)
