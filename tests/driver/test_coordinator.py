"""The coordinator, with trainers that replay learning curves: whole searches, limits, kills and resumption."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
from driver.lab import NO_STOPPING, ONE_WORKER, Killed, Play, dies_here, plain, trains
from optuna.trial import TrialState

from spquant_search.driver.coordinator import Limits
from spquant_search.driver.seeds import trial_seed
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import Study
from spquant_search.runs.records import read_profile, read_result, read_results, read_test_accuracies
from spquant_search.runs.results import Outcome
from spquant_search.training.tasks import Task, TestTask
from spquant_search.workers import messages
from spquant_search.workers.messages import Failed, Trained


def test_baseline_alone_then_references_then_proposals(new_lab):
    lab = new_lab(NO_STOPPING)
    results = lab.run(6)
    assert [result.number for result in results] == list(range(7))
    assert [result.origin for result in results] == ["baseline", "reference", "reference", *["tpe"] * 4]
    assert all(result.outcome is Outcome.COMPLETE for result in results)
    assert read_results(lab.folder) == results
    assert lab.watching.begun[0] == lab.watching.ended[0] == 0
    assert sorted(lab.watching.ended) == list(range(7))
    assert lab.most_busy == 2
    assert lab.states() == ["COMPLETE"] * 7
    assert all(trainer.closed for trainer in lab.trainers)


def test_tasks_say_all_that_a_trainer_needs(new_lab):
    lab = new_lab(NO_STOPPING, "search.seed=5", "train.epochs=3", "train.baseline_epochs=4")
    lab.run(2)
    baseline, candidate, _ = lab.tasks
    recipe = lab.prepared.space.file.train
    assert baseline.initial_weights == ()
    assert (baseline.schedule.epochs, baseline.schedule.learning_rate) == (4, recipe.baseline_learning_rate)
    assert baseline.weights_file == lab.folder.weights_file(0)
    assert candidate.initial_weights == (lab.folder.weights_file(0),)
    assert (candidate.schedule.epochs, candidate.schedule.learning_rate) == (3, recipe.learning_rate)
    assert candidate.weights_file == lab.folder.weights_file(1)
    assert [task.result.seed for task in lab.tasks] == [trial_seed(5, number) for number in range(3)]
    # Costs are known before any training.
    assert candidate.result.memory_bytes > 0
    assert candidate.result.dense_macs == baseline.result.dense_macs > 0
    assert candidate.result.epochs == ()


def test_dashboard_attributes_are_told(new_lab):
    lab = new_lab(NO_STOPPING)
    lab.run(2)
    told = lab.trials()[1].user_attrs
    assert told["origin"] == "reference"
    assert told["memory_reduction"] > 1
    assert told["outcome"] == "COMPLETE"


def test_limits():
    assert not Limits(trials=3).reached(2)
    assert Limits(trials=3).reached(3)
    assert Limits(trials=3, deadline=time.monotonic() - 1).reached(0)
    assert not Limits(trials=3, deadline=time.monotonic() + 60).reached(0)


def test_after_the_deadline_no_trial_begins_but_the_baseline_does(new_lab):
    lab = new_lab()
    results = lab.run(5, deadline=0.0)
    assert [result.origin for result in results] == ["baseline"]
    assert read_test_accuracies(lab.folder) == {0: 0.0}


def test_trials_in_work_end_after_the_deadline(new_lab, monkeypatch):
    lab = new_lab(NO_STOPPING)
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(task: Task) -> Play:
        now[0] = 100.0
        yield from trains(task)

    lab.plays[2] = passes
    assert [result.number for result in lab.run(9, deadline=50.0)] == [0, 1, 2]


def test_more_trials_may_follow_later(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    first = lab.run(2)
    assert lab.run(2) == first
    assert lab.trained == [0, 1, 2]
    assert lab.run(4)[:3] == first
    assert lab.trained == [0, 1, 2, 3, 4]
    whole = new_lab(NO_STOPPING, ONE_WORKER, name="whole")
    assert whole.run(4) == read_results(lab.folder)


@pytest.mark.parametrize("number", [0, 1, 2, 4])
def test_a_killed_search_goes_on_under_the_same_numbers_to_the_same_results(new_lab, number):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.plays[number] = dies_here
    with pytest.raises(Killed):
        lab.run(5)
    assert all(trainer.closed for trainer in lab.trainers)
    done = {result.number for result in read_results(lab.folder)}
    assert number not in done
    lab.plays.clear()
    lab.tasks.clear()
    results = lab.run(5)
    assert lab.trained[0] == number
    assert not done & set(lab.trained)
    whole = new_lab(NO_STOPPING, ONE_WORKER, name="whole")
    assert list(map(plain, whole.run(5))) == list(map(plain, results))
    assert lab.states() == whole.states() == ["COMPLETE"] * 6


def test_two_trials_in_work_when_killed_both_come_back(new_lab):
    lab = new_lab(NO_STOPPING)
    lab.plays[2] = dies_here
    with pytest.raises(Killed):
        lab.run(4)
    assert [result.number for result in read_results(lab.folder)] == [0]
    lab.plays.clear()
    lab.tasks.clear()
    lab.run(4)
    assert lab.trained == [1, 2, 3, 4]


def test_killed_between_result_and_study_is_told_and_not_trained_again(new_lab, monkeypatch):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    real = Study.tell

    def dies_before_telling(study: Study, asked, result, attributes) -> None:
        if result.number == 2:
            raise Killed
        real(study, asked, result, attributes)

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", dies_before_telling)
        with pytest.raises(Killed):
            lab.run(3)
    stored = read_result(lab.folder, 2)
    assert stored is not None
    assert lab.trials()[2].state is TrialState.RUNNING
    lab.tasks.clear()
    lab.watching.ended.clear()
    assert lab.run(3)[2] == stored
    assert lab.trained == [3]
    assert lab.states() == ["COMPLETE"] * 4
    # It is one of the run's earlier results, which the plan counts already.
    assert lab.watching.ended == [3]


def test_the_baseline_killed_between_result_and_study(new_lab, monkeypatch):
    lab = new_lab(NO_STOPPING, ONE_WORKER)

    def dies_before_telling(*_arguments: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Study, "tell", dies_before_telling)
        with pytest.raises(Killed):
            lab.run(2)
    lab.tasks.clear()
    lab.run(2)
    assert lab.trained == [1, 2]
    assert lab.states() == ["COMPLETE"] * 3


def test_candidates_from_scratch_start_from_their_seed(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER, "search.strategy=scratch")
    lab.run(2)
    assert [task.initial_weights for task in lab.tasks] == [(), (), ()]
    warm = new_lab(NO_STOPPING, ONE_WORKER, name="warm")
    warm.run(2)
    baseline = (warm.folder.weights_file(0),)
    assert [task.initial_weights for task in warm.tasks] == [(), baseline, baseline]
    # Who starts from the baseline imitates it.
    assert [task.teacher_weights for task in lab.tasks] == [None] * 3
    assert [task.teacher_weights for task in warm.tasks] == [None, *baseline, *baseline]
    labels = new_lab(NO_STOPPING, ONE_WORKER, "train.distillation=0", name="labels")
    labels.run(1)
    assert [task.teacher_weights for task in labels.tasks] == [None] * 2


@pytest.mark.parametrize("fails", ["second trainer", "study"])
def test_trainers_are_ended_and_the_storage_closed_whatever_fails_at_the_start(new_lab, monkeypatch, fails):
    lab = new_lab(NO_STOPPING, "search.workers=3")
    closed = []

    class Closing(Journal):
        def close(self) -> None:
            closed.append(self)

    def no_study(*_arguments: object, **_more: object) -> None:
        raise MemoryError

    if fails == "study":
        monkeypatch.setattr("spquant_search.driver.search.Study", no_study)
    else:
        make = lab.make_trainer
        monkeypatch.setattr(lab, "make_trainer", lambda config: no_study() if len(lab.trainers) == 1 else make(config))
    with pytest.raises(MemoryError):
        lab.run(2, storage=Closing(lab.folder.study_file))
    assert len(lab.trainers) == (3 if fails == "study" else 1)
    assert all(trainer.closed for trainer in lab.trainers)
    assert len(closed) == 1


def test_a_profile_counts_what_a_replaced_trainer_spent(new_lab):
    """Every process counts from 0, and says what it spent with its results."""

    def spends(task: Task) -> Play:
        for message in trains_alone(task):
            yield replace(message, seconds={"training": 5.0}) if isinstance(message, Trained) else message

    def trains_alone(task: Task) -> Play:
        play, answer = trains(task), None
        while True:
            try:
                message = play.send(answer)
            except StopIteration:
                return
            answer = yield message

    def fails(task: Task) -> Play:
        yield Failed(reason="RuntimeError", detail="Traceback ...")

    def tests(task: TestTask) -> Play:
        yield messages.Tested(number=task.number, accuracy=0.5, seconds={"training": 5.0})

    lab = new_lab(NO_STOPPING, ONE_WORKER, "search.references=[]")
    lab.plays = {0: spends, 1: fails, 2: spends}
    lab.test_plays = dict.fromkeys(range(3), tests)
    lab.run(2)
    assert read_profile(lab.folder)["trainer 1"]["training"] == 10.0
