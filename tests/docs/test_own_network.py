"""What docs/own_network.md and README.md say of networks in other libraries runs as it stands there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from importer.libraries import nir, snntorch, spikingjelly

ROOT = Path(__file__).parents[2]


def blocks(page: str, heading: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8").split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


LIBRARIES = blocks("docs/own_network.md", "A network of SpikingJelly or snnTorch")
GRAPHS = blocks("docs/own_network.md", "A graph of NIR")
README = blocks("README.md", "Your own network")

SMALL = '{"supernet.epochs": 1, "final.members": 1, "search.budget_ladder": 0}'


def test_the_page_has_a_network_of_each_library_and_the_readme_has_one_in_ten_lines() -> None:
    assert ["spikingjelly" in block for block in LIBRARIES] == [True, False]
    assert ["snntorch" in block for block in LIBRARIES] == [False, True]
    (graph,) = GRAPHS
    assert 'from_nir("network.nir"' in graph
    (readme,) = README
    lines = [line for line in readme.splitlines() if line]
    assert len(lines) <= 10
    assert max(map(len, lines)) <= 120


def run(code: str, folder: Path) -> str:
    """Run code as somebody would who pastes it into a file of an empty folder."""
    (folder / "mine.py").write_text(code)
    environment = os.environ | {"SPQUANT_COMPILE": "0", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "mine.py"], cwd=folder, env=environment, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_graph_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    nir()
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(GRAPHS[0], "own_network.md", "exec"), names)
    assert list(names["imported"].neurons) == ["conv2d", "linear"]


@pytest.mark.slow
def test_the_graph_of_the_page_is_searched_and_verified(tmp_path: Path) -> None:
    nir()
    search = """
from spquant_search import search
run = search(imported, train=(frames, torch.arange(200) % 10), trials=2, out="runs/nir", settings=SETTINGS)
print(run.pick(knee=True).verify().holds)
"""
    assert run(GRAPHS[0] + search.replace("SETTINGS", SMALL), tmp_path).splitlines()[-1] == "True"


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1])
def test_the_networks_of_the_page(number: int, tmp_path: Path) -> None:
    (spikingjelly if number == 0 else snntorch)("neuron" if number == 0 else "")
    block = LIBRARIES[number]
    assert "trials=24" in block
    run(block.replace("trials=24", f"trials=2, settings={SMALL}"), tmp_path)
    assert (tmp_path / "runs" / ("spikingjelly", "snntorch")[number] / "front.csv").is_file()
    assert number == 1 or (tmp_path / "in_c" / "model.c").is_file()


@pytest.mark.slow
def test_the_ten_lines_of_the_readme(tmp_path: Path) -> None:
    spikingjelly("neuron")
    assert "True" in run(README[0], tmp_path)
    assert (tmp_path / "mine" / "model.c").is_file()
