"""What docs/own_network.md says of networks in other libraries runs as it stands there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from importer.libraries import nir, snntorch, spikingjelly

PAGE = Path(__file__).parents[2] / "docs" / "own_network.md"
SECTION = PAGE.read_text(encoding="utf-8").split("## A network of SpikingJelly or snnTorch\n")[1].split("\n## ")[0]
GRAPHS = PAGE.read_text(encoding="utf-8").split("## A graph of NIR\n")[1].split("\n## ")[0]
BLOCKS = re.findall(r"^```python\n(.*?)^```", SECTION, re.MULTILINE | re.DOTALL)


def test_the_page_has_a_network_of_each_library() -> None:
    assert ["spikingjelly" in block for block in BLOCKS] == [True, False]
    assert ["snntorch" in block for block in BLOCKS] == [False, True]


@pytest.mark.parametrize("block", BLOCKS)
def test_what_the_page_says_runs(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    spikingjelly("neuron") if "spikingjelly" in block else snntorch()
    torch.manual_seed(0)
    exec(compile(block, str(PAGE), "exec"), {})
    printed = capsys.readouterr().out
    assert "Convolution" in printed
    assert "output: " in printed


def test_the_graph_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    nir()
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", GRAPHS, re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)
    assert list(names["imported"].neurons) == ["conv2d", "linear"]
