"""The last fine-tuning, with trainers that replay: what is trained, kept, tested, resumed and shown."""

from __future__ import annotations

import re
import statistics
import time
from dataclasses import replace
from pathlib import Path

import pytest
from driver.lab import NO_STOPPING, ONE_WORKER, SUPERNET, TINY, Killed, Lab, Play, trains
from examples import epoch, example_run, trial
from pydantic import TypeAdapter

from spquant_search.driver.finalists import FineTuner, finalize_recipe, front_finalists, search_recipe
from spquant_search.driver.seeds import finalize_seed, fine_tuning_seed
from spquant_search.errors import UserError
from spquant_search.report.front_table import front_table
from spquant_search.report.run_summary import summarize_run
from spquant_search.runs.finals import TestUse, count_tests, read_latest_results, read_latest_test_accuracies
from spquant_search.runs.records import read_results, read_test_accuracies
from spquant_search.runs.results import FineTuning, Outcome, TrialResult
from spquant_search.runs.selection import front
from spquant_search.space.objectives import DEFAULT_COSTS
from spquant_search.training.prepare import prepare
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import Task, TestTask
from spquant_search.workers import messages
from spquant_search.workers.messages import Epoch, Failed, Trained
from spquant_search.workers.pool import TrainerPool


class Finalizing(Lab):
    """A lab that also fine-tunes; ``gains``: what each seed adds to its member's accuracy."""

    gains = (0.0, 0.02, 0.01, 0.03, 0.0)

    def finalize(self, **options) -> tuple[int, ...]:
        self.tasks.clear()
        self.tested.clear()
        file = self.prepared.space.file
        finalists = front_finalists(self.folder, file, classes=10, members=options.pop("members", None))
        recipe = finalize_recipe(file, **{"epochs": None, "seeds": 3, **options})
        workers, warn = file.search.workers, self.watching.warning
        pool = TrainerPool(self.trainer_config(), workers, warn=warn, source=self)
        try:
            return FineTuner(
                finalists,
                recipe,
                prepared=self.prepared,
                folder=self.folder,
                pool=pool,
                stage=self.watching.stage,
                warn=self.watching.warning,
            ).run()
        finally:
            pool.close()

    def tunes(self, task: Task) -> Play:
        accuracy = self.of(task.result.number).accuracy + self.gains[repeat_of(task.weights_file)]
        yield from trains(task, [accuracy] * task.schedule.epochs)

    def of(self, number: int, results: tuple[TrialResult, ...] | None = None) -> TrialResult:
        return next(result for result in results or read_results(self.folder) if result.number == number)

    def searched(self, trials: int = 3) -> list[int]:
        """Search, and from now on fine-tune; the front's numbers."""
        results = self.run(trials)
        members = [member.number for member in front(results, DEFAULT_COSTS)]
        self.plays = dict.fromkeys(members, self.tunes)
        self.test_plays = dict.fromkeys(members, on_test)
        return members

    def trained_seeds(self) -> list[tuple[int, int]]:
        return sorted((task.result.number, repeat_of(task.weights_file)) for task in self.tasks)


def repeat_of(weights: Path) -> int:
    return int(weights.stem.partition("-")[2])


def on_test(task: TestTask) -> Play:
    (weights,) = task.weights
    assert weights.is_file()
    yield messages.Tested(number=task.number, accuracy=0.5 + 0.1 * repeat_of(weights), seconds={})


@pytest.fixture
def new_lab(tmp_path):
    def make(*overrides: str, name: str = "run") -> Finalizing:
        return Finalizing(tmp_path / name, *overrides)

    return make


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------- what comes out


