"""Files of a user's recordings in every format that is read, event for event."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from data.event_writers import (
    HEIGHT,
    WIDTH,
    Rows,
    made_up_events,
    structured,
    write_bin,
    write_dataset,
    write_group,
    write_structured,
)
from data.read_events import failure, read
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray


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
    rows, path = made_up_events(1, WIDTH, HEIGHT), tmp_path / f"a{suffix}"
    with path.open("wb") as file:  # np.save would put .npy behind .NPY
        write(file if suffix == ".NPY" else path, rows)  # type: ignore[arg-type]
    np.testing.assert_array_equal(read(path), rows)


@given(st.permutations("xytp"))
def test_columns_in_any_order(tmp_path_factory: pytest.TempPathFactory, order: list[str]) -> None:
    rows, path = made_up_events(2, WIDTH, HEIGHT, count=5), tmp_path_factory.mktemp("columns") / "a.npy"
    np.save(path, rows[:, ["xytp".index(axis) for axis in order]])
    np.testing.assert_array_equal(read(path, columns="".join(order)), rows)
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["table"] = np.load(path)
    np.testing.assert_array_equal(read(path.with_suffix(".h5"), columns="".join(order)), rows)


@pytest.mark.parametrize(
    "names",
    [
        "x y t p",
        "X Y T P",
        "x y ts on",
        "xs ys ts ps",
        "x y timestamp polarity",
        "X Y Timestamp Polarity",
        "x_coordinate y_coordinate timestamp polarity",
        "X-Coordinate Y-Coordinate Time-Stamp Polarity",
        "x_pos y_pos time pol",
        "pos_x pos_y times polarities",
        "x_addr y_addr timestamps polarity",
        "col row t p",
        "column row time_stamp on",
    ],
)
@pytest.mark.parametrize("order", ["xytp", "xypt", "tpyx"])
def test_names_of_fields_as_they_occur(tmp_path: Path, names: str, order: str) -> None:
    """As a table of numpy, as datasets of HDF5, and as the first line of a text."""
    rows = made_up_events(2, WIDTH, HEIGHT, count=5)
    columns = dict(zip("xytp", zip(names.split(), rows.T, strict=True), strict=True))
    table = np.empty(5, [(columns[axis][0], "<u4" if axis == "t" else "<u2") for axis in order])
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, values in columns.values():
            table[name] = file[f"CD/events/{name}"] = values
    np.save(tmp_path / "a.npy", table)
    text = [",".join(map(str, row)) for row in table.tolist()]
    (tmp_path / "a.csv").write_text("\n".join([", ".join(table.dtype.names or ()).replace("_", " "), *text]))
    for suffix in ("npy", "h5", "csv"):
        np.testing.assert_array_equal(read(tmp_path / f"a.{suffix}"), rows)


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
            "it has times beyond 4611686018427387904 us, its times read in us. Set data.time_unit",
        ),
    ],
)
def test_tables_that_hold_no_events(tmp_path: Path, table: NDArray[Any], words: str) -> None:
    np.save(tmp_path / "a.npy", table)
    message = failure(tmp_path / "a.npy", columns="xytp")
    assert message.startswith(f"{tmp_path / 'a.npy'}: ")
    assert words in message
    assert message.endswith("rite the file again, or remove it")


def test_a_table_without_names_needs_its_columns_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((3, 4)))
    assert failure(tmp_path / "a.npy") == (
        f"{tmp_path / 'a.npy'}: has four columns without names; "
        "say which is which by data.columns, for example columns: xytp"
    )


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_structured(tmp_path / "a.npy", made_up_events(1, WIDTH, HEIGHT))
    write_group(tmp_path / "b.h5", made_up_events(1, WIDTH, HEIGHT))
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
            file[name] = structured(made_up_events(1, WIDTH, HEIGHT))
    assert failure(path) == (
        f"{path}: left, right all hold events; say which of them to read by data.stream, for example stream: left"
    )
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
    write_group(tmp_path / "a.h5", made_up_events(1, WIDTH, HEIGHT))
    monkeypatch.setitem(sys.modules, "h5py", None)
    message = failure(tmp_path / "a.h5")
    assert message.startswith(f"{tmp_path / 'a.h5'}: reading it needs h5py, which cannot be imported (")
    assert message.endswith("; pip install h5py")
