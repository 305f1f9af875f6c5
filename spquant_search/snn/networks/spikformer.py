"""Spikformer-4-256 (Zhou et al., ICLR 2023): spiking patch splitting, four blocks of attention and MLP, a linear head.

Every linear layer is a convolution with kernel size 1 on [time_batch, channels, height, width], whose positions are the
tokens. The residual connections add spikes, so that a block passes on whole numbers. Patches are pooled in windows of
2x2 (the released code: 3x3 with stride 2) by the maximum of the spikes; linear layers have no biases, which their batch
norm would cancel; there are 8 heads, where the released CIFAR-10 configuration has 12 for its 384 channels.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d

if TYPE_CHECKING:
    from spquant_search.space.schema import ModelSpace
    from spquant_search.space.shapes import InputShape

CHANNELS = 256
BLOCKS = 4
HEADS = 8
MLP_RATIO = 4
# Output channels and pooling of the patch splitting.
PATCHES: tuple[tuple[int, Literal["max"] | None], ...] = (
    (CHANNELS // 8, None),
    (CHANNELS // 4, None),
    (CHANNELS // 2, "max"),
    (CHANNELS, "max"),
)
SMALLEST_INPUT = 4  # halved twice, one token is left


class Spikformer(nn.Module):
    """``patch1`` .. ``patch4``, ``position``, for each block ``b1q`` ``b1k`` ``b1v`` ``b1attention`` ``b1proj``
    ``b1mlp1`` ``b1mlp2``, and ``readout``; every convolution but the first can have a gate.

    Any input whose sides are at least SMALLEST_INPUT fits: no layer depends on the number of tokens.
    """

    def __init__(self, *, in_channels: int, classes: int, width_factor: float) -> None:
        super().__init__()
        channels = in_channels
        for index, (full, pool) in enumerate(PATCHES, start=1):
            out = max(1, round(full * width_factor))
            self.add_module(f"patch{index}", SpikingConv2d(channels, out, pool=pool, can_gate=index > 1))
            channels = out
        self.position = SpikingConv2d(channels, channels)
        for block in range(1, BLOCKS + 1):
            self._add_block(f"b{block}", channels)
        self.readout = Readout(channels, 1, classes)

    def _add_block(self, block: str, channels: int) -> None:
        for name in ("q", "k", "v"):
            self.add_module(f"{block}{name}", SpikingConv2d(channels, channels, kernel_size=1))
        # All 8 heads where 8 divides the channels, as many as divide them where the network is too narrow for that.
        self.add_module(f"{block}attention", SpikingSelfAttention(channels, math.gcd(channels, HEADS)))
        self.add_module(f"{block}proj", SpikingConv2d(channels, channels, kernel_size=1))
        self.add_module(f"{block}mlp1", SpikingConv2d(channels, MLP_RATIO * channels, kernel_size=1))
        self.add_module(f"{block}mlp2", SpikingConv2d(MLP_RATIO * channels, channels, kernel_size=1))

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        for index in range(1, len(PATCHES) + 1):
            spikes = self._layer(f"patch{index}", spikes)
        spikes = added(spikes, self.position(spikes))
        for block in range(1, BLOCKS + 1):
            spikes = self._block(f"b{block}", spikes)
        logits: Tensor = self.readout(global_average(spikes))
        return logits

    def _block(self, block: str, spikes: Spikes) -> Spikes:
        q, k, v = (self._layer(f"{block}{name}", spikes) for name in ("q", "k", "v"))
        attention = self._layer(f"{block}attention", q, k, v)
        spikes = added(spikes, self._layer(f"{block}proj", attention))
        return added(spikes, self._layer(f"{block}mlp2", self._layer(f"{block}mlp1", spikes)))

    def _layer(self, name: str, *spikes: Spikes) -> Spikes:
        out: Spikes = self.get_submodule(name)(*spikes)
        return out


def build_spikformer(model: ModelSpace, shape: InputShape) -> Spikformer:
    """Build it in floating point; ``model.pool`` is ignored: patches are always pooled by their maximum."""
    return Spikformer(in_channels=shape.channels, classes=shape.classes, width_factor=model.width)
