"""One search that nothing disturbed, shared by the tests of all commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from searches import SEARCH, program

from spquant_search.runs.folder import RunFolder


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The folder that the search was started in, and what it printed."""
    home = tmp_path_factory.mktemp("finished")
    done = program(home, *SEARCH)
    assert done.returncode == 0, done.stderr
    return home, done


@pytest.fixture
def run_folder(finished, monkeypatch) -> RunFolder:
    """The run of the finished search, from the folder it was started in."""
    monkeypatch.chdir(finished[0])
    return RunFolder(path=Path("runs/tiny"))
