"""A search from end to end: its files, its output, equal results when interrupted, killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest
from processes import children_of, is_alive
from searches import LIMIT_SECONDS, PROGRAM, SEARCH, SMALLER, TINY, environment, program, unfinished_run

from spquant_search.cli.search import _preset_alone
from spquant_search.commands.session import count_seconds
from spquant_search.driver import coordinator
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import exclusive
from spquant_search.runs.records import read_facts, read_frozen_space, read_results
from spquant_search.runs.selection import front
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.space.presets import Preset
from spquant_search.space.reading import read_space
from spquant_search.space.references import preset_config
from spquant_search.training import prepare


def table(file: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(file.read_text().splitlines()))


def test_a_search_leaves_every_file_and_nothing_else(finished):
    home, _ = finished
    assert [path.name for path in home.iterdir()] == ["runs"]
    assert [path.name for path in (home / "runs").iterdir()] == ["tiny"]
    run = home / "runs" / "tiny"
    assert {path.name for path in run.iterdir()} == {
        *("space.yaml", "environment.json", "run.json", "study.journal", "study.lock", "lock", "trials", "tests.json"),
        *("profile.json", "supernet.safetensors", "results.csv", "front.csv", "front.json", "front.png", "report.md"),
        *("report.html", "layers.json"),
    }
    trials = [f"{result.number:04d}" for result in read_results(RunFolder(path=run))]
    assert {path.name for path in (run / "trials").iterdir()} == {
        "0000.logits",
        *(f"{number}.{kind}" for number in trials for kind in ("json", "safetensors")),
    }
    assert (run / "front.png").read_bytes().startswith(b"\x89PNG")
    for file in (*run.glob("*.json"), *run.glob("trials/*.json")):
        json.loads(file.read_text(), parse_constant=pytest.fail)  # neither NaN nor Infinity


def test_the_tables_agree_with_the_results(run_folder):
    results = read_results(run_folder)
    rows = table(run_folder.path / "results.csv")
    assert [int(row["number"]) for row in rows] == list(range(len(results)))
    assert [row["origin"] for row in rows[:4]] == ["baseline", "reference", "reference", "random"]
    assert {row["origin"] for row in rows[4:]} == {"fine-tuned"}
    for row, result in zip(rows, results, strict=True):
        assert float(row["accuracy"]) == result.accuracy
        assert int(row["memory_bytes"]) == result.memory_bytes
        assert float(row["effective_flops"]) == 2 * result.effective_macs
        assert int(row["conv3.weight_bits"]) == result.config["conv3"].weight_bits
    members = table(run_folder.path / "front.csv")
    assert [int(row["number"]) for row in members] == [member.number for member in front(results, DEFAULT_COSTS)]
    assert all(0 <= float(row["test_accuracy"]) <= 1 for row in members)


def test_the_run_remembers_what_made_it(run_folder):
    facts = read_facts(run_folder)
    assert facts.source == str(TINY)
    assert facts.command.endswith(" ".join(SEARCH))
    assert "simulated" in facts.data
    assert (facts.classes[:2], len(facts.classes)) == (("T-shirt/top", "trouser"), 10)
    assert (facts.validation_samples, facts.test_samples) == (40, 40)
    assert facts.seconds > 0
    assert read_frozen_space(run_folder) == read_space(
        TINY,
        [f"{path}={value}" for path, value in SMALLER.items()]
        + [
            "search.trials=3",
            "search.workers=1",
        ],
    )


def test_what_is_piped_has_no_control_characters(finished):
    _, done = finished
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", done.stdout) == []
    lines = done.stdout.splitlines()
    assert any(line.startswith("recordings ready") for line in lines)
    assert "trial 3  subnet  accuracy " in done.stdout
    assert "trial 4  epoch 1/1  loss " in done.stdout
    (written,) = [line for line in lines if line.startswith("Written to runs/tiny: ")]
    assert all((finished[0] / "runs" / "tiny" / name).is_file() for name in written.partition(": ")[2].split(", "))
    assert done.stderr == ""


def test_the_same_command_again_trains_nothing(run_folder, command):
    def stamps() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in (run_folder.path / "trials").iterdir()}

    before, tested = stamps(), run_folder.tests_file.read_bytes()
    answer = command(*SEARCH)
    assert (answer.code, answer.err) == (0, "")
    assert stamps() == before
    assert run_folder.tests_file.read_bytes() == tested
    assert "started" not in answer.out
    assert "3 of them done before" in answer.out


def test_another_space_under_the_same_name_is_refused(run_folder, command):
    before = run_folder.space_file.read_bytes()
    answer = command(*SEARCH, "--set", "train.epochs=9")
    assert answer.code == 2
    assert answer.err.startswith("error: runs/tiny: ")
    assert "train.epochs: 2 in the run, 9 now" in answer.err
    assert "--run NAME" in answer.err
    assert run_folder.space_file.read_bytes() == before


def test_a_run_in_work_is_refused(run_folder, command):
    with exclusive(run_folder):
        answer = command(*SEARCH)
    assert answer.code == 2
    assert f"(process {os.getpid()} on " in answer.err


class Search:
    """A search in a process group of its own, as a shell starts it."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [*PROGRAM, *SEARCH],
            cwd=home,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self._watchdog = threading.Timer(LIMIT_SECONDS, self.process.kill)
        self._watchdog.start()
        self.lines: list[str] = []

    def until(self, words: str) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)
            if words in line:
                return
        pytest.fail(f"the search ended before {words!r}:\n{''.join(self.lines)}")

    def children(self) -> list[int]:
        return children_of(self.process.pid)

    def end(self) -> int:
        assert self.process.stdout is not None
        with self.process.stdout:
            self.lines.extend(self.process.stdout)
        code = self.process.wait()
        self._watchdog.cancel()
        return code


