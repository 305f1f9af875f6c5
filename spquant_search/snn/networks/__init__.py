"""Networks by name, their layers' shapes, and the setting of a configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from spquant_search.errors import SpaceError
from spquant_search.snn.layers import SearchableLayer, Spikes, searchable_layers
from spquant_search.snn.networks import mobilenet, resnet, spikformer, vgg
from spquant_search.snn.networks.mobilenet import build_mobilenet
from spquant_search.snn.networks.own import build_own
from spquant_search.snn.networks.resnet import build_resnet19, build_resnet34
from spquant_search.snn.networks.spikformer import build_spikformer
from spquant_search.snn.networks.vgg import build_vgg9
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.messages import suggestion
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape, LayerShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A network that comes with the package."""

    build: Callable[[ModelSpace, InputShape], nn.Module]
    smallest_input: int  # height and width in pixels


NETWORKS = {
    "vgg9": Network(build=build_vgg9, smallest_input=vgg.SMALLEST_INPUT),
    "resnet19": Network(build=build_resnet19, smallest_input=resnet.RESNET19.smallest_input),
    "resnet34": Network(build=build_resnet34, smallest_input=resnet.RESNET34.smallest_input),
    "spikformer4-256": Network(build=build_spikformer, smallest_input=spikformer.SMALLEST_INPUT),
    "mobilenet": Network(build=build_mobilenet, smallest_input=mobilenet.SMALLEST_INPUT),
}


def build(model: ModelSpace, shape: InputShape, *, source: str) -> nn.Module:
    """The network of a space, in floating point.

    Raises:
        SpaceError: no such network, an input that it would pool away, or a user's own that cannot be built.
    """
    network = _build(model, shape, source=source)
    for layer in searchable_layers(network).values():
        layer.quantizers = model.quantizer
    return network


def _build(model: ModelSpace, shape: InputShape, *, source: str) -> nn.Module:
    if model.build is not None:
        return build_own(model.build, shape, source=source)
    known = NETWORKS.get(model.network)
    if known is None:
        near = suggestion(model.network, NETWORKS)
        names = ", ".join(NETWORKS)
        raise SpaceError(
            source,
            [f"model.network: unknown network {model.network!r}{near} Known: {names}; your own goes into model.build"],
        )
    least = known.smallest_input
    if min(shape.height, shape.width) < least:
        size = f"{shape.height}x{shape.width}"
        raise SpaceError(
            source, [f"model.network: {model.network} needs an input of {least}x{least} at least; got {size}"]
        )
    return known.build(model, shape)


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
    try:
        with torch.no_grad():
            logits = network(Spikes(values=frame, time_steps=1, largest=shape.largest))
    except Exception as error:
        if model.build is None:
            raise
        words = f"{type(error).__name__}: {error}"
        raise SpaceError(
            source, [f"model.build: {model.build} fails on an input of {tuple(frame.shape)}: {words}"]
        ) from error
    expected = (1, 1, shape.classes)
    if not isinstance(logits, Tensor) or tuple(logits.shape) != expected:
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise SpaceError(
            source,
            [f"model.build: {model.build} must give logits of [time, batch, classes], here {expected}; got {got}"],
        )
    return tuple(found)


def spikes_from_frames(frames: Tensor, *, largest: int, dtype: torch.dtype, time_steps: int | None = None) -> Spikes:
    """The network's input: event counts [batch, time, channels, height, width] in uint8, clamped, time first.

    Counts are used as they are: no scaling and no mean, so that the first layer adds integers too. A still image is one
    frame for all ``time_steps`` (None: as many as there are frames), and its values then are those of one step.
    """
    time_steps = frames.shape[1] if time_steps is None else time_steps
    values = frames.transpose(0, 1).flatten(0, 1).clamp(max=largest).to(dtype, memory_format=torch.channels_last)
    return Spikes(values=values, time_steps=time_steps, largest=largest, constant=frames.shape[1] < time_steps)
