"""The user's own recordings: files in every format that is read, written here and read back event for event."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from conftest import Command
from data.events.test_recordings import counted, made_up, write_aedat4, write_bin
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spquant_search.data import catalog, loading
from spquant_search.data.events import event_files
from spquant_search.data.events.event_files import read_event_file
from spquant_search.errors import SpaceError, UserError
from spquant_search.space.reading import parse_space, read_space
from spquant_search.space.schema import DataSpace
from spquant_search.training.prepare import bind_network

HEIGHT, WIDTH = 20, 24
STRUCTURE = np.dtype([("t", "<u8"), ("x", "<u2"), ("y", "<u2"), ("p", "?")])
Rows = NDArray[np.int64]  # [event, 4]: x, y, t in us, polarity


def structured(rows: Rows, dtype: np.dtype[Any] = STRUCTURE) -> NDArray[Any]:
    table = np.empty(len(rows), dtype)
    for column, name in zip(rows.T, "xytp", strict=True):
        table[next(field for field in dtype.names or () if field.lower().startswith(name))] = column
    return table


def write_structured(path: Path, rows: Rows) -> None:
    np.save(path, structured(rows))


def write_group(path: Path, rows: Rows) -> None:
    with h5py.File(path, "w") as file:
        file["calibration"] = np.eye(3)
        for column, name in zip(rows.T, ("x", "y", "timestamp", "polarity"), strict=True):
            file[f"cd/events/{name}"] = column


def write_dataset(path: Path, rows: Rows) -> None:
    with h5py.File(path, "w") as file:
        file["events"] = structured(rows, np.dtype([("x", "i4"), ("y", "i4"), ("ts", "i8"), ("pol", "i1")]))


def read(path: Path, time_unit: str = "us", columns: str | None = None) -> Rows:
    events = read_event_file(path, time_unit=time_unit, columns=columns)
    return np.stack(events, axis=1)


def failure(path: Path, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        read(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".npy", write_structured),
        (".NPY", write_structured),
        (".h5", write_group),
        (".hdf5", write_dataset),
        (".bin", write_bin),
    ],
)
def test_every_event_of_every_format(tmp_path: Path, suffix: str, write: Callable[[Path, Rows], None]) -> None:
    pytest.importorskip("tonic")
    rows, path = made_up(1, WIDTH, HEIGHT), tmp_path / f"a{suffix}"
    with path.open("wb") as file:  # np.save would put .npy behind .NPY
        write(file if suffix == ".NPY" else path, rows)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read(path), rows)


def test_every_event_of_an_aedat4_file(tmp_path: Path) -> None:
    pytest.importorskip("tonic")
    rows = made_up(1, WIDTH, HEIGHT)
    write_aedat4(tmp_path / "a.aedat4", rows)
    found = read(tmp_path / "a.aedat4")
    np.testing.assert_array_equal(found - [0, 0, found[0, 2] - rows[0, 2], 0], rows)


@given(st.permutations("xytp"))
def test_columns_in_any_order(tmp_path_factory: pytest.TempPathFactory, order: list[str]) -> None:
    rows, path = made_up(2, WIDTH, HEIGHT, count=5), tmp_path_factory.mktemp("columns") / "a.npy"
    np.save(path, rows[:, ["xytp".index(axis) for axis in order]])
    np.testing.assert_array_equal(read(path, columns="".join(order)), rows)
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["table"] = np.load(path)
    np.testing.assert_array_equal(read(path.with_suffix(".h5"), columns="".join(order)), rows)


@pytest.mark.parametrize(
    ("unit", "dtype", "written", "microseconds"),
    [
        ("s", "f8", [0.000001, 0.0000025, 1.5], [1, 2, 1_500_000]),  # rounded half to even
        ("s", "i2", [0, 1, 32_767], [0, 1_000_000, 32_767_000_000]),
        ("ms", "f4", [0.5, 1.0, 1.25], [500, 1000, 1250]),
        ("ms", "u2", [0, 60_000, 65_535], [0, 60_000_000, 65_535_000]),
        ("us", "i8", [5, 6, 1_600_000_000_000_000], [5, 6, 1_600_000_000_000_000]),
        ("us", "u4", [0, 1, 4_294_967_295], [0, 1, 4_294_967_295]),
        ("ns", "u8", [999, 1000, 9_300_000_000_000_000_000], [0, 1, 9_300_000_000_000_000]),
        ("ns", "f8", [1499.0, 1501.0, 2e9], [1, 2, 2_000_000]),
    ],
)
def test_times_in_every_unit(
    tmp_path: Path, unit: str, dtype: str, written: list[float], microseconds: list[int]
) -> None:
    table = np.zeros(3, np.dtype([("x", "u1"), ("y", "u1"), ("t", dtype), ("p", "u1")]))
    table["t"] = written
    np.save(tmp_path / "a.npy", table)
    assert read(tmp_path / "a.npy", time_unit=unit)[:, 2].tolist() == microseconds


def test_places_beyond_64_bits_are_outside_any_sensor(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1e300, 0, 1, 0]]))
    assert read(tmp_path / "a.npy", columns="xytp")[0, 0] < 0


@pytest.mark.parametrize(
    ("written", "expected"),
    [([-1, 1, -1], [0, 1, 0]), ([1, 1, 1], [1, 1, 1]), ([0, 1, 1], [0, 1, 1]), ([-1, 0, 1], [-1, 0, 1])],
)
def test_polarities_of_both_conventions(tmp_path: Path, written: list[int], expected: list[int]) -> None:
    np.save(tmp_path / "a.npy", np.array([[0, 0, 1, p] for p in written]))
    assert read(tmp_path / "a.npy", columns="xytp")[:, 3].tolist() == expected


# Files that are not as they should be


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (
            np.zeros((3, 5)),
            "it must be an array with the fields x, y, t, p, or a table with four columns; it has the sh",
        ),
        (
            np.zeros(3, np.dtype([("x", "i4"), ("v", "i4")])),
            "four columns; it has the fields x, v. Write the file again",
        ),
        (np.zeros((3, 4), "S1"), "t holds no numbers but |S1; p holds no numbers but |S1"),
        (
            np.array([[0, 0, np.inf, 0]]),
            "t holds values that are no finite numbers. Write the file again, or remove it",
        ),
        (np.array([[0.5, 0, 1, 0]]), "x holds values that are no whole numbers; columns in another order?"),
        (
            np.array([[0, 0, 2**62 + 2**10, 0]]),
            "it has times beyond 4611686018427387904 us; is data.time_unit, now us,",
        ),
    ],
)
def test_tables_that_hold_no_events(tmp_path: Path, table: NDArray[Any], words: str) -> None:
    np.save(tmp_path / "a.npy", table)
    message = failure(tmp_path / "a.npy", columns="xytp")
    assert message.startswith(f"{tmp_path / 'a.npy'}: ")
    assert words in message
    assert message.endswith("Write the file again, or remove it")


def test_a_table_without_names_needs_its_columns_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    assert failure(tmp_path / "a.npy") == (
        f"{tmp_path / 'a.npy'}: has four columns without names; "
        "say which is which by data.columns, for example columns: xytp"
    )


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_structured(tmp_path / "a.npy", made_up(1, WIDTH, HEIGHT))
    write_group(tmp_path / "b.h5", made_up(1, WIDTH, HEIGHT))
    for path in (tmp_path / "a.npy", tmp_path / "b.h5"):
        whole = path.read_bytes()
        for content in (whole[: len(whole) // 2], b"", b"\xff" * len(whole), b"PK\x03\x04"):
            path.write_bytes(content)
            message = failure(path)
            assert message.startswith(f"{path}: cannot be read: ")
            assert message.endswith(". It is truncated or damaged; get it again, or remove it")


def test_an_h5_file_with_no_events_or_several(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["frames"] = np.zeros((3, 5))
    assert failure(path) == (
        f"{path}: it must hold one group with datasets x, y, t, p, or one dataset with these fields or four columns; "
        "it holds frames. Write the file again, or remove it"
    )
    with h5py.File(path, "w") as file:
        for name in ("left", "right"):
            file[name] = structured(made_up(1, WIDTH, HEIGHT))
    assert "four columns; left, right all hold events. Write the file again" in failure(path)
    with h5py.File(path, "w") as file:  # what has the names, but is something else
        for name in "xyt":
            file[name] = np.zeros(3)
        file.create_group("p")
        file["empty"] = h5py.Empty("f4")
        file["type"] = np.dtype("i4")
        file["link"] = h5py.SoftLink("/nowhere")
    assert "four columns; it holds empty, link, p, t, type, x, y. Write" in failure(path)
    with h5py.File(path, "w") as file:
        for name, length in {"x": 3, "y": 3, "t": 4, "p": 3}.items():
            file[name] = np.zeros(length)
    assert "x, y, t and p must be of one length; they have the shapes p [3], t [4], x [3], y [3]. Wr" in failure(path)


def test_h5py_is_asked_for_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_group(tmp_path / "a.h5", made_up(1, WIDTH, HEIGHT))
    monkeypatch.setitem(sys.modules, "h5py", None)
    message = failure(tmp_path / "a.h5")
    assert message.startswith(f"{tmp_path / 'a.h5'}: reading it needs h5py, which cannot be imported (")
    assert message.endswith("; pip install h5py")


# Folders


def write_folder(base: Path, *classes: str, count: int, seed: int = 0) -> dict[bytes, str]:
    """Recordings of each class; by frames: class."""
    written = {}
    for class_name in classes:
        (base / class_name).mkdir(parents=True)
        for number in range(count):
            rows = made_up(seed + len(written), WIDTH, HEIGHT)
            write = (write_structured, write_group)[number % 2]
            write(base / class_name / f"{number}{('.npy', '.h5')[number % 2]}", rows)
            written[counted(rows, 3, HEIGHT, WIDTH, (HEIGHT, WIDTH)).astype(np.uint8).tobytes()] = class_name
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
    written = write_folder(tmp_path / "files", "wave", "clap", count=10)
    (tmp_path / "files" / "wave" / "notes.txt").write_text("no recording")
    loaded = load(tmp_path / "files", tmp_path / "cache")
    info = catalog.describe("event-folder", options(tmp_path / "files"))
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
        part: write_folder(tmp_path / "files" / part, "clap", "wave", count=4, seed=100 * number)
        for number, part in enumerate(folders.split())
    }
    loaded = load(tmp_path / "files", tmp_path / "cache")
    assert labelled(loaded, "test") == written[held]
    trained = labelled(loaded, "train") | labelled(loaded, "validation")
    assert trained == written["train"] | (written["val"] if "test" in folders and "val" in folders else {})


def test_cropped_merged_and_in_other_units(tmp_path: Path) -> None:
    write_folder(tmp_path / "files", "clap", "wave", count=3)
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


def test_what_is_wrong_with_a_folder(tmp_path: Path) -> None:
    write_folder(tmp_path, "clap", count=3)
    write_folder(tmp_path, "wave", count=1)
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
        ("event-folder", "sensor: 40", "s: data.classes: say how many event-folder has, or name by root a folder"),
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
    assert set(event_files._US) == {"s", "ms", "us", "ns"}


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
