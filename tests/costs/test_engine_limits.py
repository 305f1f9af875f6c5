"""The engine's limits as they are known before training, and where the C library meets them."""

from __future__ import annotations

import math

import pytest
import torch
from own_networks import inspected
from torch import nn

from spquant_search.costs.engine_limits import (
    code_sum_excess,
    map_excess,
    narrowest_sums,
    side_excess,
    signal_excess,
    sum_excess,
    widest_sums,
    window_excess,
)
from spquant_search.deploy.c_tables import TooLarge
from spquant_search.deploy.export import export
from spquant_search.snn import Readout, Spikes, SpikingConv2d, global_average
from spquant_search.snn.layers import configure
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.search_space import LayerSpace
from spquant_search.space.shapes import InputShape

# 8 channels of up to 60 at 32x32 pixels: 61,440 of an average.
WIDE = InputShape(channels=8, height=32, width=32, classes=2, largest=60)


class Averaged(nn.Module):
    """A readout whose sums over time are as large as they get: all weights are the largest."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        self.wide = SpikingConv2d(shape.channels, 40, kernel_size=1, norm=False)
        self.readout = Readout(40, 1, shape.classes)

    def forward(self, spikes):
        return self.readout(self.wide(global_average(spikes)))


def test_limits_are_kept_to_the_number() -> None:
    assert signal_excess("a", "sum", 255) is None
    assert signal_excess("a", "sum", 256) == "a: sums of up to 256 are more than the C engine's 255"
    assert signal_excess("a", "average", 65_535) is None
    assert signal_excess("a", "average", 65_536) == "a: sums of up to 65,536 are more than the C engine's 65,535"
    assert signal_excess("a", "layer", 10**9) is None
    assert side_excess("a", (65_535, 1)) is None
    assert side_excess("a", ()) is None
    assert side_excess("a", (1, 65_536)) == "a: a side of 65,536 is more than the C engine's 65,535"
    assert window_excess("a", ()) is None
    assert window_excess("a", ((255, 255, 255, 0), (1, 1, 0, 255))) is None
    assert window_excess("a", ((1, 1, 0, 0), (257, 1, 0, 0))) == "a: a kernel of 257 is more than the C engine's 255"
    assert window_excess("a", ((1, 256, 0, 0),)) == "a: a stride of 256 is more than the C engine's 255"
    assert window_excess("a", ((1, 1, 0, 256),)) == "a: a padding of 256 is more than the C engine's 255"
    assert signal_excess("a", "pool", 255) is None
    assert signal_excess("a", "pool", 256) == "a: sums of up to 256 are more than the C engine's 255"
    assert map_excess("a", 2**28) is None
    assert map_excess("a", 2**28 + 1) == "a: a map of 268,435,457 numbers is more than the C engine's 268,435,456"
    assert code_sum_excess("a", 2**31 - 1, 2) is None
    assert code_sum_excess("a", 2**30, 1) == "a: sums of codes of up to 1,073,741,824 leave the C engine's 32 bits"
    assert sum_excess("a", 32) is None
    assert sum_excess("a", 33) == "a: sums of 33 bits leave the C engine's 32"


def space_of(name: str, *bits: int) -> LayerSpace:
    levels = (None,) if name == "readout" else (3,)
    return LayerSpace(name=name, weight_bits=bits, membrane_levels=levels, channel_mass=(1.0,), skip_below=(None,))


@pytest.mark.parametrize(
    ("channels", "bits", "fits"),
    [(137, 8, True), (138, 8, False), (138, 4, True), (138, 32, True)],
)
def test_the_widest_weights_are_those_that_the_library_refuses(
    channels: int, bits: int, fits: bool, plain_neurons: None
) -> None:
    """137 * 254 * 61,440 is 2,137,989,120 and still below 2^31; one more channel is not."""
    shape = InputShape(channels=channels, height=32, width=32, classes=2, largest=60)
    facts = inspected(Averaged, shape, time_steps=1)
    assert facts.architecture is not None
    spaces = [space_of("wide", bits, 2), space_of("readout", 4)]
    said = widest_sums(spaces, facts.shapes, facts.architecture.largest, time_steps=1)
    words = "wide: sums of codes of up to 2,153,594,880 leave the C engine's 32 bits with weights of 8 bits"
    assert said == ([] if fits else [words])
    fewest = narrowest_sums([space_of("wide", bits), space_of("readout", 4)], facts.shapes, facts.architecture.largest)
    assert fewest == (None if fits else f"{words}, its fewest")
    assert narrowest_sums(spaces, facts.shapes, facts.architecture.largest) is None
    if bits != 8:
        return
    network = Averaged(shape)
    precisions = [
        ("wide", LayerPrecision(weight_bits=8, membrane_levels=3)),
        ("readout", LayerPrecision(weight_bits=4, membrane_levels=None)),
    ]
    configure(network, NetworkConfig(time_steps=1, layers=tuple(precisions)), NeuronSpace())
    with torch.no_grad():
        network.wide.weight.fill_(1.0)
    frames = torch.zeros(1, 1, channels, 32, 32, dtype=torch.uint8).numpy()
    if fits:
        export(network.eval(), shape, frames, time_steps=1, about={"run": "a", "trial": 1})
        return
    with pytest.raises(TooLarge, match="wide: sums of codes of up to 2,153,594,880 leave the C engine's 32 bits"):
        export(network.eval(), shape, frames, time_steps=1, about={"run": "a", "trial": 1})


def test_a_readout_adds_over_all_time_steps() -> None:
    facts = inspected(Averaged, WIDE, time_steps=3)
    assert facts.architecture is not None
    spaces = [space_of("wide", 2), space_of("readout", 8)]
    assert facts.architecture.largest["readout"] == 1
    most = (2**31 - 1) // (40 * 127)
    assert widest_sums(spaces, facts.shapes, facts.architecture.largest, time_steps=most) == []
    (said,) = widest_sums(spaces, facts.shapes, facts.architecture.largest, time_steps=most + 1)
    assert said.startswith("readout: sums of 33 bits")


def test_membranes_that_are_summed_grow_twice(plain_neurons: None) -> None:
    """A membrane adds over the time steps, and its sum over them once more."""
    spaces = [space_of("wide", 2), space_of("readout", 8)]
    most = math.isqrt((2**31 - 1) // (40 * 127))
    facts = inspected(Averaged, WIDE, time_steps=2)
    assert facts.architecture is not None
    for membrane, steps, fits in (("sum", most, True), ("sum", most + 1, False), ("last", most + 1, True)):
        spikes = Spikes(values=torch.zeros(1, 40, 1, 1), time_steps=1)
        readout = Readout(40, 1, 2, membrane=membrane).shape("readout", spikes)
        said = widest_sums(spaces, [facts.shapes[0], readout], facts.architecture.largest, time_steps=steps)
        words = "readout: sums of 33 bits leave the C engine's 32 if all weights of 8 bits are large"
        assert said == ([] if fits else [words])
