"""Readouts that count spikes, and those of membranes: the same numbers in PyTorch, numpy and C."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from deploy.agreement import STRICT, assert_all_agree, assert_runs_clean, exported
from deploy.networks import TIME, Choices, drawn_config, lively, loaded, needs_compiler, written
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.comparison import whole_logits
from spquant_search.deploy.integer_form import integer_network
from spquant_search.deploy.pytorch_run import run_in_pytorch
from spquant_search.deploy.segments import NoIntegerForm
from spquant_search.snn.layers import configure
from spquant_search.snn.readout import CountReadout, Readout
from spquant_search.snn.spikes import Spikes, global_average
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

slow = partial(pytest.param, marks=pytest.mark.slow)
SHAPE = InputShape(channels=2, height=6, width=7, classes=5)
NEURON = NeuronSpace(leak=0.9, reset="subtract", spike_at_threshold=True)
READOUTS: dict[str, Any] = {
    "a count": lambda: CountReadout(5),
    "votes": lambda: CountReadout(5, votes=3),
    "the sum of membranes": lambda: Readout(15, 9, 5, membrane="sum", leak=0.9),
    "the last membrane": lambda: Readout(15, 9, 5, membrane="last", leak=0.3),
    "integrators": lambda: Readout(15, 9, 5, membrane="sum"),
}


class Ending(nn.Module):
    """A convolution, another of 15 channels, or 5 for a count of one, and the readout."""

    def __init__(self, readout: nn.Module, pool: Any = "max") -> None:
        super().__init__()
        channels = readout.classes * readout.votes if isinstance(readout, CountReadout) else 15
        self.first = SpikingConv2d(2, 8, can_gate=False)
        self.last = SpikingConv2d(8, channels, pool=pool)
        self.readout = readout

    def forward(self, spikes: Spikes) -> Tensor:
        logits: Tensor = self.readout(self.last(self.first(spikes)))
        return logits


def ending(
    readout: nn.Module, seed: int, *, time_steps: int = TIME, **options: Any
) -> tuple[nn.Module, NDArray[np.uint8]]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = Ending(readout, **options)
    configure(network, drawn_config(network, generator, Choices(skip=(None,))), NEURON)
    frames = generator.poisson(0.7, (6, time_steps, 2, 6, 7)).astype(np.uint8)
    lively(network, frames, SHAPE.largest)
    return network, frames


@pytest.mark.parametrize(
    "name",
    [
        *("votes", "the sum of membranes", "the last membrane"),
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("a count", "integrators")),
    ],
)
def test_pytorch_numpy_and_c_agree(name: str, tmp_path: Path, plain_neurons: None) -> None:
    network, frames = ending(READOUTS[name](), 2)
    assert 0.02 < assert_all_agree(network, SHAPE, frames, tmp_path) < 0.95
    logits = loaded(exported(network, SHAPE, frames)).run(frames).logits
    assert len(np.unique(logits)) > 5


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 7))
@pytest.mark.parametrize("name", READOUTS)
def test_drawn_networks_agree_and_keep_to_their_memory(
    name: str, seed: int, tmp_path: Path, plain_neurons: None
) -> None:
    network, frames = ending(READOUTS[name](), seed, time_steps=1 + seed % 4)
    (tmp_path / "clean").mkdir()
    assert_all_agree(network, SHAPE, frames, tmp_path)
    assert_runs_clean(exported(network, SHAPE, frames), frames, tmp_path / "clean")


@pytest.mark.slow
def test_pooled_spikes_and_averages_are_counted_as_whole_numbers(tmp_path: Path, plain_neurons: None) -> None:
    network, frames = ending(CountReadout(5, votes=2), 4, pool="after")
    assert_all_agree(network, SHAPE, frames, tmp_path)


@pytest.mark.slow
def test_a_count_of_an_average_is_that_of_its_sums(tmp_path: Path, plain_neurons: None) -> None:
    class Averaged(Ending):
        def forward(self, spikes: Spikes) -> Tensor:
            logits: Tensor = self.readout(global_average(self.last(self.first(spikes))))
            return logits

    torch.manual_seed(1)
    network = Averaged(CountReadout(5))
    configure(network, drawn_config(network, np.random.default_rng(1), Choices()), NeuronSpace())
    frames = np.random.default_rng(1).poisson(1.0, (4, TIME, 2, 6, 7)).astype(np.uint8)
    lively(network, frames, SHAPE.largest)
    assert_all_agree(network, SHAPE, frames, tmp_path)


@needs_compiler
@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("the sum of membranes", "kept >= 0 ? kept >> SPQ_CLASS_LEAK_BITS", "1 ? kept / (1 << SPQ_CLASS_LEAK_BITS)"),
        slow("the sum of membranes", " + (((int64_t)1 << SPQ_CLASS_LEAK_BITS) >> 1)", ""),
        slow("votes", "/ r->votes", "% SPQ_CLASSES"),
        slow("the last membrane", "SPQ_SUMS_MEMBRANES ?", "1 ?"),
        slow("integrators", "    memset(membranes, 0, sizeof membranes);\n", ""),
    ],
)
def test_a_faulty_engine_is_seen(name: str, right: str, wrong: str, tmp_path: Path, plain_neurons: None) -> None:
    network, frames = ending(READOUTS[name](), 2)
    made = exported(network, SHAPE, frames)
    source = made.files["model.c"].decode()
    assert source.count(right) == 1
    made.files["model.c"] = source.replace(right, wrong).encode()
    form = made.manifest["network"]
    library = CLibrary(written(made, tmp_path / "deployed"), form, cc=str(compiler()), work=tmp_path, flags=STRICT)
    assert (library.run(frames).logits != loaded(made).run(frames).logits).any()


def test_logits_of_pytorch_summed_over_time_are_those_of_a_device(plain_neurons: None) -> None:
    network, frames = ending(READOUTS["the last membrane"](), 3)
    made = exported(network, SHAPE, frames)
    form = made.manifest["network"]
    seen = run_in_pytorch(network, frames, form)
    np.testing.assert_array_equal(whole_logits(seen, form["steps"][-1]["unit"]), loaded(made).run(frames).logits)


def test_a_network_must_end_in_one_of_the_readouts(plain_neurons: None) -> None:
    class Halved(Ending):
        def forward(self, spikes: Spikes) -> Tensor:
            return super().forward(spikes) / 2

    network = Halved(CountReadout(5)).eval()
    for layer in (network.first, network.last):
        layer.set_precision(LayerPrecision(weight_bits=2, membrane_levels=3), NeuronSpace())
    with pytest.raises(NoIntegerForm, match=r"the network's output is what Tensor\.div makes"):
        integer_network(network, SHAPE, time_steps=2)
