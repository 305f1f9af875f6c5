"""One small search by the command line, and runs that are not finished, for tests of commands."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from spquant_search.data.catalog import SETS
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import open_run
from spquant_search.runs.records import RunFacts, write_result
from spquant_search.runs.results import TrialResult
from spquant_search.space.reading import read_space

TINY = Path(__file__).parents[1] / "spaces" / "tiny.yaml"
PROGRAM = [sys.executable, "-m", "spquant_search.cli"]
SMALLER = {
    "data.train_samples": "64",
    "data.validation_samples": "40",
    "data.test_samples": "40",
    "time_steps": "2",
    "train.batch_size": "32",
    "train.baseline_epochs": "2",
}
SEARCH = [
    *("--space", str(TINY), "--trials", "3", "--workers", "1", "--device", "cpu"),
    *(word for path, value in SMALLER.items() for word in ("--set", f"{path}={value}")),
]
LIMIT_SECONDS = 240.0


def environment() -> dict[str, str]:
    return os.environ | {"SPQUANT_COMPILE": "0"}


def program(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the program in a folder, whatever its exit code."""
    return subprocess.run(
        [*PROGRAM, *words],
        cwd=place,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )


def unfinished_run(path: Path, *results: TrialResult) -> RunFolder:
    """Make a run of the tiny space that holds these results and nothing else."""
    folder = RunFolder(path=path)
    clothes = SETS["fashion-events"].classes
    facts = RunFacts(source="tiny", command="", data="", classes=clothes, validation_samples=1, test_samples=1)
    open_run(folder, read_space(TINY), facts)
    for result in results:
        write_result(folder, result)
    return folder
