"""What a running search shows: the plain log to the letter, the live view's fit, the time left by hand."""

from __future__ import annotations

import io
import re

import pytest
from examples import config, epoch, example_run, trial
from rich.console import Console

from spquant_search.report.live import LiveView, frame, watcher
from spquant_search.report.plain_log import PlainLog
from spquant_search.report.search_progress import Progress, RunningTrial
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.results import Outcome


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def a_plan(**changes) -> SearchPlan:
    values = {
        "run": "tiny",
        "source": "spaces/tiny.yaml",
        "data": "fashion-events (simulated)",
        "network": "vgg9",
        "trials": 5,
        "epochs": 3,
        "work": "trials of 3 epochs after a float baseline of 4",
        "workers": 2,
        "chance": 0.1,
        "finished": (),
    }
    return SearchPlan(**(values | changes))


def feed(watching, results) -> None:
    for result in results:
        watching.started(result, 3)
        for metrics in result.epochs:
            watching.epoch(result.number, metrics)
        watching.finished(result)


def start(progress: Progress, number: int, origin: str = "tpe", epochs: int = 3) -> None:
    progress.take_start(RunningTrial(task=trial(number, origin=origin), epochs=epochs))


# ---------------------------------------------------------------- time left


def test_time_left_by_hand():
    clock = Clock()
    progress = Progress(clock=clock)
    progress.take_plan(a_plan())
    assert progress.seconds_left() is None
    start(progress, 0, "baseline", epochs=4)
    clock.now += 10
    progress.take_epoch(0, epoch(1, 0.5, 1e6))
    # 3 epochs of the baseline and 5 * 3 of candidates, 10 s each so far.
    assert progress.seconds_left() == pytest.approx(180)
    progress.take_result(trial(0, origin="baseline"))
    start(progress, 1)
    start(progress, 2)
    clock.now += 8
    progress.take_epoch(1, epoch(1, 0.5, 1e6))
    progress.take_epoch(2, epoch(1, 0.5, 1e6))
    # From now on the candidates' own pace, 4 s: 2 + 2 epochs of those that run, 3 * 3 of those to come.
    assert progress.seconds_left() == pytest.approx(13 * 4)
    progress.take_result(trial(1, outcome=Outcome.STOPPED, epochs=1))
    assert progress.seconds_left() == pytest.approx(11 * 4)


def test_finished_trials_of_an_earlier_start_count_as_done_but_not_for_the_pace():
    clock = Clock()
    progress = Progress(clock=clock)
    progress.take_plan(a_plan(finished=example_run().results[:4]))
    assert progress.trials_done == 3
    assert progress.hypervolume == pytest.approx(example_run().hypervolume)
    start(progress, 4)
    clock.now += 5
    progress.take_epoch(4, epoch(1, 0.5, 1e6))
    assert progress.seconds_left() == pytest.approx((2 + 3) * 5)


# ---------------------------------------------------------------- plain lines


def test_plain_log_to_the_letter():
    clock, file = Clock(), io.StringIO()
    log = PlainLog(file, clock=clock)
    log.plan(a_plan(trials=2))
    log.stage("recordings ready", 0, 9000)
    clock.now += 60
    log.started(trial(0, kib=100, origin="baseline", of=config("000", "0 0")), 3)
    log.epoch(0, epoch(2, 0.9, 50e6))
    log.finished(example_run().results[0])
    log.finished(example_run().results[2])
    log.finished(example_run().results[4])
    log.warning("no compiler found;\nusing the plain step")
    log.close()
    reference = "(reference point: accuracy 10.0 %, 110.0 KiB, 110 MFLOPs: chance, 1.1 times the float baseline)"
    assert file.getvalue().splitlines() == [
        "run tiny: spaces/tiny.yaml, vgg9 on fashion-events (simulated)",
        "trials of 3 epochs after a float baseline of 4, 2 at a time",
        "recordings ready  0/9,000",
        "trial 0  started  baseline  FFF / FF  100.0 KiB",
        "trial 0  epoch 2/3  loss 0.512  accuracy 90.0 %  100 MFLOPs",
        "trial 0  complete  accuracy 90.0 %  100.0 KiB  100 MFLOPs  0 of 2 trials, 1:00 gone, at most 0:00 left",
        "trial 2  complete  accuracy 86.4 %  10.0 KiB  25.0 MFLOPs  1 of 2 trials, 1:00 gone, at most 0:00 left",
        "trial 4  stopped  accuracy 30.0 %  8.0 KiB  50.0 MFLOPs  trial 2 is better in every objective"
        "  2 of 2 trials, 1:00 gone, at most 0:00 left",
        "warning: no compiler found; using the plain step",
        f"2 of 2 trials in 1:00; hypervolume 0.5370 of at most 0.9 {reference}",
    ]


