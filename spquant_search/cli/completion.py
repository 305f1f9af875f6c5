"""Words that a shell completes: names of runs and paths of space files."""

from __future__ import annotations

import glob
from pathlib import Path


def complete_run(incomplete: str) -> list[str]:
    """List the folders below runs/ that hold a run and whose names begin with ``incomplete``."""
    runs = sorted(file.parent.name for file in Path("runs").glob("*/space.yaml"))
    return [name for name in runs if name.startswith(incomplete)]


def complete_space(incomplete: str) -> list[str]:
    """List the YAML files whose paths begin with ``incomplete``, those one folder deeper included."""
    beginning = glob.escape(incomplete)
    return sorted(path for pattern in ("*.yaml", "*/*.yaml") for path in glob.glob(beginning + pattern))
