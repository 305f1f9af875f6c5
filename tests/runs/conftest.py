"""A new run in a folder of the test's."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_run import FACTS, a_space

from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(path=tmp_path / "runs" / "tiny")
    open_run(made, a_space(), FACTS)
    return made
