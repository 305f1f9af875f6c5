"""A user's own network: the documented example as it stands, and what is said of one that cannot be."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from spquant_search.errors import UserError
from spquant_search.snn.networks.catalog import build
from spquant_search.training.loader import DeviceSplit
from spquant_search.training.loop import train_step
from spquant_search.training.optimizer import new_optimizer
from spquant_search.training.prepare import prepare
from spquant_search.training.schedule import Schedule

DOCUMENT = Path(__file__).parents[3] / "docs" / "own_network.md"


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder with the example in it; what is imported from it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "my_network.py").write_text(block("python"), encoding="utf-8")
    (tmp_path / "my_space.yaml").write_text(block("yaml"), encoding="utf-8")
    yield tmp_path
    for name in ("my_network", "broken_network"):
        sys.modules.pop(name, None)


def test_the_documented_network_is_searched_by_the_names_of_its_layers(folder: Path) -> None:
    prepared = prepare(folder / "my_space.yaml")
    choices = {str(address): options for address, options in prepared.space.choices().items()}
    assert [shape.name for shape in prepared.shapes] == ["stem", "middle", "last", "readout"]
    assert choices["last.channel_mass"] == (0.6, 0.7, 0.8, 0.9, 1.0)
    assert choices["stem.channel_mass"] == (1.0,)
    assert choices["readout.weight_bits"] == (8,)
    # 34x34 input, pooled to 17x17 and 8x8: of the last convolution an odd row and column are not computed.
    assert [shape.dense_macs for shape in prepared.shapes] == [
        2 * 16 * 9 * 34 * 34,
        16 * 16 * 9 * 17 * 17,
        16 * 32 * 9 * 16 * 16,
        32 * 8 * 8 * 10,
    ]
    assert [shape.neurons for shape in prepared.shapes] == [16 * 17 * 17, 16 * 17 * 17, 32 * 8 * 8, 0]


def test_the_documented_network_learns(folder: Path, plain_neurons: None) -> None:
    file = prepare(folder / "my_space.yaml").space.file
    prepared = prepare(folder / "my_space.yaml")
    torch.manual_seed(0)
    network = build(file.model, prepared.input, source="test").train()
    optimizer = new_optimizer(network, file.train, Schedule(epochs=1, learning_rate=4e-3))
    frames = torch.randint(0, 3, (8, 4, 2, 34, 34), dtype=torch.uint8)
    labels = torch.arange(8) % 4
    batch = DeviceSplit(frames=frames, labels=labels, time_steps=4, largest=15)
    losses = [float(train_step(network, batch, file.train, optimizer)) for _ in range(8)]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("my_network", "", "model.build: must be written package.module:function; got 'my_network'"),
        ("missing_network:build", "", "missing_network could not be imported"),
        ("my_network:missing", "", "model.build: my_network has no function 'missing'"),
        ("broken_network:build", "import", "SyntaxError"),
        ("broken_network:build", "def build(shape):\n    return 1 / 0", "ZeroDivisionError: division by zero"),
        ("broken_network:build", "def build(shape):\n    return shape", "got InputShape"),
        (
            "broken_network:build",
            "from torch import nn\nfrom my_network import MyNetwork\n"
            "class Broken(MyNetwork):\n    def forward(self, spikes):\n        return self.stem(spikes)\n"
            "def build(shape):\n    return Broken(shape)",
            "must give logits of [time, batch, classes], here (4, 2, 10); got Spikes",
        ),
        (
            "broken_network:build",
            "from torch import nn\nfrom my_network import MyNetwork\n"
            "class Broken(MyNetwork):\n    def forward(self, spikes):\n        return self.readout(spikes)\n"
            "def build(shape):\n    return Broken(shape)",
            "fails on an input of (8, 2, 34, 34) in readout (Readout): ValueError: the readout was made",
        ),
    ],
)
def test_what_cannot_be_a_network_is_said_with_its_place(folder: Path, path: str, code: str, message: str) -> None:
    (folder / "broken_network.py").write_text(code, encoding="utf-8")
    with pytest.raises(UserError) as error:
        prepare(folder / "my_space.yaml", [f"model.build={path}"])
    assert message in str(error.value)
    assert "my_space.yaml" in str(error.value)
