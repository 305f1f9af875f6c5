"""Networks of a user's own, from `cost` over training to `pick` and `verify`: the documents' and odd ones."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from PIL import Image

from spquant_search.costs.memory import cost_report
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import RunFacts, write_result
from spquant_search.runs.results import Origin, Outcome, unmeasured
from spquant_search.training.data_set import load_data, split_on_device
from spquant_search.training.prepare import prepare
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import Task
from spquant_search.training.trial import run_trial

DOCS = Path(__file__).parents[2] / "docs"
MODULE = "my_network"
SMALL = {"data.train_samples": 8, "data.validation_samples": 4, "data.test_samples": 4, "train.batch_size": 4}
SHORT = "time_steps=2"
BUILDING = re.compile(r"^def (build\w*)\(", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def networks_in_documents() -> dict[str, str]:
    """Return the code of every network in the documents, by its page and its place there."""
    return {
        f"{page.name} {index}": code
        for page in sorted(DOCS.glob("*.md"))
        for index, code in enumerate(blocks(page, "python"))
        if BUILDING.search(code) and "spquant_search.snn" in code  # others build data
    }


SPACE = blocks(DOCS / "own_network.md", "yaml")[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> Iterator[Path]:
    """An empty current folder; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop(MODULE, None)


def trained_run(space: Path, *overrides: str) -> tuple[RunFolder, Prepared]:
    """Train the smallest configuration of a space for one epoch, as a run whose only trial it is."""
    prepared = prepare(space, [*(f"{key}={value}" for key, value in SMALL.items()), SHORT, *overrides])
    file, cpu = prepared.space.file, torch.device("cpu")
    data = load_data(file, cache=Path(os.environ["SPQUANT_CACHE"]))
    folder = RunFolder(path=Path("runs/own"))
    facts = RunFacts(
        source=str(space),
        command="",
        data="",
        classes=data.classes,
        validation_samples=4,
        test_samples=4,
        no_integer_form=prepared.no_integer_form,
    )
    open_run(folder, file, facts)
    config = prepared.space.config({address: options[0] for address, options in prepared.space.choices().items()})
    cost = cost_report(prepared.shapes, config)
    known = unmeasured(
        number=1,
        origin=Origin.REFERENCE,
        config=config,
        seed=1,
        cost=cost,
        device=prepared.footprint(cost),
        outcome=Outcome.COMPLETE,
        reason="",
    )
    task = Task(
        result=known,
        schedule=Schedule(epochs=1, learning_rate=2e-3),
        initial_weights=(),
        weights_file=folder.weights_file(1),
    )
    training, validation = (split_on_device(data, split, cpu) for split in ("train", "validation"))
    result = run_trial(
        task, file, training=training, validation=validation, shape=prepared.input, stop_reason=lambda _metrics: None
    )
    write_result(folder, result)
    return folder, prepared


def write_network(here: Path, code: str, space: str = SPACE) -> Path:
    (here / f"{MODULE}.py").write_text(code, encoding="utf-8")
    (here / "my_space.yaml").write_text(space, encoding="utf-8")
    return here / "my_space.yaml"


def unused_names_removed(space: str) -> str:
    """Take the entries of the first example's own layers out of its space."""
    return re.sub(r"^  (last|readout):\n    .*\n", "", space, flags=re.MULTILINE)


def test_the_documents_show_networks() -> None:
    assert len(networks_in_documents()) == 5


@pytest.mark.parametrize("name", networks_in_documents())
def test_every_network_of_the_documents_can_be_picked_and_verified(here: Path, command: Command, name: str) -> None:
    code = networks_in_documents()[name]
    space = write_network(here, code, SPACE if name.endswith(" 0") else unused_names_removed(SPACE))
    answer = command("cost", "--space", space)
    assert (answer.code, answer.err) == (0, "")
    assert "note:" not in answer.out
    _, prepared = trained_run(space)
    assert prepared.remarks == ()
    picked = command("pick", "own", "--out", "picked")
    assert (picked.code, picked.err) == (0, "")
    verified = command("verify", "picked", "--samples", 2)
    assert verified.code == 0, verified.out


