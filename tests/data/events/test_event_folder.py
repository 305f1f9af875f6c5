"""Folders with a folder of recordings for each class."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Command
from data.camera_writers import evt3_words, write_dat, write_words
from data.event_writers import HEIGHT, WIDTH, frames_by_loop, made_up_events, write_group, write_structured

from spquant_search.data import description, loading
from spquant_search.data.events import event_columns
from spquant_search.errors import SpaceError, UserError
from spquant_search.space.reading import parse_space, read_space
from spquant_search.space.schema import DataSpace
from spquant_search.training.prepare import bind_network


def write_event_folder(base: Path, *classes: str, count: int, seed: int = 0) -> dict[bytes, str]:
    """Write recordings of each class; return the class of each recording's frames."""
    written = {}
    for class_name in classes:
        (base / class_name).mkdir(parents=True)
        for number in range(count):
            rows = made_up_events(seed + len(written), WIDTH, HEIGHT)
            write = (write_structured, write_group)[number % 2]
            write(base / class_name / f"{number}{('.npy', '.h5')[number % 2]}", rows)
            written[frames_by_loop(rows, 3, HEIGHT, WIDTH, (HEIGHT, WIDTH)).astype(np.uint8).tobytes()] = class_name
    return written


def options(root: Path, **more: Any) -> DataSpace:
    return DataSpace(name="event-folder", root=str(root), **{"sensor": (HEIGHT, WIDTH)} | more)


def load(root: Path, cache: Path, **more: Any) -> loading.DataSet:
    return loading.load("event-folder", time_steps=3, options=options(root, **more), cache_dir=cache)


def labelled(loaded: loading.DataSet, split: str) -> dict[bytes, str]:
    part: loading.Split = getattr(loaded, split)
    return {
        frames.tobytes(): loaded.classes[label] for frames, label in zip(part.frames, part.labels.tolist(), strict=True)
    }


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    written = write_event_folder(tmp_path / "files", "wave", "clap", count=10)
    (tmp_path / "files" / "wave" / "notes.txt").write_text("no recording")
    loaded = load(tmp_path / "files", tmp_path / "cache")
    info = description.describe("event-folder", options(tmp_path / "files"))
    assert (info.classes, info.channels, info.height, info.width) == (("clap", "wave"), 2, HEIGHT, WIDTH)
    assert (info.static, info.largest, loaded.static, loaded.largest) == (False, 15, False, 15)
    found = {split: labelled(loaded, split) for split in loading.SPLITS}
    assert [len(found[split]) for split in loading.SPLITS] == [16, 2, 2]
    assert found["train"] | found["validation"] | found["test"] == written


@pytest.mark.parametrize(
    ("held", "folders"), [("val", "train val"), ("test", "train test"), ("test", "train val test")]
)
def test_published_splits_of_a_folder(tmp_path: Path, held: str, folders: str) -> None:
    written = {
        part: write_event_folder(tmp_path / "files" / part, "clap", "wave", count=4, seed=100 * number)
        for number, part in enumerate(folders.split())
    }
    loaded = load(tmp_path / "files", tmp_path / "cache")
    assert labelled(loaded, "test") == written[held]
    trained = labelled(loaded, "train") | labelled(loaded, "validation")
    assert trained == written["train"] | (written["val"] if "test" in folders and "val" in folders else {})


def test_cropped_merged_and_in_other_units(tmp_path: Path) -> None:
    write_event_folder(tmp_path / "files", "clap", "wave", count=3)
    small = load(tmp_path / "files", tmp_path / "cache", crop=(16, 20), size=(8, 10), polarity="sum")
    assert small.train.frames.shape == (2, 3, 1, 8, 10)
    # In seconds, every event is a million times later, in the same thirds of the time.
    for unit in ("us", "s"):
        load(tmp_path / "files", tmp_path / "units", time_unit=unit, columns="xytp" if unit == "s" else None)
    splits = {path.name.rsplit("-", 1)[0]: path.read_bytes()[:-12] for path in (tmp_path / "units").iterdir()}
    assert len(splits) == 3
    assert len(list((tmp_path / "units").iterdir())) == 6
    assert all(
        path.read_bytes()[:-12] == splits[path.name.rsplit("-", 1)[0]] for path in (tmp_path / "units").iterdir()
    )


def test_recordings_as_cameras_leave_them(tmp_path: Path) -> None:
    written = {}
    for number in range(8):
        rows = made_up_events(number, WIDTH, HEIGHT)
        folder = tmp_path / "files" / ("clap", "wave")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        if number < 4:
            write_words(folder / f"{number}.raw", "EVT3", evt3_words(rows))
        else:
            write_dat(folder / f"{number}.dat", rows)
        written[frames_by_loop(rows, 3, HEIGHT, WIDTH, (HEIGHT, WIDTH)).astype(np.uint8).tobytes()] = folder.name
    loaded = load(tmp_path / "files", tmp_path / "cache")
    assert {frame: name for split in loading.SPLITS for frame, name in labelled(loaded, split).items()} == written
    with pytest.raises(UserError, match=r"is a recording of \[20, 24\] pixels \[height, width\], and data.sensor says"):
        load(tmp_path / "files", tmp_path / "cache", sensor=(24, 20))


