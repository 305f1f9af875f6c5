"""Networks of a user's own: one with all kinds of layers once, one with neurons of many forms, one of still images."""

from __future__ import annotations

from torch import Tensor, nn

from spquant_search.snn import (
    AvgPool2d,
    CountReadout,
    Flatten,
    MaxPool2d,
    NeuronForm,
    Pool,
    Readout,
    Shortcut,
    SpikingConv2d,
    SpikingLinear,
    SpikingSelfAttention,
)
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.space.shapes import InputShape

_SPACE = """
data: {name: DATA}
time_steps: [1, 2, 4]
model: {network: own, build: "fake_gpu.own_network:BUILD"}
neuron: {learn_threshold: true}
layers:
  all:
    weight_bits: [1, 2, 4, 8]
    membrane_levels: [3, 16]
    channel_mass: {from: 0.5, to: 1, step: 0.1}
    skip_below: [none, 0]
train: {batch_size: 32, optimizer: adam, tet_lambda: 0.1}
"""
# By the name of a space: its data, and the function below that builds its network.
_NETWORKS = {
    "own": ("fashion-events", "build"),
    "forms": ("fashion-events", "build_forms"),
    "stills": ("cifar10", "build_stills"),
}
NAMES = tuple(_NETWORKS)


def space_of(name: str) -> str:
    """Return the text of the space file of one of the networks."""
    data, build = _NETWORKS[name]
    return _SPACE.replace("DATA", data).replace("BUILD", build)


class Own(nn.Module):
    """A residual with its shortcut, attention, three pools."""

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


class Forms(nn.Module):
    """All rules of neurons, leaks that are learned, integrators; uneven kernels; membranes as logits."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        short = NeuronForm(leak=0.3, reset="subtract", spike_at_threshold=True)  # may be skipped
        delayed = NeuronForm(leak=0.9, reset="delayed-subtract", learn_leak=True)
        parametric = NeuronForm(leak=0.6, learn_leak=True, spike_at_threshold=True)
        integrator = NeuronForm(leak=1, reset="subtract", spike_at_threshold=True)
        kernel = {"kernel_size": (4, 3), "padding": (1, 1, 2, 1)}
        self.first = SpikingConv2d(
            channels, 16, can_gate=False, pool=Pool("max-before", 3, 2, 1), neuron=short, **kernel
        )  # type: ignore[arg-type]
        self.second = SpikingConv2d(16, 32, kernel_size=2, stride=2, padding=0, neuron=delayed)
        self.beside = Shortcut(16, 32, kernel_size=2, stride=2, padding=0)
        self.summed = SpikingConv2d(32, 32, groups=4, pool=Pool("before", (2, 3), 1, (1, 1)), neuron=short)
        self.pooled = SpikingConv2d(32, 32, pool="after", neuron=parametric)
        self.attention = SpikingSelfAttention(32, heads=4, neuron=NeuronForm(leak=1, spike_at_threshold=True))
        self.largest = SpikingConv2d(32, 32, kernel_size=1, pool=Pool("max", 3, 2, 1))
        self.flatten = Flatten()
        self.hidden = SpikingLinear(32 * 2 * 2, 24, neuron=integrator)
        self.readout = Readout(24, 1, classes, membrane="sum", leak=0.9)

    def forward(self, spikes: Spikes) -> Tensor:
        spikes = self.first(spikes)
        spikes = self.summed(self.second(spikes, self.beside(spikes)))
        spikes = self.largest(self.pooled(spikes))
        spikes = self.attention(spikes, spikes, spikes)
        logits: Tensor = self.readout(self.hidden(self.flatten(spikes)))
        return logits


class Stills(nn.Module):
    """Still images, which are convolved once; integrators; pools between layers; spikes that are counted."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        integrator = NeuronForm(leak=1, spike_at_threshold=True)
        delayed = NeuronForm(leak=0.9, reset="delayed-subtract")
        self.first = SpikingConv2d(
            channels, 16, kernel_size=5, stride=2, padding=(1, 2, 2, 1), can_gate=False, neuron=integrator
        )
        self.average = AvgPool2d(3, 2, 1)
        self.second = SpikingConv2d(16, 32, kernel_size=(1, 4), padding=(2, 1, 0, 0), groups=2)
        self.largest = MaxPool2d(2)
        self.flatten = Flatten()
        self.hidden = SpikingLinear(32 * 4 * 4, 64, norm=True, neuron=delayed)
        self.last = SpikingLinear(64, 4 * classes, neuron=NeuronForm(leak=1, reset="subtract"))
        self.readout = CountReadout(classes, votes=4)

    def forward(self, spikes: Spikes) -> Tensor:
        spikes = self.largest(self.second(self.average(self.first(spikes))))
        logits: Tensor = self.readout(self.last(self.hidden(self.flatten(spikes))))
        return logits


def build(shape: InputShape) -> nn.Module:
    """Build it in floating point."""
    return Own(shape.channels, shape.classes)


def build_forms(shape: InputShape) -> nn.Module:
    """Build it in floating point."""
    return Forms(shape.channels, shape.classes)


def build_stills(shape: InputShape) -> nn.Module:
    """Build it in floating point."""
    return Stills(shape.channels, shape.classes)
