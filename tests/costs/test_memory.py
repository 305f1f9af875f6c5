"""Bytes and dense operations, by hand and against torch's own counter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from network_shapes import layer_shapes
from shapes import convolution, readout
from torch.utils.flop_counter import FlopCounterMode

from spquant_search.costs.memory import CostReport, LayerCost, cost_report, membrane_bits, packed_bytes
from spquant_search.snn.networks.catalog import build
from spquant_search.snn.spikes import Spikes
from spquant_search.space.configuration import LayerPrecision, NetworkConfig
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape, LayerShape
from spquant_search.training.prepare import prepare

CONVOLUTION = convolution("conv2", 3, 5, 7 * 6, neurons=5 * 3 * 3)
READOUT = readout(45, 10)
PAPER = InputShape(channels=3, height=48, width=48, classes=10)


def cost(shape: LayerShape, **precision: float | None) -> LayerCost:
    return LayerCost(shape=shape, precision=LayerPrecision(**precision))  # type: ignore[arg-type]


def paper_report(bits: int, levels: int) -> CostReport:
    shapes = layer_shapes(ModelSpace(network="vgg9", pool="after"), PAPER, source="test.yaml")
    precisions = [
        (shape.name, LayerPrecision(weight_bits=bits, membrane_levels=levels if shape.neurons else None))
        for shape in shapes
    ]
    return cost_report(shapes, NetworkConfig(time_steps=10, layers=tuple(precisions)))


# Packing


def test_bits_of_a_membrane() -> None:
    levels = (None, 0, 2, 3, 4, 5, 8, 9, 16, 17, 255, 256)
    assert [membrane_bits(count) for count in levels] == [0, 32, 1, 2, 2, 3, 3, 4, 4, 5, 8, 8]


@pytest.mark.parametrize(
    ("values", "bits", "expected"),
    [
        (0, 8, 0),
        (1, 1, 1),
        (8, 1, 1),
        (9, 1, 2),
        (3, 3, 2),
        (8, 3, 3),
        (135, 3, 51),
        (5, 32, 20),
        (921_600, 2, 230_400),
    ],
)
def test_values_are_laid_end_to_end(values: int, bits: int, expected: int) -> None:
    assert packed_bytes(values, bits) == expected


# One layer by hand


def test_dense_macs_of_a_layer() -> None:
    assert CONVOLUTION.weights == 3 * 5 * 9 == 135
    assert CONVOLUTION.dense_macs == 135 * 42
    assert READOUT.dense_macs == READOUT.weights == 450


@pytest.mark.parametrize(
    ("precision", "weights", "membranes", "overhead", "buffer"),
    [
        # 5 channels: a in 2 bytes, d in 4, and one shift; floats 4 + 4 bytes without a shift.
        ({"weight_bits": 1, "membrane_levels": 2}, 17, 6, 5 * 6 + 1, 45),
        ({"weight_bits": 2, "membrane_levels": 3}, 34, 12, 5 * 6 + 1, 45),
        ({"weight_bits": 3, "membrane_levels": 5}, 51, 17, 5 * 6 + 1, 45),
        ({"weight_bits": 4, "membrane_levels": 16}, 68, 23, 5 * 6 + 1, 45),
        ({"weight_bits": 8, "membrane_levels": 256}, 135, 45, 5 * 6 + 1, 45),
        ({"weight_bits": 32, "membrane_levels": 0}, 540, 180, 5 * 8, 180),
        ({"weight_bits": 8, "membrane_levels": 0}, 135, 180, 5 * 6 + 1, 45),
        ({"weight_bits": 32, "membrane_levels": 3}, 540, 12, 5 * 8, 45),
        # The predictor: 3 x 5 bytes, and 5 bits for what is open without input.
        ({"weight_bits": 4, "membrane_levels": 3, "channel_mass": 0.95}, 68, 12, 5 * 6 + 1 + 15 + 1, 45),
        ({"weight_bits": 4, "membrane_levels": 3, "skip_below": 0.0}, 68, 12, 5 * 6 + 1, 45),
    ],
)
def test_bytes_of_a_convolution(
    precision: dict[str, float | None], weights: int, membranes: int, overhead: int, buffer: int
) -> None:
    found = cost(CONVOLUTION, **precision)
    assert (found.weight_bytes, found.membrane_bytes) == (weights, membranes)
    assert found.overhead_bytes == overhead
    assert found.memory_bytes == weights + membranes + overhead
    assert found.input_buffer_bytes == buffer


@pytest.mark.parametrize(("bits", "levels"), [(4, 3), (32, 0)])
def test_a_learned_threshold_is_a_byte(bits: int, levels: int) -> None:
    precision = {"weight_bits": bits, "membrane_levels": levels}
    learning = cost(replace(CONVOLUTION, learns_threshold=True), **precision)
    assert learning.overhead_bytes == cost(CONVOLUTION, **precision).overhead_bytes + 1
    assert learning.memory_bytes == cost(CONVOLUTION, **precision).memory_bytes + 1


def test_a_learned_leak_is_two_bytes_where_a_potential_is_kept() -> None:
    learning = replace(CONVOLUTION, learns_leak=True)
    several, one = {"weight_bits": 4, "membrane_levels": 3}, {"weight_bits": 4, "membrane_levels": None}
    assert cost(learning, **several).overhead_bytes == cost(CONVOLUTION, **several).overhead_bytes + 2
    assert cost(learning, **one).overhead_bytes == cost(CONVOLUTION, **one).overhead_bytes


def test_a_space_that_learns_leaks_counts_one_of_every_layer_with_neurons() -> None:
    tiny = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
    learning = prepare(tiny, ["neuron.learn_leak=true", "layers.all.skip_below=none"]).shapes
    assert [shape.learns_leak for shape in learning] == [True] * 8 + [False]
    assert not any(shape.learns_leak for shape in prepare(tiny).shapes)


def test_a_space_that_learns_thresholds_counts_one_of_every_layer_with_neurons() -> None:
    tiny = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
    learning = prepare(tiny, ["neuron.learn_threshold=true"]).shapes
    assert [shape.learns_threshold for shape in learning] == [True] * 8 + [False]
    assert not any(shape.learns_threshold for shape in prepare(tiny).shapes)


@pytest.mark.parametrize(("bits", "weights"), [(1, 57), (2, 113), (3, 169), (4, 225), (8, 450), (32, 1800)])
def test_bytes_of_a_read_out(bits: int, weights: int) -> None:
    # Ten offsets of 4 bytes each; one scale for the whole tensor changes no decision and is not kept.
    found = cost(READOUT, weight_bits=bits, membrane_levels=None)
    assert (found.weight_bytes, found.membrane_bytes, found.overhead_bytes) == (weights, 0, 40)
    assert found.input_buffer_bytes == 0


# A whole network


def test_a_report_adds_its_layers() -> None:
    config = NetworkConfig(
        time_steps=6,
        layers=(
            ("conv2", LayerPrecision(weight_bits=4, membrane_levels=3, channel_mass=0.8)),
            ("readout", LayerPrecision(weight_bits=8, membrane_levels=None)),
        ),
    )
    report = cost_report((CONVOLUTION, READOUT), config)
    assert report.weight_bytes == 68 + 450
    assert report.membrane_bytes == 12
    assert report.overhead_bytes == 47 + 40
    assert report.memory_bytes == 68 + 450 + 12 + 47 + 40
    assert report.paper_total_bytes == 68 + 450 + 12 + 45, "no overhead, but one more byte a neuron"
    assert report.dense_macs == 135 * 42 + 450
    assert report.dense_macs_all_steps == 6 * (135 * 42 + 450)
    assert report.as_dict() == {
        "time_steps": 6,
        "layers": [
            {
                "layer": "conv2",
                "weights": 135,
                "neurons": 45,
                "dense_macs": 5670,
                "weight_bits": 4,
                "membrane_levels": 3,
                "weight_bytes": 68,
                "membrane_bytes": 12,
                "overhead_bytes": 47,
            },
            {
                "layer": "readout",
                "weights": 450,
                "neurons": 0,
                "dense_macs": 450,
                "weight_bits": 8,
                "membrane_levels": None,
                "weight_bytes": 450,
                "membrane_bytes": 0,
                "overhead_bytes": 40,
            },
        ],
        "total": {
            "weight_bytes": 518,
            "membrane_bytes": 12,
            "overhead_bytes": 87,
            "memory_bytes": 617,
            "paper_total_bytes": 575,
            "dense_macs": 6120,
            "dense_macs_all_steps": 36720,
        },
    }


def test_layers_take_their_precision_by_name_not_by_place() -> None:
    readout, convolution = LayerPrecision(weight_bits=8, membrane_levels=None), LayerPrecision(weight_bits=2)
    config = NetworkConfig(time_steps=1, layers=(("readout", readout), ("conv2", convolution)))
    report = cost_report((CONVOLUTION, READOUT), config)
    assert [layer.precision for layer in report.layers] == [convolution, readout]


def test_the_papers_memory_table() -> None:
    # SpQuant-SNN, VGG-9 at 48x48: 921,600 membranes, 9,263,808 weights; the second buffer is 32 or 8 bits a neuron.
    baseline, quantized = paper_report(32, 0), paper_report(2, 3)
    assert baseline.membrane_bytes == 3_686_400
    assert quantized.membrane_bytes == 230_400
    assert baseline.weight_bytes == 37_055_232
    assert quantized.weight_bytes * 16 == baseline.weight_bytes
    assert baseline.paper_total_bytes == 37_055_232 + 2 * 3_686_400
    assert quantized.paper_total_bytes == 2_315_952 + 230_400 + 921_600
    assert [layer.shape.dense_macs for layer in baseline.layers] == [
        3_981_312, 169_869_312, 169_869_312, 339_738_624, 169_869_312, 339_738_624, 84_934_656, 84_934_656, 46_080,
    ]  # fmt: skip
    assert baseline.dense_macs == 1_362_981_888
    assert baseline.dense_macs_all_steps == 10 * baseline.dense_macs


@pytest.mark.parametrize("width", [0.125, 1.0])
def test_dense_macs_are_half_of_the_flops_that_torch_counts(width: float) -> None:
    # Pooling after the neuron: before it, convolution and pooling run as one, with fewer products than are counted.
    model = ModelSpace(network="vgg9", width=width, pool="after")
    with torch.device("meta"):
        network = build(model, PAPER, source="test.yaml").eval()
        frame = Spikes(values=torch.empty(1, 3, 48, 48), time_steps=1)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(frame)
    macs = sum(shape.dense_macs for shape in layer_shapes(model, PAPER, source="test.yaml"))
    assert counter.get_total_flops() == 2 * macs
