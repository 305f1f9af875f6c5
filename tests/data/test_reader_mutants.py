"""Whatever bytes stand in a file: its events or pixels, or an error that names it, and nothing else is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from data.try_reader_mutants import FORMATS

TESTS = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory by /proc")


@cache
def tried(count: int) -> tuple[dict[str, dict[str, Any]], str]:
    """Try mutants of every format in one process, which a library may end; return what came of each, and the rest."""
    for package in ("aedat", "dv_processing", "h5py", "tonic"):
        pytest.importorskip(package)
    done = subprocess.run(
        [sys.executable, "-m", "data.try_reader_mutants", str(count)],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])},
        capture_output=True,
        text=True,
        check=False,
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return {result["format"]: result for result in found}, f"exit status {done.returncode}: {done.stderr[-3000:]}"


def judge(name: str, count: int) -> None:
    found, rest = tried(count)
    assert name in found, f"the process ended at {name} or before: {rest}"
    result = found[name]
    faults = result["faults"]
    assert not faults, f"{len(faults)} faults in {name}:\n" + "\n".join(faults[:5])
    assert result["printed"] == ""
    assert sum(result["outcomes"].values()) == count
    assert result["outcomes"]["refused"] > count // 20, "mutants that change nothing say nothing"
    if count >= 1000:
        assert result["outcomes"]["read"] > 0


@pytest.mark.parametrize("name", FORMATS)
def test_mutated_files(name: str) -> None:
    judge(name, 30)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_a_thousand_mutated_files(name: str) -> None:
    judge(name, 1000)
