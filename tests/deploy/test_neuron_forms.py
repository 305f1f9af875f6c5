"""Neurons of every form: the same numbers in PyTorch, numpy and C, and those of a slow neuron in double precision."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from deploy.agreement import STRICT, assert_all_agree, assert_runs_clean, exported
from deploy.networks import TIME, Choices, drawn_config, lively, loaded, needs_compiler, written
from neurons import slow_neuron
from numpy.typing import NDArray
from torch import Tensor, nn

from spquant_search.deploy.c_library import CLibrary, compiler
from spquant_search.deploy.integer_neuron import integer_neuron, least_fraction
from spquant_search.deploy.reference import Model, _Run
from spquant_search.snn.attention import SpikingSelfAttention
from spquant_search.snn.convolution import Shortcut
from spquant_search.snn.layers import configure
from spquant_search.snn.neuron.module import Neuron
from spquant_search.snn.readout import Readout
from spquant_search.snn.spikes import Spikes
from spquant_search.snn.spiking_convolution import SpikingConv2d
from spquant_search.space.configuration import LayerPrecision
from spquant_search.space.grid import membrane_grid
from spquant_search.space.neuron_form import NeuronForm
from spquant_search.space.schema import NeuronSpace
from spquant_search.space.shapes import InputShape

RESETS = ("zero", "subtract", "delayed-subtract")
FORMS = [
    NeuronForm(leak=leak, reset=reset, spike_at_threshold=at_threshold)  # type: ignore[arg-type]
    for reset, at_threshold, leak in itertools.product(RESETS, (False, True), (0.5, 0.9, 1.0))
]
SHAPE = InputShape(channels=2, height=7, width=6, classes=3)


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("levels", [3, 16, 256])
@pytest.mark.parametrize("neurons", [2000, pytest.param(42_000, marks=pytest.mark.slow)])  # a million steps of a form
def test_integers_are_the_neuron_in_double_precision(form: NeuronForm, levels: int, neurons: int) -> None:
    neuron = Neuron(form)
    neuron.configure(form, grid=membrane_grid(levels, subtracts=form.subtracts), skip_below=None)
    described = integer_neuron(neuron, stores=True)
    fraction = max(least_fraction(described), 6)
    generator = np.random.default_rng(levels)
    # Multiples of 1/64, so that ties and potentials on the threshold occur, and of the smallest unit.
    whole = generator.integers(-100, 200, (8, 1, 1, 1, neurons)) << (fraction - 6)
    current = np.where(generator.random(whole.shape) < 0.7, whole, whole + generator.integers(-3, 4, whole.shape))
    step = {"name": "only", "neuron": described, "fraction": fraction}
    run = _Run(Model({}, {}), np.zeros((1, 1, 1, 1, 1), np.uint8))
    found = np.stack([run._fire(step, frame)[0] for frame in current])

    leak, amount = form.rounded_leak, 1.0
    if form.reset == "delayed-subtract":
        amount = round(2**20 / leak) / 2**20
    expected, potentials = slow_neuron(
        current / 2.0**fraction,
        leak=leak,
        amount=amount if form.subtracts else None,
        at_threshold=form.spike_at_threshold,
        grid=membrane_grid(levels, subtracts=form.subtracts),
    )
    assert 0.05 < expected.mean() < 0.95
    assert (potentials == 1.0).any()
    np.testing.assert_array_equal(found, expected)


def test_half_a_step_of_an_integrator_is_a_whole_number(tmp_path: Path, plain_neurons: None) -> None:
    """An attention has two bits behind the point, and a grid of 256 levels seven: nothing else asks for more."""
    network, frames = of_forms([NeuronForm(leak=1)] * 5, 1, NeuronSpace())
    precision = LayerPrecision(membrane_levels=256)
    network.attention.set_precision(precision, NeuronSpace())  # type: ignore[operator, union-attr]
    steps = {step["name"]: step for step in exported(network, SHAPE, frames).manifest["network"]["steps"]}
    assert steps["attention"]["fraction"] == 8
    assert_all_agree(network, SHAPE, frames, tmp_path)


class OfForms(nn.Module):
    """Four convolutions, one with a residual, and an attention, each with neurons of a form of its own."""

    def __init__(self, forms: Sequence[NeuronForm | None]) -> None:
        super().__init__()
        one, two, three, four, five = forms
        self.first = SpikingConv2d(2, 8, can_gate=False, neuron=one)
        self.pooled = SpikingConv2d(8, 8, pool="before", neuron=two)
        self.beside = Shortcut(8, 6)
        self.added = SpikingConv2d(8, 6, neuron=three)
        self.attention = SpikingSelfAttention(6, 2, neuron=four)
        self.last = SpikingConv2d(6, 8, pool="max", neuron=five)
        self.readout = Readout(8, 1, 3)

    def forward(self, spikes: Spikes) -> Tensor:
        first = self.pooled(self.first(spikes))
        both = self.added(first, self.beside(first))
        logits: Tensor = self.readout(self.last(self.attention(both, both, both)))
        return logits


def of_forms(
    forms: Sequence[NeuronForm | None], seed: int, space: NeuronSpace, time_steps: int = TIME
) -> tuple[nn.Module, NDArray[np.uint8]]:
    torch.manual_seed(seed)
    generator = np.random.default_rng(seed)
    network = OfForms(forms)
    configure(network, drawn_config(network, generator, Choices(skip=(None,))), space)
    frames = generator.poisson(1.0, (4, time_steps, 2, 7, 6)).astype(np.uint8)
    lively(network, frames, SHAPE.largest)
    return network, frames


MIXED: dict[str, tuple[list[NeuronForm | None], NeuronSpace]] = {
    "learned leaks": ([None] * 5, NeuronSpace(learn_leak=True, reset="delayed-subtract", leak=0.7)),
    "as a space says": ([None] * 5, NeuronSpace(leak=1, reset="subtract", spike_at_threshold=True)),
    "integrators, thresholds": ([None] * 5, NeuronSpace(leak=1, reset="subtract", learn_threshold=True)),
    "of each kind": (
        [
            NeuronForm(leak=0.9, reset="delayed-subtract"),
            NeuronForm(leak=1, spike_at_threshold=True),
            NeuronForm(leak=0.3, reset="subtract", learn_leak=True),
            NeuronForm(leak=0.95, reset="delayed-subtract", spike_at_threshold=True),
            None,
        ],
        NeuronSpace(learn_threshold=True),
    ),
}


@pytest.mark.parametrize(
    "name",
    [
        "of each kind",
        "as a space says",
        pytest.param("learned leaks", marks=pytest.mark.slow),
        pytest.param("integrators, thresholds", marks=pytest.mark.slow),
    ],
)
def test_pytorch_numpy_and_c_agree(name: str, tmp_path: Path, plain_neurons: None) -> None:
    forms, space = MIXED[name]
    network, frames = of_forms(forms, 3, space)
    assert 0.02 < assert_all_agree(network, SHAPE, frames, tmp_path) < 0.95


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 10))
@pytest.mark.parametrize("name", MIXED)
def test_drawn_networks_agree_and_keep_to_their_memory(
    name: str, seed: int, tmp_path: Path, plain_neurons: None
) -> None:
    forms, space = MIXED[name]
    network, frames = of_forms(forms, seed, space, time_steps=1 + seed % 4)
    (tmp_path / "clean").mkdir()
    assert_all_agree(network, SHAPE, frames, tmp_path)
    assert_runs_clean(exported(network, SHAPE, frames), frames, tmp_path / "clean")


# What a faulty engine would do, and a network that shows it.
FAULTS = {
    # Currents of an attention are quarters, and often at the threshold.
    "the threshold is left out of the comparison": ("as a space says", "one -= n->at_threshold;", ""),
    "a spike subtracts the threshold": ("of each kind", "? u - subtracted : kept", "? u - one : kept"),
    "a leak is rounded to a power of two": (
        "of each kind",
        "(spq_potential)n->leak *",
        "(spq_potential)(n->leak > 1 ? 2048 : 1) *",
    ),
}


@needs_compiler
@pytest.mark.parametrize(
    "fault", [fault if "subtracts" in fault else pytest.param(fault, marks=pytest.mark.slow) for fault in FAULTS]
)
def test_a_faulty_engine_is_seen(fault: str, tmp_path: Path, plain_neurons: None) -> None:
    name, right, wrong = FAULTS[fault]
    forms, space = MIXED[name]
    network, frames = of_forms(forms, 3, space)
    made = exported(network, SHAPE, frames)
    source = made.files["model.c"].decode()
    assert source.count(right) == 1
    made.files["model.c"] = source.replace(right, wrong).encode()
    form = made.manifest["network"]
    library = CLibrary(written(made, tmp_path / "deployed"), form, cc=str(compiler()), work=tmp_path, flags=STRICT)
    expected = loaded(made).run(frames)
    assert any((library.run(frames).spikes[name] != fired).any() for name, fired in expected.spikes.items())


def test_an_engine_has_fields_of_forms_where_a_layer_has_them(plain_neurons: None) -> None:
    def source(space: NeuronSpace) -> str:
        network, frames = of_forms([None] * 5, 1, space)
        text = exported(network, SHAPE, frames).files["model.c"].decode()
        return text[text.index("uint8_t *spikes;\n") : text.index("} spq_neurons;")]

    plain = source(NeuronSpace())
    assert "subtract" not in plain
    assert "at_threshold" not in plain
    assert "subtracts" in source(NeuronSpace(reset="subtract"))
    assert "at_threshold" in source(NeuronSpace(spike_at_threshold=True))


def test_the_manifest_says_what_a_neuron_does(plain_neurons: None) -> None:
    space = NeuronSpace(leak=0.9, reset="delayed-subtract", spike_at_threshold=True)
    network, frames = of_forms([NeuronForm(), None, None, None, None], 1, space)
    steps = {step["name"]: step for step in exported(network, SHAPE, frames).manifest["network"]["steps"]}
    keys = ("leak", "leak_bits", "subtracts", "subtracts_bits", "spikes_at_threshold")
    assert [steps["first"]["neuron"][key] for key in keys] == [1, 1, None, 0, False]
    # 0.9 is 3686 / 4096 to the nearest, and 2^20 over that 1165210.9.
    assert [steps["last"]["neuron"][key] for key in keys] == [1843, 11, 1165211, 20, True]
