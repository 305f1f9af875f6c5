"""Layers of a quantized spiking network: what every network of this package, or a user's own, is built from.

What flows between layers is a :class:`Spikes`: whole numbers with their divisor, the number of time steps, and which
channels the sender's gate left open. Averages are kept as sums until a layer divides by their count, so that in
evaluation every convolution adds integers.

Training and evaluation differ in one respect. In training a convolution takes fake-quantized weights, possibly in
bf16, and batch norm its batch's statistics. In evaluation it has one defined form: integer weights convolve integer
inputs (exact in fp32), then comes a * A + d per channel with batch norm and all scales folded, then the neuron. Where
two branches meet, each has its own a and d, and their currents are added before the neuron. A batch norm that is set to
training in a network that otherwise evaluates normalizes by its batch's statistics and gathers them.

a and d are dyadic (:mod:`spquant_search.snn.fixedpoint`), as are the membrane's grid, the leak and a learned threshold.
So is every current and potential then, and double precision holds each of them exactly: evaluation is integer
arithmetic in other clothes, and what a device computes in integers is equal, not close. Layers with float weights have
no such form: their convolutions are those of fp32.
"""

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
    """A layer whose precision can be chosen: a network's are found by this class and named by their place in it.

    ``gate_loss`` holds the channel gate's loss of the last training forward, None without a gate. What the layer does
    in evaluation goes to ``activity`` while it is :func:`measured`.
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
        """That of the weight bits in force."""
        return self.quantizers.get(self.precision.weight_bits, "statistics")

    def set_precision(self, precision: LayerPrecision, neuron: NeuronSpace) -> None:
        """Take a new precision; nothing is rebuilt or recompiled."""
        raise NotImplementedError

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        """What this layer is for inputs like these (of one frame), for cost and search."""
        raise NotImplementedError


def searchable_layers(network: nn.Module) -> dict[str, SearchableLayer]:
    """The layers of a network whose precision can be chosen, by name, in the order of their definition."""
    return {name: module for name, module in network.named_modules() if isinstance(module, SearchableLayer)}


@contextmanager
def measured(network: nn.Module) -> Iterator[dict[str, Activity]]:
    """Within this context the network's layers record what they do."""
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
