"""Flash and RAM that are computed before training agree with the compiler."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from deploy.networks import ABOUT, TIME, Choices, a_network, written
from network_shapes import layer_shapes

from spquant_search.costs.device import footprint
from spquant_search.costs.memory import cost_report
from spquant_search.deploy import export as export_module
from spquant_search.deploy.c_library import ObjectSize, device_compiler, object_size
from spquant_search.deploy.export import export
from spquant_search.snn.inspection import inspect_network
from spquant_search.snn.layers import searchable_layers
from spquant_search.snn.neuron.module import Neuron
from spquant_search.space.configuration import FLOAT_MEMBRANE, NetworkConfig
from spquant_search.space.schema import ModelSpace


def device_size(folder: Path, work: Path) -> ObjectSize:
    tool = device_compiler()
    assert tool is not None
    return object_size(folder, cc=tool[0], work=work, flags=tool[1])


def without_membranes(config: NetworkConfig) -> NetworkConfig:
    """Return a configuration as a space of one time step has it."""
    layers = tuple((name, replace(layer, membrane_levels=None, skip_below=None)) for name, layer in config.layers)
    return NetworkConfig(time_steps=1, layers=layers)


FOOTPRINTS: list[tuple[str, dict[str, Any]]] = [
    ("vgg9", {}),
    ("vgg9", {"pool": "after", "size": 17, "width": 1 / 4}),
    ("vgg9", {"choices": Choices(mass=(1.0,), levels=(3,))}),
    ("vgg9", {"width": 1 / 4, "choices": Choices(bits=(4, 8), mass=(0.7,), levels=(4, 16, 256))}),
    ("vgg5", {"size": 8, "width": 1 / 4}),
    ("resnet19", {}),
    ("resnet34", {"width": 1 / 32, "size": 32, "pool": "after"}),
    ("spikformer4-256", {"size": 8}),
    ("mobilenet", {}),
]


@pytest.mark.skipif(device_compiler() is None, reason="there is no compiler for a Cortex-M4")
@pytest.mark.parametrize("time_steps", [TIME, 1])
@pytest.mark.parametrize(("name", "options"), FOOTPRINTS)
def test_what_a_device_needs_is_known_before_training(
    name: str, options: dict[str, Any], time_steps: int, tmp_path: Path, plain_neurons: None
) -> None:
    """The footprint is computed from shapes and precisions alone; the compiler's object file says the same."""
    for seed in (3, 4):
        network, shape, frames = a_network(name, seed=seed, **options)
        model = ModelSpace(network=name, width=options.get("width", 1 / 16), pool=options.get("pool", "before"))
        neurons = [module for module in network.modules() if isinstance(module, Neuron)]
        halves = all(float(neuron.parameters_now.leak) == 0.5 for neuron in neurons)
        shapes = [replace(one, halves=halves) for one in layer_shapes(model, shape, source="test")]
        config = NetworkConfig(
            time_steps=time_steps,
            layers=tuple((name, layer.precision) for name, layer in searchable_layers(network).items()),
        )
        if time_steps == 1:
            config = without_membranes(config)
        of_network = inspect_network(model, shape, time_steps=time_steps, source="test").architecture
        assert of_network is not None
        expected = footprint(of_network, cost_report(shapes, config))
        assert expected is not None

        folder = written(
            export(network, shape, frames[:, :time_steps], time_steps=time_steps, about=ABOUT), tmp_path / f"{seed}"
        )
        found = device_size(folder, tmp_path)
        own = expected.ram - of_network.frame_bytes  # which the program holds that calls the library
        assert of_network.frame_bytes == shape.frame_bytes
        assert own == pytest.approx(found.ram, abs=32), "alignment"
        assert expected.flash == pytest.approx(found.flash, rel=0.015)
        assert expected.engine_flash == pytest.approx(found.flash - (expected.flash - expected.engine_flash), rel=0.05)
        assert found.data == 0


@pytest.mark.skipif(device_compiler() is None, reason="there is no compiler for a Cortex-M4")
@pytest.mark.parametrize("name", ["vgg9", "vgg5", "resnet19", "spikformer4-256", "mobilenet"])
def test_the_stack_takes_less_than_is_said(name: str, tmp_path: Path, plain_neurons: None) -> None:
    """All functions together: however they call each other, no call takes more, as none calls itself."""
    network, shape, frames = a_network(name, seed=3, size=16 if name != "spikformer4-256" else 8)
    with mock.patch.object(export_module, "compiler", return_value=None):
        folder = written(export(network, shape, frames, time_steps=TIME, about=ABOUT), tmp_path / "deployed")
    tool = device_compiler()
    assert tool is not None
    for optimization in ("-Os", "-O2"):
        command = [*shlex.split(tool[0]), *tool[1], "-std=c99", optimization, "-fstack-usage", "-c", folder / "model.c"]
        subprocess.run([*command, "-o", tmp_path / "model.o"], check=True)
        lines = [line.split("\t") for line in (tmp_path / "model.su").read_text().splitlines()]
        assert {kind for _, _, kind in lines} == {"static"}, "a size that is known only at run time"
        assert sum(int(size) for _, size, _ in lines) < 2048


def test_a_configuration_that_keeps_floats_has_no_footprint(plain_neurons: None) -> None:
    network, shape, _ = a_network("vgg9", seed=3)
    model = ModelSpace(network="vgg9", width=1 / 16, pool="before")
    shapes = layer_shapes(model, shape, source="test")
    precisions = [layer.precision for layer in searchable_layers(network).values()]
    of_network = inspect_network(model, shape, time_steps=TIME, source="test").architecture
    assert of_network is not None
    for floats in ({"weight_bits": 32}, {"membrane_levels": FLOAT_MEMBRANE}):
        names = [one.name for one in shapes]
        layers = tuple(zip(names, [replace(precisions[0], **floats), *precisions[1:]], strict=True))
        assert footprint(of_network, cost_report(shapes, NetworkConfig(time_steps=TIME, layers=layers))) is None