@pytest.mark.slow
@pytest.mark.parametrize("membrane", ["sum", "last"])
def test_a_network_with_membranes_as_logits_can_be_picked_and_verified(
    here: Path, command: Command, membrane: str
) -> None:
    space = write_network(here, HEAD + MEMBRANES.replace("MEMBRANE", membrane), unused_names_removed(SPACE))
    trained_run(space)
    assert command("pick", "own", "--out", "picked").code == 0
    verified = command("verify", "picked", "--samples", 2)
    assert verified.code == 0, verified.out


HEAD = """\
from dataclasses import replace
import torch
from torch import nn
from spquant_search.snn import *


class Net(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.stem = SpikingConv2d(shape.channels, 4, pool="before", can_gate=False)
        self.inner = SpikingConv2d(4, 4)
        self.make(shape)


def build(shape):
    return Own(shape)


"""
U_NET = """\
class Own(Net):
    def make(self, shape):
        self.down, self.up = nn.MaxPool2d(2, ceil_mode=True), nn.Upsample(size=(shape.height // 2, shape.width // 2))
        self.out = SpikingConv2d(8, 4)
        self.readout = Readout(4, (shape.height // 2) * (shape.width // 2), shape.classes)

    def forward(self, spikes):
        wide = self.stem(spikes)
        deep = self.inner(replace(wide, values=self.down(wide.values)))
        both = torch.cat([wide.values, self.up(deep.values)], dim=1)
        return self.readout(self.out(Spikes(values=both, time_steps=wide.time_steps)))
"""
MEMBRANES = """\
class Own(Net):
    def make(self, shape):
        self.inner = SpikingConv2d(4, 4, neuron=NeuronForm(leak=0.9, reset="delayed-subtract", learn_leak=True))
        positions = (shape.height // 2) * (shape.width // 2)
        self.readout = Readout(4, positions, shape.classes, membrane="MEMBRANE", leak=0.9)

    def forward(self, spikes):
        return self.readout(self.inner(self.stem(spikes)))
"""
OWN_RESIDUAL = """\
class Own(Net):
    def make(self, shape):
        self.readout = Readout(4, (shape.height // 2) * (shape.width // 2), shape.classes)

    def forward(self, spikes):
        spikes = self.stem(spikes)
        return self.readout(self.inner(spikes, residual=0.5 * spikes.values))
"""
MLP = """\
class Own(Net):
    def make(self, shape):
        inputs = shape.channels * shape.height * shape.width
        self.stem = SpikingConv2d(inputs, 8, kernel_size=1, norm=False, can_gate=False)
        self.inner = SpikingConv2d(8, 8, kernel_size=1, norm=False)
        self.readout = Readout(8, 1, shape.classes)

    def forward(self, spikes):
        flat = spikes.values.reshape(len(spikes.values), -1, 1, 1)
        return self.readout(self.inner(self.stem(replace(spikes, values=flat))))
"""
WEIGHT_TYING = """\
class Own(Net):
    def make(self, shape):
        self.other = SpikingConv2d(4, 4)
        self.other.weight = self.inner.weight
        self.readout = Readout(4, (shape.height // 2) * (shape.width // 2), shape.classes)

    def forward(self, spikes):
        return self.readout(self.other(self.inner(self.stem(spikes))))
"""
AUX_HEAD = """\
class Own(Net):
    def make(self, shape):
        positions = (shape.height // 2) * (shape.width // 2)
        self.aux, self.readout = Readout(4, positions, shape.classes), Readout(4, positions, shape.classes)
        self.never = nn.ModuleList([SpikingConv2d(4, 4), nn.Linear(3, 3)])
        self.layers = nn.ModuleList([self.stem, self.inner])
        self.dropout = nn.Dropout(0.2)

    def forward(self, spikes):
        for layer in self.layers:
            spikes = layer(spikes)
        logits = self.readout(replace(spikes, values=self.dropout(spikes.values)))
        return 0.5 * (logits + self.aux(spikes)) if self.training else logits
"""
PLAIN_SPACE = unused_names_removed(SPACE)


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (U_NET, "no integer form: inner reads what F.max_pool2d in down (MaxPool2d) makes, and only"),
        (OWN_RESIDUAL, "no integer form: inner reads what Tensor.mul makes, and only"),
        (MLP, "no integer form: stem reads what Tensor.reshape makes, and only"),
    ],
    ids=["u-net", "own residual", "mlp"],
)
def test_what_cannot_be_picked_is_said_by_cost_and_again_by_pick(
    here: Path, command: Command, code: str, words: str
) -> None:
    space = write_network(here, HEAD + code, PLAIN_SPACE)
    answer = command("cost", "--space", space)
    assert answer.code == 0
    assert f"note: {words}" in answer.out
    _, prepared = trained_run(space)
    refused = command("pick", "own", "--max-flash", "1MiB", "--out", "picked")
    assert refused.code == 2
    assert (
        f"nothing on the front can be picked: no configuration has an integer form, as {prepared.no_integer_form}"
        in refused.err
    )
    assert not (here / "picked").exists()


