"""Folders in the published layouts: which sample comes into which split, and folders that are not as published."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import frames_by_loop, made_up_events, write_bin, write_gesture
from data.published import DVS_GESTURE, N_CALTECH101, NMNIST, load_failure, load_recorded, write_set

from spquant_search.data import catalog

pytest.importorskip("tonic")


def test_gestures_are_divided_by_people(tmp_path: Path) -> None:
    written = write_set(tmp_path / "files", DVS_GESTURE, per_class=4)
    loaded = load_recorded(DVS_GESTURE, tmp_path / "files", tmp_path / "cache", validation_share=0.25)
    frames = {frames.tobytes() for frames in loaded.validation.frames}
    users = {
        file.split("/")[1]
        for file, (_, _, rows) in written.items()
        if frames_by_loop(rows, 3, 128, 128, (128, 128)).astype(np.uint8).tobytes() in frames
    }
    assert len(users) == 1
    assert sorted(loaded.validation.labels.tolist()) == list(range(11))
    assert len(loaded.train.labels) == 33


def test_the_usual_shares_of_each_class(tmp_path: Path) -> None:
    write_set(tmp_path / "files", N_CALTECH101, per_class=3)
    for number in range(3, 20):
        write_bin(tmp_path / "files" / "ant" / f"image_{number:04}.bin", made_up_events(number, 240, 180))
    loaded = load_recorded(N_CALTECH101, tmp_path / "files", tmp_path / "cache")
    ant = loaded.classes.index("ant")
    assert [int((split.labels == ant).sum()) for split in (loaded.train, loaded.validation, loaded.test)] == [16, 2, 2]
    assert len(loaded.classes) == len(set(loaded.classes)) == 101

    more = load_recorded(N_CALTECH101, tmp_path / "files", tmp_path / "cache", test_share=0.95)
    assert [int((split.labels == ant).sum()) for split in (more.train, more.validation, more.test)] == [1, 1, 18]


def test_splits_do_not_depend_on_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=3)
    first = load_recorded(NMNIST, tmp_path / "files", tmp_path / "a")
    scandir = os.scandir

    class Backwards:
        def __init__(self, path: Any) -> None:
            self.path = path

        def __enter__(self) -> Any:
            with scandir(self.path) as entries:
                return reversed(list(entries))

        def __exit__(self, *error: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Backwards)
    second = load_recorded(NMNIST, tmp_path / "files", tmp_path / "b")
    monkeypatch.undo()
    other = load_recorded(NMNIST, tmp_path / "files", tmp_path / "c", split_seed=1)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(first, split).frames, getattr(second, split).frames)
    assert first.train.frames.tobytes() != other.train.frames.tobytes()
    assert first.test.labels.tolist() != other.test.labels.tolist()


@pytest.mark.parametrize(
    "name", [name for name in catalog.NAMES if name not in ("fashion-events", "python", *catalog.CLASS_FOLDER_SETS)]
)
def test_a_missing_folder_gets_layout_and_source(tmp_path: Path, name: str) -> None:
    known = catalog.SETS[name]
    assert load_failure(name).startswith(f"root: {name} does not come with the package; name the folder that holds ")
    absent = load_failure(name, root=str(tmp_path / "absent"))
    assert absent.startswith(f"root: {tmp_path}/absent is no folder; {name} needs one that holds ")
    empty = load_failure(name, root=str(tmp_path))
    assert empty.startswith(f"{tmp_path}: is not a whole {name}: ")
    for message in (load_failure(name), absent, empty):
        assert known.layout in message
        assert message.endswith(f"Published at {known.source}")


def test_an_incomplete_set_is_refused_unless_told(tmp_path: Path) -> None:
    write_set(tmp_path, NMNIST, per_class=2)
    assert load_failure("nmnist", root=str(tmp_path)).startswith(
        f"{tmp_path}: is not a whole nmnist: 20 of the published 60000 samples are there in Train; "
        "partial: true takes what is there. Expected there: Train/0 .. Train/9 and Test/0"
    )


def test_classes_with_too_few_files_are_named(tmp_path: Path) -> None:
    write_set(tmp_path, NMNIST, per_class=2)
    for label in range(4):
        for file in (tmp_path / "Test" / str(label)).iterdir():
            file.unlink()
    (tmp_path / "Train" / "7" / "00001.bin").unlink()
    assert "Train/7 holds 1 .bin files, where 2 or more are needed. Exp" in load_failure(
        "nmnist", root=str(tmp_path), partial=True
    )
    write_bin(tmp_path / "Train" / "7" / "00001.bin", made_up_events(0, 34, 34))
    message = load_failure("nmnist", root=str(tmp_path), partial=True)
    assert all(f"Test/{label} holds 0 .bin files" in message for label in range(3))
    assert "Test/3" not in message
    assert "(and 1 more)" in message


def test_folders_around_the_data_are_looked_into(tmp_path: Path) -> None:
    write_set(tmp_path / "a" / "NMNIST", NMNIST, per_class=2)
    write_set(tmp_path / "b" / "DVSGesture", DVS_GESTURE, per_class=2)
    assert len(load_recorded(NMNIST, tmp_path / "a", tmp_path / "cache").train.labels) == 10
    assert len(load_recorded(DVS_GESTURE, tmp_path / "b", tmp_path / "cache").train.labels) == 11


def test_gestures_need_two_people_and_known_labels(tmp_path: Path) -> None:
    write_set(tmp_path, DVS_GESTURE, per_class=1)
    message = load_failure("dvs-gesture", root=str(tmp_path), partial=True)
    assert "ibmGestureTrain holds one user; two or more are needed, as validation is taken from other users" in message
    write_gesture(tmp_path / "ibmGestureTrain" / "user01_fluorescent" / "11.npy", made_up_events(0, 128, 128))
    message = load_failure("dvs-gesture", root=str(tmp_path), partial=True)
    assert "ibmGestureTrain/user01_fluorescent/11.npy is not called after a gesture, 0.npy .. 10.npy" in message
