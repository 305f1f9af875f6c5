"""Recordings that np.savez wrote, and pickles, which are refused by their name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, made_up_events, structured
from data.read_events import failure, is_read_or_named, read

ROWS = made_up_events(1, WIDTH, HEIGHT)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
@pytest.mark.parametrize("names", ["t x y p", "T X Y P", "timestamps xs ys polarities", "ts x y pol"])
def test_arrays_by_their_names(tmp_path: Path, names: str, save: Any) -> None:
    columns = dict(zip(names.split(), ROWS[:, [2, 0, 1, 3]].T, strict=True))
    save(tmp_path / "a.npz", label=3, **columns)
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), ROWS)


def test_one_table_in_a_file(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", events=structured(ROWS))
    np.testing.assert_array_equal(read(tmp_path / "a.npz"), ROWS)
    np.savez(tmp_path / "a.npz", ROWS[:, [2, 0, 1, 3]])
    np.testing.assert_array_equal(read(tmp_path / "a.npz", columns="txyp"), ROWS)


def test_arrays_that_hold_no_events(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=[1], y=[2], images=np.zeros(3))
    assert failure(tmp_path / "a.npz") == (
        f"{tmp_path / 'a.npz'}: it must hold the arrays x, y, t, p, or one array of events; it holds x, y, images. "
        "Write the file again, or remove it"
    )
    np.savez(tmp_path / "a.npz")
    assert "it holds nothing" in failure(tmp_path / "a.npz")


@pytest.mark.parametrize("suffix", ["npy", "npz"])
def test_a_pickle_is_called_what_it_is(tmp_path: Path, suffix: str) -> None:
    """SpikingJelly's older data sets are dictionaries in .npy files."""
    recording = np.array({"t": [1], "x": [1], "y": [1], "p": [1]}, dtype=object)
    if suffix == "npy":
        np.save(tmp_path / "a.npy", recording)
    else:
        np.savez(tmp_path / "a.npz", events=recording)
    message = failure(tmp_path / f"a.{suffix}")
    assert message.startswith(f"{tmp_path / f'a.{suffix}'}: holds a pickled Python object, which is not read")
    assert message.endswith("save its arrays: np.savez(file, x=..., y=..., t=..., p=...)")


def test_damaged_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for save in (np.savez, np.savez_compressed):
        save(path, **dict(zip("xytp", ROWS.T, strict=True)))
        whole = path.read_bytes()
        generator = np.random.default_rng(0)
        for _ in range(150):
            content = np.frombuffer(whole, np.uint8).copy()
            content[generator.integers(0, len(whole), 3)] = generator.integers(0, 256, 3)
            path.write_bytes(content.tobytes()[: generator.integers(1, len(whole) + 1)])
            assert is_read_or_named(path)
    for content in (b"", b"PK\x05\x06", b"no archive"):
        path.write_bytes(content)
        assert failure(path).endswith("It is truncated or damaged; get it again, or remove it")
