"""Exit codes: what the user must change, bugs, interruptions; and nothing half made."""

from __future__ import annotations

import sys

import pytest
import torch
from searches import SEARCH, TINY, unfinished_run

from spquant_search.cli.app import main
from spquant_search.training import prepare


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "train.epoch=3"], ": train.epoch: unknown key; did you mean 'epochs'?"),
        (
            ["--set", "layers.all.weight_bits=[2, 5]"],
            ": layers.all.weight_bits.1: must be one of 1, 2, 3, 4, 8, 32",
        ),
        (
            ["--set", "layers.conv9.weight_bits=4"],
            ": layers.conv9: unknown layer; did you mean 'conv8'?",
        ),
        (
            ["--set", "data.name=fashion-event"],
            "'fashion-event'; did you mean 'fashion-events'?",
        ),
        (["--set", "model.network=vgg8"], ": model.network: unknown network 'vgg8'; did you mean 'vgg9'?"),
        (["--set", "data.train_samples=999999"], "error: data.train_samples: must be 1 to "),
        (["--set", "trials"], "error: --set trials: must be PATH=VALUE"),
        (["--device", "cuda"], "--device cuda: "),
        (["--device", "gpu"], "--device gpu: must be auto, cpu, cuda or cuda:K"),
        (
            ["--set", "train.precision=fp16"],
            "train.precision: fp16 needs a GPU",
        ),
        (
            ["--set", "train.augment={roll: 34}"],
            ": train.augment.roll: must be less than the frame's height and width, 34x34",
        ),
        (["--run", "a-file/run"], "a-file/run: "),
        (["--run", "a-file"], "runs/a-file"),
        (
            ["--run", "./a-file"],
            "a-file: exists and is no run",
        ),
    ],
)
def test_what_the_user_must_change(command, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "a-file").write_text("x")
    if words == ["--run", "a-file"]:
        (tmp_path / "runs").write_text("not a folder")
    before = sorted(tmp_path.rglob("*"))
    answer = command(*SEARCH, *words)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert message in answer.err
    assert "Traceback" not in answer.err
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("words", [["--trials", "0"], ["--workers", "x"], ["--no-such-option"], ["no-such-command"]])
def test_options_out_of_range(command, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    answer = command(*SEARCH, *words)
    assert answer.code == 2
    assert answer.err.startswith("error: ")
    assert "\n  spquant-search " in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_space_file_that_is_not_there(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for words in (["--space", "gone.yaml"], ["cost", "--space", "gone.yaml"]):
        answer = command(*words)
        assert answer.code == 2
        assert answer.err.startswith("error: gone.yaml: ")
    assert list(tmp_path.iterdir()) == []


def test_without_a_space_there_is_help_and_exit_code_2(command):
    answer = command()
    assert answer.code == 2
    assert "Usage: spquant-search [OPTIONS] COMMAND" in answer.out


def test_a_space_before_a_command(command):
    answer = command("--space", TINY, "cost")
    assert answer.code == 2
    assert f"spquant-search cost --space {TINY}" in answer.err


@pytest.mark.parametrize("words", [["front"], ["report"], ["pick", "--out", "picked"], ["finalize"]])
def test_a_run_that_is_not_there(command, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    answer = command(*words[:1], "gone", *words[1:])
    assert answer.code == 2
    assert answer.err.startswith("error: runs/gone: ")
    assert "space.yaml" in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_without_a_baseline_yet(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    unfinished_run(tmp_path / "runs" / "young")
    for words in (["front", "young"], ["report", "young"], ["pick", "young", "--out", "picked"], ["finalize", "young"]):
        answer = command(*words)
        assert answer.code == 2
        assert answer.err.startswith("error: runs/young: ")
        assert "start its search again" in answer.err


def test_ctrl_c_before_a_search_has_begun(command, monkeypatch):
    def interrupts(*_arguments: object, **_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "prepare", interrupts)
    assert command("cost", "--space", TINY).code == 130
    assert command(*SEARCH).code == 130


def test_a_bug_is_no_user_error(command, monkeypatch):
    def fails(*_arguments: object, **_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(prepare, "prepare", fails)
    monkeypatch.setattr(sys, "argv", ["spquant-search", "cost", "--space", str(TINY)])
    with pytest.raises(ZeroDivisionError):  # of which the interpreter makes a traceback and exit code 1
        main()


def test_a_preset_that_does_not_go_with_other_options(command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = command("--space", TINY, "--preset", "quant-snn", "--trials", "4")
    assert answer.code == 2
    assert answer.err.startswith("error: --trials 4: --preset quant-snn ")
    answer = command("--preset", "quant-snn", "front", "tiny")
    assert answer.code == 2
    assert answer.err.startswith("error: --preset: front has no such option; omit it:")
    assert list(tmp_path.iterdir()) == []
