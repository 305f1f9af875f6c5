"""The fast path of the C engine: random networks take every part of it, in any order with layers on the plain path."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from deploy.agreement import SANITIZED, STRICT, assert_runs_clean, exported
from deploy.networks import Choices, drawn_config, lively, loaded, needs_compiler, written
from numpy.typing import NDArray
from torch import nn

from spquant_search.costs.fast_path import CODE_BYTES, Form, needs_of_fast, plain_reason, together
from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.export import Export
from spquant_search.deploy.fast_layers import paths_of
from spquant_search.snn.layers import configure
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes, added
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape


@dataclass(frozen=True, kw_only=True)
class Case:
    """A chain of convolutions of 3x3; by number, ``pools`` pool their currents first, and ``after`` their spikes."""

    channels: tuple[int, ...]
    pools: tuple[int, ...] = ()
    after: tuple[int, ...] = ()
    choices: Choices = field(default_factory=Choices)
    neuron: NeuronSpace = field(default_factory=NeuronSpace)
    time_steps: int = 3
    size: tuple[int, int] = (7, 6)
    inputs: int = 2
    largest: int = 15
    seed: int = 1


def only(*bits: int, levels: tuple[int, ...] = (3, 4), mass: float = 1.0, cut: float | None = None) -> Choices:
    return Choices(bits=bits, levels=levels, mass=(mass,), skip=(cut,))


USUAL = (3, 4, 16, 256)
CASES = {
    "slices": Case(channels=(8, 16, 32, 64), pools=(1,), choices=only(1, 2)),
    "lanes": Case(channels=(8, 16, 40), pools=(1, 2), choices=only(3, 4, mass=0.7, levels=USUAL)),
    "pairs": Case(channels=(8, 16, 24), pools=(1,), choices=only(8, mass=0.7, levels=USUAL)),
    "pairs that find no room": Case(channels=(8, 64, 64), choices=only(8, mass=0.7, levels=(3, 256)), size=(3, 3)),
    "wide words": Case(channels=(16, 8, 16), choices=only(8, levels=(16, 256), cut=0.0), seed=2),
    "words": Case(channels=(8, 8, 32, 16), pools=(2,), choices=only(1, 3, 4, levels=(16, 256), cut=0.0)),
    "skipped": Case(channels=(8, 16, 32), choices=only(2, 4, 8, levels=USUAL, cut=-0.25), seed=4),
    "two bits, cut lower": Case(channels=(8, 8, 16), choices=only(2, 8, levels=(4,), cut=-1.0)),
    "any levels": Case(channels=(8, 16, 24), pools=(2,), choices=only(1, 3, 8, levels=(2, 5, 24, 100), cut=0.0)),
    "any leak": Case(channels=(8, 24, 8), choices=only(2, 4, 8, levels=USUAL), neuron=NeuronSpace(leak=0.3)),
    "subtracting": Case(channels=(8, 16), neuron=NeuronSpace(reset="subtract", spike_at_threshold=True)),
    "thresholds": Case(channels=(8, 32, 8), pools=(1,), neuron=NeuronSpace(learn_threshold=True), seed=3),
    "one step": Case(channels=(8, 16, 24, 32), pools=(2,), time_steps=1, choices=only(1, 4, 8, mass=0.7)),
    "plain ones between": Case(channels=(8, 12, 16, 6, 8, 32), pools=(3, 5), size=(9, 8)),
    "rows that no pool takes in": Case(channels=(8, 16, 8), after=(0, 1), size=(9, 7)),
    "one row": Case(channels=(16, 8, 32), size=(1, 5), choices=only(1, 8, levels=USUAL)),
    "one column": Case(channels=(8, 32, 16), size=(6, 1), choices=only(2, 4, levels=USUAL)),
    "three colours": Case(channels=(8, 32), inputs=3, largest=255, choices=only(1, 2), seed=5),
}


@cache
def made(name: str) -> tuple[Export, NDArray[np.uint8], InputShape]:
    """Export a case, and make frames of every density, with counts to 255 among them."""
    case = CASES[name]
    torch.manual_seed(case.seed)
    generator = np.random.default_rng(case.seed)
    sizes = (case.inputs, *case.channels)
    height, width = case.size
    layers: list[nn.Module] = []
    for number, (read, written_) in enumerate(pairwise(sizes)):
        pool = "before" if number in case.pools else "after" if number in case.after else None
        layers.append(SpikingConv2d(read, written_, pool=pool, can_gate=number > 0))
        if pool:
            height, width = height // 2, width // 2
    network = nn.Sequential(*layers, Readout(sizes[-1], height * width, 3))
    config = drawn_config(network, generator, case.choices)
    if case.time_steps == 1:
        config = replace(
            config,
            time_steps=1,
            layers=tuple((name, replace(one, membrane_levels=None, skip_below=None)) for name, one in config.layers),
        )
    configure(network, config, case.neuron)
    shape = InputShape(channels=case.inputs, height=case.size[0], width=case.size[1], classes=3, largest=case.largest)
    frame = (case.time_steps, case.inputs, *case.size)
    frames = [generator.poisson(0.7, frame) for _ in range(4)]
    lively(network, np.array(frames, dtype=np.uint8), case.largest)
    frames += [(generator.random(frame) < share) * generator.integers(1, 256, frame) for share in (0.02, 0.3, 0.9)]
    frames += [np.zeros(frame), np.full(frame, 255)]
    stacked = np.array(frames, dtype=np.uint8)
    return exported(network, shape, stacked), stacked, shape


@needs_compiler
@pytest.mark.parametrize("name", CASES)
def test_every_spike_and_operation_is_that_of_numpy(name: str, tmp_path: Path, plain_neurons: None) -> None:
    export, frames, _ = made(name)
    folder = written(export, tmp_path / "deployed")
    expected = loaded(export).run(frames)
    library = CLibrary(
        folder, export.manifest["network"], cc=str(compiler()), work=tmp_path, flags=(*STRICT, *SANITIZED)
    )
    found = library.run(frames)
    for layer, fired in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[layer], fired, err_msg=layer)
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.operations == sum(expected.operations.values())
    rates = [fired.mean() for fired in expected.spikes.values()]
    assert min(rates) > 0.01, "a layer that is silent shows nothing"


@needs_compiler
@pytest.mark.parametrize(
    "name", [name if name == "plain ones between" else pytest.param(name, marks=pytest.mark.slow) for name in CASES]
)
def test_all_kinds_keep_to_their_memory(name: str, tmp_path: Path, plain_neurons: None) -> None:
    export, frames, _ = made(name)
    assert_runs_clean(export, frames[4:], tmp_path)


class Fork(nn.Module):
    """Two layers that read the frame, in weights that the engine stores in different ways."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.other = SpikingConv2d(2, 8, can_gate=False), SpikingConv2d(2, 8, can_gate=False)
        self.readout = Readout(8, 7 * 6, 3)

    def forward(self, frames: Spikes) -> torch.Tensor:
        logits: torch.Tensor = self.readout(added(self.one(frames), self.other(frames)))
        return logits


