"""A run's folder: which one a name means."""

from __future__ import annotations

from pathlib import Path

from small_run import FACTS, a_space

from spquant_search.runs.folder import RunFolder, find_run
from spquant_search.runs.opening import open_run


def test_a_run_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_run("tiny").path == Path("runs/tiny")
    assert find_run("elsewhere/tiny").path == Path("elsewhere/tiny")
    assert find_run("./tiny").path == Path("tiny")
    assert find_run(str(tmp_path)).path == tmp_path
    open_run(RunFolder(path=tmp_path / "here"), a_space(), FACTS)
    assert find_run("here").path == Path("here")
