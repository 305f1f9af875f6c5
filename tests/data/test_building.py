"""Frames made by several processes: the same as by one, in the same order, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest
from data.numbered_frames import Numbered

from spquant_search.data import building
from spquant_search.data.building import FEWEST_BLOCKS, frame_blocks
from spquant_search.errors import UserError


def made_by(folder: Path) -> set[int]:
    return {int(path.name) for path in folder.iterdir()}


def numbers(build: Numbered, processes: int) -> list[int]:
    blocks = list(frame_blocks(build, processes=processes))
    made = np.concatenate([block.frames for block in blocks]).ravel().tolist()
    assert np.concatenate([block.counts for block in blocks]).ravel().tolist() == [number + 1000 for number in made]
    return made


def test_two_processes_make_what_one_makes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    most = 0

    class Watched(building.deque):  # type: ignore[name-defined,misc,type-arg]
        def append(self, item: object) -> None:
            nonlocal most
            super().append(item)
            most = max(most, len(self))

    monkeypatch.setattr(building, "deque", Watched)
    build = Numbered(tmp_path)
    assert numbers(build, 2) == list(range(build.samples))
    assert most == 5  # however slow the disk, no more blocks are in memory
    assert 1 <= len(made_by(tmp_path)) <= 2
    assert os.getpid() not in made_by(tmp_path)
    assert active_children() == []


@pytest.mark.parametrize("easy", [{"is_slow": False}, {"samples": 3 * FEWEST_BLOCKS - 3}])
def test_what_is_soon_done_starts_no_process(tmp_path: Path, easy: dict[str, int]) -> None:
    build = Numbered(tmp_path, **easy)
    assert numbers(build, 2) == list(range(build.samples))
    assert made_by(tmp_path) == {os.getpid()}


def test_an_error_of_a_process_is_the_callers(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        numbers(Numbered(tmp_path, bad=10), 2)
    assert str(caught.value) == f"{tmp_path}: sample 10 is damaged"
    assert active_children() == []


def test_a_process_that_dies_is_reported(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^a process that made frames has ended \(.*memory may have run out: free some"
    ):
        numbers(Numbered(tmp_path, deadly=10), 2)
    assert active_children() == []


def test_processes_end_with_the_one_they_work_for(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys; from pathlib import Path\n"
        "from data.numbered_frames import Numbered; from spquant_search.data.building import frame_blocks\n"
        "for frames in frame_blocks(Numbered(Path(sys.argv[1])), processes=2): os.kill(os.getpid(), signal.SIGKILL)"
    )
    where = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])}
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], env=where, check=False)
    assert done.returncode == -signal.SIGKILL
    left, deadline = made_by(tmp_path), time.monotonic() + 20
    assert left
    while any(map(is_running, left)):
        assert time.monotonic() < deadline, "a process outlives its parent"
        time.sleep(0.05)


def is_running(process: int) -> bool:
    """Tell whether a process is there and is not a zombie."""
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
