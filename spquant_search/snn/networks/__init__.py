"""Networks by name, their layers' shapes, and the setting of a configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.cost import LayerShape
from spquant_search.errors import SpaceError
from spquant_search.snn.layers import SearchableLayer, Spikes, searchable_layers
from spquant_search.snn.networks.vgg import SHRINKS, Vgg9
from spquant_search.space import ModelSpace, NetworkConfig, NeuronSpace, suggestion

NETWORKS = ("vgg9",)


@dataclass(frozen=True, kw_only=True, slots=True)
class InputShape:
    """What a network is fed with: frames of whole numbers up to ``largest``, and how many classes it tells apart."""

    channels: int
    height: int
    width: int
    classes: int
    largest: int = 15


def build(model: ModelSpace, shape: InputShape, *, source: str) -> nn.Module:
    """The network of a space, in floating point.

    Raises:
        SpaceError: no such network, or an input that it would pool away.
    """
    if model.network not in NETWORKS:
        near = suggestion(model.network, NETWORKS)
        known = ", ".join(NETWORKS)
        raise SpaceError(source, [f"model.network: unknown network {model.network!r}{near} Known: {known}"])
    if min(shape.height, shape.width) < SHRINKS:
        size = f"{shape.height}x{shape.width}"
        raise SpaceError(source, [f"model.network: vgg9 halves its input 4 times and needs at least 16x16; got {size}"])
    return Vgg9(
        in_channels=shape.channels,
        height=shape.height,
        width=shape.width,
        classes=shape.classes,
        width_factor=model.width,
        pool=model.pool,
    )


def configure(network: nn.Module, config: NetworkConfig, neuron: NeuronSpace) -> None:
    """Set every layer's precision; nothing is rebuilt or recompiled, so this may happen between two steps."""
    for name, layer in searchable_layers(network).items():
        layer.set_precision(config[name], neuron)


def layer_shapes(model: ModelSpace, shape: InputShape, *, source: str) -> tuple[LayerShape, ...]:
    """The shapes of a network's layers, from one pass of one frame on the meta device: no memory, no arithmetic."""
    with torch.device("meta"):
        network = build(model, shape, source=source).eval()
        frame = torch.empty(1, shape.channels, shape.height, shape.width)
    found: list[LayerShape] = []

    def record(name: str, layer: SearchableLayer) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Any, ...]) -> None:
            found.append(layer.shape(name, *(one for one in inputs if isinstance(one, Spikes))))

        return hook

    for name, layer in searchable_layers(network).items():
        layer.register_forward_pre_hook(record(name, layer))
    with torch.no_grad():
        network(Spikes(values=frame, time_steps=1, largest=shape.largest))
    return tuple(found)


def spikes_from_frames(frames: Tensor, *, largest: int, dtype: torch.dtype) -> Spikes:
    """The network's input: event counts [batch, time, channels, height, width] in uint8, clamped, time first.

    Counts are used as they are: no scaling and no mean, so that the first layer adds integers too.
    """
    time_steps = frames.shape[1]
    values = frames.transpose(0, 1).flatten(0, 1).clamp(max=largest).to(dtype, memory_format=torch.channels_last)
    return Spikes(values=values, time_steps=time_steps, largest=largest)