def test_a_resumed_run_says_how_much_is_done():
    file = io.StringIO()
    PlainLog(file).plan(a_plan(finished=example_run().results[:4]))
    assert file.getvalue().splitlines()[1].endswith("2 at a time, 3 of them done before")


def test_a_trial_without_an_epoch_shows_no_accuracy():
    file = io.StringIO()
    PlainLog(file).finished(example_run().results[5])
    assert file.getvalue() == "trial 5  diverged  10.0 KiB  the loss became infinite or not a number\n"


def test_plain_log_writes_no_control_characters_and_never_wraps():
    file = io.StringIO()
    log = PlainLog(file)
    log.plan(a_plan(run="a\x1b[2Jb\rc", data="d\ne" * 100))
    log.stage("s\x07")
    feed(log, [trial(1, outcome=Outcome.FAILED, reason="Traceback\n  \x1b[1m x\x9b", epochs=0)])
    log.warning("w\x00\nw")
    assert re.findall(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", file.getvalue()) == []
    assert file.getvalue().count("\n") == 6


def test_a_stage_that_reports_every_recording_makes_few_lines():
    clock, file = Clock(), io.StringIO()
    log = PlainLog(file, clock=clock)
    for done in range(0, 1001):
        clock.now += 0.02
        log.stage("simulating", done, 1000)
    log.stage("compiling")
    log.stage("compiling")
    lines = file.getvalue().splitlines()
    assert lines[0] == "simulating  0/1,000"
    assert lines[-2:] == ["simulating  1,000/1,000", "compiling"]
    assert len(lines) == 4  # 20 s: one sign of life between


def test_plain_log_outlives_its_reader_and_a_narrow_encoding():
    closed = io.StringIO()
    closed.close()
    PlainLog(closed).warning("nobody reads this")

    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    PlainLog(Gone()).warning("nobody reads this")
    raw = io.BytesIO()
    ascii_file = io.TextIOWrapper(raw, encoding="ascii")
    PlainLog(ascii_file).warning("naïve µ")
    assert raw.getvalue() == b"warning: na?ve ?\n"


# ---------------------------------------------------------------- the live view


def lines_of(progress: Progress, width: int, height: int) -> list[str]:
    file = io.StringIO()
    Console(file=file, width=width, height=height, color_system=None).print(frame(progress, width=width, height=height))
    return file.getvalue().splitlines()


def busy_progress() -> Progress:
    clock = Clock()
    progress = Progress(clock=clock)
    progress.take_plan(a_plan(trials=50))
    for result in example_run().results:
        progress.take_result(result)
    nine = config("844422223", "3 3 3 3 16 256 3 3")
    for number in range(6, 40):
        progress.take_result(trial(number, 0.5 + number / 200, 10 + number, 10 + number, of=nine))
    progress.take_start(RunningTrial(task=trial(40, of=nine), epochs=3))
    clock.now += 2
    progress.take_epoch(40, epoch(2, 0.777, 11e6))
    return progress


@pytest.mark.parametrize(("width", "height"), [(80, 24), (120, 40), (200, 50), (100, 30)])
def test_a_frame_fits_its_terminal(width, height):
    lines = lines_of(busy_progress(), width, height)
    assert len(lines) <= height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "run tiny: vgg9 on fashion-events (simulated)" in text
    assert "39 of 50 trials, 0:02 gone, at most" in text
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
    assert re.search(r"4444 4444 4…  3333 3333 3…", "\n".join(lines_of(progress, 80, 24)))
    assert "4444 4444 4444 4444 4444 4444 4444 4444 4444 4" in "\n".join(lines_of(progress, 160, 24))


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
    shown = file.getvalue()
    assert "\x1b[?1049h" in shown
    before, left, after = shown.rpartition("\x1b[?1049l")
    assert before
    assert left
    assert "warning: slow step" in after
    assert "5 of 5 trials in 0:00; hypervolume 0.5370" in after


def test_watcher_is_plain_in_a_pipe_and_on_a_dumb_terminal():
    assert isinstance(watcher(Console(file=io.StringIO())), PlainLog)
    dumb = Console(file=io.StringIO(), force_terminal=True, _environ={"TERM": "dumb"})
    assert isinstance(watcher(dumb), PlainLog)
