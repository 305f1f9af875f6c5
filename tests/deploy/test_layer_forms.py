"""Kernels, strides, paddings and pools of any size: PyTorch, numpy and C agree, in spikes, logits and operations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.agreement import SANITIZED, STRICT, assert_runs_clean, exported
from deploy.networks import Choices, drawn_config, lively, loaded, needs_compiler, written
from deploy.test_counts import counted_by_pytorch
from numpy.typing import NDArray
from own_networks import inspected
from torch import Tensor, nn

from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.snn import (
    AvgPool2d,
    Flatten,
    InputShape,
    MaxPool2d,
    Pool,
    Readout,
    Shortcut,
    Spikes,
    SpikingConv2d,
    SpikingLinear,
    added,
)
from spquant_search.snn.layers import configure, searchable_layers
from spquant_search.snn.pools import PoolKind
from spquant_search.space.schema import NeuronSpace

TIME, SAMPLES = 3, 3
CHOICES = Choices(levels=(2, 3, 16, 24))
DENSE = Choices(levels=(2, 3, 16, 24), mass=(1.0,), skip=(None,))


class Everything(nn.Module):
    """Every form of a layer and every module between layers."""

    def __init__(self, shape: InputShape) -> None:
        super().__init__()
        self.stem = SpikingConv2d(
            2, 8, kernel_size=(4, 3), stride=(1, 2), padding=(0, 1, 2, 1), pool=Pool("max", 3, 2, 1), can_gate=False
        )
        self.largest = SpikingConv2d(8, 6, kernel_size=2, padding=(1, 0), pool=Pool("max-before", 3, 2, 1))
        self.shortcut = Shortcut(8, 6, kernel_size=(2, 3), stride=2, padding=(0, 0, 1, 0))
        self.pooling = MaxPool2d(3, 2, 1)
        self.summed = SpikingConv2d(6, 8, groups=2, padding=(2, 1, 0, 1), pool=Pool("before", (2, 3), 1, (1, 1)))
        self.averaged = AvgPool2d((2, 1), 1, (1, 0))
        self.behind = SpikingConv2d(8, 8, kernel_size=(1, 4), padding=(2, 1, 0, 0), pool=Pool("after", 2, 1))
        self.flatten = Flatten()
        channels, height, width = 8, *self._size(shape)
        self.hidden = SpikingLinear(channels * height * width, 9)
        self.normed = SpikingLinear(9, 7, norm=True)
        self.readout = Readout(7, 1, 3)

    def _size(self, shape: InputShape) -> tuple[int, int]:
        frame = torch.zeros(1, shape.channels, shape.height, shape.width)
        with torch.no_grad():
            values = self.eval()._features(Spikes(values=frame, time_steps=1)).values
        return values.shape[2], values.shape[3]

    def _features(self, spikes: Spikes) -> Spikes:
        stem = self.stem(spikes)
        both = self.largest(stem, self.shortcut(stem))
        both = added(both, both)
        behind: Spikes = self.behind(self.averaged(self.summed(self.pooling(both))))
        return behind

    def forward(self, spikes: Spikes) -> Tensor:
        logits: Tensor = self.readout(self.normed(self.hidden(self.flatten(self._features(spikes)))))
        return logits


SIDES = (1, 2, 3, 4)


class Drawn(nn.Module):
    """Two convolutions of drawn forms, a drawn pool between them, and a flattened map that the readout reads."""

    def __init__(self, shape: InputShape, generator: np.random.Generator) -> None:
        super().__init__()
        self.generator = generator
        channels = int(generator.choice([4, 8]))
        self.first = self._layer(shape.channels, channels, groups=1, can_gate=False)
        self.between: nn.Module = self._pool_between()
        self.second = self._layer(
            channels, 8, groups=int(generator.choice([1, 2])), can_gate=bool(generator.integers(2))
        )
        self.flatten = Flatten()
        self.eval()
        frame = torch.zeros(1, shape.channels, shape.height, shape.width)
        with torch.no_grad():
            flat = self.flatten(self.second(self.between(self.first(Spikes(values=frame, time_steps=1)))))
        self.readout = Readout(flat.values.shape[1], 1, shape.classes)

    def _pair(self, *numbers: int) -> tuple[int, int]:
        first, second = self.generator.choice(numbers, 2)
        return int(first), int(second)

    def _layer(self, inputs: int, outputs: int, **options: Any) -> SpikingConv2d:
        left, right = self._pair(0, 1, 2, 4)
        kind: PoolKind | None = self.generator.choice(np.array([None, "before", "max-before", "after", "max"]))
        window = (*self._pair(1, 2, 3),)
        pool = None if kind is None else Pool(kind, window, self._pair(1, 2, 3), (window[0] // 2, 0))
        return SpikingConv2d(
            inputs,
            outputs,
            kernel_size=self._pair(*SIDES),
            stride=self._pair(1, 2, 3),
            padding=(left, right, *self._pair(1, 2, 3)),
            pool=pool,
            **options,
        )

    def _pool_between(self) -> nn.Module:
        kind = self.generator.integers(3)
        window = self._pair(1, 2)
        padding = (window[0] // 2, window[1] // 2)
        return nn.Identity() if kind == 0 else [MaxPool2d, AvgPool2d][kind - 1](window, self._pair(1, 2), padding)

    def forward(self, spikes: Spikes) -> Tensor:
        logits: Tensor = self.readout(self.flatten(self.second(self.between(self.first(spikes)))))
        return logits


def prepared(
    network: nn.Module, shape: InputShape, seed: int, choices: Choices = CHOICES, *, learn: bool = False
) -> tuple[nn.Module, NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    configure(network, drawn_config(network, generator, choices), NeuronSpace(learn_threshold=learn))
    size = (SAMPLES, TIME, shape.channels, shape.height, shape.width)
    frames = generator.poisson(1.0, size).astype(np.uint8)
    lively(network, frames, shape.largest)
    return network, frames


def dense_macs(network: nn.Module, frames: NDArray[np.uint8], shape: InputShape) -> dict[str, int]:
    """What the cost model says of each layer, of all samples and time steps."""
    found: dict[str, int] = {}

    def note(name: str) -> Any:
        def hook(layer: Any, inputs: tuple[Any, ...], _out: Any) -> None:
            found[name] = layer.shape(name, inputs[0]).dense_macs * frames.shape[0] * frames.shape[1]

        return hook

    hooks = [layer.register_forward_hook(note(name)) for name, layer in searchable_layers(network).items()]
    counted_by_pytorch(network, frames, shape)
    for hook in hooks:
        hook.remove()
    return found


def assert_agrees(
    network: nn.Module,
    shape: InputShape,
    frames: NDArray[np.uint8],
    tmp_path: Path,
    *,
    in_c: bool = True,
    is_dense: bool = False,
) -> float:
    """Compare spikes, logits and operations of PyTorch, numpy and, if asked, C; return the share of spikes.

    A network that ``is_dense`` has no gates and masks: its operations are those of the cost model, inputs that are zero
    included.
    """
    deployed = exported(network, shape, frames)
    form = deployed.manifest["network"]
    found, seen = loaded(deployed).run(frames), run_in_pytorch(network, frames, form)
    assert found.spikes.keys() == seen.spikes.keys()
    for name, fired in found.spikes.items():
        np.testing.assert_array_equal(fired, seen.spikes[name], err_msg=name)
    np.testing.assert_array_equal(seen.logits / form["steps"][-1]["unit"], found.logits)
    activities = counted_by_pytorch(network, frames, shape)
    assert found.operations == {name: activity.total("synaptic_ops") for name, activity in activities.items()}
    dense = dense_macs(network, frames, shape)
    for name, activity in activities.items():
        macs, operations = activity.total("effective_macs"), activity.total("synaptic_ops")
        assert operations <= macs, name
        assert macs == dense[name] if is_dense else macs > 0, name
    cc = compiler()
    if in_c and cc is not None:
        folder = written(deployed, tmp_path / "deployed")
        outcome = CLibrary(folder, form, cc=cc, work=tmp_path, flags=(*STRICT, *SANITIZED)).run(frames)
        for name, fired in found.spikes.items():
            np.testing.assert_array_equal(outcome.spikes[name], fired, err_msg=name)
        np.testing.assert_array_equal(outcome.logits, found.logits)
        assert outcome.operations == sum(found.operations.values())
    return float(np.mean([fired.mean() for fired in found.spikes.values()]))


@pytest.mark.parametrize(("seed", "choices"), [(1, CHOICES), (2, DENSE)])
def test_a_network_that_has_all_of_it(seed: int, choices: Choices, tmp_path: Path, plain_neurons: None) -> None:
    torch.manual_seed(seed)
    shape = InputShape(channels=2, height=13, width=20, classes=3)
    network, frames = prepared(Everything(shape), shape, seed, choices, learn=seed == 1)
    rate = assert_agrees(network, shape, frames, tmp_path, is_dense=choices is DENSE)
    assert 0.02 < rate < 0.9


def drawn_network(seed: int) -> tuple[nn.Module, InputShape, NDArray[np.uint8]]:
    """A network of the first drawn form whose maps are not too small."""
    shape = InputShape(channels=2, height=9, width=8, classes=3)
    generator = np.random.default_rng(seed)
    torch.manual_seed(seed)
    while True:
        try:
            network = Drawn(shape, generator)
        except (ValueError, RuntimeError):  # ours, and torch's of what no map is large enough for
            continue
        network, frames = prepared(network, shape, seed, DENSE if seed % 2 else CHOICES)
        return network, shape, frames


@pytest.mark.parametrize("seed", range(24))
def test_networks_of_drawn_forms(seed: int, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = drawn_network(seed)
    assert_agrees(network, shape, frames, tmp_path, in_c=seed < 6, is_dense=bool(seed % 2))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(24, 150))
def test_more_networks_of_drawn_forms(seed: int, tmp_path: Path, plain_neurons: None) -> None:
    network, shape, frames = drawn_network(seed)
    assert_agrees(network, shape, frames, tmp_path, is_dense=bool(seed % 2))


@needs_compiler
def test_all_of_it_keeps_to_its_memory(tmp_path: Path, plain_neurons: None) -> None:
    torch.manual_seed(3)
    shape = InputShape(channels=2, height=13, width=20, classes=3)
    network, frames = prepared(Everything(shape), shape, 3)
    assert_runs_clean(exported(network, shape, frames), frames, tmp_path)


def test_memory_on_a_device_is_known_before_training(plain_neurons: None) -> None:
    """Maps, averages and what layers work in: of the inspected network, and of the C that is written."""
    torch.manual_seed(3)
    shape = InputShape(channels=2, height=13, width=20, classes=3)
    facts = inspected(Everything, shape)
    assert facts.no_integer_form is None
    assert facts.architecture is not None
    network, frames = prepared(Everything(shape), shape, 3)
    sizes = exported(network, shape, frames).c.sizes
    assert facts.architecture.map_bytes + facts.architecture.average_bytes == sizes.maps
    assert facts.architecture.takes_largest
    assert facts.architecture.pools == 4
