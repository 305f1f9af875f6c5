"""The picture of a front: what is drawn where."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from examples import config, example_run, trial
from matplotlib.collections import LineCollection, PathCollection
from several_steps import at_steps, several_results, several_run

from spquant_search.report.front_figure import draw_front, write_front_figure
from spquant_search.report.step_words import steps_words
from spquant_search.runs.intervals import wilson_interval
from spquant_search.runs.results import Outcome


def texts(figure) -> list[str]:
    return [found.get_text() for found in figure.axes[0].texts if found.get_text()]


def points(figure) -> dict[str, list[list[float]]]:
    """What is drawn as points, by the words of the legend."""
    groups = [group for group in figure.axes[0].collections if isinstance(group, PathCollection)]
    return {group.get_label(): np.asarray(group.get_offsets()).tolist() for group in groups}


def test_png_of_the_stated_size_and_equal_for_equal_runs(tmp_path):
    write_front_figure(example_run(), tmp_path / "one")
    write_front_figure(example_run(), tmp_path / "two")
    data = (tmp_path / "one").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (1480, 960)
    assert data == (tmp_path / "two").read_bytes()


def test_words_around_the_figure():
    figure = draw_front(example_run())
    axes, bar = figure.axes
    assert axes.get_title(loc="left") == "vgg9 on fashion-events (simulated)"
    assert all(words in texts(figure)[0] for words in ("run tiny", "3 of 5 trials", "2,000 validation samples"))
    assert axes.get_xscale() == "log"
    assert "KiB" in axes.get_xlabel()
    assert "%" in axes.get_ylabel()
    assert "MFLOPs" in bar.get_ylabel()
    (legend,) = figure.legends
    words = [text.get_text() for text in legend.get_texts()]
    assert words[-2:] == ["trial 1: 4 bit / 3 levels", "95 % interval (Wilson)"]
    assert {"front, trained", "other trial", "float baseline", "95 % interval (Wilson)"} <= set(words)


def test_what_has_weights_is_drawn_in_kib_and_percent():
    figure = draw_front(example_run())
    drawn = points(figure)
    assert drawn == {
        "other trial": [[12.0, 80.0]],
        "front, trained": [[10.0, pytest.approx(86.4)]],
        "trial 1: 4 bit / 3 levels": [[20.0, 85.0]],
        "float baseline": [[100.0, 90.0]],
    }


def test_subnets_are_drawn_until_fine_tuning_replaces_them():
    subnets = [trial(number, 0.7 + number / 100, 10 * number, outcome=Outcome.SUBNET) for number in (1, 2)]
    tuned = replace(trial(3, 0.8, 20, origin="fine-tuned"), parent=2)
    figure = draw_front(example_run(results=(trial(0, 0.9, 100, origin="baseline"), *subnets, tuned)))
    drawn = points(figure)
    assert (drawn["front, not fine-tuned (subnet)"], drawn["front, trained"]) == (
        [[10.0, pytest.approx(71)]],
        [[20.0, 80.0]],
    )
    assert "2 subnets" in texts(figure)[0]


def test_colour_is_flops_not_macs():
    figure = draw_front(example_run())
    front = next(group for group in figure.axes[0].collections if group.get_label() == "front, trained")
    assert np.asarray(front.get_array()).tolist() == [25.0]  # 12.5 million MACs


def test_step_line_holds_the_best_accuracy_within_a_memory():
    # Trial 3 is on the front for its operations, below the line.
    run = example_run(
        results=(trial(1, 0.7, 10, 30), trial(2, 0.8, 20, 30), trial(3, 0.75, 40, 10), trial(4, 0.9, 80, 30))
    )
    line = draw_front(run).axes[0].lines[0]
    assert np.asarray(line.get_ydata()) == pytest.approx([70, 80, 80, 90, 90])
    assert line.get_drawstyle() == "steps-post"
    assert np.asarray(line.get_xdata())[:4] == pytest.approx([10, 20, 40, 80])


def test_a_failed_outlier_does_not_squeeze_the_axis_and_is_told():
    run = example_run(results=(*example_run().results, trial(6, 0.1, 50, 40)))
    figure = draw_front(run)
    # 8 % of the way from 80 to the upper end of the baseline's interval, 91.2, below the lowest trial that matters.
    assert figure.axes[0].get_ylim()[0] == pytest.approx(79.1, abs=0.02)
    assert "1 trial below the axis" in texts(figure)


def test_runs_with_nothing_and_with_one_trial_to_show(tmp_path):
    assert "no trial has completed yet" in texts(draw_front(example_run(results=())))
    only = example_run(results=(trial(0, 0.9, 100, 50, origin="baseline", outcome=Outcome.COMPLETE),))
    write_front_figure(only, tmp_path / "front.png")
    assert (tmp_path / "front.png").stat().st_size > 1000


def test_names_are_never_read_as_formulas(tmp_path):
    write_front_figure(example_run(run="a$b", data="costs $1 \\frac and $2_"), tmp_path / "front.png")
    assert draw_front(example_run(data="$1_$")).axes[0].get_title(loc="left") == "vgg9 on \\$1_\\$"


def test_pyplot_and_its_global_state_stay_out(tmp_path):
    code = (
        "import sys\nsys.path.insert(0, sys.argv[1])\nfrom pathlib import Path\n"
        "from examples import example_run\nfrom spquant_search.report.front_figure import write_front_figure\n"
        "write_front_figure(example_run(), Path(sys.argv[2]))\nprint('matplotlib.pyplot' in sys.modules)"
    )
    arguments = [sys.executable, "-c", code, str(Path(__file__).parents[1]), str(tmp_path / "f.png")]
    done = subprocess.run(arguments, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_long_description_of_the_data_is_wrapped_inside_the_figure():
    figure = draw_front(example_run(data="events of " + "very " * 25 + "(simulated)"))
    figure.draw_without_rendering()
    title = figure.axes[0]._left_title
    assert title.get_text().endswith("(simulated)")
    box = title.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.width
    assert box.y1 <= figure.bbox.height


def test_references_hold_their_trials_numbers_smallest_memory_first_in_the_legend():
    references = [
        trial(number, 0.85, 40 - number, 50, origin="reference", of=config("444", f"{number} {number}"))
        for number in range(2, 8)
    ]
    figure = draw_front(example_run(results=(*example_run().results[:1], *references)))
    assert texts(figure)[1:] == list("765432")
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert words[-7:-1] == [f"trial {number}: 4 bit / {number} levels" for number in range(7, 1, -1)]


def shape_of(group: PathCollection) -> tuple[tuple[float, ...], ...]:
    """The outline of a marker."""
    (path,) = group.get_paths()
    return tuple(map(tuple, np.round(path.vertices, 6).tolist()))


def shapes_by_steps(figure) -> dict[tuple[tuple[float, ...], ...], str]:
    """The words of the legend that explain a shape, which no point has."""
    groups = [group for group in figure.axes[0].collections if isinstance(group, PathCollection)]
    return {shape_of(group): group.get_label() for group in groups if not len(group.get_offsets())}


def test_the_shape_of_a_point_is_its_time_steps():
    figure = draw_front(several_run())
    words = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"4 time steps", "2 time steps", "1 time step", "float baseline at 4 time steps"} <= set(words)
    assert "trial 1: 4 bit / 3 levels, 4 time steps" in words
    assert len(words) == len(set(words))
    known = shapes_by_steps(figure)
    assert sorted(known.values()) == ["1 time step", "2 time steps", "4 time steps"]
    drawn = {}
    for group in figure.axes[0].collections:
        if isinstance(group, PathCollection) and shape_of(group) in known:
            for x, y in np.asarray(group.get_offsets()).tolist():
                drawn[round(x, 6), round(y, 6)] = known[shape_of(group)]
    assert drawn == {
        (round(result.memory_bytes / 1024, 6), round(100 * result.accuracy, 6)): steps_words(result.config.time_steps)
        for result in several_results()
        if result.origin.value == "tpe"
    }


def test_a_single_number_of_time_steps_has_no_shapes():
    words = [text.get_text() for text in draw_front(example_run()).legends[0].get_texts()]
    assert not any("time step" in word for word in words)


def test_more_numbers_of_time_steps_than_shapes_share_the_last():
    steps = (1, 2, 3, 4, 6, 8, 12, 24)
    members = tuple(trial(number, 0.5 + number / 50, 5 * number, of=at_steps(number)) for number in steps)
    figure = draw_front(several_run(time_steps=steps, results=(several_results()[0], *members)))
    known = shapes_by_steps(figure)
    assert sorted(known.values()) == sorted(
        ["24 time steps", "12 time steps", "8 time steps", "6 time steps", "4 time steps", "1, 2 or 3 time steps"]
    )


def test_error_bars_are_the_intervals_of_the_front():
    figure = draw_front(example_run(validation_samples=160))
    (bars,) = [group for group in figure.axes[0].collections if isinstance(group, LineCollection)]
    drawn = sorted(np.asarray(segment).tolist() for segment in bars.get_segments())
    assert len(drawn) == 2
    for (x, low), (_, high) in drawn:
        accuracy = {10.0: 0.864, 100.0: 0.9}[round(x, 6)]
        found = wilson_interval(accuracy, 160)
        assert (low, high) == pytest.approx((100 * found.low, 100 * found.high))
        assert 100 * accuracy - low > high - 100 * accuracy  # further down than up: nothing is above 100 %


def test_where_operations_are_constant_colour_means_nothing():
    results = (*example_run().results[:2], trial(2, 0.8, 10, 50))
    figure = draw_front(example_run(results=results))
    assert len(figure.axes) == 1  # no colour bar
    assert all(group.get_array() is None for group in figure.axes[0].collections)


def test_where_memory_is_constant_the_axis_is_that_of_operations():
    results = (trial(0, 0.9, 10, 50, origin="baseline"), trial(1, 0.8, 10, 25), trial(2, 0.7, 10, 12.5))
    figure = draw_front(example_run(results=results))
    assert "MFLOPs" in figure.axes[0].get_xlabel()
    assert points(figure)["front, trained"] == [[50.0, 80.0], [25.0, 70.0]]
    line = figure.axes[0].lines[0]
    assert np.asarray(line.get_xdata())[:3].tolist() == [25.0, 50.0, 100.0]
    assert np.asarray(line.get_ydata())[:3] == pytest.approx([70, 80, 90])


@pytest.mark.parametrize("name", ["tiny", "a-run-with-a-name-" * 6])
def test_nothing_that_is_written_leaves_the_figure(name):
    """Subnets, and references of every kind among them, have the longest words in the legend."""
    subnets = tuple(
        trial(number, 0.8 + 0.001 * number, 100 + number, outcome=Outcome.SUBNET, origin="reference")
        for number in range(1, 9)
    )
    run = example_run(results=(trial(0, 0.9, 300, origin="baseline"), *subnets))
    figure = draw_front(replace(run, run=name))
    figure.draw_without_rendering()
    written = [*figure.legends, figure.axes[0].title, figure.axes[0]._left_title, figure.axes[0].texts[0]]
    for text in written:
        box = text.get_window_extent()
        assert box.x0 >= 0, text
        assert box.x1 <= figure.bbox.width, text
        assert box.y1 <= figure.bbox.height, text
    assert figure.axes[0]._left_title.get_window_extent().y0 >= figure.axes[0].texts[0].get_window_extent().y1
