"""The smallest and the dearest configuration of a space, against all configurations of small ones."""

from __future__ import annotations

import itertools

import pytest
from shapes import convolution, readout

from spquant_search.costs.device import Architecture
from spquant_search.costs.extremes import byte_figures, dearest_figures, smallest_configurations, smallest_figures
from spquant_search.space.binding import bind
from spquant_search.space.reading import parse_space
from spquant_search.space.search_space import SearchSpace

SHAPES = (convolution("conv1", 2, 8, 64, gate=False), convolution("conv2", 8, 16, 64), readout(256, 10))
# Sums of conv2 need 32 bits where its weights have 8, and no fewer.
LARGEST = {"conv1": 15, "conv2": 30, "readout": 4}
ARCHITECTURE = Architecture(
    map_bytes=300, average_bytes=0, sums=0, averages=0, inputs=256, largest=LARGEST, heads=0, classes=10, frame_bytes=64
)  # fmt: skip
TEXT = """\
data: {name: fashion-events}
time_steps: 4
model: {network: vgg9}
layers: {all: {weight_bits: [2, 8]}}
"""


def space_of(*overrides: str) -> SearchSpace:
    return bind(parse_space(TEXT, source="s.yaml", overrides=overrides), SHAPES, source="s.yaml")


def all_figures(space: SearchSpace) -> list[dict[str, int]]:
    choices = space.choices()
    configs = {space.config(dict(zip(choices, values, strict=True))) for values in itertools.product(*choices.values())}
    return [byte_figures(SHAPES, ARCHITECTURE, config) for config in configs]


SPACES = [
    ("layers.all={weight_bits: [1, 2, 8], membrane_levels: [3, 16, 256], channel_mass: [0.8, 1]}",),
    # Five levels take 3 bits, which do not come out even with a byte: less RAM, and more code.
    ("layers.all={weight_bits: [2, 8], membrane_levels: [5, 16]}",),
    ("layers.all={weight_bits: [4], membrane_levels: [5, 16]}", "layers.conv1={membrane_levels: 5}"),
    ("layers.all={weight_bits: [4], membrane_levels: [16, 256]}", "layers.conv2={membrane_levels: [5, 200]}"),
    ("layers.all={weight_bits: [2, 8, 32], membrane_levels: [3, 0]}",),
    ("layers.all={weight_bits: [2, 8], membrane_levels: [3, 9], channel_mass: 0.8}", "time_steps=[1, 2, 4]"),
    ("layers.all={weight_bits: 4, membrane_levels: 3}", "time_steps=1"),
]


@pytest.mark.parametrize("overrides", SPACES)
def test_least_and_most_are_those_of_all_configurations(overrides):
    space = space_of(*overrides)
    found = all_figures(space)
    for name in ("memory_bytes", "flash_bytes", "ram_bytes"):
        sizes = [figures[name] for figures in found if name in figures]
        assert smallest_figures(space, SHAPES, ARCHITECTURE)[name] == min(sizes)
        assert dearest_figures(space, SHAPES, ARCHITECTURE)[name] == max(sizes)


@pytest.mark.parametrize("overrides", SPACES)
def test_bounds_that_any_configuration_keeps_are_kept_by_a_smallest_one(overrides):
    """Each pair of a configuration's own bytes is a bound that it keeps."""
    space = space_of(*overrides)
    smallest = [byte_figures(SHAPES, ARCHITECTURE, config) for config in smallest_configurations(space)]
    for figures in all_figures(space):
        assert any(all(one[name] <= bound for name, bound in figures.items()) for one in smallest)


def test_the_spaces_have_bounds_that_no_single_smallest_configuration_keeps():
    """Otherwise one would suffice."""
    space = space_of(*SPACES[1])
    narrow, even = (byte_figures(SHAPES, ARCHITECTURE, config) for config in smallest_configurations(space))
    assert narrow["ram_bytes"] < even["ram_bytes"]
    assert narrow["flash_bytes"] > even["flash_bytes"]


def test_without_an_architecture_there_is_memory_alone():
    space = space_of()
    assert (
        smallest_figures(space, SHAPES, None).keys() == dearest_figures(space, SHAPES, None).keys() == {"memory_bytes"}
    )
