"""VGG-9, as in SpQuant-SNN: 64-128-P-256-256-P-512-512-P-512-512-P, 3x3, and one linear readout."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import ModelSpace

if TYPE_CHECKING:
    from spquant_search.space.shapes import InputShape

CHANNELS = (64, 128, 256, 256, 512, 512, 512, 512)
POOLED = (False, True, False, True, False, True, False, True)
SMALLEST_INPUT = 2 ** sum(POOLED)  # one pixel is left


class Vgg9(nn.Module):
    """Eight spiking convolutions ``conv1`` .. ``conv8`` and ``readout``; the first has no gate."""

    def __init__(
        self,
        *,
        in_channels: int,
        height: int,
        width: int,
        classes: int,
        width_factor: float,
        pool: Literal["before", "after"],
    ) -> None:
        super().__init__()
        channels = in_channels
        for index, (full, pooled) in enumerate(zip(CHANNELS, POOLED, strict=True), start=1):
            out = max(1, round(full * width_factor))
            layer = SpikingConv2d(channels, out, pool=pool if pooled else None, can_gate=index > 1)
            self.add_module(f"conv{index}", layer)
            channels = out
        self.readout = Readout(channels, (height // SMALLEST_INPUT) * (width // SMALLEST_INPUT), classes)

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        for index in range(1, len(CHANNELS) + 1):
            spikes = self.get_submodule(f"conv{index}")(spikes)
        logits: Tensor = self.readout(spikes)
        return logits


def build_vgg9(model: ModelSpace, shape: InputShape) -> Vgg9:
    """Build VGG-9 in floating point, at a space's width, for inputs of this shape."""
    return Vgg9(
        in_channels=shape.channels,
        height=shape.height,
        width=shape.width,
        classes=shape.classes,
        width_factor=model.width,
        pool=model.pool,
    )