@pytest.fixture(scope="module")
def disturbed(finished, tmp_path_factory) -> dict[str, object]:
    """The same search, interrupted by Ctrl-C, then killed, then left alone."""
    home = tmp_path_factory.mktemp("disturbed")
    first = Search(home)
    first.until("trial 0  epoch 1")
    os.killpg(first.process.pid, signal.SIGINT)
    interrupted = first.end()
    assert interrupted == 130, first.lines
    second = Search(home)
    second.until("training the supernet")
    orphans = second.children()
    second.process.kill()
    killed = second.process.wait()
    third = Search(home)
    code = third.end()
    second.end()
    return {
        "home": home,
        "codes": (interrupted, killed, code),
        "lines": (first.lines, second.lines, third.lines),
        "orphans": orphans,
    }


def test_ctrl_c_says_that_nothing_is_lost(disturbed):
    assert disturbed["codes"] == (130, -signal.SIGKILL, 0), disturbed["lines"]
    words = "".join(disturbed["lines"][0])
    assert "Interrupted." in words
    assert "run tiny" in words.partition("Interrupted.")[2]
    assert "Traceback" not in words


def test_what_was_finished_is_not_trained_again(disturbed):
    started = [
        [int(line.split()[1]) for line in lines if re.match(r"trial \d+  started", line)]
        for lines in disturbed["lines"]
    ]
    # The second is killed while it trains the supernet; the third's fourth trial is the first to be fine-tuned.
    assert started[:2] == [[0], [0]]
    assert started[2][:4] == [1, 2, 3, 4]


def test_trainers_of_a_killed_search_end_by_themselves(disturbed):
    assert disturbed["orphans"]
    deadline = time.monotonic() + 60
    while any(map(is_alive, disturbed["orphans"])):
        assert time.monotonic() < deadline
        time.sleep(0.1)


WALL_CLOCK = {"seconds"}


def rows_of(file: Path) -> list[dict[str, str]]:
    return [{name: cell for name, cell in row.items() if name not in WALL_CLOCK} for row in table(file)]


