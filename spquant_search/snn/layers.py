"""The base of all layers with a precision, and the ways to find, set and measure the layers of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor, nn

from spquant_search.snn.activity import Activity
from spquant_search.snn.spikes import Spikes
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

    def __init__(self, precision: LayerPrecision) -> None:
        super().__init__()
        self.precision = precision
        self.quantizers = {}
        self.gate_loss = None
        self.activity = None

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


def searchable_layers(network: nn.Module) -> dict[str, SearchableLayer]:
    """Find the layers of a network whose precision can be chosen, by name, in the order of their definition."""
    return {name: module for name, module in network.named_modules() if isinstance(module, SearchableLayer)}


@contextmanager
def measured(network: nn.Module) -> Iterator[dict[str, Activity]]:
    """Have the network's layers count, in this context, what they do."""
    layers = searchable_layers(network)
    activities = {name: Activity() for name in layers}
    try:
        for name, layer in layers.items():
            layer.activity = activities[name]
        yield activities
    finally:
        for layer in layers.values():
            layer.activity = None


def configure(network: nn.Module, config: NetworkConfig, neuron: NeuronSpace) -> None:
    """Set every layer's precision; nothing is rebuilt or recompiled, so this may happen between two steps."""
    for name, layer in searchable_layers(network).items():
        layer.set_precision(config[name], neuron)
