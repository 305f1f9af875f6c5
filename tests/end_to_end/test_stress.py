"""Searches that are killed at random moments, again and again, and lose nothing: `make stress`."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import children_of, is_alive
from safetensors.numpy import load_file

from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_results
from spquant_search.runs.results import Outcome

TINY = Path(__file__).parents[2] / "spaces" / "tiny.yaml"
KILLS = int(os.environ.get("SPQUANT_KILLS", "20"))
TRIALS = max(12, KILLS)  # so that there is something left to disturb
SECONDS_TO_END = 5.0
COMMAND = [
    *(sys.executable, "-m", "spquant_search.cli", "--space", str(TINY), "--run", "stress"),
    *("--trials", str(TRIALS), "--workers", "2", "--set", "search.strategy=warm-start"),
]


def trainers_of(coordinator: int) -> list[int]:
    """The processes that a coordinator trains in."""
    found = []
    for process in children_of(coordinator):
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if b"spawn_main" in words:
            found.append(process)
    return found


class Reader(threading.Thread):
    """Reads front.json all the time, as a user's script may: it is whole or absent at every moment."""

    def __init__(self, file: Path) -> None:
        super().__init__(daemon=True)
        self.file, self.read, self.broken = file, 0, ""
        self.ended = threading.Event()

    def run(self) -> None:
        while not self.ended.wait(0.002):
            try:
                text = self.file.read_text()
            except FileNotFoundError:
                continue
            try:
                assert json.loads(text)["members"]
                self.read += 1
            except (ValueError, KeyError, AssertionError) as error:
                self.broken = f"{error!r}: {text[:200]}"
                return


def strike(search: subprocess.Popen[bytes], chance: random.Random) -> tuple[str, list[int]] | None:
    """Kill something of a search at some moment: what, and the trainers that it had. None where it ended before."""
    kind = chance.choice(("trainer", "coordinator", "all"))
    # Half of the moments count from when there are trainers, and leave those the time to begin with an epoch.
    if kind == "trainer" or chance.random() < 0.5:
        while search.poll() is None and not trainers_of(search.pid):
            time.sleep(0.05)
        time.sleep(chance.uniform(0.0, 14.0))
    else:
        time.sleep(chance.uniform(0.0, 7.0))
    trainers = trainers_of(search.pid)
    if search.poll() is not None or (kind == "trainer" and not trainers):
        return None
    if kind == "trainer":
        os.kill(chance.choice(trainers), signal.SIGKILL)
    elif kind == "all":
        os.killpg(search.pid, signal.SIGKILL)
    else:
        os.kill(search.pid, signal.SIGKILL)
    return kind, trainers


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds processes in /proc")
def test_a_search_that_is_killed_at_random_moments_loses_nothing(tmp_path: Path) -> None:
    chance = random.Random(int(os.environ.get("SPQUANT_SEED", "0")))
    environment = os.environ | {"SPQUANT_COMPILE": "0", "OMP_NUM_THREADS": "1"}
    run = RunFolder(path=tmp_path / "runs" / "stress")
    reader = Reader(run.path / "front.json")
    reader.start()
    kinds = {"trainer": 0, "coordinator": 0, "all": 0}
    done: dict[int, tuple[Outcome, str]] = {}
    while sum(kinds.values()) < KILLS:
        with (tmp_path / "log.txt").open("ab") as log:
            search = subprocess.Popen(
                COMMAND, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        # Until it is killed whole, some of its trainers are.
        while search.poll() is None and sum(kinds.values()) < KILLS:
            struck = strike(search, chance)
            if struck is None:
                continue
            kind, trainers = struck
            kinds[kind] += 1
            if kind == "trainer":
                continue
            search.wait()
            deadline = time.monotonic() + SECONDS_TO_END
            while any(map(is_alive, trainers)) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert not any(map(is_alive, trainers)), "a trainer outlives its coordinator"
            results = read_results(run) if run.exists() else ()  # it may not have come as far as its folder
            # As text: the accuracy of a failed trial is NaN, which equals nothing, itself included.
            now = {result.number: (result.outcome, repr(result.accuracy)) for result in results}
            assert done.items() <= now.items(), "what was finished stays as it was"
            done = now
        if search.poll() is not None and search.returncode == 0:
            break  # it ended between two kills: there is nothing left to disturb
        search.kill()
        search.wait()
    last = subprocess.run(COMMAND, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert last.returncode == 0, last.stderr
    reader.ended.set()
    reader.join()
    assert not reader.broken
    assert reader.read
    by_number = {result.number: result for result in read_results(run)}
    assert sorted(by_number) == list(range(TRIALS + 1))
    finished = {number: (result.outcome, repr(result.accuracy)) for number, result in by_number.items()}
    assert done.items() <= finished.items()
    failed = [result for result in by_number.values() if result.outcome is Outcome.FAILED]
    assert all("the trainer process ended with exit code -9" in result.reason for result in failed)
    for result in by_number.values():
        if result.outcome is Outcome.COMPLETE:
            assert load_file(run.weights_file(result.number))
    names = [path.name for path in (run.path / "trials").iterdir()]
    assert not [name for name in names if name.endswith(".checkpoint") or name.startswith(".")]
    print(f"{kinds}, {len(failed)} trials whose trainer died twice")
