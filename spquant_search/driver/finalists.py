"""The last fine-tuning of a front's members, each with several seeds.

Every seed is trained from the same weights and measured on both splits. The seed that is best on the validation split
is kept, if it is no worse than the member was before; mean and standard deviation over the seeds say how much of the
gain is luck. Each seed is recorded as soon as it is trained, and again when it is tested, so that a fine-tuning that is
killed goes on from there. Nothing that the search left is ever overwritten.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spquant_search.driver.seeds import finalize_seed, fine_tuning_seed
from spquant_search.errors import UserError
from spquant_search.runs.finals import (
    SEARCHED,
    Repeat,
    read_finals,
    read_repeat,
    read_repeats,
    read_searched_results,
    write_final,
    write_repeat,
)
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.pareto import reference_point
from spquant_search.runs.records import read_facts
from spquant_search.runs.results import BASELINE, EpochMetrics, FineTuning, Outcome, TrialResult
from spquant_search.runs.selection import Budget, front, select_finalists
from spquant_search.space.schema import SpaceFile
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import Task, TestTask
from spquant_search.workers.messages import Epoch, Failed, Message, Tested, Trained
from spquant_search.workers.pool import TrainerPool
from spquant_search.workers.trainer import Trainer

LONGER = 3  # times the epochs of a search's fine-tuning are those of `finalize`: these networks are to be deployed
Stage = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How members are fine-tuned; ``name``: of the folder with the results.

    ``schedule`` is that of a member with ``most_time_steps``; of one with fewer it has more epochs.
    """

    name: str
    schedule: Schedule
    most_time_steps: int
    seeds: int

    def schedule_of(self, member: TrialResult) -> Schedule:
        return self.schedule.at(member.config.time_steps, most=self.most_time_steps)


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalist:
    """A member of the front, and the weights from which its seeds start."""

    member: TrialResult
    weights: tuple[Path, ...]
    before: tuple[EpochMetrics, ...]  # measured of those weights before
    is_first: bool = False  # the member itself is the result of the first seed


def search_recipe(file: SpaceFile) -> Recipe:
    """Return the recipe of a search's own last stage."""
    return Recipe(
        name=SEARCHED,
        schedule=Schedule.of_finalists(file.final),
        most_time_steps=file.most_time_steps,
        seeds=file.final.seeds,
    )


def finalize_recipe(file: SpaceFile, *, epochs: int | None, seeds: int) -> Recipe:
    """Return the recipe of the command `finalize`; without ``epochs`` three times those of a search's last stage."""
    count = epochs or LONGER * file.final.epochs
    # With other gates a member would be another network, and be missing from the front.
    schedule = replace(Schedule.of_finalists(file.final, epochs=count), trains_gates=False)
    return Recipe(name=f"{count}-epochs", schedule=schedule, most_time_steps=file.most_time_steps, seeds=seeds)


