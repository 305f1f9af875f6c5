"""The page on data from Python, whose examples run."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Command
from data.user_data import in_folder

PAGE = (Path(__file__).parents[3] / "docs" / "own_data.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that the page asks for."""
    with in_folder(tmp_path, monkeypatch) as folder:
        (folder / "my_data.py").write_text(blocks("python")[0], encoding="utf-8")
        (folder / "my_space.yaml").write_text(blocks("yaml")[0], encoding="utf-8")
        yield folder
    sys.modules.pop("my_data", None)


def test_the_first_example_is_described(here: Path, command: Command) -> None:
    pytest.importorskip("sklearn")
    answer = command("data", "--space", "my_space.yaml", "--json")
    assert answer.code == 0, answer.err
    found = json.loads(answer.out)
    assert [split["samples"] for split in found["splits"].values()] == [1350, 150, 297]
    assert (found["channels"], found["height"], len(found["classes"]), found["static"]) == (1, 8, 10, True)
    assert found["description"].startswith("images [8, 8] that my_data:build returns (samples ")
    assert found["notes"] == []


def test_samples_that_cannot_be_taken_end_a_command_with_the_key_of_the_file(here: Path, command: Command) -> None:
    (here / "my_data.py").write_text("def build():\n    return 5\n")
    answer = command("cost", "--space", "my_space.yaml")
    assert (answer.code, answer.out) == (2, "")
    assert answer.err.startswith(
        "error: my_space.yaml: data.build: my_data:build must return (train, validation, test)"
    )


def test_every_example_of_the_page_is_python() -> None:
    for block in blocks("python"):
        compile(block, "own_data.md", "exec")
    assert len(blocks("python")) >= 3
