"""The page on the Python interface: its snippets run one after the other, as somebody who follows it would run them."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

import spquant_search
from spquant_search.space.shipped import shipped_spaces

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_every_snippet_is_python_and_every_name_is_there() -> None:
    for block in BLOCKS:
        compile(block, "python.md", "exec")
    assert len(BLOCKS) == 5
    assert all(f"`{name}`" in PAGE for name in spquant_search.__all__)
    assert 'search("vgg9"' in PAGE
    assert "vgg9" in shipped_spaces()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain_neurons: None) -> None:
    monkeypatch.setenv("SPQUANT_COMPILE", "0")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    network, *others = BLOCKS
    (tmp_path / "my_network.py").write_text(network)
    names: dict[str, object] = {}
    try:
        for block in others:
            exec(compile(block, "python.md", "exec"), names)
    finally:
        sys.modules.pop("my_network", None)
    assert (tmp_path / "picked" / "model.c").is_file()
    assert (tmp_path / "runs" / "weights" / "given.safetensors").is_file()
