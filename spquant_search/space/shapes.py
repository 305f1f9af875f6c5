"""Shapes of a network's input and layers, as the network itself reports them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from spquant_search.space.neuron_form import NeuronForm


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerShape:
    """A layer as its network reports it for one frame: the only description that costs are computed from."""

    name: str
    # A shortcut is a convolution without neurons, attention has neurons and no weights.
    kind: Literal["convolution", "shortcut", "attention", "readout"]
    in_channels: int
    out_channels: int
    kernel_area: int  # products per pair of a connected input and output channel and position
    positions: int  # output positions a channel that are computed, before any pooling; for each window that one is in
    neurons: int
    can_gate: bool
    groups: int = 1  # input and output channels fall into so many groups that do not see each other
    weightless_macs: int = 0  # of one time step: products of two signals, as in attention
    learns_threshold: bool = False
    terms: int = 1  # outputs that one sum takes in, where sums are pooled before the neuron
    unpooled: int = 0  # positions of outputs that lie in memory before they are pooled; none where one kernel does both
    learns_leak: bool = False
    returns_to_rest: bool = True  # without current, whatever the grid; see NeuronForm
    halves: bool = True  # its neurons, where they are of the usual form: see NeuronForm
    own_form: NeuronForm | None = None  # of its neurons, where a space's is not taken
    sums_membranes: bool = False  # of a readout: its logits are the membranes of all time steps

    @property
    def weights(self) -> int:
        return self.in_channels * self.out_channels * self.kernel_area // self.groups if self.has_weights else 0

    @property
    def has_weights(self) -> bool:
        return self.kind != "attention"

    @property
    def has_neurons(self) -> bool:
        return self.kind in ("convolution", "attention")

    @property
    def dense_macs(self) -> int:
        """MACs of one time step."""
        return self.weights * self.positions + self.weightless_macs

    @property
    def current_positions(self) -> int:
        """The positions of the neurons' current: fewer than those of the outputs where pooling comes first."""
        return self.neurons // self.out_channels if self.has_neurons else self.positions

    @property
    def can_skip(self) -> bool:
        """True where a mask may skip neurons.

        Attention adds products of spikes, so that no potential lies below a cut; and a neuron that is skipped once must
        not be skipped for ever.
        """
        return self.kind == "convolution" and self.returns_to_rest


@dataclass(frozen=True, kw_only=True, slots=True)
class InputShape:
    """The frames that a network takes in, whole numbers up to ``largest``, and the number of its classes."""

    channels: int
    height: int
    width: int
    classes: int
    largest: int = 15

    @property
    def frame_bytes(self) -> int:
        """The bytes of a frame on a device, a byte a number."""
        return self.channels * self.height * self.width
