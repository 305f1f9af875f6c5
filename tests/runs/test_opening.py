"""Opening a run: whole or not there, one search at a time, one space for ever."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import replace

import pytest
from small_run import FACTS, a_space

from spquant_search.errors import SpaceError, UserError
from spquant_search.runs import documents, opening
from spquant_search.runs.environment import describe_environment
from spquant_search.runs.files import write_text
from spquant_search.runs.folder import LAYOUT, RunFolder
from spquant_search.runs.opening import exclusive, open_run
from spquant_search.runs.records import (
    read_environment,
    read_facts,
    read_frozen_space,
    read_results,
    read_sensitivity,
    read_shared_study,
    read_test_accuracies,
)


def test_a_new_run_holds_everything_it_starts_with(folder):
    assert sorted(path.name for path in folder.path.iterdir()) == [
        "environment.json",
        "run.json",
        "space.yaml",
        "trials",
    ]
    assert [path.name for path in folder.path.parent.iterdir()] == ["tiny"]
    assert folder.name == "tiny"
    assert read_frozen_space(folder) == a_space()
    assert read_facts(folder) == FACTS
    assert read_environment(folder) == describe_environment()
    assert read_environment(folder)["optuna"].startswith("5.")
    assert read_results(folder) == ()
    assert read_test_accuracies(folder) == {}


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
    first, second = (read_shared_study(run) for run in runs)
    assert first is not None
    assert first.startswith("tiny-")
    assert first != second
    with pytest.raises(UserError, match="lies in a database; give its --storage again"):
        open_run(runs[0], a_space(), FACTS)


def test_a_run_with_its_study_in_the_folder_takes_no_storage(folder):
    assert read_shared_study(folder) is None
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

    for module in (documents, opening):
        monkeypatch.setattr(module, "write_text", failing(write_text))
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
    assert read_frozen_space(folder).search.trials == 99
    assert read_frozen_space(folder).search.workers == 7
    # The facts stay those of the first start.
    assert read_facts(folder) == FACTS


def test_a_comment_or_a_written_out_default_is_no_change(folder):
    open_run(folder, a_space("train.epochs=3", "model.pool=before"), FACTS)


def test_a_damaged_frozen_space_is_no_bug(folder):
    folder.space_file.write_text("data: [")
    with pytest.raises(SpaceError, match=r"space\.yaml: line 1, column 8: is not valid YAML"):
        open_run(folder, a_space(), FACTS)


HOLD = """
import sys
from pathlib import Path
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.opening import exclusive
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


def test_what_others_may_be_writing_is_left_for_a_day(tmp_path):
    folder = RunFolder(path=tmp_path / "run")
    open_run(folder, a_space(), FACTS, shared=True)
    fresh, old = (folder.path / "trials" / f".{name}.checkpoint.node-7.tmp" for name in ("0001", "0002"))
    for file in (fresh, old):
        write_text(file, "half")
    os.utime(old, (time.time() - 25 * 60 * 60,) * 2)
    open_run(folder, a_space(), FACTS, shared=True)
    assert (fresh.exists(), old.exists()) == (True, False)


READERS = (read_frozen_space, read_results, read_facts, read_sensitivity, read_shared_study)


@pytest.mark.parametrize(("layout", "words"), [(LAYOUT + 1, f"the layout version {LAYOUT + 1}"), (None, "no layout")])
def test_a_run_of_another_layout_is_refused(folder, layout, words):
    facts = json.loads(folder.facts_file.read_text())
    facts["layout"] = layout
    if layout is None:
        del facts["layout"]
    folder.facts_file.write_text(json.dumps(facts))
    for call in (*READERS, lambda run: open_run(run, a_space(), FACTS)):
        with pytest.raises(UserError) as caught:
            call(folder)
        (sentence,) = str(caught.value).splitlines()
        assert sentence.startswith(f"{folder.path}: this run has {words}")
        assert f"version {LAYOUT}; search again with --run NAME, or use the version of the program" in sentence


def test_a_run_without_facts_is_of_no_layout(folder):
    folder.facts_file.unlink()
    with pytest.raises(UserError, match="no layout version"):
        read_results(folder)


def test_a_run_says_its_layout(folder):
    assert json.loads(folder.facts_file.read_text())["layout"] == LAYOUT