def front_finalists(folder: RunFolder, file: SpaceFile, *, classes: int, members: int | None) -> tuple[Finalist, ...]:
    """Return the front's members as the search left them; at most ``members``, those that add most to it.

    Raises:
        UserError: the run has no front yet.
    """
    results = read_searched_results(folder)
    found = front(results, file.search.costs, Budget.of(file.constraints))
    if not found or results[BASELINE].outcome is not Outcome.COMPLETE:
        raise UserError(f"{folder.path}: no trial of this run is complete yet; start its search again")
    if members is not None:
        baseline = results[BASELINE]
        found = select_finalists(
            found,
            reference_point(baseline, file.search.costs, chance=1.0 / classes, dearest=read_facts(folder).dearest),
            Budget(),
            baseline_accuracy=baseline.accuracy,
            limit=members,
            margin=0.0,
        )
    return tuple(Finalist(member=member, weights=folder.weights_of(member), before=member.epochs) for member in found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    """A seed of a finalist that is to be trained, or, once it is trained, to be tested."""

    finalist: Finalist
    repeat: int
    trained: TrialResult | None = None

    @property
    def number(self) -> int:
        return self.finalist.member.number


class FineTuner:
    """The seeds of some finalists that are not trained and tested yet.

    ``stage`` is called with the progress, ``warn`` with what could not be done.
    """

    def __init__(
        self,
        finalists: Sequence[Finalist],
        recipe: Recipe,
        *,
        prepared: Prepared,
        folder: RunFolder,
        pool: TrainerPool,
        stage: Stage,
        warn: Callable[[str], None],
    ) -> None:
        self._recipe, self._file, self._folder, self._pool = recipe, prepared.space.file, folder, pool
        self._stage, self._warn, self._finalists = stage, warn, tuple(finalists)
        self._waiting: list[_Job] = []
        self._given: dict[Trainer, _Job] = {}
        # By seed: a trainer that begins a task again tells its epochs again.
        self._epochs_done: dict[tuple[int, int], int] = {}
        self._epochs_to_do = 0

    def run(self, is_late: Callable[[], bool] = lambda: False) -> tuple[int, ...]:
        """Fine-tune, and return the numbers of members that could not be finished. No seed begins once ``is_late``."""
        if self._finalists:
            self._folder.final_folder(self._recipe.name).make()
        for finalist in self._finalists:
            self._record_first_seed(finalist)
        self._waiting = [job for finalist in self._finalists for job in self._missing(finalist)]
        self._epochs_to_do = sum(
            self._recipe.schedule_of(job.finalist.member).epochs for job in self._waiting if job.trained is None
        )
        self._work_off(is_late)
        return tuple(finalist.member.number for finalist in self._finalists if not self._conclude(finalist))

    def _record_first_seed(self, finalist: Finalist) -> None:
        """Record as first seed a member that is its result."""
        name, number = self._recipe.name, finalist.member.number
        if finalist.is_first and read_repeat(self._folder, name, number, 0) is None:
            write_repeat(self._folder, name, 0, Repeat(result=finalist.member))

    def _missing(self, finalist: Finalist) -> Iterable[_Job]:
        """Yield the seeds of a finalist that are not trained or not tested."""
        for repeat in range(self._recipe.seeds):
            stored = read_repeat(self._folder, self._recipe.name, finalist.member.number, repeat)
            if stored is None:
                yield _Job(finalist=finalist, repeat=repeat)
            elif stored.result.outcome is Outcome.COMPLETE and stored.test_accuracy is None:
                yield _Job(finalist=finalist, repeat=repeat, trained=stored.result)

    def _work_off(self, is_late: Callable[[], bool]) -> None:
        while True:
            for trainer in self._pool.idle():
                if not self._waiting or is_late():
                    break
                self._begin(trainer, self._waiting.pop(0))
            if not self._pool.busy():
                return
            if self._epochs_to_do:
                done = sum(self._epochs_done.values())
                self._stage("fine-tuning the front, epochs done:", done, self._epochs_to_do)
            for trainer, message in self._pool.messages():
                self._listen(trainer, message, self._given[trainer])

    def _begin(self, trainer: Trainer, job: _Job) -> None:
        self._given[trainer] = job
        trainer.give(self._training(job) if job.trained is None else self._test(job))
        minutes = self._file.search.minutes_per_trial
        if minutes is not None:
            # The limit is one of a trial; what `finalize` trains longer may take longer.
            longer = max(1.0, self._recipe.schedule.epochs / self._file.final.epochs)
            self._pool.limit_time(trainer, minutes, times=longer)

    def _listen(self, trainer: Trainer, message: Message, job: _Job) -> None:
        if isinstance(message, Epoch):
            told = self._epochs_done.get((job.number, job.repeat), 0)
            self._epochs_done[job.number, job.repeat] = max(told, message.metrics.epoch)
            trainer.answer(None)
        elif isinstance(message, Trained):
            self._pool.mark_done(trainer, message.seconds)
            self._keep(job, Repeat(result=message.result))
            if message.result.outcome is Outcome.COMPLETE:
                self._waiting.insert(0, replace(job, trained=message.result))
        elif isinstance(message, Tested) and job.trained is not None:
            self._pool.mark_done(trainer, message.seconds)
            self._keep(job, Repeat(result=job.trained, test_accuracy=message.accuracy))
        elif isinstance(message, Failed):
            self._pool.mark_failed(trainer, message)
            self._warn(f"trial {job.number} could not be fine-tuned with seed {job.repeat + 1}: {message.reason}")

    def _keep(self, job: _Job, repeat: Repeat) -> None:
        write_repeat(self._folder, self._recipe.name, job.repeat, repeat)
        self._conclude(job.finalist)  # with its last seed, whatever becomes of the other members

    def _training(self, job: _Job) -> Task:
        member = job.finalist.member
        seed = self._seed(job)
        has_no_teacher = member.number == BASELINE or self._file.search.strategy == "scratch"
        imitates = not has_no_teacher and self._file.train.distillation > 0
        return Task(
            result=replace(member, seed=seed, outcome=Outcome.FAILED, reason="not finished", epochs=(), layers=()),
            schedule=self._recipe.schedule_of(member),
            initial_weights=job.finalist.weights,
            weights_file=self._folder.final_folder(self._recipe.name).repeat_weights(member.number, job.repeat),
            teacher_weights=self._folder.weights_file(BASELINE) if imitates else None,
        )

    def _seed(self, job: _Job) -> int:
        seed, number = self._file.search.seed, job.number
        if self._recipe.name == SEARCHED:
            return fine_tuning_seed(seed, number, job.repeat)
        return finalize_seed(seed, number, job.repeat, epochs=self._recipe.schedule.epochs)

    def _test(self, job: _Job) -> TestTask:
        return TestTask(number=job.number, config=job.finalist.member.config, weights=(self._weights(job),))

    def _weights(self, job: _Job) -> Path:
        if job.finalist.is_first and job.repeat == 0:
            return self._folder.weights_file(job.number)
        return self._folder.final_folder(self._recipe.name).repeat_weights(job.number, job.repeat)

    def _conclude(self, finalist: Finalist) -> bool:
        """Record the result of a member and delete weights that are not kept; return False where seeds are missing."""
        name, number = self._recipe.name, finalist.member.number
        if any(True for _ in self._missing(finalist)):
            return False
        repeats = read_repeats(
            self._folder, name, number
        )  # perhaps more seeds than are asked for, from an earlier start
        kept = self._best(finalist, repeats)
        result = self._final_result(finalist, repeats, kept)
        if result != read_finals(self._folder, name).get(number):
            write_final(self._folder, name, result)
        for repeat in repeats:
            if repeat != kept:
                self._folder.final_folder(name).repeat_weights(number, repeat).unlink(missing_ok=True)
        return True

    def _best(self, finalist: Finalist, repeats: dict[int, Repeat]) -> int | None:
        """Return the seed to keep; None where no seed is better than the member is."""
        member, budget = finalist.member, Budget.of(self._file.constraints)
        is_within = not budget.excess(member)
        accuracies = {
            number: repeat.result.accuracy
            for number, repeat in repeats.items()
            if repeat.result.outcome is Outcome.COMPLETE
            and repeat.result.accuracy >= member.accuracy
            and not (is_within and budget.excess(repeat.result))
            and not (finalist.is_first and (number == 0 or repeat.result.accuracy == member.accuracy))
        }
        return max(accuracies, key=lambda number: accuracies[number]) if accuracies else None

    def _final_result(self, finalist: Finalist, repeats: dict[int, Repeat], kept: int | None) -> TrialResult:
        member, name = finalist.member, self._recipe.name
        complete = [repeat for repeat in repeats.values() if repeat.result.outcome is Outcome.COMPLETE]
        on_validation = [repeat.result.accuracy for repeat in complete]
        on_test = [repeat.test_accuracy for repeat in complete if repeat.test_accuracy is not None]
        final = FineTuning(
            epochs=self._recipe.schedule_of(member).epochs,
            seeds=len(complete),
            validation_mean=statistics.fmean(on_validation) if complete else None,
            validation_std=statistics.stdev(on_validation) if len(complete) > 1 else None,
            test_mean=statistics.fmean(on_test) if on_test else None,
            test_std=statistics.stdev(on_test) if len(on_test) > 1 else None,
            improved=kept is not None or finalist.is_first,
        )
        if kept is None:
            earlier = member.final  # of the search's own last stage
            if earlier is not None:
                final = replace(final, weights=earlier.weights, test_accuracy=earlier.test_accuracy)
            return replace(member, final=final)
        best = repeats[kept]
        before = finalist.before
        first = before[-1].epoch + 1 if before else 1
        epochs = tuple(replace(metrics, epoch=first + i) for i, metrics in enumerate(best.result.epochs))
        file = self._folder.final_folder(name).repeat_weights(member.number, kept)
        return replace(
            best.result,
            seed=member.seed,
            epochs=(*before, *epochs),
            seconds=member.seconds + best.result.seconds,
            final=replace(final, weights=str(file.relative_to(self._folder.path)), test_accuracy=best.test_accuracy),
        )
