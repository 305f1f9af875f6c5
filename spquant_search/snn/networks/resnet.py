"""Spiking residual networks of basic blocks: ResNet-19 for small images, ResNet-34 for 224x224.

A block is two 3x3 convolutions; what enters it is added to the second one's current before the neuron, as in tdBN
(Zheng et al., AAAI 2021), where ResNet-19 comes from, and SpQuant-SNN. Where the shape changes, a 1x1 convolution with
batch norm carries it over; otherwise the spikes themselves are the current.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import ModelSpace

if TYPE_CHECKING:
    from spquant_search.space.shapes import InputShape


@dataclass(frozen=True, kw_only=True, slots=True)
class ResNetPlan:
    """The sizes of a residual network at full width."""

    stem_kernel: int
    stem_stride: int
    stem_pools: bool
    planes: tuple[int, ...]  # of each stage; the stem has those of the first
    blocks: tuple[int, ...]
    hidden: int | None  # neurons of a fully connected layer before the readout
    smallest_input: int  # at least one pixel is left in the last stage, and each stage before it halves what it gets


RESNET19 = ResNetPlan(
    stem_kernel=3,
    stem_stride=1,
    stem_pools=False,
    planes=(128, 256, 512),
    blocks=(3, 3, 2),
    hidden=256,
    smallest_input=4,
)
RESNET34 = ResNetPlan(
    stem_kernel=7,
    stem_stride=2,
    stem_pools=True,
    planes=(64, 128, 256, 512),
    blocks=(3, 4, 6, 3),
    hidden=None,
    smallest_input=32,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Block:
    name: str  # s2b1: the first block of stage 2
    in_channels: int
    out_channels: int
    stride: int

    @property
    def changes_shape(self) -> bool:
        return self.stride > 1 or self.in_channels != self.out_channels


class SpikingResNet(nn.Module):
    """``stem``, blocks of ``s1b1conv1``, ``s1b1conv2`` and maybe ``s1b1shortcut``, maybe ``fc``, and ``readout``.

    The blocks' convolutions have gates. The stem has none as it sees the input, nor has ``fc``: its predictor would
    have as many products as the layer itself. ``pool`` says where the stem pools, if it does.
    """

    def __init__(
        self,
        plan: ResNetPlan,
        *,
        in_channels: int,
        classes: int,
        width_factor: float,
        pool: Literal["before", "after"],
    ) -> None:
        super().__init__()
        self.blocks = tuple(_blocks(plan, width_factor))
        channels = _scaled(plan.planes[0], width_factor)
        self.stem = SpikingConv2d(
            in_channels,
            channels,
            kernel_size=plan.stem_kernel,
            stride=plan.stem_stride,
            pool=pool if plan.stem_pools else None,
            can_gate=False,
        )
        for block in self.blocks:
            channels = block.out_channels
            if block.changes_shape:
                shortcut = Shortcut(block.in_channels, channels, stride=block.stride)
                self.add_module(f"{block.name}shortcut", shortcut)
            self.add_module(f"{block.name}conv1", SpikingConv2d(block.in_channels, channels, stride=block.stride))
            self.add_module(f"{block.name}conv2", SpikingConv2d(channels, channels))
        self.fc: SpikingConv2d | None = None
        if plan.hidden is not None:
            hidden = _scaled(plan.hidden, width_factor)
            self.fc = SpikingConv2d(channels, hidden, kernel_size=1, can_gate=False, norm=False)
            channels = hidden
        self.readout = Readout(channels, 1, classes)

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        spikes = self.stem(spikes)
        for block in self.blocks:
            spikes = self._run(block, spikes)
        spikes = global_average(spikes)
        if self.fc is not None:
            spikes = self.fc(spikes)
        logits: Tensor = self.readout(spikes)
        return logits

    def _run(self, block: _Block, spikes: Spikes) -> Spikes:
        shortcut = self.get_submodule(f"{block.name}shortcut") if block.changes_shape else Spikes.current
        residual: Tensor = shortcut(spikes)
        inner: Spikes = self.get_submodule(f"{block.name}conv1")(spikes)
        out: Spikes = self.get_submodule(f"{block.name}conv2")(inner, residual)
        return out


def _scaled(planes: int, width_factor: float) -> int:
    return max(1, round(planes * width_factor))


def _blocks(plan: ResNetPlan, width_factor: float) -> Iterator[_Block]:
    channels = _scaled(plan.planes[0], width_factor)
    for stage, (planes, count) in enumerate(zip(plan.planes, plan.blocks, strict=True), start=1):
        out = _scaled(planes, width_factor)
        for number in range(1, count + 1):
            stride = 2 if stage > 1 and number == 1 else 1
            yield _Block(name=f"s{stage}b{number}", in_channels=channels, out_channels=out, stride=stride)
            channels = out


def build_resnet19(model: ModelSpace, shape: InputShape) -> SpikingResNet:
    """Build ResNet-19 in floating point: 3 + 3 + 2 blocks of 128, 256 and 512 planes; nothing pools but the global
    mean."""
    return _build(RESNET19, model, shape)


def build_resnet34(model: ModelSpace, shape: InputShape) -> SpikingResNet:
    """Build ResNet-34 in floating point: a stem that divides height and width by 4, 3 + 4 + 6 + 3 blocks of 64 to 512.

    The stem's 2x2 average pooling stands for the original's overlapping maximum.
    """
    return _build(RESNET34, model, shape)


def _build(plan: ResNetPlan, model: ModelSpace, shape: InputShape) -> SpikingResNet:
    return SpikingResNet(
        plan, in_channels=shape.channels, classes=shape.classes, width_factor=model.width, pool=model.pool
    )
