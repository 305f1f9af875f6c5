"""A search of a network of another library by the Python interface: an nn.Sequential, and a class of the script."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from commands.python.test_search import ASKED, X, Y
from importer.libraries import snntorch, spikingjelly
from torch import Tensor, nn

from spquant_search import Run, from_torch, open_run, search
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder, given_weights_file, network_file
from spquant_search.runs.records import read_frozen_space, read_results
from spquant_search.runs.results import BASELINE
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.snn.networks.planned import PlannedNetwork

EXAMPLE = torch.randint(0, 4, (2, 3, 2, 8, 8), generator=torch.Generator().manual_seed(0)).float()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder, before = tmp_path_factory.mktemp("imported"), Path.cwd()
    with pytest.MonkeyPatch.context() as patch, uncompiled():
        patch.setenv("SPQUANT_COMPILE", "0")
        os.chdir(folder)
        yield folder
        os.chdir(before)


def sequential() -> PlannedNetwork:
    """Import a plain nn.Sequential of one time step a call."""
    snn = snntorch()
    torch.manual_seed(0)
    net = nn.Sequential(
        *(nn.Conv2d(2, 6, 3, padding=1), nn.MaxPool2d(2), snn.Leaky(beta=0.9, init_hidden=True, learn_beta=True)),
        *(nn.Flatten(), nn.Linear(96, 2), snn.Leaky(beta=0.8, init_hidden=True)),
    )
    return from_torch(net, EXAMPLE, run=lambda net, x: torch.stack([net(frame) for frame in x]))


@pytest.fixture(scope="module")
def run(home: Path) -> Run:
    return search(sequential(), train=(X, Y), **ASKED)


def test_the_run_has_the_network_as_data(run: Run) -> None:
    folder = RunFolder(path=run.path)
    assert network_file(folder).is_file()
    assert folder.weights_file(BASELINE).read_bytes() == given_weights_file(folder).read_bytes()
    file = read_frozen_space(folder)
    assert (file.train.baseline_epochs, file.model.build, file.time_steps) == (0, None, (2,))
    assert read_results(folder)[BASELINE].accuracy > 0


def test_the_same_call_goes_on_and_another_network_does_not(run: Run) -> None:
    before = {file: file.stat().st_mtime_ns for file in (run.path / "trials").iterdir()}
    search(sequential(), train=(X, Y), **ASKED)
    assert {file: file.stat().st_mtime_ns for file in (run.path / "trials").iterdir()} == before
    with pytest.raises(UserError, match="began with another network"):
        search(of_the_script(), train=(X, Y), **ASKED)


def test_a_member_is_verified_without_the_library(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in ("snntorch", "spikingjelly")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "snntorch", None)
    picked = open_run("mine").pick({"memory": "64 KiB"})
    assert "imported from snnTorch: README.md of what is written says what was folded and rounded" in repr(picked)
    assert picked.verify().mismatches == {"PyTorch": 0, "C": 0}
    page = (picked.export("picked") / "README.md").read_text()
    assert "## What it was in floating point\n\n- the network was imported from snnTorch: " in page
    assert "lif" not in page
    assert "4: a leak of 0.8 is 3277/4096 = 0.800049 in integers" in page
    network = (Path("picked") / "network.json").read_bytes()
    assert network == network_file(RunFolder(path=run.path)).read_bytes()


def of_the_script() -> PlannedNetwork:
    """Import a network whose class no other process could import."""
    neuron, layer, functional = spikingjelly("neuron"), spikingjelly("layer"), spikingjelly("functional")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = layer.Conv2d(2, 4, 3, padding=1, bias=False), layer.BatchNorm2d(4)
            self.spikes, self.pool = neuron.LIFNode(), layer.MaxPool2d(2)
            self.fc, self.out = nn.Sequential(layer.Flatten(), layer.Linear(64, 2)), neuron.IFNode()

        def forward(self, x: Tensor) -> Any:
            return self.out(self.fc(self.pool(self.spikes(self.norm(self.conv(x))))))

    Net.__module__ = "__main__"
    torch.manual_seed(0)
    net = Net()
    functional.set_step_mode(net, "m")
    return from_torch(net, EXAMPLE)


def test_what_is_wrong_with_the_call_is_told(home: Path) -> None:
    network = of_the_script()
    with pytest.raises(UserError, match=r"network \(model\.layers\): .*the network takes 2 channels of 8x8"):
        search(network, train=(X[..., :4], Y), progress=False, out="run")
    with pytest.raises(UserError, match=r"^weights: the network that was given has its own"):
        search(network, train=(X, Y), weights="w.pt", progress=False, out="run")
    with pytest.raises(UserError, match=r"^train: is missing: what is the imported network to be trained on"):
        search(network, progress=False, out="run")
    with pytest.raises(UserError, match=r"set time_steps to 2, or give an example of 1"):
        search(network, train=(X, Y), time_steps=1, progress=False, out="run")
    assert not (home / "run").exists()