def test_every_member_is_trained_with_every_seed_and_the_best_is_kept(new_lab):
    lab = new_lab(NO_STOPPING, "final.epochs=2", "final.learning_rate=3e-4")
    members = lab.searched()
    before = read_results(lab.folder)
    assert lab.finalize() == ()
    assert lab.trained_seeds() == [(number, repeat) for number in sorted(members) for repeat in range(3)]
    for task in lab.tasks:
        number = task.result.number
        assert (task.schedule.epochs, task.schedule.learning_rate) == (6, 3e-4)  # three times as long
        assert task.initial_weights == (lab.folder.weights_file(number),)
        assert task.result.seed == finalize_seed(0, number, repeat_of(task.weights_file), epochs=6)
        assert task.teacher_weights == (None if number == 0 else lab.folder.weights_file(0))
    assert read_results(lab.folder) == before  # what the search left stays as it is
    latest = read_latest_results(lab.folder)
    for number in members:
        old, new = lab.of(number), lab.of(number, latest)
        assert new.accuracy == pytest.approx(old.accuracy + 0.02)
        assert new.trained_epochs == old.trained_epochs + 6
        assert [metrics.epoch for metrics in new.epochs] == list(range(1, new.trained_epochs + 1))
        assert lab.folder.weights_of(new) == (lab.folder.path / "final" / "6-epochs" / f"{number:04d}-1.safetensors",)
        assert read_latest_test_accuracies(lab.folder)[number] == pytest.approx(0.6)
        seeds = [old.accuracy + gain for gain in (0.0, 0.02, 0.01)]
        figures = new.final.figures()
        assert figures == pytest.approx(
            {
                **{"epochs": 6, "seeds": 3, "validation_mean": statistics.mean(seeds)},
                **{"validation_std": 0.01, "test_mean": 0.6, "test_std": 0.1},
            }
        )
    kept = sorted(path.name for path in (lab.folder.path / "final").rglob("*.safetensors"))
    assert kept == [f"{number:04d}-1.safetensors" for number in sorted(members)]
    assert not [result for result in latest if result.number not in members and result.final]


def test_the_same_command_again_does_nothing_more(new_lab):
    lab = new_lab(NO_STOPPING)
    lab.searched()
    lab.finalize()
    files = files_of(lab.folder.path)
    assert lab.finalize() == ()
    assert (lab.tasks, lab.tested) == ([], [])
    assert files_of(lab.folder.path) == files


@pytest.mark.parametrize("dies_in", ["training", "test"])
def test_killed_it_goes_on_where_it_stopped_to_the_same_result(new_lab, dies_in):
    whole = new_lab(NO_STOPPING, ONE_WORKER, name="whole")
    members = whole.searched()
    whole.finalize()

    lab = new_lab(NO_STOPPING, ONE_WORKER, name="killed")
    lab.searched()
    last = members[-1]

    def dies(task: Task | TestTask) -> Play:
        files = [task.weights_file] if isinstance(task, Task) else list(task.weights)
        if repeat_of(files[0]) == 1:
            raise Killed
        yield from lab.tunes(task) if isinstance(task, Task) else on_test(task)

    plays = lab.plays if dies_in == "training" else lab.test_plays
    (usual,) = {plays[last]}
    plays[last] = dies
    before = read_latest_results(lab.folder)
    with pytest.raises(Killed):
        lab.finalize()
    done = read_latest_results(lab.folder)
    # Members that were finished before are there; the one in work is as it was.
    assert lab.of(last, done) == lab.of(last, before)
    assert all(lab.of(number, done).final for number in members[:-1])
    plays[last] = usual
    lab.finalize()
    assert lab.trained_seeds() == [(last, repeat) for repeat in ((1, 2) if dies_in == "training" else (2,))]
    relative = {
        name: content for name, content in files_of(lab.folder.path / "final").items() if name.endswith("safetensors")
    }
    assert relative.keys() == {name for name in files_of(whole.folder.path / "final") if name.endswith("safetensors")}
    assert read_latest_results(lab.folder) == read_latest_results(whole.folder)


def test_a_member_that_only_gets_worse_keeps_its_weights_and_that_is_said(new_lab):
    lab = new_lab(NO_STOPPING)
    members = lab.searched()
    lab.gains = (-0.03, -0.01, -0.02)
    lab.finalize()
    for number in members:
        old, new = lab.of(number), lab.of(number, read_latest_results(lab.folder))
        assert replace(new, final=None) == old
        assert new.final.figures()["validation_mean"] == pytest.approx(old.accuracy - 0.02)
        assert lab.folder.weights_of(new) == lab.folder.weights_of(old)
        assert read_latest_test_accuracies(lab.folder)[number] == read_test_accuracies(lab.folder)[number]
    assert not list((lab.folder.path / "final").rglob("*.safetensors"))
    table = front_table(summarize_run(lab.folder)).plain()
    numbers = ", ".join(str(number) for number in members)
    assert re.search(rf"^no seed gave a network to keep .*: trial {numbers}$", table, re.M)