def test_weight_tying_is_refused_before_any_training(here: Path, command: Command) -> None:
    space = write_network(here, HEAD + WEIGHT_TYING, PLAIN_SPACE)
    answer = command("cost", "--space", space)
    assert answer.code == 2
    assert "my_network:build: other and inner share weight, which costs count twice; give each its own" in answer.err


def test_layers_without_effect_are_noted_and_the_rest_is_picked(here: Path, command: Command) -> None:
    space = write_network(here, HEAD + AUX_HEAD, PLAIN_SPACE)
    answer = command("cost", "--space", space)
    assert answer.code == 0
    assert "note: never.0: never called: " in answer.out
    assert "note: aux: called only in training: " in answer.out
    _, prepared = trained_run(space)
    assert [name for name, _ in prepared.space.baseline().layers] == ["stem", "inner", "readout"]
    assert command("pick", "own", "--out", "picked").code == 0
    verified = command("verify", "picked", "--samples", 2)
    assert verified.code == 0, verified.out
    named = command("cost", "--space", space, "--set", "layers.aux.weight_bits=8")
    assert "layers.aux: the output of my-network does not depend on this layer" in named.err
    second = command("cost", "--space", space, "--set", "layers.layers.0.weight_bits=8")
    assert "layers.layers.0: this layer is known as stem, its first name; write that" in second.err


@pytest.mark.parametrize(
    ("written", "instead", "words"),
    [
        ("SpikingConv2d(4, 4)", "SpikingConv2d(4, 4, kernel_size=1)", "(trial 1 took "),
        ("self.inner", "self.deep", "(layers that are new: deep; that are gone: inner)"),
    ],
)
def test_a_network_whose_code_has_changed_since_is_refused(
    here: Path, command: Command, written: str, instead: str, words: str
) -> None:
    space = write_network(here, HEAD + OWN_RESIDUAL, PLAIN_SPACE)
    trained_run(space)
    sys.modules.pop(MODULE)
    write_network(here, (HEAD + OWN_RESIDUAL).replace(written, instead), PLAIN_SPACE)
    answer = command("pick", "own", "--out", "picked")
    assert answer.code == 2
    assert f"my_network:build is not the network that this run searched {words}" in answer.err


def test_a_sequential_on_still_images_with_layers_called_by_numbers(here: Path, command: Command) -> None:
    generator = np.random.default_rng(0)
    for label in ("ant", "cat"):
        (here / "images" / label).mkdir(parents=True)
        for number in range(16):
            pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(here / "images" / label / f"{number}.png")
    code = (
        "from torch import nn\nfrom spquant_search.snn import *\n"
        "class Times(nn.Module):\n"
        "    def forward(self, spikes):\n"
        "        assert spikes.values.shape[0] % spikes.time_steps == 0 and not spikes.constant\n"
        "        return spikes\n"
        "def build(shape):\n"
        "    return nn.Sequential(Times(), nn.Sequential(SpikingConv2d(3, 4, pool='before', can_gate=False),\n"
        "        SpikingConv2d(4, 4)), Readout(4, 36, shape.classes))\n"
    )
    text = (
        "data: {name: image-folder, root: images, size: 12}\ntime_steps: 3\n"
        "model: {network: seq, build: 'my_network:build'}\n"
        "layers:\n  all: {weight_bits: 4, membrane_levels: 3}\n  2: {weight_bits: 8}\n  1.0: {weight_bits: 2}\n"
    )
    space = write_network(here, code, text)
    prepared = prepare(space, ["layers.1.1.weight_bits=[3]", "layers.2.weight_bits=[1]"])
    bits = {layer.name: layer.weight_bits for layer in prepared.space.layers}
    assert bits == {"1.0": (2,), "1.1": (3,), "2": (1,)}
    trained_run(space, "data.validation_samples=2", "data.test_samples=2")
    assert command("pick", "own", "--out", "picked").code == 0
    assert command("verify", "picked").code == 0
