"""A network of fewer time steps than its search: what is said of its frames gives the sums that it was shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data.event_writers import Rows
from data.test_frame_rules import made_by_device, rules_of
from data.user_data import BUILD, in_folder, write_module
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from spquant_search.data.description import LARGEST_COUNT, binning_of
from spquant_search.data.events.binning import Events, count_events
from spquant_search.data.events.given_frames import sum_frames
from spquant_search.data.simulation.saccades import Camera, simulate_frames
from spquant_search.space.schema import DataSpace

HEIGHT, WIDTH = 3, 4
STEPS = [(made, shown) for made in (1, 2, 3, 4, 6, 12) for shown in range(1, made + 1) if made % shown == 0]


def options_of(**more: Any) -> DataSpace:
    return DataSpace(name="event-folder", classes=2, sensor=(HEIGHT, WIDTH), **more)


def summed(frames: NDArray[np.uint8], shown: int) -> list[Any]:
    """What the search shows a network of fewer steps: one frame added to the other, and then clamped."""
    each = len(frames) // shown
    steps = [sum(frame.astype(int) for frame in frames[k * each : (k + 1) * each]) for k in range(shown)]
    return [np.minimum(step, LARGEST_COUNT).tolist() for step in steps]


@st.composite
def recordings(draw: st.DrawFn) -> Rows:
    """Events in the order of time, perhaps hundreds at one place and moment, and one alone perhaps."""
    place = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1))
    event = st.tuples(place, st.integers(0, 40), st.integers(0, 1), st.sampled_from([1, 1, 1, 7, 150, 300]))
    found = draw(st.lists(event, min_size=1, max_size=12))
    rows = [[x, y, t, p] for (x, y), t, p, count in found for _ in range(count)]
    return np.array(sorted(rows, key=lambda row: row[2]), np.int64)


@st.composite
def windows(draw: st.DrawFn, made: int) -> dict[str, Any]:
    """Options of how a recording's time is divided, of a search of so many steps."""
    if draw(st.booleans()):
        return {}
    many = draw(st.sampled_from([None, made, 2 * made, 3 * made]))
    return {"window_us": draw(st.integers(1, 15)), "first_windows": many}


@settings(max_examples=100, deadline=None)
@given(st.data(), recordings(), st.sampled_from(STEPS), st.sampled_from(["both", "sum", "both-and-sum"]))
def test_a_device_of_fewer_steps_makes_the_sums_of_the_search(
    data: st.DataObject, rows: Rows, steps: tuple[int, int], polarity: str
) -> None:
    """By the figures alone, one event after the other, whatever the windows are and where counts end."""
    made, shown = steps
    options = options_of(polarity=polarity, **data.draw(windows(made)))
    searched = count_events(Events(*rows.T), binning_of(options.name, options, made), source=Path("a")).frames
    rules = rules_of(options, shown, made=made).figures
    assert (rules["time_steps"], rules["search_time_steps"], rules["search_frames_per_step"]) == (
        shown,
        made,
        made // shown,
    )
    assert made_by_device(rows, rules).tolist() == summed(searched, shown)


@example(made=4, shown=2, first=None, length=8)
@given(st.just(4), st.sampled_from([1, 2, 4]), st.sampled_from([None, 4, 8]), st.sampled_from([4, 8, 12]))
@settings(max_examples=30, deadline=None)
def test_frames_that_were_given_are_shared_out_to_fewer_steps(
    made: int, shown: int, first: int | None, length: int
) -> None:
    options = options_of(first_windows=first, polarity="both-and-sum")
    given_frames = np.random.default_rng(length).poisson(80, (length, 2, HEIGHT, WIDTH))
    few, many = (
        sum_frames(given_frames, binning_of(options.name, options, steps), source=Path("a")).frames
        for steps in (shown, made)
    )
    assert np.minimum(few, LARGEST_COUNT).tolist() == summed(many, shown)


@pytest.mark.parametrize("shown", [1, 2, 3])
def test_simulated_recordings_are_divided_alike(shown: int) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 8, 8)).astype(np.uint8)
    camera, numbers = Camera(height=14, width=14), np.arange(2)
    few, many = (simulate_frames(images, numbers, time_steps=steps, camera=camera) for steps in (shown, 6))
    assert many.any()
    for sample in range(2):
        assert np.minimum(few[sample], LARGEST_COUNT).tolist() == summed(many[sample], shown)


def test_the_windows_of_a_search_are_seen_by_fewer_steps_too() -> None:
    """Four windows of 10 us, of two steps 20 us each, by hand."""
    rules = rules_of(options_of(window_us=10), 2, made=4)
    assert rules.figures["step_us"] == 20
    assert "from k * 20 us to (k + 1) * 20 us" in rules.sentences[0]
    assert rules.sentences[-1] == (
        "Search: it made 4 frames of a recording; each of the 2 frames here is the sum of 2 neighbours of those, "
        "which gives the same numbers. Counts are clamped after such a sum."
    )
    assert rules.fewer_steps == "each the sum of 2 neighbouring frames of the 4 that the search made"


def test_as_many_steps_as_the_search_are_no_sums() -> None:
    for options in (options_of(), DataSpace(name="fashion-events"), DataSpace(name="mnist")):
        rules = rules_of(options, 4, made=4)
        assert rules.fewer_steps == ""
        assert not any("sum of" in sentence or "the search" in sentence.lower() for sentence in rules.sentences)
        assert rules.figures["search_frames_per_step"] == 1


def test_a_still_image_is_no_sum_at_fewer_steps() -> None:
    """Its one frame is that of every step; sums would be other values."""
    rules = rules_of(DataSpace(name="mnist"), 2, made=4)
    assert (rules.figures["time_steps"], rules.figures["search_time_steps"]) == (2, 4)
    assert rules.figures["search_frames_per_step"] == 1
    assert rules.fewer_steps == "of up to 4 in the search"
    assert rules.sentences[-1] == "Time: the same frame in each of the 2 time steps."
    assert not any("sum of" in sentence for sentence in rules.sentences)


def test_one_step_is_the_sum_of_all_frames() -> None:
    rules = rules_of(DataSpace(name="fashion-events"), 1, made=4)
    assert rules.fewer_steps == "the sum of the 4 frames that the search made"
    assert "4 frames of a recording; the one frame here is the sum of 4 neighbours of those" in rules.sentences[-1]
    assert rules.sentences[1] == "Time: the one step counts all events of the recording."


def test_a_function_of_the_user_is_asked_for_the_frames_of_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At other time steps it may return others, so a device sums those of the search."""
    with in_folder(tmp_path, monkeypatch):
        write_module(tmp_path, "time_steps|assert time_steps == 4, time_steps\nreturn parts(frames)")
        rules = rules_of(DataSpace(name="python", build=BUILD), 2, made=4)
        assert rules.sentences[1:3] == (
            "Time: one frame for each of 4 time steps, the function's argument time_steps if it has one; where there "
            "are a multiple of so many, neighbours are added.",
            "Steps: each of the 2 frames here is the sum of 2 neighbours of those. Counts are clamped after such a "
            "sum.",
        )
        assert rules.figures["search_frames_per_step"] == 2
