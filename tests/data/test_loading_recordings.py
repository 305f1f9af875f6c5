"""Published sets of recordings, written here and read back through ``load``, event for event."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import frames_by_loop, made_up_events, write_bin
from data.published import N_CALTECH101, NMNIST, RECORDED_SETS, RecordedSet, load_recorded, options_of, write_set

from spquant_search.data import description, loading
from spquant_search.data.events import binning as recordings
from spquant_search.data.events.binning import Events
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

pytest.importorskip("tonic")


@pytest.mark.parametrize("published", RECORDED_SETS, ids=lambda published: published.name)
def test_every_event_of_every_file_arrives_in_one_split(tmp_path: Path, published: RecordedSet) -> None:
    root = tmp_path / "files"
    written = write_set(root, published, per_class=3)
    expected = {
        frames_by_loop(rows, 3, published.height, published.width, (published.height, published.width))
        .astype(np.uint8)
        .tobytes(): file
        for file, (_, _, rows) in written.items()
    }
    loaded = load_recorded(published, root, tmp_path / "cache")
    info = description.describe(published.name, options_of(published, root))
    assert (info.height, info.width, info.channels) == (loaded.height, loaded.width, loaded.channels)
    assert (info.largest, info.static, loaded.largest, loaded.static) == (15, False, 15, False)
    assert loaded.classes == info.classes
    assert loaded.time_steps == 3
    for split in loading.SPLITS:
        part: loading.Split = getattr(loaded, split)
        for frames, label in zip(part.frames, part.labels.tolist(), strict=True):
            file = expected.pop(frames.tobytes())
            assert written[file][0] == label
            if len(published.parts) == 2:
                assert written[file][1] == published.parts[split == "test"]
        if published.name != "dvs-gesture":  # each class has three recordings, or three and three
            counts = (
                {"train": 1, "validation": 1, "test": 1}
                if len(published.parts) == 1
                else {"train": 2, "validation": 1, "test": 3}
            )
            assert np.bincount(part.labels).tolist() == [counts[split]] * len(info.classes)
    assert not expected


def test_merged_pixels_and_channels(tmp_path: Path) -> None:
    rows = write_set(tmp_path / "files", N_CALTECH101, per_class=3)
    whole = load_recorded(
        N_CALTECH101, tmp_path / "files", tmp_path / "cache", limit={"train": 4, "validation": 1, "test": 1}
    )
    small = load_recorded(
        N_CALTECH101,
        tmp_path / "files",
        tmp_path / "cache",
        limit={"train": 4, "validation": 1, "test": 1},
        size=(48, 64),
        polarity="both-and-sum",
    )
    assert small.train.frames.shape == (4, 3, 3, 48, 64)
    by_frames = {frames_by_loop(r, 3, 180, 240, (180, 240)).astype(np.uint8).tobytes(): r for _, _, r in rows.values()}
    for big, merged in zip(whole.train.frames, small.train.frames, strict=True):
        expected = frames_by_loop(by_frames[big.tobytes()], 3, 48, 64, (180, 240))
        np.testing.assert_array_equal(merged[:, :2], expected)
        np.testing.assert_array_equal(merged[:, 2], expected.sum(1))
    described = description.describe("n-caltech101", DataSpace(name="n-caltech101", size=(48, 64), polarity="sum"))
    assert (described.channels, described.height, described.width) == (1, 48, 64)


def test_a_second_start_reads_no_recording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = write_set(tmp_path / "files", NMNIST, per_class=2)
    first = load_recorded(NMNIST, tmp_path / "files", tmp_path / "cache")
    monkeypatch.setitem(loading._READERS, "nmnist", same_name(lambda path: pytest.fail("must come from the cache")))
    again = load_recorded(NMNIST, tmp_path / "files", tmp_path / "cache")
    np.testing.assert_array_equal(first.train.frames, again.train.frames)
    monkeypatch.undo()
    # A file that changes, without a change of its size, is read again.
    file = next(name for name, (_, part, _) in written.items() if part == "Test")
    write_bin(tmp_path / "files" / file, made_up_events(999, 34, 34, 40))
    os.utime(tmp_path / "files" / file, ns=(1, 1))
    changed = load_recorded(NMNIST, tmp_path / "files", tmp_path / "cache")
    assert changed.test.frames.tobytes() != first.test.frames.tobytes()
    assert len(list((tmp_path / "cache").iterdir())) == 4
    # And so is one that changes its size, without a change of its time.
    write_bin(tmp_path / "files" / file, made_up_events(999, 34, 34, 41))
    os.utime(tmp_path / "files" / file, ns=(1, 1))
    load_recorded(NMNIST, tmp_path / "files", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 5
    monkeypatch.setattr(recordings, "BINNING_VERSION", -1)
    load_recorded(NMNIST, tmp_path / "files", tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 8


def same_name(read: Callable[[Path], Events]) -> Callable[[Path], Events]:
    read.__name__ = "read_bin"
    return read


def test_every_option_has_its_own_cache(tmp_path: Path) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=2, count=400)
    variants: list[dict[str, Any]] = [
        {},
        {"size": (17, 17)},
        {"crop": (20, 20)},
        {"crop": (20, 20), "size": (17, 17)},
        {"polarity": "sum"},
        {"denoise_us": 300_000},
        {"sort_events": True},
    ]
    for more in variants:
        load_recorded(NMNIST, tmp_path / "files", tmp_path / "cache", **more)
    loading.load("nmnist", time_steps=4, options=options_of(NMNIST, tmp_path / "files"), cache_dir=tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 3 * (len(variants) + 1)


def test_recordings_are_binned_in_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=4)
    whole = load_recorded(NMNIST, tmp_path / "files", tmp_path / "a")
    monkeypatch.setattr(recordings, "BLOCK_BYTES", 3 * 2 * 34 * 34 * 7)
    calls: list[int] = []
    parts = loading.load(
        "nmnist",
        time_steps=3,
        options=options_of(NMNIST, tmp_path / "files"),
        cache_dir=tmp_path / "b",
        progress=lambda done, total: calls.append(done),
    )
    np.testing.assert_array_equal(whole.train.frames, parts.train.frames)
    assert calls == [7, 14, 21, 28, 30, 37, 40, 47, 54, 61, 68, 75, 80]


def test_time_steps_of_recordings_have_no_upper_bound(tmp_path: Path) -> None:
    write_set(tmp_path / "files", NMNIST, per_class=2)
    with pytest.raises(UserError, match=r"^time_steps: must be at least 1, not 0$"):
        loading.load("nmnist", time_steps=0, options=options_of(NMNIST, tmp_path / "files"))
    limit = {"train": 1, "validation": 1, "test": 1}
    loaded = loading.load(
        "nmnist", time_steps=300, options=options_of(NMNIST, tmp_path / "files"), limit=limit, cache_dir=tmp_path / "c"
    )
    assert loaded.time_steps == len(loaded.train.frames[0]) == 300
