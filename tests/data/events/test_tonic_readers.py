"""Recordings that cannot be read are named, and tonic is imported only where a recording is read."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data.event_writers import write_bin
from data.published import CIFAR10_DVS, DVS_GESTURE, NMNIST, RecordedSet, load_recorded, write_set

from spquant_search.data.events import tonic_readers
from spquant_search.errors import UserError

pytest.importorskip("tonic")


@pytest.mark.parametrize("published", [NMNIST, CIFAR10_DVS, DVS_GESTURE], ids=lambda published: published.name)
@pytest.mark.parametrize("damage", ["truncated", "empty", "scrambled"])
def test_a_damaged_recording_is_named(tmp_path: Path, published: RecordedSet, damage: str) -> None:
    written = write_set(tmp_path / "files", published, per_class=3)
    path = tmp_path / "files" / list(written)[-1]
    whole = path.read_bytes()
    content = {"truncated": whole[: len(whole) * 2 // 3], "empty": b"", "scrambled": b"\xff" * len(whole)}[damage]
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        load_recorded(published, tmp_path / "files", tmp_path / "cache")
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "again" in message
    assert "remove it" in message
    assert "\n" not in message


def test_why_a_recording_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"1234567")
    with pytest.raises(
        UserError, match=r"a: cannot be read: its 7 bytes are no whole number of 5-byte events\. It is tr"
    ):
        tonic_readers.read_bin(path)
    with pytest.raises(UserError, match=r"b: cannot be read: No such file or directory\. It is"):
        tonic_readers.read_bin(tmp_path / "b")
    for table in (np.zeros((2, 3)), np.zeros(4), np.zeros((2, 4), bool)):
        np.save(tmp_path / "c.npy", table)
        with pytest.raises(UserError, match="it is no table of numbers with four columns"):
            tonic_readers.read_gesture(tmp_path / "c.npy")
    np.save(tmp_path / "c.npy", np.array([[1.0, 1.0, 0.0, np.nan]]))
    with pytest.raises(UserError, match="it holds values that are no finite numbers"):
        tonic_readers.read_gesture(tmp_path / "c.npy")
    np.save(tmp_path / "d.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(UserError, match=r"d\.npy: holds a pickled Python object, which is not read"):
        tonic_readers.read_gesture(tmp_path / "d.npy")


def test_times_of_gestures_do_not_overflow(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1, 2, 0, 60_000], [3, 4, 1, 65_000]], np.uint16))
    read = tonic_readers.read_gesture(tmp_path / "a.npy")
    assert [values.tolist() for values in read] == [[1, 3], [2, 4], [60_000_000, 65_000_000], [0, 1]]
    np.save(tmp_path / "a.npy", np.array([[1, 2, 0, 0.029]]))
    assert tonic_readers.read_gesture(tmp_path / "a.npy").t.tolist() == [29]  # 28.999... in binary


def test_overflow_events_of_a_bin_file_are_times_not_places(tmp_path: Path) -> None:
    write_bin(tmp_path / "a.bin", [(1, 2, 100, 0), (0, 240, 0, 0), (3, 4, 50, 1)])
    read = tonic_readers.read_bin(tmp_path / "a.bin")
    assert [values.tolist() for values in read] == [[1, 3], [2, 4], [100, 50 + 2**13], [0, 1]]


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tonic", None)
    with pytest.raises(UserError) as caught:
        tonic_readers.read_bin(Path("a.bin"))
    assert str(caught.value).startswith("reading these recordings needs tonic, which cannot be imported (")
    assert str(caught.value).endswith("; pip install tonic (its licence is GPL-3.0)")


def test_describing_and_finding_recordings_needs_no_tonic(tmp_path: Path) -> None:
    program = (
        "import sys; from spquant_search.data import catalog, description\n"
        "from spquant_search.space.schema import DataSpace\n"
        "users = {'image-folder': {}, 'event-folder': {'sensor': (8, 8)}}\n"
        "for name in set(catalog.NAMES) - {'python'}:\n"
        "    options = DataSpace(name=name, size=(8, 8), classes=2, **users[name]) if name in users else None\n"
        "    description.describe(name, options)\n"
        "sys.exit('tonic' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
