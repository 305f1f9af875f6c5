"""What several coordinators decide on one run, and proposals that are not tried."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import optuna
import pytest
from driver.lab import NO_STOPPING, ONE_WORKER, TWO_CONFIGURATIONS, Dead, Play, trains
from examples import epoch
from long_forms import LONG
from optuna.trial import FrozenTrial

from spquant_search.driver import trial_book
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.study import Study, study_in
from spquant_search.runs.records import read_result, write_result
from spquant_search.runs.results import Origin, Outcome, TrialResult
from spquant_search.training.tasks import Task
from spquant_search.workers.messages import Epoch


@pytest.mark.usefixtures("repeats_the_reference")
def test_a_duplicate_is_recorded_and_not_trained_and_does_not_count(new_lab):
    reference = "search.references=[{weight_bits: 4, membrane_levels: 3}]"
    lab = new_lab(NO_STOPPING, ONE_WORKER, reference)
    results = lab.run(2)
    assert [result.outcome.name for result in results] == ["COMPLETE", "COMPLETE", "DUPLICATE", "COMPLETE"]
    assert results[2].reason == "same configuration as trial 1"
    assert results[2].config == results[1].config
    assert results[2].memory_bytes == results[1].memory_bytes
    assert results[2].epochs == ()
    assert lab.trained == [0, 1, 3]
    assert lab.states()[2] == "PRUNED"
    assert read_result(lab.folder, 2) == results[2]


@pytest.mark.parametrize("count", ["1", "3"])
def test_an_exhausted_space_ends_the_search(new_lab, count):
    lab = new_lab(*TWO_CONFIGURATIONS, f"search.workers={count}")
    results = lab.run(50)
    assert sum(result.outcome is Outcome.COMPLETE for result in results) == 3
    assert lab.run(50) == results


def test_a_space_of_the_float_network_alone_ends_too(new_lab):
    lab = new_lab("layers={all: {weight_bits: 32}}", "search.references=[]", ONE_WORKER)
    assert len(lab.run(5)) == 1
    assert lab.trained == [0]


def test_a_space_that_has_the_float_network_is_exhausted_without_it(new_lab):
    layers = "layers={all: {weight_bits: 32}, conv1: {weight_bits: [4, 32]}}"
    lab = new_lab(layers, "search.references=[]", "search.sampler=random", ONE_WORKER)
    results = lab.run(5)
    assert lab.trained == [0, results[-1].number]
    assert all(result.outcome is Outcome.DUPLICATE for result in results[1:-1]), "until the other one was drawn"
    assert lab.run(5) == results


@pytest.mark.parametrize("strategy", ["supernet", "warm-start"])
def test_a_search_that_gave_up_gives_up_again(new_lab, monkeypatch, strategy):
    """Also behind what it has fine-tuned since."""
    monkeypatch.setattr(trial_book, "MAX_DUPLICATES_IN_A_ROW", 3)
    lab = new_lab(
        "layers={all: {weight_bits: 4, membrane_levels: 3}, conv1: {weight_bits: [2, 4, 8]}}",
        "search.references=[{weight_bits: 4, membrane_levels: 3}]",
        *(
            "search.sampler=random",
            "search.budget_ladder=0",
            f"search.strategy={strategy}",
            "search.seed=4",
            ONE_WORKER,
        ),
    )
    monkeypatch.setattr(Study, "_sampler", lambda self, _number: Repeats())
    results = lab.run(50)
    assert sum(result.outcome is Outcome.DUPLICATE for result in results) == 3
    assert any(result.origin is Origin.FINE_TUNED for result in results) is (strategy == "supernet")
    assert lab.run(50) == results


class Repeats(optuna.samplers.BaseSampler):
    """Proposes the same thing for ever."""

    def infer_relative_search_space(self, study, trial):
        return {}

    def sample_relative(self, study, trial, search_space):
        return {}

    def sample_independent(self, study, trial, param_name, param_distribution):
        return param_distribution.choices[1]


@pytest.mark.usefixtures("repeats_the_reference")
def test_a_duplicate_of_a_trial_in_work_is_seen(new_lab):
    lab = new_lab(NO_STOPPING, "search.references=[{weight_bits: 4, membrane_levels: 3}]")
    results = lab.run(2)
    assert results[2].outcome is Outcome.DUPLICATE
    assert results[2].reason == "same configuration as trial 1"


@pytest.mark.parametrize("dying", [0, 2])
def test_what_a_dead_coordinator_was_at_work_on_is_taken_over(new_lab, dying):
    """The baseline as well; and a trial that is taken over is not a second one of its own configuration."""

    def dies(task: Task) -> Play:
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        raise KeyboardInterrupt

    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.plays[dying] = dies
    with pytest.raises(KeyboardInterrupt):
        lab.run(3, storage=Dead(lab.folder.study_file))
    del lab.plays[dying]
    results = lab.run(3, storage=Dead(lab.folder.study_file))
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert all(result.outcome is Outcome.COMPLETE for result in results)
    assert lab.trained.count(dying) == 2


def test_a_coordinator_whose_trial_another_has_finished_leaves_it_as_it_is(new_lab):
    """It was not heard of for long. It goes on with others, and the weights stay those that were measured."""
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    taken: list[TrialResult] = []

    class Late(Dead):
        """A study in which trial 2 is another coordinator's after its first epoch, and over."""

        def is_mine(self, trial: FrozenTrial) -> bool:
            return super().is_mine(trial) and not (taken and trial.number == 2)

    def is_finished_by_another(task: Task) -> Play:
        play = trains(task)
        yield next(play)
        lab.folder.weights_file(2).write_bytes(b"another's")
        taken.append(replace(task.result, outcome=Outcome.COMPLETE, reason="complete", epochs=(epoch(1, 0.6, 1e6),)))
        write_result(lab.folder, taken[0])
        study_in(Journal(lab.folder.study_file)).tell(2, [0.6, 1.0, 1.0])
        yield from play

    lab.plays[2] = is_finished_by_another
    results = lab.run(3, storage=Late(lab.folder.study_file))
    assert results[2] == taken[0]
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert any("trial 2: another coordinator took it over" in words for words in lab.watching.warnings)
    assert lab.folder.weights_file(2).read_bytes() == b"another's"
    assert lab.folder.weights_file(3).read_bytes() == b"weights"
    assert not list(lab.folder.path.rglob("*.tmp"))


