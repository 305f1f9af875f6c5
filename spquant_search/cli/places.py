"""What lies where the command line points: a space file, a run, what `pick` wrote, something else, or nothing.

Nothing is read, only looked at, and nothing heavy is imported: help and completion need no more.
"""

from __future__ import annotations

import glob
from pathlib import Path
from typing import Literal

Kind = Literal["space", "run", "picked", "folder", "file", "nothing"]

YAML_SUFFIXES = (".yaml", ".yml")
RUNS = Path("runs")
MOST_NAMED = 5


def kind_of(path: Path) -> Kind:
    """Say what a path is, by its name and by what a folder holds."""
    try:
        if (path / "space.yaml").is_file():
            return "run"
        if (path / "manifest.json").is_file() or all(
            (path / name).is_file() for name in ("config.yaml", "weights.bin")
        ):
            return "picked"
        if path.is_dir():
            return "folder"
        if path.exists():
            return "space" if path.suffix.lower() in YAML_SUFFIXES else "file"
    except (OSError, ValueError):  # a name that no file can have
        pass
    return "nothing"


def is_run(word: str) -> bool:
    """Say whether RUN on the command line means a run: a path, or a name below runs/."""
    return kind_of(Path(word)) == "run" or kind_of(RUNS / word) == "run"


def run_names() -> list[str]:
    """List the runs below runs/."""
    return sorted(file.parent.name for file in RUNS.glob("*/space.yaml"))


def space_files(folder: Path = Path()) -> list[str]:
    """List the YAML files in a folder and in its folder spaces/, but not what a run keeps."""
    beginning = glob.escape(str(folder))
    patterns = ("*.yaml", "*.yml", "spaces/*.yaml")
    return sorted(str(Path(path)) for pattern in patterns for path in glob.glob(f"{beginning}/{pattern}"))


def picked_folders() -> list[str]:
    """List the folders here that `pick` wrote, those one folder deeper included."""
    return sorted(str(file.parent) for pattern in ("*", "*/*") for file in Path().glob(f"{pattern}/manifest.json"))
