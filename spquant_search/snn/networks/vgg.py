"""Plain networks: 3x3 spiking convolutions one after the other, 2x2 average pooling (P), and one linear readout.

VGG-9, as in SpQuant-SNN: 64-128-P-256-256-P-512-512-P-512-512-P. VGG-5, for small images: 64-P-128-128-P-256-P, that of
DIET-SNN (Rathi and Roy, 2020) with a convolution in place of its hidden fully connected layers, which had nearly all
of its weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from jaxtyping import Float
from torch import Tensor, nn

from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import ModelSpace

if TYPE_CHECKING:
    from spquant_search.space.shapes import InputShape


@dataclass(frozen=True, kw_only=True, slots=True)
class VggPlan:
    """The convolutions of a plain network at full width, first to last."""

    channels: tuple[int, ...]
    pooled: tuple[bool, ...]

    @property
    def shrinks(self) -> int:
        """How many pixels of a row or column become one; the smallest input is of so many."""
        return int(2 ** sum(self.pooled))


VGG9 = VggPlan(
    channels=(64, 128, 256, 256, 512, 512, 512, 512),
    pooled=(False, True, False, True, False, True, False, True),
)
VGG5 = VggPlan(channels=(64, 128, 128, 256), pooled=(True, False, True, True))


class Vgg(nn.Module):
    """Spiking convolutions ``conv1``, ``conv2``, ... and ``readout``; the first has no gate."""

    def __init__(
        self,
        plan: VggPlan,
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
        self.names = [f"conv{index}" for index in range(1, len(plan.channels) + 1)]
        for name, full, pooled in zip(self.names, plan.channels, plan.pooled, strict=True):
            out = max(1, round(full * width_factor))
            layer = SpikingConv2d(channels, out, pool=pool if pooled else None, can_gate=name != self.names[0])
            self.add_module(name, layer)
            channels = out
        self.readout = Readout(channels, (height // plan.shrinks) * (width // plan.shrinks), classes)

    def forward(self, spikes: Spikes) -> Float[Tensor, "time batch classes"]:
        for name in self.names:
            spikes = self.get_submodule(name)(spikes)
        logits: Tensor = self.readout(spikes)
        return logits


def build_vgg9(model: ModelSpace, shape: InputShape) -> Vgg:
    """Build VGG-9 in floating point, at a space's width, for inputs of this shape."""
    return _build(VGG9, model, shape)


def build_vgg5(model: ModelSpace, shape: InputShape) -> Vgg:
    """Build VGG-5 in floating point, at a space's width, for inputs of this shape."""
    return _build(VGG5, model, shape)


def _build(plan: VggPlan, model: ModelSpace, shape: InputShape) -> Vgg:
    return Vgg(
        plan,
        in_channels=shape.channels,
        height=shape.height,
        width=shape.width,
        classes=shape.classes,
        width_factor=model.width,
        pool=model.pool,
    )
