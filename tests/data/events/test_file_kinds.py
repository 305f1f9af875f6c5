"""Files that are called like another format say what they are."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from data.camera_writers import evt3_words, write_aedat2, write_aedat3, write_dat, write_words
from data.event_writers import (
    HEIGHT,
    WIDTH,
    Rows,
    made_up_events,
    write_aedat4,
    write_bin,
    write_group,
    write_structured,
)
from data.read_events import failure, read

from spquant_search.data.events.event_files import EVENT_SUFFIXES

ROWS = made_up_events(1, WIDTH, HEIGHT)


def write_raw(path: Path, rows: Rows) -> None:
    write_words(path, "EVT3", evt3_words(rows))


def write_npz(path: Path, rows: Rows) -> None:
    np.savez(path, **dict(zip("xytp", rows.T, strict=True)))


WRITTEN: dict[str, tuple[str, Callable[[Path, Rows], None]]] = {
    ".npy": ("an array of numpy", write_structured),
    ".npz": ("a zip archive, as np.savez writes it", write_npz),
    ".h5": ("an HDF5 file", write_group),
    ".raw": ("a Prophesee recording", write_raw),
    ".dat": ("a Prophesee recording of decoded events", write_dat),
    ".aedat4": ("an AEDAT 4 recording", write_aedat4),
    ".aedat": ("an AEDAT recording of an older version than 4", write_aedat3),
}


@pytest.mark.parametrize("suffix", list(WRITTEN))
def test_a_file_with_the_suffix_of_another_format_says_what_it_is(tmp_path: Path, suffix: str) -> None:
    kind, write = WRITTEN[suffix]
    right = tmp_path / f"rec.1{suffix}"
    write(right, ROWS)
    others = EVENT_SUFFIXES - {suffix} - ({".hdf5"} if suffix == ".h5" else set())
    for other in sorted(others):
        path = right.with_suffix(other.upper())
        path.write_bytes(right.read_bytes())
        assert failure(path, columns="xytp") == (
            f"{path}: is {kind}, and its suffix {other.upper()} names another format; call it rec.1{suffix}"
        )


@pytest.mark.parametrize("suffix", sorted(EVENT_SUFFIXES))
def test_packed_files_are_to_be_unpacked(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    for pack, name in ((gzip.compress, "gzip"), (bz2.compress, "bzip2"), (lzma.compress, "xz")):
        path.write_bytes(pack(bytes(100)))
        assert failure(path, columns="xytp") == f"{path}: is packed by {name}; unpack it"
    path.write_bytes(b"MATLAB 5.0 MAT-file, Platform: GLNXA64")
    assert failure(path, columns="xytp").startswith(
        f"{path}: is a file of MATLAB, which is not read; save x, y, t, p as"
    )
    path.write_bytes(b"#ROSBAG V2.0\n")
    assert failure(path, columns="xytp").startswith(f"{path}: is a ROS bag, which is not read; convert it")


def test_comments_of_text_are_no_other_format(tmp_path: Path) -> None:
    for comment in ("% recorded by hand", "# AEDAT of Monday, as text", "% data file containing events"):
        (tmp_path / "a.csv").write_text(f"{comment}\nx,y,t,p\n1,2,3,0\n")
        assert read(tmp_path / "a.csv").tolist() == [[1, 2, 3, 0]]


def test_events_of_a_bin_file_may_look_like_another_format(tmp_path: Path) -> None:
    """The first event of a .bin file is at (80, 75), the letters of a zip archive."""
    pytest.importorskip("tonic")
    rows = np.array([[80, 75, 0x30404, 0], [35, 33, 0x30405, 1]])
    write_bin(tmp_path / "a.bin", rows)
    np.testing.assert_array_equal(read(tmp_path / "a.bin"), rows)


def test_an_older_aedat_file_is_read_by_its_version(tmp_path: Path) -> None:
    for write in (write_aedat2, write_aedat3):
        write(tmp_path / "a.aedat", ROWS)
        np.testing.assert_array_equal(read(tmp_path / "a.aedat"), ROWS)
