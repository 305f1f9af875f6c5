"""The base of all layers with a precision, and the ways to find, set and measure the layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import Tensor, nn

from spquant_search.snn.activity import Activity
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.window import is_count
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.fields import Quantizer
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import LayerShape


class SearchableLayer(nn.Module):
    """A layer whose precision can be chosen. A network's layers are found by this class, and named by their place in
    it.

    ``gate_loss`` holds the channel gate's loss of the last forward pass in training, None without a gate. While the
    layer is :func:`measured`, it counts in ``activity`` what it does in evaluation.
    """

    precision: LayerPrecision
    quantizers: Mapping[int, Quantizer]  # of its weights, by their bits; "statistics" where none is named
    gate_loss: Tensor | None
    activity: Activity | None
    is_searched: bool  # False where the output of its network does not depend on it

    def __init__(self, precision: LayerPrecision) -> None:
        super().__init__()
        self.precision = precision
        self.quantizers = {}
        self.gate_loss = None
        self.activity = None
        self.is_searched = True

    @property
    def quantizer(self) -> Quantizer:
        """The quantizer of the weight bits in force."""
        return self.quantizers.get(self.precision.weight_bits, "statistics")

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        """Take a new precision, here of the weights; nothing is rebuilt or recompiled."""
        del neuron  # for layers that have neurons
        self.precision = precision

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        """Describe this layer, for cost and search, by inputs of one frame."""
        raise NotImplementedError


def check_count(name: str, value: object) -> None:
    """Raise ValueError where an argument of a layer is no int of at least 1."""
    if not is_count(value):
        raise ValueError(f"{name} must be an int of at least 1; got {value!r}")


def check_channels(inputs: Sequence[Spikes], channels: int) -> None:
    """Raise ValueError where a layer that was made for so many channels gets others."""
    for spikes in inputs:
        found = tuple(spikes.values.shape[1:])
        if found[0] != channels:
            raise ValueError(f"the layer was made for {channels} channels; it gets [channels, height, width] = {found}")


def searchable_layers(network: nn.Module) -> dict[str, SearchableLayer]:
    """Find the layers of a network whose precision can be chosen, by name, in the order of their definition."""
    return {name: module for name, module in network.named_modules() if isinstance(module, SearchableLayer)}


@contextmanager
def measured(network: nn.Module) -> Iterator[dict[str, Activity]]:
    """Have the network's layers count, in this context, what they do; those that are not searched do not."""
    layers = {name: layer for name, layer in searchable_layers(network).items() if layer.is_searched}
    activities = {name: Activity() for name in layers}
    try:
        for name, layer in layers.items():
            layer.activity = activities[name]
        yield activities
    finally:
        for layer in layers.values():
            layer.activity = None


def configure(network: nn.Module, config: NetworkConfig, neuron: NeuronSpace) -> None:
    """Set every layer's precision; nothing is rebuilt or recompiled, so this may happen between two steps.

    A layer that the configuration does not name is not searched, as the network's output does not depend on it. It
    stays as it is.
    """
    precisions, layers = dict(config.layers), searchable_layers(network)
    if not precisions.keys() <= layers.keys():
        raise KeyError(f"the network has no {', '.join(precisions.keys() - layers.keys())}")
    for name, layer in layers.items():
        layer.is_searched = name in precisions
        if layer.is_searched:
            layer.set_precision(precisions[name], neuron)