def test_more_seeds_train_the_missing_ones_and_fewer_none(new_lab):
    lab = new_lab(NO_STOPPING)
    members = lab.searched()
    lab.finalize(seeds=3)
    lab.finalize(seeds=2)
    assert lab.tasks == []
    lab.finalize(seeds=5)
    assert lab.trained_seeds() == [(number, repeat) for number in sorted(members) for repeat in (3, 4)]
    for number in members:
        new = lab.of(number, read_latest_results(lab.folder))
        assert new.final.seeds == 5
        assert new.accuracy == pytest.approx(lab.of(number).accuracy + 0.03)


def test_another_recipe_never_costs_what_an_earlier_one_has_gained(new_lab):
    lab = new_lab(NO_STOPPING)
    members = lab.searched()
    lab.finalize()
    first = read_latest_results(lab.folder)
    lab.gains = (0.0, 0.01, 0.005)
    lab.finalize(epochs=9)
    assert read_latest_results(lab.folder) == first
    lab.gains = (0.0, 0.05, 0.06)
    lab.finalize(epochs=12)
    for number in members:
        new = lab.of(number, read_latest_results(lab.folder))
        assert new.accuracy == pytest.approx(lab.of(number).accuracy + 0.06)
        assert new.final.epochs == 12


def test_at_most_so_many_members(new_lab):
    lab = new_lab(NO_STOPPING)
    members = lab.searched(6)
    lab.finalize(members=1)
    assert len({number for number, _ in lab.trained_seeds()}) == 1
    assert lab.trained_seeds()[0][0] in members
    table = front_table(summarize_run(lab.folder))
    assert sum("±" in "".join(row) for row in table.rows) <= 1


