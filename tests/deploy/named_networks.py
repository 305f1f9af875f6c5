"""Five small networks whose layers are called as a test says, and names that are hard on C, files and terminals."""

from __future__ import annotations

from collections import OrderedDict
from itertools import count
from typing import Any

import numpy as np
import torch
from deploy.networks import Choices, drawn_config, lively
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import configure
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, added, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

SAMPLES, TIME = 64, 2
NAMES: list[str] = []  # of the parts of the next network that is built

# Names of steps in this package, of the engine's functions and arrays, of parts of files.
OURS = """
input sum1 sum2 average1 average2 identity1 readout attention convolution shortcut gather maps
logits sums codes currents spq_step spq_layer step0 step1 step1_conv step2_0 layer_0 frames spikes
weight_bits name step1_input all weights slope SPQ_CLASSES
""".split()  # noqa: SIM905 - one word beside the other
# Keywords of C and C++, macros and functions of their headers, words that compilers define.
OF_C = """
int register while _Bool restrict inline class new namespace template this main NULL INT8_MAX
uint8_t memcpy errno signed typedef asm true false linux unix i386 __LINE__ __FILE__ auto union
static goto EOF stdin
""".split()  # noqa: SIM905 - one word beside the other
DIGITS = ["0", "1", "2", "00", "3x3", "1e5", "-1", "0x1", "٣", "²", "½"]
ALIKE = ["conv", "Conv", "CONV", "a_b", "a-b", "a b", "A_B", "a__b", "_", "__", "-", "\u00e9", "e\u0301", "ﬁ", "fi"]
ALIKE += ["K", "\u212a", "İ", "ß", "ẞ", "ss", "中文", "😀", "ª", "\u200b", "\ufeff", " ", "\u202eabc"]
SIGNS = ["*/", "/*", "//", "??/", "??", "\\", "a\\\nb", "\n", "\t", "\r\n", '"', "'", "%s%n", "{name}", "[bold]", "[/]"]
SIGNS += ["$(x)", ":smile:", "#", "~", "null", "yes", "<<", "&a", "@TABLES@", "/*@STEPS@*/", "\x1b[2J"]
LONG = ["x" * 300, "conv" * 100 + "1", "conv" * 100 + "2", "é" * 200]
UNSAFE = [*OURS, *OF_C, *DIGITS, *ALIKE, *SIGNS, *LONG]


def drawn_names(generator: np.random.Generator, number: int) -> list[str]:
    """Draw different names, one in four of random letters."""
    names: list[str] = []
    while len(names) < number:
        if generator.random() < 0.25:
            letters = generator.integers(32, 0x3000, generator.integers(1, 12))
            name = "".join(map(chr, letters)).replace(".", "")
        else:
            name = str(generator.choice(UNSAFE))
        if name and name not in names and not hasattr(nn.Sequential(), name):
            names.append(name)
    return names


def sequential(shape: InputShape) -> nn.Module:
    """A network that is itself an nn.Sequential."""
    layers = (
        SpikingConv2d(shape.channels, 8, pool="before", can_gate=False),
        SpikingConv2d(8, 6, pool="max"),
        Readout(6, (shape.height // 4) * (shape.width // 4), shape.classes),
    )
    return nn.Sequential(OrderedDict(zip(NAMES, layers, strict=False)))


class Named(nn.Module):
    """A module whose parts take the next names of a list."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        self.shape = shape
        self._next = count()

    def part(self, module: Any, *inside: nn.Module) -> Any:
        owner = inside[0] if inside else self
        owner.add_module(NAMES[next(self._next)], module)
        return module


class Nested(Named):
    """Layers inside of modules, so that their names have dots."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__(shape)
        outer = self.part(nn.Module())
        inner = self.part(nn.Module(), outer)
        layers = (
            self.part(SpikingConv2d(shape.channels, 8, pool="after", can_gate=False)),
            self.part(SpikingConv2d(8, 8), outer),
            self.part(SpikingConv2d(8, 9), inner),
            self.part(Readout(9, (shape.height // 2) * (shape.width // 2), shape.classes), inner),
        )
        self._layers = layers.__iter__

    def forward(self, spikes: Spikes) -> Tensor:
        for layer in self._layers():
            spikes = layer(spikes)
        return spikes  # type: ignore[return-value]


class Residual(Named):
    """Residuals by a shortcut, by a map, by adding; and an average."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__(shape)
        first = self.part(SpikingConv2d(shape.channels, 8, can_gate=False))
        second = self.part(SpikingConv2d(8, 8))
        shortcut = self.part(Shortcut(8, 12, stride=2))
        third = self.part(SpikingConv2d(8, 12, stride=2))
        readout = self.part(Readout(12, 1, shape.classes))

        def run(spikes: Spikes) -> Tensor:
            spikes = first(spikes)
            both = added(spikes, second(spikes, spikes.current()))
            logits: Tensor = readout(global_average(third(both, shortcut(spikes))))
            return logits

        self._run = run

    def forward(self, spikes: Spikes) -> Tensor:
        return self._run(spikes)


class Grouped(Named):
    """Groups, as many as channels among them."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__(shape)
        layers = (
            self.part(SpikingConv2d(shape.channels, 8, pool="before", can_gate=False)),
            self.part(SpikingConv2d(8, 8, groups=8)),
            self.part(SpikingConv2d(8, 10, groups=2, kernel_size=1)),
            self.part(Readout(10, (shape.height // 2) * (shape.width // 2), shape.classes)),
        )
        self._layers = layers.__iter__

    def forward(self, spikes: Spikes) -> Tensor:
        for layer in self._layers():
            spikes = layer(spikes)
        return spikes  # type: ignore[return-value]


class Attending(Named):
    """Attention over pooled spikes."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__(shape)
        first = self.part(SpikingConv2d(shape.channels, 8, pool="max", can_gate=False))
        q, k, v = (self.part(SpikingConv2d(8, 8, kernel_size=1)) for _ in range(3))
        attention = self.part(SpikingSelfAttention(8, 2))
        readout = self.part(Readout(8, (shape.height // 2) * (shape.width // 2), shape.classes))

        def run(spikes: Spikes) -> Tensor:
            spikes = first(spikes)
            logits: Tensor = readout(attention(q(spikes), k(spikes), v(spikes)))
            return logits

        self._run = run

    def forward(self, spikes: Spikes) -> Tensor:
        return self._run(spikes)


nested, residual, grouped, attending = Nested, Residual, Grouped, Attending
BUILDERS = ("sequential", "nested", "residual", "grouped", "attending")


def a_named_network(
    network: nn.Module, shape: InputShape, seed: int
) -> tuple[nn.Module, NDArray[np.uint8], NetworkConfig]:
    """Give a network random precisions and live statistics; return it with frames and its configuration."""
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    config = drawn_config(network, generator, Choices())
    configure(network, config, NeuronSpace())
    frames = generator.poisson(1.0, (SAMPLES, TIME, shape.channels, shape.height, shape.width)).astype(np.uint8)
    lively(network, frames[:8], shape.largest)
    return network, frames, config
