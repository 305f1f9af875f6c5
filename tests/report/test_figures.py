"""The figure: what is drawn where, and that no label covers another."""

from __future__ import annotations

import struct
import subprocess
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from examples import config, example_run, trial

from spquant_search.report.front_figure import _crosses, _Drawn, _free_place, _overlap, draw_front, write_front_figure
from spquant_search.runs.results import Outcome


def texts(figure) -> list[str]:
    return [found.get_text() for found in figure.axes[0].texts if found.get_text()]


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
    assert texts(figure)[0] == ("run tiny: 4 of 6 trials trained to the end; accuracy on n = 2,000 validation samples")
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "memory: weights, membranes, scales (KiB, log scale)"
    assert axes.get_ylabel() == "validation accuracy (%)"
    assert bar.get_ylabel() == "effective MFLOPs a sample (2 per MAC)"
    assert {"4 bit / 3 levels", "float baseline"} <= set(texts(figure))


def test_what_has_weights_is_drawn_in_kib_and_percent():
    figure = draw_front(example_run())
    drawn = {group.get_label(): np.asarray(group.get_offsets()).tolist() for group in figure.axes[0].collections}
    assert drawn == {
        "other trial": [[12.0, 80.0]],
        "front": [[10.0, pytest.approx(86.4)]],
        "uniform precision": [[20.0, 85.0]],
        "float baseline": [[100.0, 90.0]],
    }


def test_read_outs_are_drawn_until_fine_tuning_replaces_them():
    read = [trial(number, 0.7 + number / 100, 10 * number, outcome=Outcome.SUBNET) for number in (1, 2)]
    tuned = replace(trial(3, 0.8, 20, origin="fine-tuned"), parent=2)
    figure = draw_front(example_run(results=(trial(0, 0.9, 100, origin="baseline"), *read, tuned)))
    drawn = {group.get_label(): np.asarray(group.get_offsets()).tolist() for group in figure.axes[0].collections}
    assert sorted(drawn["front"]) == [[10.0, pytest.approx(71)], [20.0, 80.0]]
    assert "2 of 4 trials trained to the end, 2 subnets;" in texts(figure)[0]


def test_colour_is_flops_not_macs():
    figure = draw_front(example_run())
    front = next(group for group in figure.axes[0].collections if group.get_label() == "front")
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
    assert figure.axes[0].get_ylim()[0] == pytest.approx(79.2)
    assert "1 trial below the axis" in texts(figure)


def test_labels_cover_no_other_label():
    references = [
        trial(number, 0.85 + number / 500, 20 + number / 4, 50, origin="reference", of=config("444", f"{number} 3"))
        for number in range(2, 8)
    ]
    figure = draw_front(example_run(results=(*example_run().results, *references)))
    figure.draw_without_rendering()
    names = [found for found in figure.axes[0].texts if "levels" in found.get_text()]
    assert len(names) == 7
    # The text alone: an annotation's own extent includes its leader.
    boxes = [type(found).__mro__[1].get_window_extent(found).extents for found in names]
    assert not [pair for pair in combinations(boxes, 2) if _overlap(*pair)]


FRAME = (0, 0, 1000, 1000)


def test_free_place_takes_the_first_that_is_free():
    first, leader = _free_place((500, 500), (100, 20), _Drawn(covered=[]), frame=FRAME, pixel=1)
    assert (first, leader) == (pytest.approx((509, 484.6, 609, 504.6)), None)
    second, _ = _free_place((500, 500), (100, 20), _Drawn(covered=[first]), frame=FRAME, pixel=1)
    assert not _overlap(first, second)
    edge, _ = _free_place((950, 500), (100, 20), _Drawn(covered=[]), frame=FRAME, pixel=1)
    assert edge[2] <= 950


def test_a_label_far_off_has_a_leader_from_its_nearest_point_that_crosses_no_label():
    crowd = (440, 470, 560, 530)  # all near places
    right = (560, 480, 700, 520)  # a label, across whose place no leader may go
    box, leader = _free_place((500, 500), (60, 20), _Drawn(covered=[crowd], labels=[right]), frame=FRAME, pixel=1)
    assert not _overlap(box, crowd)
    assert not _overlap(box, right)
    assert leader is not None
    assert leader == (min(max(500, box[0]), box[2]), min(max(500, box[1]), box[3]))
    assert not _crosses((leader, (500, 500)), right)
    # A later label does not stand on that leader.
    drawn = _Drawn(covered=[], leaders=[((500, 600), (500, 400))])
    later, _ = _free_place((490, 500), (60, 20), drawn, frame=FRAME, pixel=1)
    assert later[2] <= 500


def test_where_nothing_is_free_the_place_that_covers_least_is_taken():
    everywhere = _Drawn(covered=[(0, 0, 1000, 500), (0, 500, 480, 1000)])
    box, _ = _free_place((470, 495), (500, 20), everywhere, frame=FRAME, pixel=1)
    assert box[1] >= 500
    assert box[0] >= 470


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