def test_seeds_that_diverge_or_fail(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    members = lab.searched()
    first, last = members[0], members[-1]

    def diverges(task: Task) -> Play:
        if repeat_of(task.weights_file) == 1:
            yield Trained(result=replace(task.result, outcome=Outcome.DIVERGED, reason="nan"), seconds={})
        yield from lab.tunes(task)

    def fails(task: Task) -> Play:
        yield Failed(reason="out of memory")

    lab.plays[first], lab.plays[last] = diverges, fails
    assert lab.finalize() == (last,)
    assert lab.watching.warnings[-3:] == [
        f"trial {last} could not be fine-tuned with seed {number}: out of memory" for number in (1, 2, 3)
    ]
    new = lab.of(first, read_latest_results(lab.folder))
    assert new.final.seeds == 2
    assert new.accuracy == pytest.approx(lab.of(first).accuracy + 0.01)
    assert lab.of(last, read_latest_results(lab.folder)).final is None
    lab.plays[last] = lab.tunes
    assert lab.finalize() == ()
    assert {number for number, _ in lab.trained_seeds()} == {last}


@pytest.mark.parametrize("hangs_in", [Task, TestTask])
def test_a_seed_that_hangs_is_given_up_and_told(new_lab, monkeypatch, hangs_in):
    """After the time of a trial, or as many times that as it is trained longer; the other members are finished."""
    lab = new_lab(NO_STOPPING, ONE_WORKER, "search.minutes_per_trial=2", "final.epochs=2")
    clock, members, patience = [0.0], list[int](), set()
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def wait(trainers, *, timeout):
        (trainer,) = trainers
        task = trainer.task
        patience.add(timeout)
        number = task.result.number if isinstance(task, Task) else task.number
        hangs = isinstance(task, hangs_in) and number in members[-1:]
        clock[0] += 361 if hangs else 1
        return [] if hangs else trainers

    lab.wait = wait
    members += lab.searched()
    patience.clear()
    restarts = lab.restarts
    assert lab.finalize(seeds=2) == (members[-1],)
    assert lab.watching.warnings[-2:] == [
        f"trial {members[-1]} could not be fine-tuned with seed {seed}: not done after 3 times "
        "search.minutes_per_trial, 6 minutes"
        for seed in (1, 2)
    ]
    assert lab.restarts == restarts + 2
    assert max(patience) == 6 * 60
    assert all(lab.of(number, read_latest_results(lab.folder)).final for number in members[:-1])


def test_an_epoch_that_is_told_again_is_one_of_the_progress(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER, "final.epochs=2")
    lab.searched()
    begun = []

    def dies_once(task: Task) -> Play:
        begun.append(task)
        yield Epoch(metrics=epoch(1, 0.5, 1e6))
        if len(begun) == 1:
            yield Failed(reason="gone", died=True)
        yield from lab.tunes(task)

    lab.plays = dict.fromkeys(lab.plays, dies_once)
    lab.finalize(seeds=1)
    shown = [(done, total) for text, done, total in lab.watching.stages if text.startswith("fine-tuning the front")]
    assert shown
    assert all(done <= total for done, total in shown)


def test_a_seed_over_budget_is_not_kept_for_a_member_within(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER, "constraints.effective_flops=2.1M", "search.references=[]")
    members = lab.searched()

    def sparse_no_more(task: Task) -> Play:
        play = lab.tunes(task)
        message = next(play)
        while True:
            if isinstance(message, Trained):
                epochs = tuple(replace(one, effective_macs=9e6) for one in message.result.epochs)
                message = replace(message, result=replace(message.result, epochs=epochs))
            answer = yield message
            message = play.send(answer)

    lab.plays = dict.fromkeys(lab.plays, sparse_no_more)
    lab.finalize()
    assert [lab.of(number, read_latest_results(lab.folder)).accuracy for number in members] == [
        lab.of(number).accuracy for number in members
    ]


def test_a_run_without_a_front(new_lab):
    lab = new_lab(NO_STOPPING)
    with pytest.raises(UserError, match="no trial of this run is complete yet; start its search again"):
        lab.finalize()


# ---------------------------------------------------------------- a search's own last stage


def test_a_search_fine_tunes_its_finalists_with_several_seeds(new_lab):
    lab = new_lab(*SUPERNET, "final.seeds=3")
    lab.gains = (0.0, 0.02, 0.01)
    lab.plays = {6: tunes_of_search(lab), 7: tunes_of_search(lab)}
    lab.test_plays = {6: any_test, 7: any_test}
    results = lab.run(5)
    assert lab.trained == [0, 6, 7, 6, 6, 7, 7]
    again = lab.tasks[3:]
    assert [repeat_of(task.weights_file) for task in again] == [1, 2, 1, 2]
    for task in again:
        assert task.result.seed == fine_tuning_seed(0, task.result.number, repeat_of(task.weights_file))
        parent = results[lab.of(task.result.number).parent]
        assert task.initial_weights == lab.folder.weights_of(parent)
        assert task.schedule.epochs == 2
    latest = read_latest_results(lab.folder)
    for number in (6, 7):
        old, new = results[number], latest[number]
        assert new.accuracy == pytest.approx(old.accuracy + 0.02)
        assert new.epochs[0] == results[old.parent].epochs[0]
        assert [metrics.epoch for metrics in new.epochs] == [0, 1, 2]
        assert (new.origin, new.parent) == ("fine-tuned", old.parent)
        assert (new.final.seeds, new.final.epochs) == (3, 2)
    lab.tasks.clear()
    assert lab.run(5) == results
    assert lab.tasks == []
    # `finalize` goes on from what the search kept.
    lab.plays = dict.fromkeys(range(8), lab.tunes)
    lab.test_plays = dict.fromkeys(range(8), on_test)
    lab.finalize()
    (starts,) = {task.initial_weights for task in lab.tasks if task.result.number == 6} or {None}
    if starts is not None:
        assert starts == lab.folder.weights_of(latest[6])


def tunes_of_search(lab: Finalizing):
    def play(task: Task) -> Play:
        repeat = repeat_of(task.weights_file) if "-" in task.weights_file.stem else 0
        yield from trains(task, [0.5 + lab.gains[repeat]] * task.schedule.epochs)

    return play


def any_test(task: TestTask) -> Play:
    yield messages.Tested(number=task.number, accuracy=0.5, seconds={})


def test_epochs_that_a_new_process_tells_again_count_once(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    members = lab.searched()
    died: list[Task] = []

    def dies_once(task: Task) -> Play:
        if not died:
            died.append(task)
            yield Epoch(metrics=epoch(1, 0.5, 1e6))
            yield Failed(reason="the trainer process ended with exit code -9", died=True)
        yield from lab.tunes(task)

    lab.plays[members[-1]] = dies_once
    lab.watching.stages.clear()
    assert lab.finalize() == ()
    assert died
    counts = [(done, total) for text, done, total in lab.watching.stages if text.startswith("fine-tuning")]
    assert {total for _, total in counts} == {3 * 3 * len(members)}  # seeds times epochs
    assert max(done for done, _ in counts) == 3 * 3 * len(members)
    assert [done for done, _ in counts] == sorted(done for done, _ in counts)


def test_every_use_of_the_test_split_is_counted(new_lab):
    lab = new_lab(NO_STOPPING, ONE_WORKER)
    lab.searched()
    searched = len(lab.tested)
    assert count_tests(lab.folder) == TestUse(baseline=1, members=searched - 1)
    lab.finalize(seeds=2)
    assert lab.tested
    assert count_tests(lab.folder) == TestUse(baseline=1, members=searched - 1, seeds=len(lab.tested))
    assert summarize_run(lab.folder).test_use.total == searched + len(lab.tested)


# ---------------------------------------------------------------- shown


def test_the_front_shows_means_and_deviations():
    final = FineTuning(
        epochs=3, seeds=3, validation_mean=0.85, validation_std=0.012, test_mean=0.84, test_std=None, improved=True
    )
    run = example_run(results=(trial(0, 0.9, 100, 50, origin="baseline"), replace(trial(2), final=final)))
    text = front_table(run).plain()
    assert "85.0 ±1.2" in text
    assert (
        "mean val, mean test: over the seeds of the last fine-tuning (3 x 3 epochs), ± one standard deviation over"
        in text
    )
    assert "±" not in front_table(example_run()).plain()


def test_fine_tuning_survives_json():
    final = FineTuning(
        epochs=3,
        seeds=1,
        validation_mean=0.8,
        validation_std=None,
        test_mean=0.7,
        test_std=None,
        improved=True,
        weights="final/3-epochs/0002-0.safetensors",
    )
    result = replace(trial(2), final=final, epochs=(epoch(1, 0.8, 1e6),))
    document = TypeAdapter(TrialResult)
    assert document.validate_json(document.dump_json(result), strict=True) == result


def test_gates_are_kept_also_where_the_search_has_trained_them():
    space = prepare(TINY, ("search.strategy=supernet", "final.train_gates=true", "final.epochs=2")).space
    recipe = finalize_recipe(space.file, epochs=None, seeds=3)
    assert recipe.schedule == Schedule(epochs=6, learning_rate=space.file.final.learning_rate, trains_gates=False)
    assert search_recipe(space.file).schedule.trains_gates


UNIFORM = "weight_bits: 4, membrane_levels: 3"


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_members_of_fewer_time_steps_are_fine_tuned_with_as_much_work(new_lab, steps: int) -> None:
    lab = new_lab(*SUPERNET, "time_steps=[1, 2, 4]", f"search.references=[{{{UNIFORM}, time_steps: {steps}}}]")
    results = lab.run(1)
    (tuned,) = (result for result in results if result.parent == 1)
    assert tuned.config.time_steps == steps
    assert [task.schedule.epochs for task in lab.tasks if task.result.number == tuned.number] == [2 * 4 // steps]
    recipe = finalize_recipe(lab.prepared.space.file, epochs=None, seeds=2)
    assert recipe.schedule_of(tuned).epochs == 6 * 4 // steps
    assert not recipe.schedule_of(tuned).trains_gates
    assert search_recipe(lab.prepared.space.file).schedule_of(tuned).epochs == 2 * 4 // steps
