"""Space files that come with the package: in an installation they lie in it, in a checkout beside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]
SUFFIX = ".yaml"


def shipped_folder() -> Path:
    """Return the folder of the space files that come with the package."""
    installed = _PACKAGE / "spaces"
    return installed if installed.is_dir() else _PACKAGE.parent / "spaces"


def shipped_spaces() -> dict[str, Path]:
    """List the space files that come with the package by their names, the default first."""
    files = sorted(shipped_folder().glob(f"*{SUFFIX}"), key=lambda file: (file.stem != "vgg9", file.stem))
    return {file.stem: file for file in files}


def first_sentence(file: Path) -> str:
    """Return what a space file says of itself in its first line."""
    with file.open(encoding="utf-8") as lines:
        return lines.readline().lstrip("#").strip()
