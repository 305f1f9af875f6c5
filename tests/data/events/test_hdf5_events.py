"""HDF5 files of two cameras, and compressed ones whose filter is missing."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, made_up_events, structured
from data.read_events import read

from spquant_search.errors import UserError

ROWS = made_up_events(1, WIDTH, HEIGHT)


def write_two_cameras(path: Path) -> None:
    with h5py.File(path, "w") as file:
        for number, side in enumerate(("left", "right")):
            for axis, column in zip("xytp", (ROWS + number * np.array([0, 0, 5, 0])).T, strict=True):
                file[f"davis/{side}/events/{axis}"] = column


@pytest.mark.parametrize(("stream", "number"), [("left", 0), ("davis/right", 1), ("/davis/right/events", 1)])
def test_one_of_two_cameras(tmp_path: Path, stream: str, number: int) -> None:
    write_two_cameras(tmp_path / "a.h5")
    np.testing.assert_array_equal(read(tmp_path / "a.h5", stream=stream), ROWS + number * np.array([0, 0, 5, 0]))


@pytest.mark.parametrize(
    ("stream", "which"), [("events", "several"), ("middle", "none"), ("igh", "none"), ("", "none")]
)
def test_a_camera_that_is_not_one_of_them(tmp_path: Path, stream: str, which: str) -> None:
    write_two_cameras(tmp_path / "a.h5")
    with pytest.raises(UserError) as caught:
        read(tmp_path / "a.h5", stream=stream)
    assert str(caught.value) == (
        f"{tmp_path / 'a.h5'}: data.stream {stream!r} names {which} of what holds events in it: "
        "davis/left/events, davis/right/events"
    )


@pytest.mark.parametrize("packed", ["gzip", "lzf"])
def test_filters_that_hdf5_has(tmp_path: Path, packed: str) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for axis, column in zip("xytp", ROWS.T, strict=True):
            file.create_dataset(axis, data=column, compression=packed, shuffle=True)
    np.testing.assert_array_equal(read(tmp_path / "a.h5"), ROWS)


@pytest.mark.parametrize(
    ("number", "remedy"),
    [(32001, "pip install hdf5plugin"), (0x8ECF, "Prophesee's ECF plugin, which comes with its software")],
)
@pytest.mark.parametrize("as_table", [False, True])
def test_filters_that_are_missing_are_named(tmp_path: Path, number: int, remedy: str, as_table: bool) -> None:
    if h5py.h5z.filter_avail(number):
        pytest.skip("the filter is there")
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        for name in ("events",) if as_table else "xytp":
            values = structured(ROWS) if as_table else ROWS[:, 0].copy()
            made_with = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
            made_with.set_chunk(values.shape)
            made_with.set_filter(number, h5py.h5z.FLAG_OPTIONAL)
            space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
            written = h5py.h5d.create(file.id, name.encode(), kind, space, made_with)
            written.write_direct_chunk((0,), values.tobytes(), 0)
    with pytest.raises(
        UserError, match=rf"a.h5: is compressed with HDF5's filter {number}, which is not there; {remedy}"
    ):
        read(path)
