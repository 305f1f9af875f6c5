"""The page that goes from a folder of images to C: its picture-drawing program and its commands work, in order."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import Command

from spquant_search.deploy.c_library import compiler
from spquant_search.space.shipped import shipped_spaces
from spquant_search.training.prepare import prepare

PAGE = (Path(__file__).parents[2] / "docs" / "quickstart_images.md").read_text(encoding="utf-8")
# The page's search takes minutes; here the same line runs with the smallest budgets that there are.
SHRUNK = {
    "data.size": 8,
    "time_steps": 2,
    "model.width": 0.0625,
    "train.baseline_epochs": 1,
    "supernet.epochs": 1,
    "supernet.statistics_samples": 16,
    "search.budget_ladder": 0,
    "search.workers": 1,
    "search.trials": 1,
    "final.members": 1,
    "final.epochs": 1,
    "train.augment.crop": 0,
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, flags=re.MULTILINE | re.DOTALL)


def commands() -> list[list[str]]:
    return [shlex.split(line)[1:] for block in blocks("sh") for line in block.splitlines()]


def draw(folder: Path, *, count: int) -> None:
    """Run the page's program for fewer pictures."""
    (program,) = blocks("python")
    assert "\nCOUNT = 200\n" in program
    (folder / "draw_shapes.py").write_text(program.replace("COUNT = 200", f"COUNT = {count}"), encoding="utf-8")
    subprocess.run([sys.executable, "draw_shapes.py"], cwd=folder, check=True)


def test_the_page_has_five_commands_on_a_space_that_comes_along() -> None:
    assert [words[0] for words in commands()] == ["data", "cost", "--space", "pick", "verify"]
    named = [words[words.index("--space") + 1] for words in commands() if "--space" in words]
    assert set(named) == {"vgg5-images"} <= set(shipped_spaces())
    space = yaml.safe_load(shipped_spaces()["vgg5-images"].read_text(encoding="utf-8"))
    assert f"Frames are {space['data']['size']} x {space['data']['size']} here" in PAGE
    assert f"; {space['search']['trials']} configurations of it are" in " ".join(PAGE.split())


def test_the_costs_on_the_page_are_those_of_its_space() -> None:
    shapes = prepare(shipped_spaces()["vgg5-images"], ["data.classes=3", "data.channels=1"]).shapes
    shown = re.findall(r"^(conv\d|readout) +([\d,]+) +([\d,]+) +float", PAGE, re.MULTILINE)
    assert shown == [(shape.name, f"{shape.weights:,}", f"{shape.neurons:,}") for shape in shapes]


def test_what_the_page_advises_is_taken() -> None:
    advised = dict.fromkeys(re.findall(r"--set ([\w.]+=\S+?)[`\s]", PAGE))
    assert len(advised) >= 10
    words = [value.replace("'", "") for value in advised]
    prepared = prepare(shipped_spaces()["vgg5-images"], ["data.classes=3", *words])
    assert prepared.no_integer_form is None
    assert prepared.input.channels == 1


@pytest.mark.slow
@pytest.mark.skipif(compiler() is None, reason="there is no C compiler")
def test_the_commands_of_the_page(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPQUANT_COMPILE", "0")
    draw(tmp_path, count=12)
    smaller = [word for path, value in SHRUNK.items() for word in ("--set", f"{path}={value}")]
    said = []
    for words in commands():
        answer = command(*words, *(smaller if "--space" in words else []))
        assert answer.code == 0, answer.out + answer.err
        said.append(answer.out)
    assert (tmp_path / "samples.png").stat().st_size > 10_000
    assert "all 36 images are grey: frames have one channel" in said[0]
    assert "Cost of vgg5 as snn-bl" in said[1]
    manifest = json.loads((tmp_path / "picked" / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["input"] | {"channels": 1, "height": 8, "width": 8} == manifest["input"]
    assert re.search(r"^C +[\d.]+ +0 of [\d,]+ spikes and all logits", said[4], re.MULTILINE)
