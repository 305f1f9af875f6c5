"""Frames of fixed windows of time: by a loop, as a live camera makes them, and what is said of events left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, Rows, made_up_events, structured
from data.events.test_binning import SOURCE, binning, events
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from spquant_search.data import loading
from spquant_search.data.events.binning import Events, count_events
from spquant_search.data.statistics import DataStatistics, dataset_statistics
from spquant_search.errors import UserError
from spquant_search.report.data_report import split_table
from spquant_search.space.schema import DataSpace

DURATION_US = 300_000  # of the recordings made up here, about


def windows_by_loop(rows: Rows, steps: int, window_us: int, windows: int) -> tuple[NDArray[np.int64], int]:
    """Count one event after the other into its window, sum neighbouring windows, and count those of no window."""
    counts, lost = np.zeros((windows, 2, 6, 8), np.int64), 0
    for x, y, t, p in rows.tolist():
        window = (t - rows[0, 2]) // window_us
        if window < windows:
            counts[window, p, y, x] += 1
        else:
            lost += 1
    return counts.reshape(steps, windows // steps, 2, 6, 8).sum(axis=1), lost


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(1, 60),
    steps=st.integers(1, 5),
    together=st.integers(1, 4) | st.none(),
    window_us=st.integers(1, 12) | st.integers(1, 2 * DURATION_US),
    span=st.sampled_from([1, 10, 40, DURATION_US]),
    begin=st.sampled_from([0, -7, 1_700_000_000_000_000]),
)
def test_windows_agree_with_a_loop(
    seed: int, count: int, steps: int, together: int | None, window_us: int, span: int, begin: int
) -> None:
    generator = np.random.default_rng(seed)
    times = begin + np.sort(generator.integers(0, span, count))
    places = (generator.integers(0, 8, count), generator.integers(0, 6, count))
    rows = np.stack([*places, times, generator.integers(0, 2, count)], axis=1)
    first_windows = None if together is None else together * steps
    rules = binning(time_steps=steps, window_us=window_us, first_windows=first_windows)
    counted = count_events(Events(*rows.T), rules, source=SOURCE)
    expected, lost = windows_by_loop(rows, steps, window_us, first_windows or steps)
    np.testing.assert_array_equal(counted.frames, expected)
    assert counted.events.tolist() == [*expected.sum(axis=(1, 2, 3)).tolist(), lost]
    assert counted.events.sum() == count


def test_an_event_at_the_end_of_a_window_is_in_the_next_one() -> None:
    of = events((0, 0, 100, 0), (1, 0, 109, 0), (2, 0, 110, 1), (3, 0, 119, 1), (4, 0, 120, 0))
    counted = count_events(of, binning(window_us=10), source=SOURCE)
    assert np.argwhere(counted.frames).tolist() == [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 2], [1, 1, 0, 3]]
    assert counted.events.tolist() == [2, 2, 1]


@pytest.mark.parametrize("more", [{}, {"crop": (4, 4), "size": (2, 2)}, {"denoise_us": 40_000}, {"polarity": "sum"}])
def test_frames_of_half_a_recording_are_the_first_of_the_whole(more: dict[str, Any]) -> None:
    rows = made_up_events(4, 8, 6, 500)
    half = rows[rows[:, 2] < rows[0, 2] + 150_000]
    assert 100 < len(half) < 400
    fixed = {"window_us": 15_000, "time_steps": 10, **more}
    ours = [count_events(Events(*part.T), binning(**fixed), source=SOURCE) for part in (half, rows)]
    np.testing.assert_array_equal(ours[0].frames, ours[1].frames)
    assert ours[0].events[-1] == 0 < ours[1].events[-1]
    shares = {"time_steps": 10, **more}  # for which the option is there: shares of a recording are others
    shared = [count_events(Events(*part.T), binning(**shares), source=SOURCE) for part in (half, rows)]
    assert (shared[0].frames != shared[1].frames).any(axis=(1, 2, 3)).all()


def test_time_begins_with_the_first_event_also_where_it_is_cropped_or_noise() -> None:
    of = events((0, 0, 0, 0), (3, 3, 25, 1), (3, 2, 26, 1))
    counted = count_events(of, binning(window_us=10, time_steps=3, crop=(2, 2), size=(2, 2)), source=SOURCE)
    assert counted.events.tolist() == [0, 0, 2, 0]
    counted = count_events(of, binning(window_us=10, time_steps=3, denoise_us=5), source=SOURCE)
    assert counted.events.tolist() == [0, 0, 1, 0]


@pytest.mark.parametrize("window_us", [10**6, 10**12])
def test_a_window_longer_than_the_recording_holds_all(window_us: int) -> None:
    rows = made_up_events(5, 8, 6, 300)
    rules = binning(window_us=window_us, time_steps=10_000, first_windows=10**6, size=(1, 1))
    counted = count_events(Events(*rows.T), rules, source=SOURCE)
    assert counted.events[0] == 300 == counted.events.sum()


def write(base: Path, lengths: dict[str, float]) -> None:
    """Write recordings of one density, which are so many times 300 ms long."""
    for name, length in lengths.items():
        rows = made_up_events(len(name), WIDTH, HEIGHT, count=int(400 * length))
        rows[:, 2] = (rows[:, 2] * length).astype(int)
        rows[0, 2] = 0
        (base / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(base / f"{name}.npy", structured(rows))


def load(base: Path, time_steps: int = 6, **more: Any) -> tuple[loading.DataSet, DataStatistics]:
    options = DataSpace(name="event-folder", root=str(base / "files"), sensor=(HEIGHT, WIDTH), **more)
    loaded = loading.load("event-folder", time_steps=time_steps, options=options, cache_dir=base / "cache")
    return loaded, dataset_statistics(loaded)


def test_what_is_left_out_is_measured_and_told(tmp_path: Path) -> None:
    names = [f"{split}/{label}/{number}" for split in ("train", "val", "test") for label in "ab" for number in range(4)]
    write(tmp_path / "files", {name: 4.0 if name.endswith("a/0") else 1.0 for name in names})
    _, whole = load(tmp_path, window_us=200_000)
    for name, split in whole.splits:
        assert split.left_out is not None
        assert (split.left_out.max, split.cut_short, split.ended_early) == (pytest.approx(0, abs=0.02), (), 7), name
    assert whole.notes[1] == (
        "7 of 8 recordings of train have no event in the last time step or after it: they end before their first "
        "6 windows of 200,000 us do"
    )
    loaded, facts = load(tmp_path, window_us=25_000, first_windows=12)
    train = dict(facts.splits)["train"]
    assert train.left_out is not None
    assert train.left_out.max == pytest.approx(3 / 4, abs=0.03)
    assert train.left_out.mean == pytest.approx(3 / 4 / 8, abs=0.01)
    assert (train.cut_short, train.ended_early) == (("train/a/0.npy",), 0)
    assert loaded.notes == facts.notes
    assert len(facts.notes) == 3
    assert f" of train {100 * train.left_out.mean:.1f}% of the events are left out on average" in facts.notes[0]
    assert facts.notes[0].endswith(
        "at most, as they come after its first 12 windows of 25,000 us; 1 of 8 recordings lose more than half: "
        "train/a/0.npy; more time_steps or a longer data.window_us keep them"
    )
    assert facts.as_dict()["windows"] == {"count": 12, "us": 25_000}
    assert facts.as_dict()["splits"]["train"]["cut_short"] == ("train/a/0.npy",)
    table = split_table(facts)
    row = dict(zip(table.header, table.rows[0], strict=True))
    assert row["left out % (worst)"] == f"{100 * train.left_out.mean:.1f} ({100 * train.left_out.max:.1f})"
    assert row["ended early"] == "0"


def test_recordings_in_one_window_are_told(tmp_path: Path) -> None:
    write(tmp_path / "files", {f"{label}/{number}": 1.0 for label in "ab" for number in range(4)})
    _, facts = load(tmp_path, window_us=10_000_000)
    crowded = [note for note in facts.notes if "95%" in note]
    assert crowded
    assert crowded[0].endswith(" Is data.window_us, 10,000,000, too long, or is data.time_unit another?")
    _, facts = load(tmp_path, window_us=50_000)
    assert not facts.notes
    _, facts = load(tmp_path)
    assert facts.windows is None
    assert dict(facts.splits)["train"].left_out is None
    assert "left out" not in str(split_table(facts))


def test_every_length_of_a_step_has_its_own_cache(tmp_path: Path) -> None:
    write(tmp_path / "files", {f"{label}/{number}": 1.0 for label in "ab" for number in range(3)})
    for count, more in enumerate(
        ({}, {"window_us": 10_000}, {"window_us": 10_001}, {"window_us": 10_000, "first_windows": 12}), start=1
    ):
        load(tmp_path, **more)
        assert len(list((tmp_path / "cache").iterdir())) == 3 * count


@pytest.mark.parametrize(
    ("name", "more", "words"),
    [
        ("nmnist", {"first_windows": 6}, r"^first_windows: counts windows of time, and nothing says how long .* set"),
        ("event-folder", {"window_us": 5, "first_windows": 7}, r"^first_windows: must be a multiple of .* to 6, or"),
        ("event-folder", {"window_us": 5, "first_windows": 2}, r"^first_windows: must be .* got 2; set it to 6, or"),
        ("mnist", {"window_us": 5}, r"^window_us: mnist has no such option; remove the key"),
        ("mnist", {"window_us": 5, "as_events": True}, r"^window_us: mnist has no such option; remove the key"),
        ("fashion-events", {"first_windows": 6}, r"^first_windows: fashion-events has no such option; remove the key"),
    ],
)
def test_what_windows_cannot_be_of(tmp_path: Path, name: str, more: dict[str, Any], words: str) -> None:
    root = None if name == "fashion-events" else str(tmp_path)
    if name == "event-folder":
        root, more = str(tmp_path / "files"), {**more, "sensor": (HEIGHT, WIDTH)}
        write(tmp_path / "files", {f"{label}/{number}": 1.0 for label in "ab" for number in range(3)})
    with pytest.raises(UserError, match=words):
        loading.load(name, time_steps=6, options=DataSpace(name=name, root=root, **more), cache_dir=tmp_path / "cache")


def test_windows_of_no_length_are_refused_for_recordings_of_events(tmp_path: Path) -> None:
    write(tmp_path / "files", {f"{label}/{number}": 1.0 for label in "ab" for number in range(3)})
    with pytest.raises(UserError, match=r"^first_windows: counts windows of time, .*; set data\.window_us, or remove"):
        load(tmp_path, first_windows=6)
