"""A network of a user's own that has all kinds of layers once: a residual with its shortcut, attention, three pools."""

from __future__ import annotations

from torch import Tensor, nn

from spquant_search.snn import Readout, Shortcut, SpikingConv2d, SpikingSelfAttention
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.space.shapes import InputShape

SPACE = """
data: {name: fashion-events}
time_steps: [1, 2, 4]
model: {network: own, build: "fake_gpu.own_network:build"}
neuron: {learn_threshold: true}
layers:
  all:
    weight_bits: [1, 2, 4, 8]
    membrane_levels: [3, 16]
    channel_mass: {from: 0.5, to: 1, step: 0.1}
    skip_below: [none, 0]
train: {batch_size: 32, optimizer: adam, tet_lambda: 0.1}
"""


class Own(nn.Module):
    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.first = SpikingConv2d(channels, 16, pool="before", can_gate=False)
        self.second = SpikingConv2d(16, 32, stride=2)
        self.beside = Shortcut(16, 32, stride=2)
        self.depthwise = SpikingConv2d(32, 32, groups=32, pool="max")
        self.q = SpikingConv2d(32, 32, kernel_size=1)
        self.k = SpikingConv2d(32, 32, kernel_size=1)
        self.v = SpikingConv2d(32, 32, kernel_size=1)
        self.attention = SpikingSelfAttention(32, heads=4)
        self.last = SpikingConv2d(32, 32, pool="after")
        self.readout = Readout(32, 1, classes)

    def forward(self, spikes: Spikes) -> Tensor:
        spikes = self.first(spikes)
        spikes = self.depthwise(self.second(spikes, self.beside(spikes)))
        spikes = added(spikes, self.attention(self.q(spikes), self.k(spikes), self.v(spikes)))
        logits: Tensor = self.readout(global_average(self.last(spikes)))
        return logits


def build(shape: InputShape) -> nn.Module:
    """Build it in floating point."""
    return Own(shape.channels, shape.classes)
