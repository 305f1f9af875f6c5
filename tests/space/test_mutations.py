"""Whatever YAML stands in a space file: a space, or an error that says where, in little time and memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from long_forms import LONG

TESTS = Path(__file__).parents[1]


def try_mutants(seed: int, count: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "space.try_mutants", str(seed), str(count)],
        cwd=TESTS,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]), "SPQUANT_COMPILE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print({key: value for key, value in found.items() if key != "faults"})
    assert not found["faults"], f"{len(found['faults'])} faults:\n" + "\n".join(found["faults"][:5])
    assert sum(found["outcomes"].values()) == count
    assert min(found["outcomes"].values()) > count // 20, "most mutants say nothing of the rest"


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits memory by /proc")
def test_mutated_spaces():
    try_mutants(seed=1, count=10_000 if LONG else 2_000)
