"""Words that a shell completes: names of runs, paths of space files, processors to emulate."""

from __future__ import annotations

import glob
from pathlib import Path

from spquant_search.space.shipped import shipped_spaces


def complete_run(incomplete: str) -> list[str]:
    """List the folders below runs/ that hold a run and whose names begin with ``incomplete``."""
    runs = sorted(file.parent.name for file in Path("runs").glob("*/space.yaml"))
    return [name for name in runs if name.startswith(incomplete)]


def complete_space(incomplete: str) -> list[str]:
    """List YAML files whose paths begin so, those one folder deeper included, and names of those of the package."""
    beginning = glob.escape(incomplete)
    paths = sorted(path for pattern in ("*.yaml", "*/*.yaml") for path in glob.glob(beginning + pattern))
    return [*paths, *(name for name in shipped_spaces() if name.startswith(incomplete))]


def complete_target(incomplete: str) -> list[str]:
    """List the processors that can be emulated whose names begin so."""
    from spquant_search.deploy.emulator.targets import TARGETS

    return [name for name in TARGETS if name.startswith(incomplete)]