def test_equal_seeds_give_equal_results_disturbed_or_not(finished, disturbed):
    one, other = finished[0] / "runs" / "tiny", disturbed["home"] / "runs" / "tiny"
    for name in ("results.csv", "front.csv"):
        assert rows_of(one / name) == rows_of(other / name)
    documents = [json.loads((run / "front.json").read_text()) for run in (one, other)]
    assert documents[0] | {"seconds": 0} == documents[1] | {"seconds": 0}
    for file in ("supernet.safetensors", *(f"trials/{number:04d}.safetensors" for number in range(5))):
        assert (one / file).read_bytes() == (other / file).read_bytes()


def test_seconds_add_up_over_all_starts_however_they_end(tmp_path):
    folder = unfinished_run(tmp_path / "run")
    with count_seconds(folder, time.monotonic() - 10):
        pass
    with pytest.raises(KeyboardInterrupt), count_seconds(folder, time.monotonic() - 20):
        raise KeyboardInterrupt
    assert read_facts(folder).seconds == pytest.approx(30, abs=1)


def preset_run(home: Path, preset: str, *words: str) -> subprocess.CompletedProcess[str]:
    few = {**SMALLER, "train.baseline_epochs": "1", "train.epochs": "1"}
    options = [word for path, value in few.items() for word in ("--set", f"{path}={value}")]
    return program(home, "--space", str(TINY), "--preset", preset, "--device", "cpu", *options, *words)


def test_a_preset_is_trained_alone_after_the_baseline(tmp_path):
    done = preset_run(tmp_path, "spquant-snn")
    assert done.returncode == 0, done.stderr
    run = RunFolder(path=tmp_path / "runs" / "tiny-spquant-snn")
    baseline, only = read_results(run)
    assert (baseline.origin, only.origin) == ("baseline", "reference")
    shapes = prepare.prepare(TINY).shapes
    assert only.config == preset_config(Preset.SPQUANT_SNN, network="vgg9", shapes=shapes, time_steps=2)
    assert len(only.epochs) == 1
    assert "uJ fp32" in done.stdout


@pytest.mark.parametrize("preset", list(Preset))
def test_a_preset_alone_leaves_nothing_to_search(preset):
    given = ["time_steps=[1,3]"]
    space = prepare.prepare(TINY, [*given, *_preset_alone(preset, TINY, given)]).space
    assert (space.size(), space.file.time_steps) == (1, (3,))


def test_the_float_preset_is_the_baseline(tmp_path):
    done = preset_run(tmp_path, "snn-bl", "--run", "floats")
    assert done.returncode == 0, done.stderr
    (only,) = read_results(RunFolder(path=tmp_path / "runs" / "floats"))
    assert only.origin == "baseline"


REPORTS = ("front.png", "front.csv", "front.json", "results.csv", "report.md", "report.html")


def test_ctrl_c_writes_the_reports_of_what_there_is(finished, command, tmp_path, monkeypatch):
    shutil.copytree(finished[0] / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "tiny"
    for name in REPORTS:
        (run / name).unlink()

    def interrupts(*_given: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(coordinator, "run_search", interrupts)
    answer = command(*SEARCH)
    assert answer.code == 130
    assert all((run / name).is_file() for name in REPORTS)
    said = answer.out.partition("Interrupted.")[2]
    assert "`spquant-search front tiny` and `spquant-search pick tiny --out DIR` work on it now" in said
    assert answer.out.count("hypervolume") == 1
    # Without a front there is nothing to write, and nothing to say.
    shutil.rmtree(run / "trials")
    for name in REPORTS:
        (run / name).unlink()
    (run / "trials").mkdir()
    answer = command(*SEARCH)
    assert answer.code == 130
    assert answer.out.endswith("the same command goes on with run tiny.\n")
    assert not any((run / name).exists() for name in REPORTS)
