"""The command `finalize`: what it trains on, keeps and tells."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path

import torch
from examples import trial
from rich.console import Console

from spquant_search.cli.reports import show_who_left
from spquant_search.deploy.artifact import read_artifact
from spquant_search.runs.finals import read_finals, read_latest_test_accuracies
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_frozen_space, read_result, read_results
from spquant_search.runs.selection import front
from spquant_search.snn.layers import configure
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.training import data_set
from spquant_search.training.data_set import input_shape, split_on_device
from spquant_search.training.evaluation import evaluate
from spquant_search.training.network import load_weights, new_network


def test_finalize_trains_on_and_pick_takes_what_it_kept(finished, command, tmp_path, monkeypatch, plain_neurons):
    shutil.copytree(finished[0] / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPQUANT_COMPILE", "0")
    run = RunFolder(path=Path("runs/tiny"))
    searched = {path.name: path.read_bytes() for path in (run.path / "trials").iterdir()}
    words = ("finalize", "tiny", "--epochs", "1", "--seeds", "2", "--members", "1", "--workers", "1")
    answer = command(*words)
    assert (answer.code, answer.err) == (0, "")
    assert {path.name: path.read_bytes() for path in (run.path / "trials").iterdir()} == searched
    ((number, final),) = read_finals(run, "1-epochs").items()
    document = json.loads((run.path / "front.json").read_text())
    shown = {member["number"]: member for member in document["members"]} | {0: document["baseline"]}
    assert list(shown[number]["final"]) == [
        *("epochs", "seeds", "validation_mean", "validation_std", "test_mean", "test_std"),
    ]
    assert (shown[number]["final"]["epochs"], shown[number]["final"]["seeds"]) == (1, 2)
    assert shown[number]["accuracy"] == final.accuracy >= read_result(run, number).accuracy
    assert all(member["final"] is None for member in document["members"] if member["number"] != number)
    # What is said of the kept weights is what they evaluate to.
    space = read_frozen_space(run)
    data = data_set.load_data(space, cache=Path(os.environ["SPQUANT_CACHE"]))
    network = new_network(space, input_shape(data), seed=123, device=torch.device("cpu"))
    configure(network, final.config, space.neuron)
    load_weights(network, *run.weights_of(final))
    measured = {
        name: evaluate(network, split_on_device(data, name, torch.device("cpu"))) for name in ("validation", "test")
    }
    assert measured["validation"].accuracy == final.accuracy
    assert measured["test"].accuracy == read_latest_test_accuracies(run)[number]
    if number in {member["number"] for member in document["members"]}:
        out = ("--max-memory", f"{final.memory_bytes}", "--min-accuracy", str(final.accuracy), "--out", "picked")
        assert command("pick", "tiny", *out).code == 0
        assert read_artifact(Path("picked")).accuracy >= final.accuracy
    before = {path: path.stat().st_mtime_ns for path in (run.path / "final").rglob("*")}
    assert command(*words).code == 0
    assert {path: path.stat().st_mtime_ns for path in (run.path / "final").rglob("*")} == before


def test_members_that_left_the_front_are_named(run_folder):
    file = io.StringIO()
    members = front(read_results(run_folder), DEFAULT_COSTS)
    show_who_left(members, run_folder, Console(file=file))
    assert file.getvalue() == ""
    show_who_left((*members, trial(98), trial(99)), run_folder, Console(file=file, width=200))
    assert file.getvalue() == "No longer on the front, as other members beat them now: trial 98, 99\n"
