"""Check that a path on the command line is what its command takes: a space file, or a folder that `pick` wrote."""

from __future__ import annotations

import sys
from pathlib import Path

from spquant_search.cli import places
from spquant_search.cli.faults import PROGRAM, UsageFault, space_files_here
from spquant_search.errors import UserError, first_of, nearest
from spquant_search.space.shipped import shipped_spaces


def find_space_file(path: Path) -> Path:
    """Return the file that --space names: a path, or the name of a space file that comes with the package.

    Raises:
        UserError: it is something else that is there, or another file must be meant.
    """
    if places.kind_of(path) == "nothing" and (shipped := shipped_spaces().get(str(path))) is not None:
        return shipped
    kind, word = places.kind_of(path), str(path)
    if kind == "run":
        raise _instead_of_space(word, "is a run; its space file lies in it", f"{path}/space.yaml")
    if kind == "picked":
        raise UserError(f"{path}: is what pick wrote, and no space file; give the path of a YAML file")
    if kind == "folder":
        files = places.space_files(path)
        if not files:
            raise UserError(f"{path}: is a folder without YAML files; give the path of a space file")
        raise _instead_of_space(word, f"is a folder; space files in it: {first_of(files, places.MOST_NAMED)}", files[0])
    if kind == "nothing":
        raise _absent_space(path)
    return path


def _instead_of_space(word: str, why: str, instead: str) -> UserError:
    given = sys.argv[1:]
    words = [instead if before == "--space" else other for before, other in zip(["", *given], given, strict=False)]
    words = [f"--space={instead}" if other.startswith("--space=") else other for other in words]
    return UsageFault(f"{word}: {why}. For example:", *words)


def _absent_space(path: Path) -> UserError:
    names = {written: name for name in shipped_spaces() for written in (name, f"{name}.yaml", f"spaces/{name}.yaml")}
    names |= {name: file for file in places.space_files() for name in (file, Path(file).name, Path(file).stem)}
    near = nearest(str(path), names)
    if near is None and places.is_run(str(path)):
        return _instead_of_space(str(path), "is a run; its space file lies in it", f"{places.RUNS / path}/space.yaml")
    listed = space_files_here() or f" With the package come: {', '.join(shipped_spaces())}."
    if near is None:
        return UserError(f"{path}: there is no such file.{listed}")
    return _instead_of_space(str(path), f"there is no such file.{listed.rstrip('.')}", names[near])


def require_picked(path: Path) -> None:
    """Raise UserError where `verify` is given a folder that `pick` did not write."""
    kind = places.kind_of(path)
    if kind == "picked":
        return
    if kind == "run" or places.is_run(str(path)):
        run = UsageFault(
            f"{path}: is a run; verify compares what pick wrote of it:", "pick", str(path), "--out", "picked"
        )
        raise UserError(f"{run}\n  {PROGRAM} verify picked")
    what = {"nothing": "there is no such folder", "folder": "holds no manifest.json, which pick writes"}
    folders = places.picked_folders()
    here = (
        f"Written by pick, here: {first_of(folders, places.MOST_NAMED)}"
        if folders
        else f"Write one: {PROGRAM} pick RUN --out DIR"
    )
    raise UserError(f"{path}: {what.get(kind, 'is a file, and no folder that pick wrote')}. {here}")