@needs_compiler
def test_layers_of_different_bits_read_the_same_frame(tmp_path: Path, plain_neurons: None) -> None:
    generator = np.random.default_rng(6)
    network, frames = Fork(), generator.poisson(0.7, (4, 3, 2, 7, 6)).astype(np.uint8)
    config = drawn_config(network, generator, only(2, levels=USUAL))
    bits = {"one": 8, "other": 2, "readout": 2}
    layers = tuple((name, replace(one, weight_bits=bits[name])) for name, one in config.layers)
    configure(network, replace(config, layers=layers), NeuronSpace())
    lively(network, frames, 15)
    export = exported(network, InputShape(channels=2, height=7, width=6, classes=3, largest=15), frames)
    assert [path.get("sums") for path in export.manifest["paths"].values()] == ["counts-8", "counts-4"]
    expected, folder = loaded(export).run(frames), written(export, tmp_path / "deployed")
    found = CLibrary(folder, export.manifest["network"], cc=str(compiler()), work=tmp_path).run(frames)
    for layer, fired in expected.spikes.items():
        np.testing.assert_array_equal(found.spikes[layer], fired, err_msg=layer)
    np.testing.assert_array_equal(found.logits, expected.logits)


def test_the_cases_take_every_part_of_the_fast_path(plain_neurons: None) -> None:
    """The manifest says which layer takes which path; together the cases need all code that there is."""
    found = [paths_of(loaded(made(name)[0])) for name in CASES]
    for name, paths in zip(CASES, found, strict=True):
        described = made(name)[0].manifest["paths"]
        assert described == paths.described()
        assert {name for name, path in described.items() if path["path"] == "fast"} == paths.fast.keys()
        assert paths.fast, "every case has fast layers"
    needs = together(needs_of_fast(layer) for paths in found for layer in paths.fast.values())
    assert [part for part in CODE_BYTES if not getattr(needs, part)] == []
    assert made("plain ones between")[0].manifest["paths"]["1"] == {
        "path": "plain",
        "because": "12 channels, which fill no whole bytes",
    }


FORM = Form(
    kernel=(3, 3),
    stride=(1, 1),
    padding=(1, 1, 1, 1),
    groups=1,
    pool=None,
    in_shape=(16, 8, 8),
    out_channels=16,
    positions=(8, 8),
    reads="spikes",
    largest=1,
    has_residual=False,
)
REASONS = {
    "a kernel of 1x1, stride 1x1, padding 0, 0, 0, 0": {"kernel": (1, 1), "padding": (0, 0, 0, 0)},
    "a kernel of 3x3, stride 2x2, padding 1, 1, 1, 1": {"stride": (2, 2)},
    "16 groups of channels": {"groups": 16},
    "a residual current": {"has_residual": True},
    "currents pooled as before of 3x3": {"pool": ("before", (3, 3), (2, 2), (0, 0, 0, 0))},
    "currents pooled as max-before of 2x2": {"pool": ("max-before", (2, 2), (2, 2), (0, 0, 0, 0))},
    "18 channels, which fill no whole bytes": {"out_channels": 18},
    "3000 channels": {"out_channels": 3000},
    "an input of numbers that are neither the frame's nor spikes": {"reads": "values"},
    "the frame's counts of 16 channels": {"reads": "counts"},
    "the frame's counts, gated or pooled": {"reads": "counts", "in_shape": (2, 8, 8)},
    "12 input channels, which fill no whole bytes": {"in_shape": (12, 8, 8)},
    "a gate over 16,384 positions": {"in_shape": (8, 128, 128)},
    "sums of up to 64,512, beyond 16 bits": {"in_shape": (1024, 8, 8)},
    "4096 input channels": {"in_shape": (4096, 8, 8)},
}


@pytest.mark.parametrize("reason", REASONS)
def test_a_layer_that_does_not_fit_says_why(reason: str) -> None:
    bits = 8 if reason.startswith("4096") else 4
    assert plain_reason(FORM, weight_bits=4, gated=True) is None
    assert plain_reason(replace(FORM, **REASONS[reason]), weight_bits=bits, gated=True) == reason
