"""The networks that come with the package, by name, and the networks of users, built for a space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from spquant_search.errors import Problem, SpaceError
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.networks import mobilenet, resnet, spikformer, vgg
from spquant_search.snn.networks.custom import build_custom
from spquant_search.snn.networks.mobilenet import build_mobilenet
from spquant_search.snn.networks.planned import build_planned
from spquant_search.snn.networks.resnet import build_resnet19, build_resnet34
from spquant_search.snn.networks.spikformer import build_spikformer
from spquant_search.snn.networks.vgg import build_vgg5, build_vgg9
from spquant_search.space.messages import suggestion
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape


@dataclass(frozen=True, kw_only=True, slots=True)
class Network:
    """A network that comes with the package."""

    build: Callable[[ModelSpace, InputShape], nn.Module]
    smallest_input: int  # height and width in pixels


NETWORKS = {
    "vgg9": Network(build=build_vgg9, smallest_input=vgg.VGG9.shrinks),
    "vgg5": Network(build=build_vgg5, smallest_input=vgg.VGG5.shrinks),
    "resnet19": Network(build=build_resnet19, smallest_input=resnet.RESNET19.smallest_input),
    "resnet34": Network(build=build_resnet34, smallest_input=resnet.RESNET34.smallest_input),
    "spikformer4-256": Network(build=build_spikformer, smallest_input=spikformer.SMALLEST_INPUT),
    "mobilenet": Network(build=build_mobilenet, smallest_input=mobilenet.SMALLEST_INPUT),
}


def build(model: ModelSpace, shape: InputShape, *, source: str) -> nn.Module:
    """Build the network of a space, in floating point.

    Raises:
        SpaceError: no such network, an input that it would pool away, or a user's network that cannot be built.
    """
    network = _build(model, shape, source=source)
    for layer in searchable_layers(network).values():
        layer.quantizers = model.quantizer
    return network


def _build(model: ModelSpace, shape: InputShape, *, source: str) -> nn.Module:
    if model.layers is not None:
        return build_planned(model.layers, shape, source=source)
    if model.build is not None:
        return build_custom(model.build, shape, source=source)
    known = NETWORKS.get(model.network)
    if known is None:
        near = suggestion(model.network, NETWORKS)
        names = ", ".join(NETWORKS)
        sentence = f"unknown network {model.network!r}{near} Known: {names}; your own goes into model.build"
        raise SpaceError(source, [Problem("model.network", sentence)])
    if (unfit := too_small(model, shape)) is not None:
        raise SpaceError(source, [Problem("model.network", unfit)])
    return known.build(model, shape)


def too_small(model: ModelSpace, shape: InputShape) -> str | None:
    """Say which inputs a network of the package takes where these are too small for it, and which network fits."""
    known = None if model.own is not None else NETWORKS.get(model.network)
    size = min(shape.height, shape.width)
    if known is None or size >= known.smallest_input:
        return None
    fitting = [_takes(name) for name, network in NETWORKS.items() if network.smallest_input <= size]
    others = f"a network that fits ({'; '.join(fitting)})" if fitting else "a network of your own (model.build)"
    return f"{_takes(model.network)}; got {shape.height}x{shape.width}. Take a larger data.size, or {others}"


def _takes(name: str) -> str:
    least = NETWORKS[name].smallest_input
    return f"{name} takes {least}x{least} and up"
