"""Say what is there instead of a run that a command was asked for."""

from __future__ import annotations

from pathlib import Path

from spquant_search.errors import first_of, nearest
from spquant_search.runs.folder import RunFolder

RUNS = Path("runs")
MOST_NAMED = 10


def absent_run(folder: RunFolder) -> str:
    """Explain that this folder is no run: what it is, which runs are there, and what to do."""
    path = folder.path
    found = next((place for place in (path, Path(path.name)) if _exists(place)), None)
    if found is not None and found.is_file():
        remedy = _of_a_file(found)
    elif found is not None and (found / "manifest.json").is_file():
        remedy = f"{found} is what `pick` wrote: compare it by spquant-search verify {found}"
    else:
        remedy = _runs_beside(path)
    return f"{path}: is no run (it holds no space.yaml). {remedy}"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _of_a_file(file: Path) -> str:
    if (file.parent / "space.yaml").is_file():
        return f"{file} is a file of the run {file.parent}; give that instead"
    if file.suffix.lower() not in (".yaml", ".yml"):
        return f"{file} is a file; give the name of a folder below runs/, or the path of one"
    if (RUNS / file.stem / "space.yaml").is_file():
        return f"{file} is a space file; the run of its search is called {file.stem}"
    return f"{file} is a space file; search it first: spquant-search --space {file}"


def _runs_beside(path: Path) -> str:
    """Name the runs in the folder that was looked in, the likeliest first."""
    place = path.parent
    names = sorted(file.parent.name for file in place.glob("*/space.yaml"))
    if not names and place != RUNS:
        place, names = RUNS, sorted(file.parent.name for file in RUNS.glob("*/space.yaml"))
    if not names:
        return f"There are no runs in {place.absolute()}: go to the folder that holds runs/, or give a run's path"
    near = nearest(path.name, names)
    listed = f"Runs in {place.absolute()}: {first_of(names, MOST_NAMED)}"
    return f"{listed}; did you mean {near}?" if near else listed
