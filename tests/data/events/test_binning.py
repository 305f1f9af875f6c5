"""Events become frames: hand-worked cases, a plain loop, and recordings that are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import made_up_events
from numpy.typing import NDArray

from spquant_search.data.events.binning import Binning, Events, backed_by_neighbours, count_events
from spquant_search.errors import UserError


def binning(**changes: Any) -> Binning:
    values: dict[str, Any] = {
        "sensor": (6, 8),
        "crop": (6, 8),
        "size": (6, 8),
        "polarity": "both",
        "window_us": None,
        "first_windows": None,
        "denoise_us": None,
        "sort_events": False,
        "time_steps": 2,
    }
    return Binning(**(values | changes))


def events(*rows: tuple[int, int, int, int]) -> Events:
    return Events(*np.array(rows, np.int64).reshape(-1, 4).T)


SOURCE = Path("a.bin")


def frame_counts(of: Events, rules: Binning, *, source: Path) -> NDArray[np.uint8]:
    """Return the frames of a recording; the events of its steps are as many as a loop counts."""
    counted = count_events(of, rules, source=source)
    last = -1 if rules.polarity == "both-and-sum" else None
    if counted.frames.max() < 255:
        assert counted.events[:-1].tolist() == counted.frames[:, :last].sum(axis=(1, 2, 3), dtype=int).tolist()
    return counted.frames


def test_the_last_event_is_in_the_last_frame_and_the_middle_opens_the_second() -> None:
    frames = frame_counts(
        events((0, 0, 100, 0), (1, 0, 149, 1), (2, 0, 150, 0), (7, 5, 199, 1)), binning(), source=SOURCE
    )
    assert frames.dtype == np.uint8
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 0], [0, 1, 0, 1], [1, 0, 0, 2], [1, 1, 5, 7]]


def test_counts_end_at_255() -> None:
    frames = frame_counts(events(*[(3, 2, 7, 1)] * 300), binning(polarity="both-and-sum", time_steps=1), source=SOURCE)
    assert frames[0, :, 2, 3].tolist() == [0, 255, 255]


def test_the_crop_is_the_middle_and_leaves_time_alone() -> None:
    of = events((0, 0, 0, 0), (2, 1, 10, 1), (5, 4, 90, 0), (6, 4, 91, 0), (5, 5, 92, 0), (3, 3, 95, 1), (1, 1, 99, 0))
    frames = frame_counts(of, binning(crop=(4, 4), size=(2, 2)), source=SOURCE)
    assert np.argwhere(frames).tolist() == [[0, 1, 0, 0], [1, 0, 1, 1], [1, 1, 1, 0]]
    assert frames.sum() == 3


def test_denoising_keeps_what_a_neighbour_backs() -> None:
    of = events(
        (3, 3, 0, 0),  # alone
        (3, 3, 1, 0),  # its own pixel is no neighbour
        (4, 3, 10, 1),  # backed by the one to its left, 9 us before
        (4, 4, 19, 0),  # backed from above
        (5, 5, 19, 0),  # a diagonal backs nothing
        (3, 4, 29, 0),  # 10 us after its neighbour: too late
        (7, 0, 50, 0),
        (0, 1, 51, 0),  # the end of a row is no neighbour of the next one's start
        (0, 2, 51, 1),  # at the same time, each backs the other
    )
    assert backed_by_neighbours(of, 8, 10).tolist() == [False, False, True, True, False, False, False, True, True]
    frames = frame_counts(of, binning(denoise_us=10, time_steps=1), source=SOURCE)
    assert np.argwhere(frames).tolist() == [[0, 0, 1, 0], [0, 0, 4, 4], [0, 1, 2, 0], [0, 1, 3, 4]]


def test_denoising_agrees_with_a_loop() -> None:
    rows = made_up_events(5, 8, 6, 400, 100)
    kept = [
        any(abs(x - a) + abs(y - b) == 1 and 0 <= t - s < 1500 for a, b, s, _ in rows.tolist())
        for x, y, t, _ in rows.tolist()
    ]
    assert backed_by_neighbours(Events(*rows.T), 8, 1500).tolist() == kept
    assert 0.1 < np.mean(kept) < 0.9


@pytest.mark.parametrize("stretch", [1, 10**11, 10**17])
@pytest.mark.parametrize("window", [1500, 10**12])
def test_denoising_agrees_with_a_loop_however_long_a_recording_is(stretch: int, window: int) -> None:
    rows = made_up_events(6, 8, 6, 300, 100)
    late = rows[:, 2] > np.median(rows[:, 2])
    rows[late, 2] += stretch  # the second half is 28 hours later, or 3,000 years
    kept = [
        any(abs(x - a) + abs(y - b) == 1 and 0 <= t - s < window for a, b, s, _ in rows.tolist())
        for x, y, t, _ in rows.tolist()
    ]
    assert backed_by_neighbours(Events(*rows.T), 8, window).tolist() == kept
    assert any(kept)


def test_frames_of_a_recording_whose_times_begin_at_0_and_go_on_at_the_epoch() -> None:
    now = 1_800_000_000_000_000  # microseconds since 1970, in 2027
    of = events((0, 0, 0, 0), (1, 0, now // 2, 1), (2, 0, now, 0), (7, 5, now + 9, 1))
    frames = frame_counts(of, binning(denoise_us=None, time_steps=9000), source=SOURCE)
    expected = [t * 9000 // (now + 10) for t in (0, now // 2, now, now + 9)]
    assert np.argwhere(frames)[:, 0].tolist() == expected
    century = 100 * 365 * 24 * 3600 * 10**6
    for last in (century + 1, 2**62):
        with pytest.raises(UserError, match=r"^a\.bin: the first event is at -1 us and the last at \d+ us, a century"):
            frame_counts(events((0, 0, -1, 0), (0, 0, last, 0)), binning(), source=SOURCE)


def test_frames_agree_with_a_loop() -> None:
    rows = made_up_events(7, 8, 6, 400, 100)
    rows[:, 2].sort()
    for steps in (1, 2, 3, 7, 100):
        frames = frame_counts(Events(*rows.T), binning(time_steps=steps), source=SOURCE)
        expected = np.zeros_like(frames)
        begin, span = int(rows[0, 2]), int(rows[-1, 2] - rows[0, 2]) + 1
        for x, y, t, p in rows.tolist():
            expected[(t - begin) * steps // span, p, y, x] += 1
        assert (frames == expected).all()


def test_what_filters_leave_nothing_of_is_named() -> None:
    with pytest.raises(UserError, match=r"^a\.bin: no event is left by crop and denoise_us; choose"):
        frame_counts(events((3, 3, 0, 0)), binning(denoise_us=5), source=SOURCE)


def test_events_in_disorder_are_refused_or_sorted() -> None:
    of = events((0, 0, 5, 0), (1, 0, 9, 0), (2, 0, 3, 1), (3, 0, 10, 1))
    with pytest.raises(UserError) as caught:
        frame_counts(of, binning(), source=SOURCE)
    assert str(caught.value) == (
        "a.bin: time runs backwards from 9 us (event 1) to 3 us; sort_events: true puts events in order. "
        "Get the file again if it is damaged, or remove it"
    )
    frames = frame_counts(of, binning(sort_events=True), source=SOURCE)
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 0], [0, 1, 0, 2], [1, 0, 0, 1], [1, 1, 0, 3]]


def test_all_that_is_wrong_with_a_recording_is_said_at_once() -> None:
    with pytest.raises(UserError) as caught:
        frame_counts(events((0, 0, 5, 0), (8, 0, 5, 2), (-1, 6, 4, -1)), binning(), source=SOURCE)
    assert str(caught.value).startswith(
        "a.bin: event 1 has x 8, where 0 to 7 are possible; event 2 has y 6, where 0 to 5 are possible; "
        "event 1 has polarity 2, where 0 to 1 are possible; time runs backwards from 5 us (event 1) to 4 us"
    )


@pytest.mark.parametrize(
    ("row", "words"), [((-1, 0, 0, 0), "x -1"), ((0, -1, 0, 0), "y -1"), ((0, 0, 0, -1), "polarity -1")]
)
def test_negative_places_are_outside(row: tuple[int, int, int, int], words: str) -> None:
    with pytest.raises(UserError, match=rf"^a\.bin: event 0 has {words}, where 0 to "):
        frame_counts(events(row), binning(), source=SOURCE)


def test_the_largest_coordinates_are_inside() -> None:
    assert frame_counts(events((7, 5, 0, 1)), binning(), source=SOURCE)[0, 1, 5, 7] == 1
