"""Trials on the trainers: stopped early, failed, begun again, given up."""

from __future__ import annotations

import time

import pytest
from driver.lab import DIED, NO_STOPPING, ONE_WORKER, FakeTrainer, Play, diverges, measures, trains
from examples import epoch

from spquant_search.errors import UserError
from spquant_search.runs.records import read_results, read_test_accuracies
from spquant_search.runs.results import Outcome
from spquant_search.training.tasks import Task, TestTask
from spquant_search.workers.messages import Epoch, Failed, TrainerWarning

HASTY = "search.stopping={min_peers: 2, margin: 0.01}"


def test_a_hopeless_candidate_is_stopped_and_the_better_trial_named(new_lab):
    lab = new_lab(HASTY, ONE_WORKER, "search.sampler=random", "layers.all.channel_mass=1")
    lab.plays[3] = lambda task: trains(task, [0.01, 0.9])
    results = lab.run(3)
    stopped = results[3]
    assert stopped.outcome is Outcome.STOPPED
    assert len(stopped.epochs) == 1
    assert stopped.reason.startswith("after epoch 1 trial ")
    named = results[int(stopped.reason.partition("trial ")[2].split()[0])]
    assert named.memory_bytes <= stopped.memory_bytes
    assert named.accuracy > 0.01
    assert lab.states()[3] == "PRUNED"
    assert not lab.folder.weights_file(3).exists()
    assert 3 not in lab.tested


def test_the_same_candidate_goes_on_where_stopping_is_off(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER, "search.sampler=random", "layers.all.channel_mass=1")
    lab.plays[3] = lambda task: trains(task, [0.01, 0.9])
    assert lab.run(3)[3].outcome is Outcome.COMPLETE


def test_baseline_and_references_are_never_stopped(new_lab):
    lab = new_lab(
        "search.stopping={min_peers: 1, margin: 0}",
        ONE_WORKER,
        "search.references=[{weight_bits: 2, membrane_levels: 3}, {weight_bits: 4, membrane_levels: 3}]",
    )
    lab.plays[0] = lambda task: trains(task, [0.0] * task.schedule.epochs)
    lab.plays[2] = lambda task: trains(task, [0.0, 0.0])  # larger and worse than reference 1
    results = lab.run(2)
    assert [result.outcome for result in results] == [Outcome.COMPLETE] * 3


def test_the_last_epoch_is_paid_for_already(new_lab):
    lab = new_lab(HASTY, ONE_WORKER, "search.sampler=random", "layers.all.channel_mass=1")
    lab.plays[3] = lambda task: trains(task, [0.9, 0.01])
    assert lab.run(3)[3].outcome is Outcome.COMPLETE


def test_an_error_in_a_trial_is_kept_and_the_search_goes_on(new_lab):
    def fails(task: Task) -> Play:
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        yield Failed(reason="RuntimeError: out of memory", detail="Traceback ...\nRuntimeError: out of memory\n")

    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.plays[1] = fails
    results = lab.run(3)
    assert [result.outcome.name for result in results] == ["COMPLETE", "FAILED", "COMPLETE", "COMPLETE"]
    assert results[1].reason == "RuntimeError: out of memory"
    assert len(results[1].epochs) == 1
    assert lab.folder.error_file(1).read_text().endswith("out of memory\n")
    assert lab.watching.warnings == ["trial 1 failed: RuntimeError: out of memory"]
    assert lab.states()[1] == "FAIL"
    assert len(lab.trainers) == 1
    assert lab.restarts == 1, "what a process does after a bug is not to be trusted"
    assert 1 not in lab.tested


def test_a_search_of_which_everything_fails_ends(new_lab):
    """Before all its trials are spent, and goes on once the cause is fixed. Trials over their time do not count."""

    def fails(task: Task) -> Play:
        yield Failed(reason="RuntimeError: no memory", detail="Traceback ...")

    def late(task: Task) -> Play:
        yield Failed(reason="not done", died=True, late=True)

    lab = new_lab(NO_STOPPING, ONE_WORKER, "search.references=[]")
    lab.plays = dict.fromkeys((1, 2, 4, 5, 6, 7, 8), fails)
    with pytest.raises(UserError) as caught:
        lab.run(12)
    assert str(caught.value) == (
        f"{lab.folder.path}: 5 trials in a row failed, the latest, 8, because RuntimeError: no memory. The search "
        "ends, as this seems to be no fault of the configurations; fix the cause (trials/*.error.txt say where), and "
        "start the same command again."
    )
    failed = [result.number for result in read_results(lab.folder) if result.outcome is Outcome.FAILED]
    assert failed == [1, 2, 4, 5, 6, 7, 8]
    lab.plays = dict.fromkeys((9, 10, 11, 12), fails)
    assert len(lab.run(13)) == 14

    slow = new_lab(NO_STOPPING, ONE_WORKER, "search.references=[]", name="slow")
    slow.plays = dict.fromkeys(range(1, 8), late)
    slow_ones = [result.number for result in slow.run(8) if result.outcome is Outcome.FAILED]
    assert slow_ones == list(range(1, 8))


