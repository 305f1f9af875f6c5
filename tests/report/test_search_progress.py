"""The state of a running search: the time left by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from examples import epoch, example_run, trial
from searching import Clock, a_plan, start

from spquant_search.report.search_progress import Progress, closing_text, times_text, trial_count_text
from spquant_search.report.time_estimate import (
    ACCURACY_ALONE,
    LOW_PRECISION,
    PREFIX_REUSED,
    TASK_SECONDS,
    THREADS_EXPONENT,
    PartSeconds,
    estimate_text,
)
from spquant_search.runs.results import Outcome
from spquant_search.runs.work import Part, PartWork, work_left

# Epochs train on 10 samples and evaluate 5; a test evaluates 4, a subnet 7.
EPOCH = {"trained": 10, "evaluated": 5}
TRAINING = (
    PartWork(part=Part.BASELINE, tasks=1, epochs=4, **EPOCH),
    PartWork(part=Part.TRIALS, tasks=5, epochs=3, at_most=True, **EPOCH),
    PartWork(part=Part.TESTS, tasks=6, evaluated=4, at_most=True),
)
SUPERNET = (
    PartWork(part=Part.BASELINE, tasks=1, epochs=4, **EPOCH),
    PartWork(part=Part.SUPERNET, tasks=1, epochs=2, trained=10),
    PartWork(part=Part.LADDER, tasks=4, evaluated=7),
    PartWork(part=Part.TRIALS, tasks=5, evaluated=7),
    PartWork(part=Part.FINALISTS, tasks=3, epochs=2, at_most=True, **EPOCH),
    PartWork(part=Part.TESTS, tasks=9, evaluated=4, at_most=True),
)


def planned(parts: tuple[PartWork, ...], **changes: Any) -> tuple[Progress, Clock]:
    clock = Clock()
    progress = Progress(clock=clock)
    clock.now += 30  # until frames are made
    progress.take_plan(a_plan(parts=parts, cores=2, **changes))
    return progress, clock


def train_baseline(progress: Progress, clock: Clock, *, epochs: int, seconds: float = 7.0) -> None:
    start(progress, 0, "baseline", epochs=4)
    clock.now += 100  # the first epoch compiles
    progress.take_epoch(0, epoch(1, 0.5, 1e6))
    for number in range(2, epochs + 1):
        clock.now += seconds
        progress.take_epoch(0, epoch(number, 0.5, 1e6))


def test_time_left_by_hand():
    progress, clock = planned(TRAINING)
    assert progress.seconds_left() is None
    train_baseline(progress, clock, epochs=1)
    assert progress.seconds_left() is None  # of an epoch that compiles nothing follows
    clock.now += 7
    progress.take_epoch(0, epoch(2, 0.5, 1e6))
    # 7 s for 35 passes. Of 5 trials two trainers do 3 rounds; of the tests 2 are likely, which is one round.
    a_pass, alone = 7 / 35 * LOW_PRECISION, 2**THREADS_EXPONENT
    trials = 3 * (TASK_SECONDS + 3 * 35 * a_pass * alone)
    tests = TASK_SECONDS + 4 * a_pass * ACCURACY_ALONE * alone
    assert progress.seconds_left() == pytest.approx(2 * 7 + trials + tests)
    clock.now += 4  # time goes by, and the next epoch is nearer
    assert progress.seconds_left() == pytest.approx(2 * 7 + trials + tests - 4)


def test_samples_in_fewer_time_steps_take_less():
    baseline, trials, _ = TRAINING
    left = []
    for work in (trials, replace(trials, share=0.5)):
        progress, clock = planned((baseline, work))
        train_baseline(progress, clock, epochs=4)
        found = progress.seconds_left()
        assert found is not None
        left.append(found - 3 * TASK_SECONDS)
    assert left[1] == pytest.approx(left[0] / 2)


def test_a_part_goes_on_at_its_own_pace():
    progress, clock = planned(TRAINING)
    train_baseline(progress, clock, epochs=4)
    progress.take_result(trial(0, origin="baseline"))
    start(progress, 1)
    start(progress, 2)
    clock.now += 8
    progress.take_epoch(1, epoch(1, 0.5, 1e6))
    progress.take_epoch(2, epoch(1, 0.5, 1e6))
    a_pass = 7 / 35 * LOW_PRECISION
    tests = TASK_SECONDS + 4 * a_pass * ACCURACY_ALONE * 2**THREADS_EXPONENT
    # An epoch every 4 s: 2 + 2 of those that run, 3 * 3 of those to come.
    assert progress.seconds_left() == pytest.approx(13 * 4 + tests)
    progress.take_result(trial(1, outcome=Outcome.STOPPED, epochs=1))
    assert progress.seconds_left() == pytest.approx(11 * 4 + tests)
    progress.take_stage("testing", 1, 4, Part.TESTS)
    clock.now += 3
    progress.take_stage("testing", 2, 4, Part.TESTS)
    assert progress.seconds_left() == pytest.approx(2 * 3 / 2)  # the second of two trainers is nearly done, too
    progress.take_stage("testing", 4, 4, Part.TESTS)
    assert progress.seconds_left() == 0
    assert "left" not in times_text(progress)


def test_all_parts_of_a_supernet_are_estimated():
    progress, clock = planned(SUPERNET, minutes=1.0)
    train_baseline(progress, clock, epochs=2)
    a_pass, alone = 7 / 35 * LOW_PRECISION, 2**THREADS_EXPONENT
    expected = {
        "baseline": 121,
        "supernet": 2 * 30 * a_pass,
        "budget ladder": 2 * (TASK_SECONDS + 7 * a_pass * ACCURACY_ALONE * PREFIX_REUSED * alone),
        "5 subnets": 3 * (TASK_SECONDS + 7 * a_pass * alone),
        "up to 3 finalists": 2 * (TASK_SECONDS + 2 * 35 * a_pass * alone),
        "test split": TASK_SECONDS + 4 * a_pass * ACCURACY_ALONE * alone,
    }
    assert progress.seconds_left() == pytest.approx(sum(expected.values()) - 107)
    amounts = ", ".join(f"{name} {seconds / 60:.1f}" for name, seconds in expected.items())
    total = (30 + sum(expected.values())) / 60
    text = f"about {total:.1f} minutes in all: start 0.5, {amounts}; --minutes 1 ends it earlier"
    assert progress.estimate_text() == text


def test_parts_that_were_done_before_take_no_time_and_the_baselines_epochs_are_known():
    baseline = replace(
        trial(0, origin="baseline"),
        epochs=tuple(replace(epoch(n, 0.5, 1e6), seconds=s) for n, s in ((1, 90.0), (2, 7.0), (3, 7.0))),
    )
    left = work_left(SUPERNET, {Part.BASELINE: 1, Part.SUPERNET: 1, Part.LADDER: 4, Part.TRIALS: 3})
    progress, _ = planned(left, finished=(baseline,))
    a_pass, alone = 7 / 35 * LOW_PRECISION, 2**THREADS_EXPONENT
    subnets = TASK_SECONDS + 7 * a_pass * alone
    finalists = 2 * (TASK_SECONDS + 2 * 35 * a_pass * alone)
    tests = TASK_SECONDS + 4 * a_pass * ACCURACY_ALONE * alone
    assert progress.seconds_left() == pytest.approx(subnets + finalists + tests)
    assert "baseline" not in progress.estimate_text()


def test_a_part_that_is_left_out_takes_no_time():
    progress, clock = planned(SUPERNET)
    train_baseline(progress, clock, epochs=4)
    progress.take_stage("training the supernet", 0, 2, Part.SUPERNET)
    clock.now += 50
    before = progress.seconds_left()
    start(progress, 6, "fine-tuned", epochs=2)  # after a limit of minutes, say
    assert progress.seconds_left() < before
    assert "subnets" not in progress.estimate_text()


def test_an_epoch_of_minutes_is_enough_to_estimate_by():
    progress, clock = planned(TRAINING)
    start(progress, 0, "baseline", epochs=4)
    clock.now += 301
    progress.take_epoch(0, epoch(1, 0.5, 1e6))
    assert progress.estimate_text().startswith("about ")
    assert progress.estimate_text().endswith("; less where trials are stopped early")


def test_finished_trials_of_an_earlier_start_count_as_done():
    progress, _ = planned(TRAINING, finished=example_run().results[:4])
    assert progress.trials_done == 3
    assert progress.hypervolume == pytest.approx(example_run().hypervolume)


def test_without_parts_nothing_is_estimated():
    progress, clock = planned(())
    train_baseline(progress, clock, epochs=3)
    assert progress.seconds_left() is None
    assert progress.estimate_text() is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (100.0, "about 100 seconds"),
        (130.0, "about 2.2 minutes"),
        (7190.0, "about 120 minutes"),
        (9e4, "about 25 hours"),
    ],
)
def test_the_unit_fits_the_time(seconds: float, words: str) -> None:
    part = PartSeconds(work=TRAINING[0], seconds=seconds)
    assert estimate_text((part,), before=0.0).startswith(f"{words} in all: baseline ")


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
    progress.take_plan(a_plan(fixed=("effective_flops",)))
    for result in (trial(0, 0.9, 100, 50, origin="baseline"), trial(1, 0.85, 20, 50)):
        progress.take_result(result)
    assert progress.hypervolume == pytest.approx(0.75 * (90 / 110) + 0.05 * (10 / 110))
    assert "hypervolume of accuracy and memory alone 0.6182" in closing_text(progress)
