"""The live view: its fit, its words."""

from __future__ import annotations

import io
import re

import pytest
from examples import config, example_run, trial
from rich.console import Console
from searching import a_plan, busy_progress, feed

from spquant_search.report.live import LiveView, frame, watcher
from spquant_search.report.plain_log import PlainLog
from spquant_search.report.search_progress import Progress
from spquant_search.runs.results import Origin


def lines_of(progress: Progress, width: int, height: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height, color_system=None).print(frame(progress, width=width, height=height))
    return file.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 50), (100, 30)])
def test_a_frame_fits_its_terminal(width, height):
    lines = lines_of(busy_progress(), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "run tiny: vgg9 on fashion-events (simulated)" in text
    assert "39 of 50 trials, 0:02 elapsed" in text
    assert re.search(r"40 .*8444 2222 3  3333 AE33 .* 2/3 +77\.7 +10\.0 +22\.0  running", text)
    assert re.search(r"39 .*8444 2222 3  3333 AE33 ", text)
    assert re.search(r"trial 2 at its knee;.hypervolume 0\.\d+", text.replace("\n", " "))
    assert "(reference point:" in text.replace("\n", " ")


@pytest.mark.parametrize(("width", "height"), [(40, 12), (30, 8), (10, 3), (1, 1)])
def test_a_tiny_terminal_is_no_error(width, height):
    assert lines_of(busy_progress(), width, height)
    assert lines_of(Progress(), width, height)


def test_more_height_shows_more_trials():
    def shown(height: int) -> int:
        return sum("complete" in line or "on the front" in line for line in lines_of(busy_progress(), 120, height))

    assert 3 < shown(24) < shown(40)


def test_reasons_appear_where_there_is_room():
    progress = Progress()
    progress.take_result(example_run().results[4])
    assert "stopped: trial 2 is better in every objective" in "\n".join(lines_of(progress, 160, 30))
    narrow = "\n".join(lines_of(progress, 80, 24))
    assert "stopped" in narrow
    assert "trial 2 is better" not in narrow


def test_deep_networks_are_cut_in_narrow_terminals():
    progress = Progress()
    progress.take_result(trial(1, of=config("4" * 37, " ".join(["3"] * 36))))
    assert max(map(len, lines_of(progress, 80, 24))) <= 80
    assert re.search(r"4444 4444 …  3333 3333 …", "\n".join(lines_of(progress, 80, 24)))
    assert "4444 4444 4444 4444 4444 4444 4444 4444 4444 4" in "\n".join(lines_of(progress, 170, 24))


def test_names_are_no_markup_and_carry_no_escapes():
    progress = Progress()
    progress.take_plan(a_plan(run="[red]x", data="\x1b[2Jdata"))
    progress.warnings.append("[bold]w")
    text = "\n".join(lines_of(progress, 100, 24))
    assert "run [red]x: vgg9 on [2Jdata" in text
    assert "warning: [bold]w" in text
    assert "\x1b" not in text


def test_live_view_gives_the_terminal_back_and_leaves_warnings_and_a_summary():
    file = io.StringIO()
    console = Console(file=file, force_terminal=True, width=200, height=24, _environ={"TERM": "xterm"})
    view = watcher(console)
    assert isinstance(view, LiveView)
    view.plan(a_plan())
    view.stage("simulating", 3, 10)
    feed(view, example_run().results)
    view.warning("slow\nstep")
    view.close()
    view.close()
    shown = file.getvalue()
    assert "\x1b[?1049h" in shown
    before, left, after = shown.rpartition("\x1b[?1049l")
    assert before
    assert left
    assert "warning: slow step" in after
    assert "5 of 5 trials in 0:00; hypervolume 0.5370" in after
    assert after.count("5 of 5 trials") == 1


def test_watcher_is_plain_in_a_pipe_and_on_a_dumb_terminal():
    assert isinstance(watcher(Console(file=io.StringIO())), PlainLog)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(watcher(dumb), PlainLog)


def test_no_origin_is_cut_in_a_wide_terminal():
    progress = Progress()
    for number, origin in enumerate(Origin):
        progress.take_result(trial(number, origin=origin))
    text = "\n".join(lines_of(progress, 100, 40))
    assert all(f" {origin} " in text for origin in Origin)
