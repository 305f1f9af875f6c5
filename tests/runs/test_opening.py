"""Opening a run: whole or not there, one search at a time, one space for ever."""

from __future__ import annotations

import errno
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from examples import trial
from killing import killed_at
from small_run import FACTS, a_space

from spquant_search.errors import SpaceError, UserError
from spquant_search.runs import documents, opening
from spquant_search.runs.drafts import new_draft
from spquant_search.runs.environment import describe_environment
from spquant_search.runs.files import write_text
from spquant_search.runs.folder import LAYOUT, RunFolder, weights_draft
from spquant_search.runs.opening import exclusive, open_run
from spquant_search.runs.records import (
    add_seconds,
    add_trainers,
    read_environment,
    read_facts,
    read_frozen_space,
    read_results,
    read_sensitivity,
    read_shared_study,
    read_test_accuracies,
    write_facts,
    write_result,
)
from spquant_search.runs.trainers import GpuUse, Trainers


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


def test_what_a_killed_process_left_half_written_goes_and_what_is_being_written_stays(folder):
    """A report, say, that another command writes."""
    left, descriptor = new_draft(folder.path / "trials" / "0001.json")
    os.close(descriptor)
    written, descriptor = new_draft(folder.path / "report.md")
    open_run(folder, a_space(), FACTS)
    assert (left.exists(), written.exists()) == (False, True)
    os.close(descriptor)


def contents(place: Path) -> dict[str, bytes]:
    return {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}


@pytest.mark.parametrize("exists", [False, True])
def test_a_start_that_is_killed_at_any_point_leaves_nothing(tmp_path, monkeypatch, exists):
    """No run is to be seen that is not whole, and after the next start all is as if there had been no other."""
    monkeypatch.setattr(os, "fsync", lambda _descriptor: None)  # nobody pulls the plug

    def starts(place: Path) -> None:
        open_run(RunFolder(path=place / "runs" / "tiny"), a_space("search.trials=9"), FACTS)

    def begun(name: str) -> Path:
        place = tmp_path / name
        place.mkdir()
        if exists:
            open_run(RunFolder(path=place / "runs" / "tiny"), a_space(), FACTS)
        return place

    undisturbed = begun("undisturbed")
    starts(undisturbed)
    number = 1
    while True:
        place = begun(f"killed at {number}")
        was_killed = killed_at(number, lambda place=place: starts(place), place)
        for path in (place / "runs").glob("*/space.yaml") if (place / "runs").exists() else ():
            assert read_frozen_space(RunFolder(path=path.parent)).search.trials in (a_space().search.trials, 9)
            assert read_facts(RunFolder(path=path.parent)) == FACTS
        starts(place)
        names = [path.name for path in (place / "runs").iterdir()]
        assert names == ["tiny"]
        run, whole = (contents(one / "runs" / "tiny") for one in (place, undisturbed))
        run.pop("lock", None), whole.pop("lock", None)
        assert run == whole
        if not was_killed:
            break
        number += 1
    assert number > (5 if exists else 20)


def test_of_two_that_make_one_run_at_once_one_makes_it(tmp_path, monkeypatch):
    """The other finds it there, at the last moment as at any other."""
    run = RunFolder(path=tmp_path / "runs" / "tiny")
    real = os.rename

    def later(*paths: Path) -> None:
        monkeypatch.setattr(os, "rename", real)
        open_run(run, a_space(), FACTS)
        real(*paths)

    monkeypatch.setattr(os, "rename", later)
    open_run(run, a_space("search.trials=9"), FACTS)
    assert read_frozen_space(run).search.trials == 9
    assert [path.name for path in run.path.parent.iterdir()] == ["tiny"]


