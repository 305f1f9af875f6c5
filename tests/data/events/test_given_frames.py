"""Frames that SpikingJelly has made of recordings: the same as ours where both split by time, or refused by name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import HEIGHT, WIDTH, Rows, made_up_events, write_structured
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from spquant_search.data import loading
from spquant_search.data.description import describe
from spquant_search.data.events.binning import Binning, Events, count_events
from spquant_search.data.events.given_frames import sum_frames
from spquant_search.data.frame_rules import frame_rules
from spquant_search.data.statistics import dataset_statistics
from spquant_search.errors import UserError
from spquant_search.space.schema import DataSpace

SOURCE = Path("a.npz")


def binning(**changes: Any) -> Binning:
    values: dict[str, Any] = {
        "sensor": (HEIGHT, WIDTH),
        "crop": (HEIGHT, WIDTH),
        "size": (HEIGHT, WIDTH),
        "polarity": "both",
        "window_us": None,
        "first_windows": None,
        "denoise_us": None,
        "sort_events": False,
        "time_steps": 4,
    }
    return Binning(**(values | changes))


def made_elsewhere(rows: Rows, window_us: int) -> NDArray[np.float64]:
    """Make frames of fixed windows in the form of SpikingJelly: channel 0 of p = 0, channel 1 of others, as floats."""
    steps = (rows[:, 2] - rows[0, 2]) // window_us
    frames = np.zeros((int(steps[-1]) + 1, 2, HEIGHT, WIDTH))
    for (x, y, _, p), step in zip(rows.tolist(), steps.tolist(), strict=True):
        frames[step, 0 if p == 0 else 1, y, x] += 1
    return frames


@pytest.mark.parametrize("kind", ["f8", "f4", "f2", "u1", "i8"])
@pytest.mark.parametrize(
    "more",
    [{}, {"polarity": "sum", "crop": (11, 13), "size": (4, 5)}, {"polarity": "both-and-sum", "size": (7, 24)}],
)
def test_frames_of_one_duration_are_those_of_our_windows(more: dict[str, Any], kind: str) -> None:
    rows = made_up_events(2, WIDTH, HEIGHT, count=900)
    given = made_elsewhere(rows, 10_000).astype(kind)
    for first_windows in (4, 12, 28, 40):
        theirs = sum_frames(given, binning(first_windows=first_windows, **more), source=SOURCE)
        rules = binning(window_us=10_000, first_windows=first_windows, **more)
        ours = count_events(Events(*rows.T), rules, source=SOURCE)
        np.testing.assert_array_equal(theirs.frames, ours.frames)
        assert theirs.events.tolist() == ours.events.tolist()


@given(
    arrays(np.int16, st.tuples(st.integers(1, 9), st.just(2), st.just(5), st.just(6)), elements=st.integers(0, 300)),
    st.data(),
)
def test_sums_by_a_loop(given_frames: NDArray[np.int16], data: st.DataObject) -> None:
    crop = (data.draw(st.integers(1, 5)), data.draw(st.integers(1, 6)))
    size = (data.draw(st.integers(1, crop[0])), data.draw(st.integers(1, crop[1])))
    steps = data.draw(st.sampled_from([n for n in range(1, 10) if len(given_frames) % n == 0]))
    top, left = (5 - crop[0]) // 2, (6 - crop[1]) // 2
    given_frames[0, 0, top, left] += 1
    expected = np.zeros((steps, 2, *size), int)
    for step, channel, y, x in np.ndindex(given_frames.shape):
        row, column = y - top, x - left
        if 0 <= row < crop[0] and 0 <= column < crop[1]:
            place = (row * size[0] // crop[0], column * size[1] // crop[1])
            expected[(step * steps // len(given_frames), channel, *place)] += given_frames[step, channel, y, x]
    rules = binning(sensor=(5, 6), crop=crop, size=size, time_steps=steps)
    counted = sum_frames(given_frames, rules, source=SOURCE)
    np.testing.assert_array_equal(counted.frames, np.minimum(expected, 255))
    assert counted.events.tolist() == [*expected.sum(axis=(1, 2, 3)).tolist(), 0]


def some_frames(**changes: Any) -> NDArray[Any]:
    frames = np.zeros((8, 2, HEIGHT, WIDTH), changes.pop("kind", np.float32))
    frames[0, 1, 2, 3] = changes.pop("value", 1)
    return frames.reshape(changes.pop("shape", frames.shape))


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        (
            some_frames(value=0.5),
            r"hold 0\.5 at \[0, 1, 2, 3\], and counts of events are whole numbers \(were",
        ),
        (some_frames(value=-1), r"hold -1\.0 at \[0, 1, 2, 3\], and counts of events are not negative"),
        (some_frames(value=np.nan), r"hold nan at \[0, 1, 2, 3\], and counts of events are finite"),
        (some_frames(value=1e30), r"hold 1\.0\S+ at \[0, 1, 2, 3\], and counts of events are at most 2147483648"),
        (some_frames(kind=np.int8, value=-128), r"hold -128 at "),
        (some_frames(kind=complex), "hold no numbers but complex128"),
        (some_frames(value=0), r"hold no event; remove it"),
        (some_frames()[:0], r"have the shape \[0, 2, 20, 24\], where \[time, 2, 20, 24\] is needed"),
        (some_frames(shape=(16, HEIGHT, WIDTH)), r"have the shape \[16, 20, 24\]"),
        (
            some_frames(shape=(8, 2, WIDTH, HEIGHT)),
            r"have the shape \[8, 2, 24, 20\].* height and width of data",
        ),
        (some_frames(shape=(16, 1, HEIGHT, WIDTH)), r"have the shape \[16, 1, 20, 24\].* two polarities"),
        (
            some_frames()[:7],
            r"7 frames, which 4 time_steps cannot share equally; set .* to 1 or 7, or .* as 4$",
        ),
        (some_frames()[:2], r"2 frames, which 4 time_steps cannot share equally; set .* to 2, or .* as 4$"),
    ],
)
def test_what_are_no_counts_is_named(frames: NDArray[Any], words: str) -> None:
    with pytest.raises(UserError, match=r"^a\.npz: ") as caught:
        sum_frames(frames, binning(), source=SOURCE)
    assert caught.match(words)


def test_frames_without_an_event_within_the_crop() -> None:
    with pytest.raises(UserError, match=r"^a\.npz: its frames hold no event within data\.crop; remove it"):
        sum_frames(some_frames(), binning(crop=(2, 2), size=(1, 1)), source=SOURCE)


def write_folder(base: Path, *, window_us: int = 30_000, per_class: int = 4) -> dict[str, Rows]:
    written = {}
    for label, name in enumerate("ab"):
        (base / name).mkdir(parents=True)
        for number in range(per_class):
            rows = made_up_events(10 * label + number, WIDTH, HEIGHT, count=400)
            rows[:, 2] = rows[:, 2] * (number + 1) // 2  # of different lengths
            frames = made_elsewhere(rows, window_us).astype(np.float32)
            np.savez_compressed(base / name / f"user{number}_{name}.npz", frames=frames)
            written[f"{name}/user{number}_{name}.npz"] = rows
    return written


def options_of(base: Path, **more: Any) -> DataSpace:
    return DataSpace(name="event-folder", root=str(base), sensor=(HEIGHT, WIDTH), **more)


def load(base: Path, **more: Any) -> loading.DataSet:
    return loading.load("event-folder", time_steps=2, options=options_of(base, **more), cache_dir=base.parent / "cache")


def test_a_folder_of_frames_is_loaded_as_one_of_events_is(tmp_path: Path) -> None:
    written = write_folder(tmp_path / "files")
    for name, rows in written.items():
        path = (tmp_path / "events" / name).with_suffix(".npy")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_structured(path, rows)
    theirs = load(tmp_path / "files", first_windows=6, size=(10, 12))
    ours = load(tmp_path / "events", first_windows=6, size=(10, 12), window_us=30_000)
    for split in loading.SPLITS:
        one, other = getattr(theirs, split), getattr(ours, split)
        assert [Path(file.name).stem for file in one.files] == [Path(file.name).stem for file in other.files]
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.left_out, other.left_out)
    facts = dataset_statistics(theirs)
    assert facts.as_dict()["windows"] == {"count": 6, "us": None}
    assert any("its first 6 frames; " in note and "a larger data.first_windows keeps" in note for note in facts.notes)
    with pytest.raises(UserError, match=r"\.npz: holds \d+ frames, which 2 time_steps cannot share equally"):
        load(tmp_path / "files")
    (tmp_path / "files" / "a" / "user0_a.npz").touch()
    assert len(list((tmp_path / "cache").iterdir())) == 6


def test_options_of_events_are_refused_for_frames(tmp_path: Path) -> None:
    write_folder(tmp_path / "files")
    with pytest.raises(UserError) as caught:
        load(tmp_path / "files", window_us=5, denoise_us=5, sort_events=True)
    expected = "is of events and their times; the files in data.root hold frames. Remove the key"
    assert str(caught.value).splitlines() == [
        f"{key}: {expected}" for key in ("window_us", "denoise_us", "sort_events")
    ]


@pytest.mark.parametrize("first", ["frames", "events"])
def test_frames_and_events_in_one_folder_are_refused(tmp_path: Path, first: str) -> None:
    write_folder(tmp_path / "files")
    x, y, t, p = made_up_events(1, WIDTH, HEIGHT).T
    np.savez(tmp_path / "files" / "a" / ("z.npz" if first == "frames" else "a.npz"), x=x, y=y, t=t, p=p)
    np.savez(tmp_path / "files" / "b" / "z.npz", x=x, y=y, t=t, p=p)
    more = {"first_windows": 2} if first == "frames" else {}
    with pytest.raises(UserError, match=r"\.npz: holds .*; keep (frames and events|them) in folders of their own"):
        load(tmp_path / "files", **more)


def test_rules_say_that_frames_were_given(tmp_path: Path) -> None:
    write_folder(tmp_path / "files")
    options = options_of(tmp_path / "files", first_windows=6)
    rules = frame_rules(describe("event-folder", options), options, time_steps=2, made=2)
    assert rules.figures["step"] == "sums of frames that another program has made"
    assert "the first 6 of a recording, 3 to each of 2 steps" in rules.sentences[0]


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_folder(tmp_path / "files", per_class=3)
    path = tmp_path / "files" / "b" / "user1_b.npz"
    whole, generator = path.read_bytes(), np.random.default_rng(0)
    for number in range(60):
        harmed = bytearray(whole)
        for at in generator.integers(0, len(whole), 3):
            harmed[at] = generator.integers(0, 256)
        path.write_bytes(bytes(harmed[: generator.integers(0, len(whole))]) if number % 2 else bytes(harmed))
        assert is_loaded_or_named(path), number


def is_loaded_or_named(path: Path) -> bool:
    try:
        load(path.parents[1], first_windows=2)
    except UserError as error:
        return str(error).startswith(f"{path}: ")
    return True
