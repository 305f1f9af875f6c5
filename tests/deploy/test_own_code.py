"""What a network's own code may do to a residual: all three forms agree on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from deploy.agreement import assert_all_agree
from deploy.networks import lively, needs_compiler
from torch import Tensor, nn

from spquant_search.snn import Readout, Spikes, SpikingConv2d
from spquant_search.snn.layers import configure
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

SHAPE = InputShape(channels=2, height=12, width=12, classes=3)


class ResidualWithoutDivisor(nn.Module):
    """Sums of 2x2 spikes as a current of up to 4, where Spikes.current gives one of up to 1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SpikingConv2d(2, 4, pool="after", can_gate=False)
        self.last = SpikingConv2d(4, 4)
        self.readout = Readout(4, 36, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        spikes = self.stem(spikes)
        logits: Tensor = self.readout(self.last(spikes, residual=spikes.values))
        return logits


@needs_compiler
def test_values_without_their_divisor_are_a_current(tmp_path: Path, plain_neurons: None) -> None:
    torch.manual_seed(0)
    network = ResidualWithoutDivisor()
    firing = LayerPrecision(weight_bits=4, membrane_levels=3)
    layers = (("stem", firing), ("last", firing), ("readout", LayerPrecision(weight_bits=4, membrane_levels=None)))
    configure(network, NetworkConfig(time_steps=3, layers=layers), NeuronSpace())
    frames = np.random.default_rng(0).poisson(0.8, (8, 3, 2, 12, 12)).astype(np.uint8)
    lively(network, frames, 15)
    assert_all_agree(network, SHAPE, frames, tmp_path)