def test_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    write_event_folder(tmp_path, "clap", count=3)
    write_event_folder(tmp_path, "wave", count=1)
    with pytest.raises(UserError) as caught:
        load(tmp_path, tmp_path / "cache")
    assert str(caught.value) == (
        f"{tmp_path}: wave holds 1 recording, where 3 or more are needed, one for each split. "
        "Add recordings, or remove the folder of the class"
    )


SPACE = """
data: {{name: {name}, {words}}}
time_steps: 2
model: {{network: vgg9, width: 0.0625}}
layers: {{all: {{weight_bits: [4], membrane_levels: [3]}}}}
"""


@pytest.mark.parametrize(
    ("name", "words", "problem"),
    [
        (
            "event-folder",
            "classes: 2",
            "s: data.sensor: event-folder needs the [height, width] in pixels of the camera",
        ),
        ("event-folder", "sensor: 40", "s: data.root: name the folder with CLASS/RECORDING.npy"),
        (
            "event-folder",
            "sensor: 40, classes: 2, size: 48",
            "s: data.size: must be at most [40, 40] pixels [height, wi",
        ),
        ("event-folder", "time_unit: h", "s: data.time_unit (line 2): must be 's', 'ms', 'us' or 'ns'; got 'h'"),
        (
            "event-folder",
            "columns: xyt",
            "s: data.columns (line 2): must name the four columns x, y, t (time) and p (pol",
        ),
        ("event-folder", "sensor: 40, classes: 2, partial: true", "s: data.partial: event-folder has no such option"),
        (
            "nmnist",
            "sensor: 40, time_unit: ms, columns: xytp",
            "s: data.sensor: nmnist has no such option; remove the key\n"
            "s: data.time_unit: nmnist has no such option; remove the key\n"
            "s: data.columns: nmnist has no such option; remove the key",
        ),
    ],
)
def test_options_are_checked_in_the_words_of_the_file(name: str, words: str, problem: str) -> None:
    with pytest.raises(SpaceError) as caught:
        bind_network(parse_space(SPACE.format(name=name, words=words), source="s"), source="s")
    assert str(caught.value).startswith(problem)


def test_costs_need_no_files() -> None:
    space = parse_space(SPACE.format(name="event-folder", words="sensor: [40, 50], classes: 3"), source="s")
    shape = bind_network(space, source="s").input
    assert (shape.channels, shape.height, shape.width, shape.classes, shape.largest) == (2, 40, 50, 3, 15)


def test_the_units_are_those_of_the_space_file() -> None:
    assert set(event_columns.TIME_UNITS) == {"s", "ms", "us", "ns"}


@pytest.mark.slow
def test_the_example_of_the_page_on_data_works(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).parents[3] / "docs" / "data.md").read_text(encoding="utf-8")
    example = page[page.index("### event-folder") :]
    blocks = dict(re.findall(r"^```(\w*)\n(.*?)^```$", example, re.MULTILINE | re.DOTALL))
    monkeypatch.chdir(tmp_path)
    exec(blocks["python"], {})
    Path("own.yaml").write_text(blocks["yaml"], encoding="utf-8")
    look, search = (line.split()[1:] for line in blocks[""].splitlines())
    shorter = ["--trials", "1", *("--set", "train.baseline_epochs=1"), *("--set", "train.epochs=1")]
    assert command(*look).code == 0
    program = [sys.executable, "-c", "from spquant_search.cli.app import main; main()"]
    done = subprocess.run(
        [*program, *search, *shorter, "--workers", "1"],
        env=os.environ | {"SPQUANT_COMPILE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert Path("own.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads(Path("runs/own/front.json").read_text(encoding="utf-8"))["members"]) >= 1
    loaded = loading.load("event-folder", time_steps=4, options=read_space(Path("own.yaml")).data)
    assert (loaded.classes, loaded.train.frames.shape) == (("left", "right"), (32, 4, 2, 32, 32))
    # A bar that moves to the right is further right in the last quarter than in the first.
    columns = np.arange(32)
    for frames, label in zip(loaded.train.frames, loaded.train.labels.tolist(), strict=True):
        places = [(frame.sum((0, 1)) * columns).sum() / frame.sum() for frame in frames.astype(np.int64)]
        assert (places[-1] > places[0]) == (label == 1)