def test_a_trial_whose_trainer_dies_is_begun_again_once(new_lab):
    """By a new process, which tells the epochs that are done again; if that dies as well, the trial has failed."""
    begun: list[int] = []

    def dies(task: Task) -> Play:
        begun.append(task.result.number)
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        if begun.count(task.result.number) == 1 or task.result.number == 2:
            yield Failed(reason=DIED, died=True)
        else:
            yield from trains(task)

    lab = new_lab(NO_STOPPING)
    lab.plays[2] = lab.plays[3] = dies
    results = lab.run(5)
    assert [result.outcome is Outcome.FAILED for result in results] == [False, False, True, False, False, False]
    assert (begun.count(2), begun.count(3)) == (2, 2)
    assert results[2].reason == DIED
    assert len(results[2].epochs) == 1, "an epoch that was told twice is one"
    assert sorted(lab.watching.warnings) == sorted(
        [f"trial 2 failed: {DIED}", *[f"{DIED}; what it was doing begins again"] * 2]
    )
    assert lab.restarts == 3
    assert len(lab.trainers) == 2
    assert all(trainer.closed for trainer in lab.trainers)
    assert not lab.folder.error_file(2).exists()


def test_a_trial_over_its_time_is_given_up(new_lab, monkeypatch):
    """Its trainer is replaced, and the search goes on; the baseline has no limit."""
    lab = new_lab(NO_STOPPING, ONE_WORKER, "search.minutes_per_trial=2")
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    patience = []

    def wait(trainers: list[FakeTrainer], *, timeout: float | None) -> list[FakeTrainer]:
        (trainer,) = trainers
        hangs = isinstance(trainer.task, Task) and trainer.task.result.number == 2
        if isinstance(trainer.task, Task):
            patience.append((trainer.task.result.number, timeout))
        clock[0] += 121 if hangs else 1
        return [] if hangs else trainers

    lab.wait = wait
    lab.folder.checkpoint_file(2).write_bytes(b"where it stood")
    results = lab.run(3)
    assert [result.outcome.name for result in results] == ["COMPLETE", "COMPLETE", "FAILED", "COMPLETE"]
    assert results[2].reason == "not done after search.minutes_per_trial, 2 minutes"
    assert lab.restarts == 1
    assert not lab.folder.checkpoint_file(2).exists()
    assert {timeout for number, timeout in patience if number == 0} == {None}
    assert next(timeout for number, timeout in patience if number == 1) == 120


@pytest.mark.usefixtures("repeats_the_reference")
def test_a_failed_configuration_may_be_tried_again(new_lab):
    def fails(task: Task) -> Play:
        yield Failed(reason="no luck")

    lab = new_lab(
        NO_STOPPING,
        ONE_WORKER,
        "search.references=[{weight_bits: 4, membrane_levels: 3}]",
    )
    lab.plays[1] = fails
    results = lab.run(2)
    assert results[2].config == results[1].config
    assert results[2].outcome is Outcome.COMPLETE


def test_a_diverged_candidate_is_one_trial_less(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.plays[2] = diverges
    results = lab.run(3)
    assert len(results) == 4
    assert results[2].outcome is Outcome.DIVERGED
    assert lab.states()[2] == "PRUNED"


def test_notes_are_shown_once(new_lab):
    def notes(task: Task) -> Play:
        yield TrainerWarning(text="neurons run uncompiled")
        yield from trains(task)

    def tests_with_a_note(task: TestTask) -> Play:
        yield TrainerWarning(text="neurons run uncompiled")
        yield from measures(task)

    lab = new_lab(NO_STOPPING)
    lab.plays = {1: notes, 2: notes}
    lab.test_plays = {0: tests_with_a_note}
    assert [result.outcome for result in lab.run(2)] == [Outcome.COMPLETE] * 3
    assert lab.watching.warnings == ["neurons run uncompiled"]
    assert 0 in read_test_accuracies(lab.folder)
