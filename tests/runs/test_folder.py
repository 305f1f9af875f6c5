"""A run's folder: whole or not there, one search at a time, one space for ever."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from examples import trial

from spquant_search.errors import SpaceError, UserError
from spquant_search.runs import folder as runfolder
from spquant_search.runs.environment import describe_environment
from spquant_search.runs.files import write_bytes, write_text
from spquant_search.runs.folder import Repeat, RunFacts, RunFolder, exclusive, find_run, open_run
from spquant_search.runs.results import Outcome
from spquant_search.space.reading import parse_space
from spquant_search.space.schema import SpaceFile

TEXT = """\
data: {name: fashion-events}
time_steps: 3
model: {network: vgg9}
layers: {all: {weight_bits: [2, 4]}}
"""
FACTS = RunFacts(
    source="spaces/tiny.yaml",
    command="spquant-search --space spaces/tiny.yaml",
    data="simulated",
    classes=10,
    validation_samples=128,
    test_samples=128,
)


def a_space(*overrides: str) -> SpaceFile:
    return parse_space(TEXT, source="s.yaml", overrides=overrides)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    made = RunFolder(path=tmp_path / "runs" / "tiny")
    open_run(made, a_space(), FACTS)
    return made


# ---------------------------------------------------------------- made and opened again


def test_a_new_run_holds_everything_it_starts_with(folder):
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "environment.json",
        "run.json",
        "space.yaml",
        "trials",
    ]
    assert [path.name for path in folder.path.parent.iterdir()] == ["tiny"]
    assert folder.name == "tiny"
    assert folder.space() == a_space()
    assert folder.facts() == FACTS
    assert folder.environment() == describe_environment()
    assert folder.environment()["optuna"].startswith("5.")
    assert folder.results() == ()
    assert folder.test_accuracies() == {}


def test_what_a_killed_process_left_half_written_goes(folder):
    left = folder.path / "trials" / ".0001.json.host-7.tmp"
    left.write_text("{")
    open_run(folder, a_space(), FACTS)
    assert not left.exists()


def test_a_shared_run_has_a_study_of_its_own_in_the_database(tmp_path):
    """Two runs of one name, in two folders, may share a database; and each stays where it began."""
    runs = [RunFolder(path=tmp_path / place / "tiny") for place in ("here", "there")]
    for run in runs:
        open_run(run, a_space(), FACTS, shared=True)
        open_run(run, a_space(), FACTS, shared=True)
    first, second = (run.shared_study() for run in runs)
    assert first is not None
    assert first.startswith("tiny-")
    assert first != second
    with pytest.raises(UserError, match="lies in a database; give its --storage again"):
        open_run(runs[0], a_space(), FACTS)


def test_a_run_with_its_study_in_the_folder_takes_no_storage(folder):
    assert folder.shared_study() is None
    with pytest.raises(UserError, match="omit --storage"):
        open_run(folder, a_space(), FACTS, shared=True)


def test_many_searches_of_a_shared_run_exclude_only_what_needs_it_alone(tmp_path):
    run = RunFolder(path=tmp_path / "tiny")
    open_run(run, a_space(), FACTS, shared=True)
    refused = pytest.raises(UserError, match="another search is working on this run")
    with exclusive(run, shared=True), exclusive(run, shared=True), refused, exclusive(run):
        pass
    with exclusive(run):
        pass


@pytest.mark.parametrize("fails_at", range(1, 5))
def test_a_run_that_cannot_be_made_leaves_nothing(tmp_path, monkeypatch, fails_at):
    """The disk is full at each of the files and at the last step in turn."""
    calls = []

    def failing(real):
        def call(*arguments):
            calls.append(arguments)
            if len(calls) == fails_at:
                raise OSError(28, "No space left on device")
            return real(*arguments)

        return call

    monkeypatch.setattr(runfolder, "write_text", failing(write_text))
    monkeypatch.setattr(os, "rename", failing(os.rename))
    made = RunFolder(path=tmp_path / "runs" / "tiny")
    with pytest.raises(UserError) as caught:
        open_run(made, a_space(), FACTS)
    assert str(caught.value) == (
        f"{made.path}: cannot make this run's folder: No space left on device; choose another with --run"
    )
    assert list((tmp_path / "runs").iterdir()) == []


def test_an_empty_folder_may_become_a_run(tmp_path):
    (tmp_path / "tiny").mkdir()
    made = RunFolder(path=tmp_path / "tiny")
    open_run(made, a_space(), FACTS)
    assert made.exists()


def test_a_folder_that_is_something_else_is_not_touched(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("x")
    with pytest.raises(
        UserError, match=r"thesis: exists and is no run \(it holds no space.yaml\); choose another name"
    ):
        open_run(RunFolder(path=tmp_path / "thesis"), a_space(), FACTS)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


@pytest.mark.parametrize("below", ["a-file/run", "a-file"])
def test_a_folder_that_cannot_be_made(tmp_path, below):
    (tmp_path / "a-file").write_text("x")
    with pytest.raises(UserError, match=r"(cannot make this run's folder: .*|exists and is no run.*); choose another"):
        open_run(RunFolder(path=tmp_path / below), a_space(), FACTS)
    assert (tmp_path / "a-file").read_text() == "x"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_run_that_may_not_be_written(folder):
    folder.path.chmod(0o555)
    try:
        with pytest.raises(UserError, match="this run's folder cannot be written"):
            open_run(folder, a_space(), FACTS)
    finally:
        folder.path.chmod(0o755)


def test_another_space_is_refused_with_every_difference(folder):
    before = folder.space_file.read_text()
    other = a_space("train.epochs=9", "layers.conv1={weight_bits: 8}", "search.trials=99")
    with pytest.raises(UserError) as caught:
        open_run(folder, other, FACTS)
    new_layer = {"weight_bits": [8], "membrane_levels": None, "channel_mass": None, "skip_below": None}
    assert str(caught.value).splitlines() == [
        f"{folder.path}: this run searches another space than the one given:",
        f"  layers.conv1: None in the run, {new_layer!r} now",
        "  train.epochs: 3 in the run, 9 now",
        "Undo the change, or start a run of its own with --run NAME.",
    ]
    assert folder.space_file.read_text() == before


def test_trials_and_workers_may_change_and_are_kept(folder):
    open_run(folder, a_space("search.trials=99", "search.workers=7"), replace(FACTS, command="another"))
    assert folder.space().search.trials == 99
    assert folder.space().search.workers == 7
    # The facts stay those of the first start.
    assert folder.facts() == FACTS


def test_a_comment_or_a_written_out_default_is_no_change(folder):
    open_run(folder, a_space("train.epochs=3", "model.pool=before"), FACTS)


def test_a_damaged_frozen_space_is_no_bug(folder):
    folder.space_file.write_text("data: [")
    with pytest.raises(SpaceError, match=r"space\.yaml: is not valid YAML"):
        open_run(folder, a_space(), FACTS)


# ---------------------------------------------------------------- found


def test_a_run_by_name_and_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_run("tiny").path == Path("runs/tiny")
    assert find_run("elsewhere/tiny").path == Path("elsewhere/tiny")
    assert find_run("./tiny").path == Path("tiny")
    assert find_run(str(tmp_path)).path == tmp_path
    open_run(RunFolder(path=tmp_path / "here"), a_space(), FACTS)
    assert find_run("here").path == Path("here")


def test_what_is_no_run_says_so(tmp_path):
    for call in (RunFolder.space, RunFolder.results, RunFolder.require):
        with pytest.raises(UserError) as caught:
            call(RunFolder(path=tmp_path / "gone"))
        assert str(caught.value) == (
            f"{tmp_path / 'gone'}: is no run (it holds no space.yaml). "
            "Give the name of a folder below runs/, or the path of one."
        )


# ---------------------------------------------------------------- results


def test_results_are_read_back_by_number(folder):
    results = (trial(0, origin="baseline"), trial(2), trial(10, outcome=Outcome.STOPPED), trial(9999), trial(10000))
    for result in reversed(results):
        folder.write_result(result)
    assert folder.results() == results
    assert folder.result(2) == results[1]
    assert folder.result(3) is None
    assert folder.result_file(2).name == "0002.json"
    assert folder.weights_file(2).name == "0002.safetensors"


def test_left_overs_of_a_killed_write_are_no_results(folder):
    folder.write_result(trial(1))
    (folder.path / "trials" / ".0002.json.x7_k").write_text("{")
    assert [result.number for result in folder.results()] == [1]


def test_test_accuracies_by_number(folder):
    folder.write_test_accuracies({10: 0.5, 2: 0.25})
    assert folder.test_accuracies() == {2: 0.25, 10: 0.5}
    assert list(json.loads(folder.tests_file.read_text())) == ["2", "10"]


# ---------------------------------------------------------------- atomic writes


def test_a_write_that_fails_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, "old")

    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    for step in ("fsync", "replace"):
        with monkeypatch.context() as patch:
            patch.setattr(os, step, full)
            with pytest.raises(OSError, match="No space left"):
                write_text(path, "new")
        assert path.read_text() == "old"
        assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    write_text(path, "new")
    assert path.read_text() == "new"


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_text(path, "old")
    seen = []
    real = os.replace
    monkeypatch.setattr(os, "replace", lambda *arguments: (seen.append(path.read_text()), real(*arguments)))
    write_text(path, "new")
    assert seen == ["old"]


def test_written_files_can_be_read_by_others_and_make_their_folder(tmp_path):
    write_bytes(tmp_path / "deep" / "file", b"\x00\xff")
    assert (tmp_path / "deep" / "file").read_bytes() == b"\x00\xff"
    assert stat.S_IMODE((tmp_path / "deep" / "file").stat().st_mode) == 0o644


# ---------------------------------------------------------------- one search at a time

HOLD = """
import sys
from pathlib import Path
from spquant_search.runs.folder import RunFolder, exclusive
with exclusive(RunFolder(path=Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_search_is_refused_until_the_first_is_gone_however_it_ends(folder):
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder.path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert first.stdout.readline() == b"held\n"
        with pytest.raises(UserError) as caught, exclusive(folder):
            pass
        assert str(caught.value) == (
            f"{folder.path}: another search is working on this run (process {first.pid}); "
            "wait for it, stop it, or start another run with --run NAME"
        )
    finally:
        first.kill()
        first.communicate()
    with exclusive(folder):
        assert (folder.path / "lock").read_text() == f"{os.getpid()}\n"
    with exclusive(folder):
        pass


@pytest.mark.parametrize("has_links", [True, False])
def test_a_file_that_must_not_be_replaced_stays(tmp_path, monkeypatch, has_links):
    def no_links(_old: Path, new: Path) -> None:
        raise FileExistsError if new.exists() else PermissionError(1, "Operation not permitted")

    if not has_links:
        monkeypatch.setattr(os, "link", no_links)
    write_bytes(tmp_path / "file", b"first", replaces=False)
    write_bytes(tmp_path / "file", b"second", replaces=False)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_what_others_may_be_writing_is_left_for_a_day(tmp_path):
    folder = RunFolder(path=tmp_path / "run")
    open_run(folder, a_space(), FACTS, shared=True)
    fresh, old = (folder.path / "trials" / f".{name}.checkpoint.node-7.tmp" for name in ("0001", "0002"))
    for file in (fresh, old):
        write_text(file, "half")
    os.utime(old, (time.time() - 25 * 60 * 60,) * 2)
    open_run(folder, a_space(), FACTS, shared=True)
    assert (fresh.exists(), old.exists()) == (True, False)


def test_members_of_any_number_are_found_and_their_seeds_are_no_members(folder):
    for number in (12, 10_001):
        folder.write_final("3-epochs", trial(number))
        folder.write_repeat("3-epochs", 0, Repeat(result=trial(number)))
    assert list(folder.finals("3-epochs")) == [12, 10_001]
