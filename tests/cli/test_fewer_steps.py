"""The commands `pick` and `verify` on members of several numbers of time steps."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from deploy.networks import needs_compiler
from examples import config, trial
from searches import SMALLER, TINY

from spquant_search.data.catalog import SETS
from spquant_search.deploy import export as export_module
from spquant_search.deploy import verify as verify_module
from spquant_search.deploy.artifact import read_artifact
from spquant_search.deploy.weights_file import read_manifest
from spquant_search.errors import UserError
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import RunFacts, write_result
from spquant_search.space.configuration import TIME_STEPS
from spquant_search.training import data_set
from spquant_search.training.network import new_network, write_weights
from spquant_search.training.prepare import prepare

STEPS = {1: 4, 2: 2, 3: 1}  # by the member's number


@pytest.fixture
def run(tmp_path: Path, plain_neurons: None) -> RunFolder:
    """A run of a space of 1, 2 or 4 time steps with a member of each, untrained."""
    overrides = [f"{path}={value}" for path, value in SMALLER.items() if path != "time_steps"]
    prepared = prepare(TINY, [*overrides, "time_steps=[1, 2, 4]"])
    space, folder = prepared.space.file, RunFolder(path=tmp_path / "runs" / "steps")
    classes = SETS["fashion-events"].classes
    facts = RunFacts(source="tiny", command="", data="", classes=classes, validation_samples=40, test_samples=40)
    open_run(folder, space, facts)
    write_result(folder, trial(0, 0.9, 90, origin="baseline", of=config("000000000", "0 0 0 0 0 0 0 0")))
    first = {address: options[0] for address, options in prepared.space.choices().items()}
    folder.weights_file(0).parent.mkdir(parents=True, exist_ok=True)
    for number, steps in STEPS.items():
        member = trial(number, 0.9 - number / 10, 40 / number, of=prepared.space.config(first | {TIME_STEPS: steps}))
        write_result(folder, member)
        network = new_network(space, prepared.input, seed=number, device=torch.device("cpu"))
        write_weights(network, folder.weights_file(number))
    return folder


def test_every_member_is_picked_at_its_own_time_steps(
    run: RunFolder, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the test vectors are as many frames, of the data or made up where that is not there."""
    monkeypatch.setenv("CC", "false")
    said = {
        1: ", 4 time steps -> ",
        2: "  time steps: 2, each the sum of 2 neighbouring frames of the 4 that the search made\n",
        3: "  time steps: 1, the sum of the 4 frames that the search made\n",
    }
    frames = {}
    for number, steps in STEPS.items():
        out = tmp_path / str(number)
        answer = command("pick", run.path, "--trial", str(number), "--out", out)
        assert answer.code == 0, answer.err
        assert said[number] in answer.out
        assert ("  time steps: " in answer.out) == (steps < 4)
        assert (read_artifact(out).time_steps, read_artifact(out).most_time_steps) == (steps, 4)
        with np.load(out / "test_vectors.npz") as vectors:
            frames[steps] = vectors["frames"].astype(int)
    assert {steps: of.shape[1] for steps, of in frames.items()} == {4: 4, 2: 2, 1: 1}
    assert frames[4].any()
    assert frames[2].tolist() == (frames[4][:, ::2] + frames[4][:, 1::2]).tolist()
    assert frames[1].tolist() == frames[4].sum(axis=1, keepdims=True).tolist()

    def gone(*_arguments: object, **_options: object) -> None:
        raise UserError("data.root: no such folder")

    monkeypatch.setattr(data_set, "load_data", gone)
    assert command("pick", run.path, "--trial", "2", "--out", tmp_path / "made-up").code == 0
    assert read_manifest(tmp_path / "made-up")["test_vectors"]["made_up"]
    with np.load(tmp_path / "made-up" / "test_vectors.npz") as vectors:
        assert vectors["frames"].shape[1] == 2
    answer = command("verify", tmp_path / "made-up", "--json")
    assert answer.code == 0
    assert json.loads(answer.out)["mismatches"] == {"PyTorch": 0}


@needs_compiler
def test_a_member_of_fewer_steps_is_verified_on_the_test_split(
    run: RunFolder, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of which the data's frames are those of the search; C is compiled once, and quickly."""
    monkeypatch.setattr(export_module, "compiler", lambda: None)
    monkeypatch.setattr(verify_module, "_sizes", lambda *_: [])
    monkeypatch.setattr(verify_module, "verify", partial(verify_module.verify, flags=("-O1",)))
    out = tmp_path / "picked"
    assert command("pick", run.path, "--trial", "2", "--out", out).code == 0
    answer = command("verify", out, "--json")
    assert (answer.code, answer.err) == (0, "")
    found = json.loads(answer.out)
    assert (found["samples"], found["of_test_split"], found["time_steps"]) == (40, True, 2)
    assert found["mismatches"] == {"PyTorch": 0, "C": 0}
    assert len(set(found["accuracy"].values())) == 1