def test_coordinators_do_not_lose_each_others_seconds(folder):
    threads = [threading.Thread(target=lambda: [add_seconds(folder, 1.0) for _ in range(20)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_facts(folder).seconds == FACTS.seconds + 80
    assert not (folder.path / ".run.json.lock").exists()


def test_where_a_file_system_has_no_locks_a_search_goes_on_and_that_is_said_once(folder, monkeypatch):
    def flock(*_arguments: object) -> None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("fcntl.flock", flock)
    notes: list[str] = []
    open_run(folder, a_space(), FACTS)
    with exclusive(folder, note=notes.append):
        pass
    assert notes == [
        f"{folder.path}: this file system has no locks, so that nothing keeps a second command away from this run; "
        "see to it that no other works on it"
    ]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ESTALE])
def test_a_lock_that_cannot_be_opened_is_no_other_search(folder, monkeypatch, number):
    real = os.open

    def fails(path, *arguments):
        if str(path).endswith("lock"):
            raise OSError(number, os.strerror(number), str(path))
        return real(path, *arguments)

    monkeypatch.setattr(os, "open", fails)
    with pytest.raises(UserError) as caught, exclusive(folder):
        pass
    assert str(caught.value).startswith(f"{folder.path / 'lock'}: {os.strerror(number)}; ")


def test_a_run_that_vanishes_while_it_is_worked_on(folder):
    def works() -> None:
        with exclusive(folder):
            shutil.rmtree(folder.path)
            write_facts(folder, FACTS)

    with pytest.raises(UserError, match="vanished while it was worked on"):
        works()
    assert not folder.path.exists()


def test_weights_under_a_coordinators_own_name_stay_until_the_trial_has_ended(tmp_path):
    run = RunFolder(path=tmp_path / "tiny")
    open_run(run, a_space(), FACTS, shared=True)
    wanted, unwanted = weights_draft(run, 2, "a"), weights_draft(run, 1, "b")
    for draft in (wanted, unwanted):
        draft.write_bytes(b"weights")
    write_result(run, trial(1))
    open_run(run, a_space(), FACTS, shared=True)
    assert (wanted.exists(), unwanted.exists()) == (True, False)


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
    refused = pytest.raises(UserError, match="another command is working on this run")
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


def test_the_trainers_of_every_start_are_kept_each_kind_once(folder):
    two, gpu = Trainers(device="cpu", count=2), GpuUse(visible_as="0", name="NVIDIA T4", trainers=4)
    four = Trainers(device="cuda", count=4, gpus=(gpu,))
    for used in (two, four, two):
        open_run(folder, a_space(), replace(FACTS, trainers=(used,)))
    threads = [threading.Thread(target=add_trainers, args=(folder, used)) for used in (four, two) * 5]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert read_facts(folder) == replace(FACTS, trainers=(two, four))


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
            f"{folder.path}: another command is working on this run (process {first.pid} on {platform.node()}); "
            "wait for it, stop it, or start another run with --run NAME"
        )
    finally:
        first.kill()
        first.communicate()
    with exclusive(folder):
        assert (folder.path / "lock").read_text() == f"{platform.node()} {os.getpid()}\n"
    with exclusive(folder):
        pass


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


CHANGED = {
    ("a", "b", "d"): "label 2 was 'c', and is 'd' now",
    ("b", "a", "c"): "label 0 was 'a', and is 'b' now",
    ("a", "b"): "there were 3, and are 2 now; gone: 'c'",
    ("_new", "a", "b", "c"): "there were 3, and are 4 now; new: '_new'",
    ("v", "w", "x", "y", "z"): "there were 3, and are 5 now; gone: 'a', 'b', 'c'; new: 'v', 'w', 'x' and 2 more",
}


@pytest.mark.parametrize("now", CHANGED)
def test_a_run_whose_classes_have_changed_is_not_continued(tmp_path, now):
    """A folder that is added, removed or renamed gives the labels behind it to other classes."""
    folder, facts = RunFolder(path=tmp_path / "runs" / "own"), replace(FACTS, classes=("a", "b", "c"))
    open_run(folder, a_space(), facts)
    open_run(folder, a_space("search.trials=9"), facts)
    before = contents(folder.path)
    with pytest.raises(UserError) as caught:
        open_run(folder, a_space("search.trials=10"), replace(facts, classes=now))
    assert str(caught.value) == (
        f"{folder.path}: the classes of this run's data have changed since it began: {CHANGED[now]}. Undo the change "
        "in the data, or start a run of its own with --run NAME"
    )
    assert contents(folder.path) == before
