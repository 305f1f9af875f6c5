"""One tiny search by the Python interface, from the weights of a network to a verified artifact."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from commands.python.test_networks import MODULE, NETWORK
from conftest import Command
from torch import nn

from spquant_search import Run, open_run, search
from spquant_search.commands.python.picked import NotVerified
from spquant_search.deploy.verify import Verification
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder, given_weights_file
from spquant_search.runs.records import read_facts, read_frozen_space, read_results
from spquant_search.runs.results import BASELINE
from spquant_search.snn.kernels.compile import uncompiled
from spquant_search.training.data_set import load_data, split_on_device
from spquant_search.training.evaluation import evaluate

Y = np.arange(96) % 2
X = np.random.default_rng(0).poisson(0.2, (96, 2, 2, 8, 8)).astype(np.uint8)
X[Y == 1, :, 0, :4] += 2
FEW = {"supernet.epochs": 1, "final.members": 1, "train.batch_size": 16, "search.budget_ladder": 0}
ASKED: dict[str, Any] = {"bits": [2, 4], "levels": 3, "trials": 2, "workers": 1, "settings": FEW, "progress": False}
ASKED |= {"device": "cpu", "out": "runs/mine"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the search was started in, with its module."""
    folder, before = tmp_path_factory.mktemp("python"), Path.cwd()
    (folder / f"{MODULE}.py").write_text(NETWORK)
    with pytest.MonkeyPatch.context() as patch, uncompiled():
        patch.setenv("SPQUANT_COMPILE", "0")
        patch.setattr(sys, "path", [str(folder), *sys.path])
        os.chdir(folder)
        yield folder
        os.chdir(before)
    sys.modules.pop(MODULE, None)


@pytest.fixture(scope="module")
def network(home: Path) -> nn.Module:
    from spquant_search.snn import InputShape

    torch.manual_seed(0)
    made: nn.Module = __import__(MODULE).Net(InputShape(channels=2, height=8, width=8, classes=2))
    return made.train()


@pytest.fixture(scope="module")
def run(network: nn.Module) -> Run:
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    found = search(network, train=(X, Y), **ASKED)
    assert all(torch.equal(before[name], tensor) for name, tensor in network.state_dict().items())
    assert network.training
    return found


def test_the_given_weights_are_the_baseline_as_they_are(run: Run, network: nn.Module) -> None:
    folder = RunFolder(path=run.path)
    file, baseline = read_frozen_space(folder), read_results(folder)[BASELINE]
    assert (file.train.baseline_epochs, [rung.epoch for rung in baseline.epochs]) == (0, [0])
    assert baseline.epochs[0].loss is None
    data = load_data(file, cache=Path(os.environ["SPQUANT_CACHE"]), is_made=True)
    evaluated = evaluate(network, split_on_device(data, "validation", torch.device("cpu")))
    network.train()
    assert baseline.accuracy == evaluated.accuracy
    assert (baseline.effective_macs, baseline.layers) == (evaluated.effective_macs, evaluated.layers)
    assert folder.weights_file(BASELINE).read_bytes() == given_weights_file(folder).read_bytes()


def test_the_run_says_where_it_came_from(run: Run) -> None:
    facts = read_facts(RunFolder(path=run.path))
    assert facts.source == f"{MODULE}:Net"
    assert facts.command.startswith(f"spquant_search.search('{MODULE}:Net', bits=[2, 4], levels=3, trials=2, out=")
    assert facts.data.startswith("frames [2, 2, 8, 8] given in Python (samples ")


def test_the_same_call_goes_on_and_other_samples_or_weights_do_not(run: Run, network: nn.Module) -> None:
    before = {file: file.stat().st_mtime_ns for file in (run.path / "trials").iterdir()}
    with pytest.raises(UserError, match="began with other samples") as caught:
        search(network, train=(X[:90], Y[:90]), **ASKED)
    assert caught.value.__notes__ == ["In Python: --run is out=FOLDER of search()"]
    others = {name: tensor + 1 for name, tensor in network.state_dict().items()}
    with pytest.raises(UserError, match="began from other weights"):
        search(f"{MODULE}:Net", train=(X, Y), weights=others, **ASKED)
    with pytest.raises(UserError, match=r"train\.batch_size: 16 in the run, 8 now"):
        search(network, train=(X, Y), **{**ASKED, "settings": {**FEW, "train.batch_size": 8}})
    assert {file: file.stat().st_mtime_ns for file in (run.path / "trials").iterdir()} == before


def test_the_command_line_sees_the_same_front(run: Run, command: Command) -> None:
    answer = command("front", run.path, "--json")
    assert json.loads(answer.out) == json.loads(json.dumps(open_run("mine").front.as_dict()))
    assert [member["number"] for member in json.loads(answer.out)["members"]] == [one.number for one in run.front]
    assert repr(run) == "Run('runs/mine')"
    assert repr(run.front).startswith("mine: the front of ")
    with pytest.raises(UserError, match="is no run"):
        open_run("nowhere")


def test_a_member_is_picked_exported_and_verified(run: Run, command: Command) -> None:
    picked = run.pick({"memory": "64 KiB"})
    assert picked.member in run.front
    assert picked.member.has_integer_form
    assert repr(picked).startswith(f"trial {picked.member.number} of {len(run.front)} members of the front: ")
    found = picked.verify(samples=5)
    assert (found.holds, found.samples) == (True, 5)
    assert picked.export("by_python") == Path("by_python")
    assert picked.verify().samples == 10
    assert command("pick", run.path, "--max-memory", "64KiB", "--out", "by_command").code == 0
    by_command, by_python = (
        {str(file.relative_to(out)): file.read_bytes() for file in Path(out).rglob("*") if file.is_file()}
        for out in ("by_command", "by_python")
    )
    assert by_command == by_python
    picked.export("prefixed", prefix="wake")
    assert Path("prefixed", "wake_model.h").is_file()
    assert not picked.module.training
    with pytest.raises(UserError, match="exists already"):
        picked.export("by_python")


def test_what_is_not_verified_is_raised(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Verification(samples=3, mismatches={"PyTorch": 1, "C": 0})
    monkeypatch.setattr("spquant_search.deploy.verify.verify", lambda *_arguments, **_options: replace(found))
    with pytest.raises(NotVerified, match="is not verified") as caught:
        run.pick().verify()
    assert caught.value.verification.mismatches == {"PyTorch": 1, "C": 0}


def test_what_fits_nothing_is_told_in_the_words_of_the_budget(run: Run) -> None:
    with pytest.raises(UserError, match=r"budget\['memory'\] 3: it has "):
        run.pick({"memory": 3})
    with pytest.raises(UserError, match=r"^trial 999: is not on the front"):
        run.pick(trial=999)
    with pytest.raises(UserError, match="omit the budget and knee"):
        run.pick(knee=True, trial=1)
    assert run.pick(knee=True).member in run.front


def test_notebooks_show_tables_whose_names_are_escaped(run: Run) -> None:
    summary = run.front._summary
    odd = replace(run.front, _summary=replace(summary, run="<script>alert(1)</script>"))
    assert "<script>" not in odd._repr_html_()
    assert "&lt;script&gt;alert(1)" in odd._repr_html_()
    assert run._repr_html_().count("<tr>") == len(run.front) + 1
    assert run.pick()._repr_html_().startswith("<p><b>trial ")
