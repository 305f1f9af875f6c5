"""A small network whose maps have odd sizes where they are pooled, in random precisions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from deploy.networks import Choices, drawn_config, lively
from torch import Tensor, nn

from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import configure
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

SAMPLES = 3
DENSE = Choices(mass=(1.0,), skip=(None,))
GATED = Choices(mass=(0.7,), skip=(None,))


class Odd(nn.Module):
    """Layers that pool maps of odd sizes, with residuals from a shortcut and from spikes themselves."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.first = SpikingConv2d(2, 8, pool="before", can_gate=False)
        self.shortcut = Shortcut(8, 8)
        self.second = SpikingConv2d(8, 8)
        self.third = SpikingConv2d(8, 8, pool=pool)
        self.last = SpikingConv2d(8, 6, pool=pool, kernel_size=1)
        self.readout = Readout(6, 1, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        first = self.first(spikes)
        second = self.second(first, first.current())
        third = self.third(second, self.shortcut(first))
        logits: Tensor = self.readout(global_average(self.last(third)))
        return logits


def build_max(shape: InputShape) -> nn.Module:
    return Odd("max")


def build_after(shape: InputShape) -> nn.Module:
    return Odd("after")


BUILDERS = {"max": build_max, "after": build_after}


def an_odd_network(
    pool: str, *, size: tuple[int, int], time_steps: int, choices: Choices, seed: int = 1, learn: bool = False
) -> tuple[nn.Module, InputShape, Any]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    shape = InputShape(channels=2, height=size[0], width=size[1], classes=3)
    network = BUILDERS[pool](shape)
    configure(network, drawn_config(network, generator, choices), NeuronSpace(learn_threshold=learn))
    frames = generator.poisson(1.0, (SAMPLES, time_steps, 2, *size)).astype(np.uint8)
    lively(network, frames, shape.largest)
    return network, shape, frames
