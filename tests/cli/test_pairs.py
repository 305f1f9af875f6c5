"""Two commands at once on one run: each works, or says who is in its way; nothing is lost, and nothing torn.

One command is paused before one of its operations on files while the other runs to its end, or as far as it can come
while the first one holds a lock. That is done at several operations of each pair: all that chance could bring is tried
on purpose.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import select
import shutil
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna_dashboard
import pytest
from driver.lab import FakeTrainer, Play
from examples import epoch
from killing import at_each_operation
from long_forms import LONG
from searches import SEARCH, SMALLER, TINY

from spquant_search.cli.app import main
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import study_in
from spquant_search.report import writing
from spquant_search.runs.files import write_bytes
from spquant_search.runs.finals import read_latest_results, read_latest_test_accuracies
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.records import read_facts, read_results, read_sensitivity, read_test_accuracies
from spquant_search.runs.results import Outcome
from spquant_search.training.tasks import AccuraciesTask, SubnetTask, Task, TestTask
from spquant_search.workers import messages, pool
from spquant_search.workers.messages import Accuracies, Epoch, Message, Trained

# What a process that is forked should not have to import.
for _name in ("driver.coordinator", "driver.dashboard_server", "training.prepare", "report.writing", "deploy.verify"):
    importlib.import_module(f"spquant_search.{_name}")

PAUSE_SECONDS = 1.0  # at most, of the one command, while the other may be waiting for it
MORE = [*SEARCH, "--trials", "6"]
DATA = [
    "data",
    "--space",
    str(TINY),
    *(word for path, value in SMALLER.items() for word in ("--set", f"{path}={value}")),
]
FINALIZE = ["finalize", "tiny", "--epochs", "1", "--seeds", "2", "--members", "2", "--workers", "1", "--device", "cpu"]
NEW = [*SEARCH, "--run", "new", "--set", "search.strategy=warm-start"]


@dataclass(frozen=True)
class Pair:
    first: list[str]
    second: list[str]
    at: int  # the operation before which the first one is paused in the test that takes no time
    excludes: bool = False  # the one while the other works
    lacks_cache: bool = False


PAIRS = {
    "search and front": Pair(MORE, ["front", "tiny"], at=700),
    "search and report": Pair(MORE, ["report", "tiny"], at=980),
    "search and dashboard": Pair(MORE, ["dashboard", "tiny"], at=400),
    "search and pick": Pair(MORE, ["pick", "tiny", "--trial", "MEMBER", "--out", "picked"], at=500),
    "search and finalize": Pair(MORE, FINALIZE, at=60, excludes=True),
    "two that begin one run": Pair(NEW, NEW, at=30, excludes=True),
    "finalize and finalize": Pair(FINALIZE, FINALIZE, at=90, excludes=True),
    "finalize and pick": Pair(FINALIZE, ["pick", "tiny", "--trial", "MEMBER", "--out", "picked"], at=150),
    "pick and pick into one folder": Pair(
        *[["pick", "tiny", "--trial", "MEMBER", "--out", "picked"]] * 2, at=65, excludes=True
    ),
    "report and dashboard": Pair(["report", "tiny"], ["dashboard", "tiny"], at=20),
    "pick and verify": Pair(
        ["pick", "tiny", "--trial", "MEMBER", "--out", "picked"],
        ["verify", "picked", "--samples", "2"],
        at=70,
        excludes=True,
    ),
    "search and data without a cache": Pair(MORE, DATA, at=45, lacks_cache=True),
}


# ---------------------------------------------------------------- trainers that take no time


def plays(task: Any) -> Play:
    """What a trainer does, with accuracies so low that nobody picks what it makes."""
    if isinstance(task, TestTask):
        yield messages.Tested(number=task.number, accuracy=0.02, seconds={})
    elif isinstance(task, AccuraciesTask):
        yield Accuracies(accuracies=(0.01,) * len(task.configs), seconds={})
    elif isinstance(task, SubnetTask):
        task.weights_file.write_bytes(b"weights")
        outcome = Outcome.SUBNET
        metrics = replace(epoch(0, 0.01, 1e9), loss=None)
        yield Trained(result=replace(task.result, outcome=outcome, reason=outcome.value, epochs=(metrics,)), seconds={})
    elif isinstance(task, Task):
        yield Epoch(metrics=epoch(1, 0.01, 1e9))
        task.weights_file.write_bytes(b"weights")
        epochs = (*task.result.epochs, epoch(1, 0.01, 1e9))
        outcome = Outcome.COMPLETE
        yield Trained(result=replace(task.result, outcome=outcome, reason=outcome.value, epochs=epochs), seconds={})


class Quick(FakeTrainer):
    def give(self, task: object) -> None:
        self.task, self.begun_again, self._play = task, False, plays(task)

    def receive(self) -> Message:
        assert self._play is not None
        return next(self._play)


QUICK = SimpleNamespace(make_trainer=lambda config: Quick(None), wait=lambda trainers, timeout: trainers[-1:])  # type: ignore[arg-type]


# ---------------------------------------------------------------- commands as processes


@dataclass
class Running:
    process: int
    log: Path
    code: int | None = None

    def wait(self, seconds: float) -> bool:
        """Return whether it has ended, after waiting for it at most so long."""
        end = time.monotonic() + seconds
        while self.code is None and time.monotonic() < end:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self.code = os.waitstatus_to_exitcode(status)
            else:
                time.sleep(0.005)
        return self.code is not None


def start(place: Path, words: list[str], name: str, meanwhile: Callable[[], None] = lambda: None) -> Running:
    """Run the program in a forked process, which has imported everything already."""
    log = place / f"{name}.log"
    child = os.fork()
    if child:
        return Running(process=child, log=log)
    code = 1
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(output, 1), os.dup2(output, 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w", buffering=1), os.fdopen(2, "w", buffering=1)
        sys.argv = ["spquant-search", *words]
        os.chdir(place)
        pool.TrainerProcesses = lambda: QUICK  # type: ignore[assignment,misc]
        writing.write_front_figure = lambda _summary, path: write_bytes(path, b"a picture takes a second")
        optuna_dashboard.run_server = lambda *_arguments, **_more: None
        meanwhile()
        main()
    except SystemExit as error:
        code = int(error.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)


def count_of(place: Path, words: list[str]) -> int:
    """Count the operations on files of a command that nothing disturbs."""
    descriptor = os.open(place / "count", os.O_RDWR | os.O_CREAT)

    def count(number: int) -> None:
        os.pwrite(descriptor, b"%9d" % number, 0)

    alone = start(place, words, "alone", lambda: at_each_operation(count, place))
    assert alone.wait(120)
    assert alone.code == 0, alone.log.read_text()
    found = int(os.pread(descriptor, 9, 0))
    os.close(descriptor)
    return found


def interleaved(place: Path, pair: Pair, number: int) -> tuple[bool, Running, Running]:
    """Run the second command while the first one is paused before its ``number``-th operation, should there be one."""
    paused, says_paused = os.pipe()
    may_go_on, goes_on = os.pipe()

    def act(count: int) -> None:
        if count == number:
            os.write(says_paused, b"x")
            os.read(may_go_on, 1)

    first = start(place, pair.first, "first", lambda: at_each_operation(act, place))
    while not select.select([paused], [], [], 0.01)[0] and not first.wait(0.01):
        pass
    was_paused = first.code is None
    second = start(place, pair.second, "second")
    second.wait(PAUSE_SECONDS)
    os.write(goes_on, b"x")
    assert first.wait(120)
    assert second.wait(120)
    for descriptor in (paused, says_paused, may_go_on, goes_on):
        os.close(descriptor)
    return was_paused, first, second


# ---------------------------------------------------------------- what must hold afterwards


REFUSALS = (
    r"error: runs/\w+: another command is working on this run \(process \d+ on \S+.*\); wait for it, stop it, or start",
    r"error: picked: exists already; give --out a new folder",
    r"error: picked: there is no such folder",
    r"error: picked.*: is missing; write the folder again with spquant-search pick",
)


def check(place: Path, pair: Pair, ended: list[Running], before: dict[str, bytes]) -> None:
    for one in ended:
        said = one.log.read_text()
        assert "Traceback" not in said, said
        assert one.code == 0 or any(re.search(words, said) for words in REFUSALS), said
        assert one.code in (0, 2)
        assert pair.excludes or one.code == 0, said
    assert 0 in {one.code for one in ended}
    for run in filter(RunFolder.exists, (RunFolder(path=path) for path in (place / "runs").iterdir())):
        check_run(run)
    for name, content in before.items():  # what was finished stays as it was
        assert (place / name).read_bytes() == content, name
    left = [
        path for path in place.rglob(".*") if path.suffix in (".tmp", ".draft", ".lock") and "cache" not in path.parts
    ]
    assert left == []
    if (place / "picked").exists():
        assert (place / "picked" / "manifest.json").is_file()


def check_run(run: RunFolder) -> None:
    results = read_results(run)
    assert [result.number for result in results] == list(range(len(results))), "no trial is lost"
    states = [trial.state.is_finished() for trial in study_in(Journal(run.study_file)).trials]
    assert states == [True] * len(results)
    for line in run.study_file.read_bytes().splitlines():
        json.loads(line)
    for read in (read_facts, read_test_accuracies, read_latest_results, read_latest_test_accuracies, read_sensitivity):
        read(run)
    if (run.path / "front.json").exists():
        json.loads((run.path / "front.json").read_text())


def prepared(finished: Path, pair: Pair, place: Path) -> Pair:
    """Make a copy of the finished run, and return the pair with a member of its front."""
    shutil.copytree(finished / "runs", place / "runs")
    document = json.loads((place / "runs" / "tiny" / "front.json").read_text())
    member = str(document["members"][0]["number"])
    first, second = ([member if word == "MEMBER" else word for word in words] for words in (pair.first, pair.second))
    return replace(pair, first=first, second=second)


@pytest.fixture
def tried(finished, tmp_path, monkeypatch) -> Callable[..., bool]:
    """Try an interleaving of a pair, by the number of an operation; return whether the first one came so far."""
    monkeypatch.setenv("SPQUANT_COMPILE", "0")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", "unused")

    def tries(name: str, number: int) -> bool:
        place = tmp_path / str(number)
        place.mkdir()
        if PAIRS[name].lacks_cache:
            monkeypatch.setenv("SPQUANT_CACHE", str(place / "cache"))
        pair = prepared(finished[0], PAIRS[name], place)
        trials = place / "runs" / "tiny" / "trials"
        stays = {str(path.relative_to(place)): path.read_bytes() for path in trials.iterdir()}
        was_paused, *ended = interleaved(place, pair, number)
        check(place, pair, ended, stays)
        shutil.rmtree(place)
        return was_paused

    return tries


@pytest.mark.parametrize("name", PAIRS)
def test_two_commands_at_once_on_one_run(tried, name):
    assert tried(name, PAIRS[name].at)


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_two_commands_at_once_on_one_run_interleaved_in_many_ways(tried, finished, name, tmp_path):
    (tmp_path / "alone").mkdir()
    last = count_of(tmp_path / "alone", prepared(finished[0], PAIRS[name], tmp_path / "alone").first)
    ways = 10 if LONG else 4
    for index in range(ways):
        tried(name, 1 + round((last - 1) * (index + 0.5) / ways))
