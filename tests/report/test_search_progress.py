"""The state of a running search: the time left by hand."""

from __future__ import annotations

import pytest
from examples import epoch, example_run, trial
from searching import Clock, a_plan, start

from spquant_search.report.search_progress import Progress
from spquant_search.runs.results import Outcome


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
