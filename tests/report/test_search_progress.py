"""The state of a running search: the time left by hand."""

from __future__ import annotations

import pytest
from examples import epoch, example_run, trial
from searching import Clock, a_plan, start

from spquant_search.report.search_progress import Progress, closing_text, times_text, trial_count_text
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


def test_subnets_are_estimated_by_their_own_pace_and_nothing_else_of_a_supernet_is():
    clock = Clock()
    progress = Progress(clock=clock)
    progress.take_plan(a_plan(epochs=0))  # 5 subnets
    start(progress, 0, "baseline", epochs=4)
    clock.now += 10
    progress.take_epoch(0, epoch(1, 0.5, 1e6))
    assert progress.seconds_left() is None  # how long the supernet takes is not known
    progress.take_result(trial(0, origin="baseline"))
    clock.now += 1000
    for number in (1, 2):
        start(progress, number, epochs=0)
        clock.now += 3
        progress.take_result(trial(number, outcome=Outcome.SUBNET))
    assert progress.seconds_left() == pytest.approx(3 * 3)
    assert times_text(progress).endswith(", about 0:09 left for the subnets")
    for number in (3, 4, 5):
        start(progress, number, epochs=0)
        progress.take_result(trial(number, outcome=Outcome.SUBNET))
    start(progress, 6, "fine-tuned", epochs=2)
    progress.take_epoch(6, epoch(1, 0.5, 1e6))
    assert progress.seconds_left() is None


def test_more_trials_than_are_asked_for_are_counted_so():
    progress = Progress(clock=Clock())
    progress.take_plan(a_plan(trials=2, finished=tuple(trial(number) for number in range(1, 6))))
    assert trial_count_text(progress) == "5 trials (2 asked for)"
    assert closing_text(progress).startswith("5 trials (2 asked for) in ")


def test_what_is_not_tried_does_not_count_as_a_trial():
    progress = Progress(clock=Clock())
    progress.take_plan(a_plan())
    for number, outcome in enumerate(Outcome):
        progress.take_result(trial(number + 1, outcome=outcome))
    assert progress.trials_done == len(Outcome) - 2  # neither duplicates nor what is over budget


def test_costs_that_cannot_vary_are_left_out_of_the_hypervolume():
    progress = Progress(clock=Clock())
    progress.take_plan(a_plan(fixed=("effective_macs",)))
    for result in (trial(0, 0.9, 100, 50, origin="baseline"), trial(1, 0.85, 20, 50)):
        progress.take_result(result)
    assert progress.hypervolume == pytest.approx(0.75 * (90 / 110) + 0.05 * (10 / 110))
    assert "hypervolume of accuracy and memory alone 0.6182" in closing_text(progress)