@pytest.mark.parametrize("is_queued", [False, True])
def test_a_trial_whose_coordinator_died_asking_for_it_counts_as_begun(new_lab, is_queued):
    """It is taken over only once its coordinator is known to be dead; meanwhile no other is asked for in its place."""

    class Slow(Dead):
        """Takes a trial for abandoned only when it is seen for the third time."""

        seen = 0

        def is_abandoned(self, trial: FrozenTrial) -> bool:
            self.seen += super().is_abandoned(trial)
            return self.seen > 3 and super().is_abandoned(trial)

    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.run(2)
    study = study_in(Journal(lab.folder.study_file))
    if is_queued:
        study.enqueue_trial({}, user_attrs={"origin": "budget ladder"})
    study.ask()  # and nothing more: no value is suggested
    results = lab.run(3, storage=Slow(lab.folder.study_file))
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert all(result.outcome is Outcome.COMPLETE for result in results)


def test_a_trial_whose_coordinator_died_before_telling_it_counts_as_done(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    first = lab.run(1)[1]
    asked = lab.study().ask()
    written = replace(first, number=asked.number, config=asked.config)

    class Writing(Dead):
        """The other coordinator gets as far as to write its result once this one has begun."""

        def is_abandoned(self, trial: FrozenTrial) -> bool:
            lab.folder.weights_file(asked.number).write_bytes(b"weights")
            write_result(lab.folder, written)
            return super().is_abandoned(trial)

    results = lab.run(2, storage=Writing(lab.folder.study_file))
    assert results[2:] == (written,), "no other is tried in its place"
    assert lab.trained.count(asked.number) == 0
    assert lab.study().finished() == (0, 1, 2)


class Lost(Exception):
    """The lock of decisions is gone."""


class Losing(Journal):
    """A shared study whose lock of decisions is lost once, before what is written to it for the ``at``-th time."""

    is_shared = True

    def __init__(self, journal: Path, at: int) -> None:
        super().__init__(journal)
        self._deciding, self._claimed, self.writes, self.losses = False, set[int](), 0, 0
        append = self._file.append_logs

        def loses(logs: list[dict[str, object]]) -> None:
            self.writes += self._deciding
            if self._deciding and self.writes == at:
                self.losses += 1
                raise Lost
            append(logs)

        self._file.append_logs = loses

    def decide(self, body):
        if self._deciding:
            return body()
        while True:
            before = set(self._mine)
            self._deciding = True
            try:
                return super().decide(body)
            except Lost:
                self._mine &= before
            finally:
                self._deciding = False

    def claim(self, trial_id: int) -> None:
        super().claim(trial_id)
        self._claimed.add(trial_id)

    def is_mine(self, trial: FrozenTrial) -> bool:
        return trial._trial_id in self._claimed


def survives_a_loss(new_lab, at: int) -> bool:
    """Search while the lock is lost before the ``at``-th write; return whether there were so many."""
    lab = new_lab(NO_STOPPING, ONE_WORKER, "search.sampler=random", name=f"at {at}")
    storage = Losing(lab.folder.study_file, at)
    results = lab.run(3, storage=storage)
    assert [result.number for result in results] == [0, 1, 2, 3]
    assert all(result.outcome is Outcome.COMPLETE for result in results), at
    assert lab.trained == [0, 1, 2, 3]
    assert lab.watching.ended == [0, 1, 2, 3]
    assert lab.watching.warnings == []
    assert lab.states() == ["COMPLETE"] * 4
    assert not list(lab.folder.path.rglob("*.draft"))
    return bool(storage.losses)


@pytest.mark.parametrize("at", [2, 7, 15, 30])
def test_a_decision_whose_lock_is_lost_is_made_again(new_lab, at):
    """Nothing of it is written from there on; and no trial is lost, trained twice, or told twice."""
    assert survives_a_loss(new_lab, at)


@pytest.mark.slow
def test_a_decision_whose_lock_is_lost_at_any_point_is_made_again(new_lab):
    at, every = 1, 1 if LONG else 3
    while survives_a_loss(new_lab, at):
        at += every
    assert at > 40
