"""The spiking linear layer."""

from __future__ import annotations

from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.shapes import LayerShape


class SpikingLinear(SpikingConv2d):
    """Neurons that see all channels of one pixel, as :class:`torch.nn.Linear` does: a convolution of kernel 1.

    A map is flattened before it. It has no gate, whose predictor would have as many products as the layer.
    """

    def __init__(
        self, in_features: int, out_features: int, *, norm: bool = False, neuron: NeuronForm | None = None
    ) -> None:
        super().__init__(in_features, out_features, kernel_size=1, can_gate=False, norm=norm, neuron=neuron)

    def shape(self, name: str, *inputs: Spikes) -> LayerShape:
        for spikes in inputs:
            channels, height, width = spikes.values.shape[1:]
            if height * width > 1:
                features = channels * height * width
                raise ValueError(
                    f"a SpikingLinear reads one pixel; it gets a map of {height}x{width} with {channels} channels. Put "
                    f"a Flatten() before it, which makes {features} features of it, or make it a SpikingConv2d"
                )
        return super().shape(name, *inputs)
