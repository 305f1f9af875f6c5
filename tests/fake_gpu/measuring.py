"""Measure scenarios in a process of their own, which has fake GPUs; imports no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fake_gpu.loading import COMPILER

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

FoundByScenario = dict[str, dict[str, Any]]


@dataclass(frozen=True, kw_only=True, slots=True)
class Edit:
    """A change of a line of the package."""

    file: str  # below spquant_search/
    old: str  # stands there once
    new: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """Scenarios of one space, with the package as it is or with an edit."""

    space: str
    device: str = "cuda"
    scenarios: tuple[str, ...] = ()  # none: all
    edit: Edit | None = None


def why_not() -> str | None:
    """Say why nothing can be measured here; None where it can."""
    if shutil.which(COMPILER) is None:
        return f"no {COMPILER}, which builds the fake GPUs"
    return None if sys.platform == "linux" else f"fake GPUs are a library of Linux; this is {sys.platform}"


def measured(runs: Sequence[Run], library: Path) -> list[FoundByScenario]:
    """Return what each run found, by scenario; ``library`` is that of :func:`fake_gpu.loading.build`."""
    paths = os.pathsep.join(map(str, (ROOT, HERE.parent)))
    done = subprocess.run(
        [sys.executable, "-m", "fake_gpu.child", library],
        input=json.dumps([asdict(run) for run in runs]),
        # A child of pytest would inherit its number of threads, and its switch of the compiler.
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "SPQUANT_COMPILE": "1"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    found: list[FoundByScenario] = json.loads(done.stdout)
    return found
