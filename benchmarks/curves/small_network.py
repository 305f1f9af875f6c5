"""A network of three spiking convolutions: small enough that every configuration of a space can be trained."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn import InputShape, Readout, Spikes, SpikingConv2d

NARROW, WIDE = (4, 8, 16), (8, 16, 32)  # channels


class SmallNetwork(nn.Module):
    """``conv1`` with stride 2, ``conv2`` and ``conv3`` with pooling, ``readout``."""

    def __init__(self, shape: InputShape, channels: tuple[int, int, int]) -> None:
        super().__init__()
        first, second, third = channels
        self.conv1 = SpikingConv2d(shape.channels, first, stride=2, can_gate=False)
        self.conv2 = SpikingConv2d(first, second, pool="before")
        self.conv3 = SpikingConv2d(second, third, pool="before")
        positions = (-(-shape.height // 2) // 4) * (-(-shape.width // 2) // 4)
        self.readout = Readout(third, positions, shape.classes)

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        for layer in (self.conv1, self.conv2, self.conv3):
            spikes = layer(spikes)
        logits: Tensor = self.readout(spikes)
        return logits


def narrow(shape: InputShape) -> SmallNetwork:
    return SmallNetwork(shape, NARROW)


def wide(shape: InputShape) -> SmallNetwork:
    return SmallNetwork(shape, WIDE)
