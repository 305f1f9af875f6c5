"""PyTorch, numpy and C count the same operations, at odd sizes and with one time step too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.networks import ABOUT, Choices, needs_compiler, written
from deploy.odd_networks import DENSE, GATED, SAMPLES, an_odd_network
from network_shapes import layer_shapes
from torch import nn

from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.export import export
from spquant_search.deploy.reference import Model
from spquant_search.deploy.weights_file import WEIGHTS_FILE
from spquant_search.snn.layers import measured
from spquant_search.snn.spikes import Spikes
from spquant_search.space.schema import ModelSpace
from spquant_search.space.shapes import InputShape, LayerShape


def counted_by_pytorch(network: nn.Module, frames: Any, shape: InputShape) -> dict[str, Any]:
    values = torch.from_numpy(frames).transpose(0, 1).flatten(0, 1).clamp(max=shape.largest).float()
    with torch.no_grad(), measured(network) as activities:
        network.eval()(Spikes(values=values, time_steps=frames.shape[1], largest=shape.largest))
    return activities


def shapes_of(pool: str, shape: InputShape) -> tuple[LayerShape, ...]:
    return layer_shapes(ModelSpace(network="odd", build=f"deploy.odd_networks:build_{pool}"), shape, source="test")


@needs_compiler
@pytest.mark.parametrize(
    ("pool", "size", "time_steps", "choices"),
    [
        ("after", (15, 18), 3, DENSE),  # 7x9, then 3x4 blocks, then 1x2
        ("max", (14, 15), 2, GATED),  # 7x7, 3x3, 1x1
        ("after", (13, 14), 1, GATED),  # 6x7, 3x3, 1x1
        ("max", (31, 14), 1, Choices(mass=(1.0,))),  # cuts, which do nothing in one step
    ],
)
def test_all_three_count_alike(
    pool: str, size: tuple[int, int], time_steps: int, choices: Choices, tmp_path: Path, plain_neurons: None
) -> None:
    network, shape, frames = an_odd_network(pool, size=size, time_steps=time_steps, choices=choices)
    made = export(network, shape, frames, time_steps=time_steps, about=ABOUT)
    in_numpy = Model.of(made.manifest, made.files[WEIGHTS_FILE]).run(frames)
    activities = counted_by_pytorch(network, frames, shape)
    assert in_numpy.operations == {name: activity.total("synaptic_ops") for name, activity in activities.items()}
    neurons = {name: fired[0, 0].size for name, fired in in_numpy.spikes.items()}
    shapes = {layer.name: layer for layer in shapes_of(pool, shape)}
    for name, count in neurons.items():
        assert count == shapes[name].neurons == activities[name].total("neuron_steps") / (SAMPLES * time_steps)
    if choices is DENSE:
        dense = {name: layer.dense_macs * SAMPLES * time_steps for name, layer in shapes.items()}
        assert dense == {name: activity.total("effective_macs") for name, activity in activities.items()}
    folder = written(made, tmp_path / "deployed")
    library = CLibrary(folder, made.manifest["network"], cc=str(compiler()), work=tmp_path, flags=("-O1",))
    in_c = library.run(frames)
    assert in_c.operations == sum(in_numpy.operations.values())
    np.testing.assert_array_equal(in_c.logits, in_numpy.logits)
    for name, fired in in_numpy.spikes.items():
        np.testing.assert_array_equal(in_c.spikes[name], fired)
