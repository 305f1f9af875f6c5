"""Recordings with nearly all events in few frames are told with their files; times in another unit are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, made_up_events
from data.user_data import BUILD, in_folder, write_module
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

from spquant_search.data import catalog, loading
from spquant_search.data.crowding import crowded_samples, crowding_question, share_of_fullest
from spquant_search.data.events.event_files import read_event_file
from spquant_search.data.statistics import dataset_statistics
from spquant_search.data.windows import Windows
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace


def write_recordings(base: Path, *, late: int, count: int = 6) -> None:
    """Write recordings of two classes; in the first ``late`` of class "a" the last time stamp has jumped."""
    for label, name in enumerate("ab"):
        (base / name).mkdir(parents=True)
        for number in range(count):
            x, y, t, p = made_up_events(10 * label + number, WIDTH, HEIGHT, count=200).T.copy()
            if name == "a" and number < late:
                t[-1] += 2**32
            np.savez(base / name / f"{number}.npz", x=x, y=y, t=t, p=p)


def load(base: Path, time_steps: int = 6, **more: Any) -> loading.DataSet:
    options = DataSpace(name="event-folder", root=str(base), sensor=(HEIGHT, WIDTH), **more)
    return loading.load("event-folder", time_steps=time_steps, options=options, cache_dir=base.parent / "cache")


@pytest.mark.parametrize("time_steps", [2, 3, 4, 6, 10])
def test_a_time_stamp_far_away_is_told_with_its_file(tmp_path: Path, time_steps: int) -> None:
    write_recordings(tmp_path / "files", late=6)
    loaded = load(tmp_path / "files", time_steps)
    few = "one" if time_steps < 4 else "one or two"
    assert [note.split(" recordings of ")[0] for note in loaded.notes] == ["4 of 8", "1 of 2", "1 of 2"]
    assert f"95% or more of their events in {few} of {time_steps} frames: a/" in loaded.notes[0]
    assert loaded.notes[0].endswith(
        " and 1 more. Does a time stamp lie far from the others, or is data.time_unit another?"
    )
    facts = dataset_statistics(loaded)
    assert facts.notes == loaded.notes, "what was told while frames were made is not told twice"
    again = load(tmp_path / "files", time_steps)
    assert again.notes == dataset_statistics(again).notes == loaded.notes, "of frames from the cache it is said, too"
    train = dict(facts.splits)["train"]
    assert train.fullest is not None
    assert train.fullest.max == 199 / 200
    assert sorted(train.crowded) == sorted(file.name for file in loaded.train.files if file.name.startswith("a/"))


@pytest.mark.parametrize("frames_given", [False, True])
@pytest.mark.parametrize("windows", [None, Windows(count=4, us=25_000), Windows(count=4, us=None)])
@pytest.mark.parametrize("name", catalog.NAMES)
def test_only_options_that_the_data_have_are_asked_for(name: str, windows: Windows | None, frames_given: bool) -> None:
    question = crowding_question(name, windows, frames_given=frames_given)
    has_times = not frames_given and name != "python"
    assert ("data.time_unit" in question) == (name == "event-folder" and has_times)
    assert ("data.window_us, 25,000," in question) == (has_times and windows is not None and windows.us is not None)
    assert ("data.build" in question) == (name == "python")


def test_frames_of_a_function_are_not_asked_for_the_unit_of_their_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with in_folder(tmp_path, monkeypatch):
        write_module(tmp_path, "frames[:, 1:] = 0\nreturn parts(frames)")
        options = DataSpace(name="python", build=BUILD)
        loaded = loading.load("python", time_steps=4, options=options, cache_dir=tmp_path / "cache")
    told = [note for note in loaded.notes if "95%" in note]
    assert told
    assert all(note.endswith(". Does data.build count the events of each frame by their times?") for note in told)


def test_recordings_as_they_should_be_are_not_told(tmp_path: Path) -> None:
    write_recordings(tmp_path / "files", late=0)
    assert not load(tmp_path / "files").notes
    assert not load(tmp_path / "files", time_steps=1).notes, "one frame holds all"


@given(arrays(np.int64, array_shapes(min_dims=2, max_dims=2, max_side=4), elements=st.integers(0, 2**40)))
def test_shares_by_a_loop(counts: Any) -> None:
    for sample, by_hand in enumerate(counts.tolist()):
        for few in (1, 2):
            expected = sum(sorted(by_hand)[-few:]) / sum(by_hand) if sum(by_hand) else 0.0
            assert share_of_fullest(counts, few)[sample] == pytest.approx(expected)


def test_from_which_share_on() -> None:
    counts = np.array([[94, 6, 0], [95, 5, 0], [0, 100, 0], [0, 0, 0]])
    assert crowded_samples(counts) == [1, 2]
    assert crowded_samples(np.array([[19, 0], [20, 0], [1, 0]])) == [1], "few events may lie anywhere"
    counts = np.array([[50, 44, 6, 0], [50, 45, 5, 0], [25, 25, 25, 25]])
    assert crowded_samples(counts) == [1]


@given(arrays(np.int64, st.tuples(st.integers(1, 6), st.integers(2, 6)), elements=st.sampled_from([0, 1, 2, 19, 95])))
def test_who_is_crowded_is_found_as_if_all_were_looked_at(counts: NDArray[np.int64]) -> None:
    few = 1 if counts.shape[1] < 4 else 2
    shares = [sum(sorted(row)[-few:]) / max(1, sum(row)) for row in counts.tolist()]
    assert crowded_samples(counts) == [
        at for at, share in enumerate(shares) if share >= 0.95 and counts[at].sum() >= 20
    ]


@pytest.mark.parametrize("kind", ["f8", "f4", "f2"])
@pytest.mark.parametrize(("unit", "factor"), [("us", 1e-6), ("us", 1e-3), ("ms", 1e-6)])
def test_seconds_that_are_taken_for_smaller_units(tmp_path: Path, unit: str, factor: float, kind: str) -> None:
    x, y, t, p = made_up_events(3, WIDTH, HEIGHT, count=2000).T
    np.savez(tmp_path / "a.npz", x=x, y=y, t=(t * factor).astype(kind), p=p)
    with pytest.raises(
        UserError,
        match=rf"a.npz: its [\d,]+ moments lie within .* us, and only .*, its times read in {unit}. "
        r"Set data.time_unit to the unit of the file \(.*\bs\b.*\)",
    ):
        read_event_file(tmp_path / "a.npz", time_unit=unit, columns=None)


@pytest.mark.parametrize(("unit", "factor"), [("s", 1e-6), ("ms", 1e-3), ("us", 1.0), ("ns", 1e3), ("us", 0.01)])
def test_fractions_in_their_own_unit(tmp_path: Path, unit: str, factor: float) -> None:
    x, y, t, p = made_up_events(3, WIDTH, HEIGHT, count=2000).T
    np.savez(tmp_path / "a.npz", x=x, y=y, t=t * factor, p=p)
    events = read_event_file(tmp_path / "a.npz", time_unit=unit, columns=None)
    assert abs(events.t - (t * 0.01 if factor == 0.01 else t)).max() <= 0.5


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=9))
@example([0.0, 1.2e-38, 8.6e-279])
def test_few_events_are_no_reason(tmp_path_factory: pytest.TempPathFactory, times: list[float]) -> None:
    path = tmp_path_factory.mktemp("few") / "a.npz"
    zeros = np.zeros(len(times), int)
    np.savez(path, x=zeros, y=zeros, t=np.sort([1000 * time for time in times]), p=zeros)
    read_event_file(path, time_unit="us", columns=None)
