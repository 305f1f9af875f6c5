"""A small spiking MobileNet: depthwise separable convolutions, each half with its own neurons.

It has the pairs of MobileNet (Howard et al., 2017, table 1) up to 512 channels, with two instead of six at 512.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import ModelSpace

if TYPE_CHECKING:
    from spquant_search.space.shapes import InputShape

STEM_CHANNELS = 32
CHANNELS = (64, 128, 128, 256, 256, 512, 512)
STRIDES = (1, 2, 1, 2, 1, 2, 1)  # of the depthwise half: 2 where the channels grow, but for the first
SMALLEST_INPUT = 8
LARGE_INPUT = 64  # from this height and width on the stem halves them, as the original's does


class MobileNet(nn.Module):
    """``stem``, pairs ``dw1``, ``pw1`` .. ``dw7``, ``pw7`` of a depthwise 3x3 and a pointwise 1x1, and ``readout``.

    The pointwise halves, where nearly all products are, have gates. A depthwise channel that is closed before it has no
    products; a gate of its own would have a predictor of up to as many as the layer.
    """

    def __init__(self, *, in_channels: int, classes: int, width_factor: float, stem_stride: int) -> None:
        super().__init__()
        channels = max(1, round(STEM_CHANNELS * width_factor))
        self.stem = SpikingConv2d(in_channels, channels, stride=stem_stride, can_gate=False)
        for index, (full, stride) in enumerate(zip(CHANNELS, STRIDES, strict=True), start=1):
            out = max(1, round(full * width_factor))
            depthwise = SpikingConv2d(channels, channels, stride=stride, groups=channels, can_gate=False)
            self.add_module(f"dw{index}", depthwise)
            self.add_module(f"pw{index}", SpikingConv2d(channels, out, kernel_size=1))
            channels = out
        self.readout = Readout(channels, 1, classes)

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        spikes = self.stem(spikes)
        for index in range(1, len(CHANNELS) + 1):
            spikes = self.get_submodule(f"dw{index}")(spikes)
            spikes = self.get_submodule(f"pw{index}")(spikes)
        logits: Tensor = self.readout(global_average(spikes))
        return logits


def build_mobilenet(model: ModelSpace, shape: InputShape) -> MobileNet:
    """Build the network in floating point; ``model.pool`` is ignored, as strides do what pooling does elsewhere."""
    stem_stride = 2 if min(shape.height, shape.width) >= LARGE_INPUT else 1
    return MobileNet(
        in_channels=shape.channels, classes=shape.classes, width_factor=model.width, stem_stride=stem_stride
    )
