"""Small networks in random precisions, and the files that they are exported to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.deploy.c_library import compiler
from spquant_search.deploy.export import Export, sealed
from spquant_search.deploy.reference import Model
from spquant_search.deploy.weights_file import WEIGHTS_FILE
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace, NeuronSpace
from spquant_search.space.shapes import InputShape

TIME = 3


ABOUT = {"run": "some", "trial": 1, "accuracy": 0.5, "test_accuracy": None}


needs_compiler = pytest.mark.skipif(compiler() is None, reason="there is no C compiler")


@dataclass
class Choices:
    """The values that a random configuration is drawn from."""

    bits: tuple[int, ...] = (1, 2, 3, 4, 8)
    levels: tuple[int, ...] = (2, 3, 4, 5, 16, 24, 256)
    mass: tuple[float, ...] = (1.0, 0.7)
    skip: tuple[float | None, ...] = (None, 0.0, -0.5)


def drawn_config(network: nn.Module, generator: np.random.Generator, choices: Choices) -> NetworkConfig:
    layers = []
    for name, layer in searchable_layers(network).items():
        fires = isinstance(layer, SpikingConv2d | SpikingSelfAttention)
        can_gate = getattr(layer, "gate", None) is not None
        precision = LayerPrecision(
            weight_bits=int(generator.choice(choices.bits)),
            membrane_levels=int(generator.choice(choices.levels)) if fires else None,
            channel_mass=float(generator.choice(choices.mass)) if can_gate else 1.0,
            skip_below=choices.skip[generator.integers(len(choices.skip))]
            if isinstance(layer, SpikingConv2d)
            else None,
        )
        layers.append((name, precision))
    return NetworkConfig(time_steps=TIME, layers=tuple(layers))


def lively(network: nn.Module, frames: NDArray[np.uint8], largest: int) -> None:
    """Give a network statistics of these frames, slopes of both signs, gates that open some channels, thresholds."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                sign = torch.where(torch.rand_like(module.weight) < 0.2, -1.0, 1.0)
                module.weight.copy_(sign * torch.empty_like(sign).uniform_(0.5, 2.0))
                module.bias.normal_(0.2, 0.5)
            if getattr(module, "mass_slope", None) is not None:
                module.weight.normal_(0, 0.3)  # type: ignore[union-attr, operator]
                module.bias.normal_(0.3, 0.3)  # type: ignore[union-attr, operator]
            if getattr(module, "log_threshold", None) is not None:
                module.log_threshold.normal_(0, 0.5)  # type: ignore[union-attr, operator]
        values = torch.from_numpy(frames).transpose(0, 1).flatten(0, 1).clamp(max=largest).float()
        for _ in range(3):
            network.train()(Spikes(values=values, time_steps=frames.shape[1], largest=largest))
    network.eval()


def a_network(  # noqa: PLR0913 - what a network is drawn from
    name: str,
    *,
    seed: int,
    size: int = 16,
    width: float = 1 / 16,
    pool: Any = "before",
    learn: bool = False,
    choices: Choices | None = None,
    largest: int = 15,
) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    shape = InputShape(channels=2, height=size, width=size + 1, classes=5, largest=largest)
    network = build(ModelSpace(network=name, width=width, pool=pool), shape, source="test")
    config = drawn_config(network, generator, choices or Choices())
    configure(network, config, NeuronSpace(learn_threshold=learn, leak=float(generator.choice([0.5, 0.25, 0.125]))))
    frames = generator.poisson(0.6, (4, TIME, 2, size, size + 1)).astype(np.uint8)
    lively(network, frames, largest)
    return network, shape, frames


def loaded(deployed: Export) -> Model:
    return Model.of(deployed.manifest, deployed.files[WEIGHTS_FILE])


def written(deployed: Export, folder: Path) -> Path:
    folder.mkdir()
    for name, content in sealed(deployed.manifest, deployed.files).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


class Mixed(nn.Module):
    """A network with parts that the package's networks lack: groups, a shortcut after pooled spikes, an average."""

    def __init__(self, *, doubled: bool = False, twice: bool = False) -> None:
        super().__init__()
        self.doubled, self.twice = doubled, twice
        self.input = SpikingConv2d(2, 8, pool="after", can_gate=False)  # called like the first step of every network
        self.grouped = SpikingConv2d(8, 8, groups=2)
        self.shortcut = Shortcut(8, 8)
        self.pooled = SpikingConv2d(8, 8, groups=4, pool="before", kernel_size=5)
        self.maps = SpikingConv2d(8, 6, pool="max", norm=False, kernel_size=1)  # called like an array of the engine
        self.readout = Readout(6, 1, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        first = self.input(spikes)
        grouped = self.grouped(first, first.current())
        third = self.grouped(grouped, self.shortcut(first)) if self.twice else self.pooled(grouped)
        if self.doubled:
            third = Spikes(values=third.values * 2, time_steps=third.time_steps, largest=2, divisor=2)
        logits: Tensor = self.readout(global_average(self.maps(third)))
        return logits


def mixed(seed: int, **options: bool) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = Mixed(**options)
    configure(network, drawn_config(network, generator, Choices()), NeuronSpace())
    frames = generator.poisson(1.0, (4, TIME, 2, 17, 18)).astype(np.uint8)
    lively(network, frames, 15)
    return network, InputShape(channels=2, height=17, width=18, classes=3, largest=15), frames
