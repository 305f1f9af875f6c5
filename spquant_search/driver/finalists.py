"""The last fine-tuning of a front's members, each with several seeds.

Every seed is trained from the same weights and measured on both splits. The seed that is best on the validation split
is kept, if it is no worse than what the member was; mean and standard deviation over the seeds say how much of that is
luck. Each seed is recorded as soon as it is trained, and again when it is tested, so that whatever is killed goes on
there; and nothing that the search left is ever written over.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spquant_search.driver.seeds import final_seed
from spquant_search.errors import UserError
from spquant_search.runs.folder import SEARCHED, Repeat, RunFolder
from spquant_search.runs.pareto import reference_point
from spquant_search.runs.results import BASELINE, EpochMetrics, FineTuning, Outcome, TrialResult
from spquant_search.runs.selection import Budget, front, select_finalists
from spquant_search.space.schema import SpaceFile
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import Task, TestTask
from spquant_search.workers.messages import Epoch, Failed, Message, Tested, Trained
from spquant_search.workers.pool import TrainerPool
from spquant_search.workers.process import Trainer

LONGER = 3  # epochs of `finalize`, of those that a search fine-tunes for: these networks are the ones to deploy
SEEDS = 3  # the fewest with a standard deviation that is more than a difference
Stage = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """How members are fine-tuned; ``name`` is that of the folder with what came out."""

    name: str
    schedule: Schedule
    seeds: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Finalist:
    """A member of the front, and what its seeds start from."""

    member: TrialResult
    weights: tuple[Path, ...]
    before: tuple[EpochMetrics, ...]  # what had been measured of those weights
    is_first: bool = False  # the member itself is what the first seed left


def recipe_of(file: SpaceFile, *, epochs: int | None, seeds: int) -> Recipe:
    """The recipe of the command `finalize`; without ``epochs`` three times those that the search fine-tunes for."""
    count = epochs or LONGER * file.final.epochs
    # A member that became another by its gates would be missing from the front.
    schedule = replace(Schedule.of_finalists(file.final, epochs=count), trains_gates=False)
    return Recipe(name=f"{count}-epochs", schedule=schedule, seeds=seeds)


def finalists_of(folder: RunFolder, file: SpaceFile, *, classes: int, members: int | None) -> tuple[Finalist, ...]:
    """The front's members as the search left them; at most ``members``, those that add most to it.

    Raises:
        UserError: the run has no front yet.
    """
    results = folder.searched_results()
    found = front(results, Budget.of(file.constraints))
    if not found or results[BASELINE].outcome is not Outcome.COMPLETE:
        raise UserError(f"{folder.path}: no trial of this run is complete yet; start its search again")
    if members is not None:
        baseline = results[BASELINE]
        found = select_finalists(
            found,
            reference_point(baseline, chance=1.0 / classes),
            Budget(),
            baseline_accuracy=baseline.accuracy,
            limit=members,
            margin=0.0,
        )
    return tuple(Finalist(member=one, weights=folder.weights_of(one), before=one.epochs) for one in found)


@dataclass(frozen=True, kw_only=True, slots=True)
class _Job:
    finalist: Finalist
    repeat: int
    trained: TrialResult | None = None  # then it is to be tested

    @property
    def number(self) -> int:
        return self.finalist.member.number


class FineTuner:
    """Does what is left of a recipe; ``stage`` and ``warn`` are told of it."""

    def __init__(
        self,
        finalists: Sequence[Finalist],
        recipe: Recipe,
        *,
        prepared: Prepared,
        folder: RunFolder,
        crew: TrainerPool,
        stage: Stage,
        warn: Callable[[str], None],
    ) -> None:
        self._recipe, self._file, self._folder, self._crew = recipe, prepared.space.file, folder, crew
        self._stage, self._warn, self._finalists = stage, warn, tuple(finalists)
        self._waiting = [job for one in finalists for job in self._missing(one)]
        self._given: dict[Trainer, _Job] = {}
        self._total = recipe.schedule.epochs * sum(job.trained is None for job in self._waiting)
        self._done = 0

    def _missing(self, finalist: Finalist) -> Iterable[_Job]:
        for repeat in range(self._recipe.seeds):
            stored = self._folder.repeat(self._recipe.name, finalist.member.number, repeat)
            if stored is None and finalist.is_first and repeat == 0:
                stored = Repeat(result=finalist.member)
                self._folder.write_repeat(self._recipe.name, repeat, stored)
            if stored is None:
                yield _Job(finalist=finalist, repeat=repeat)
            elif stored.result.outcome is Outcome.COMPLETE and stored.test_accuracy is None:
                yield _Job(finalist=finalist, repeat=repeat, trained=stored.result)

    def run(self, is_late: Callable[[], bool] = lambda: False) -> tuple[int, ...]:
        """Do it; the numbers of those members that could not be finished. Once ``is_late`` no further seed begins."""
        self._work_off(is_late)
        return tuple(one.member.number for one in self._finalists if not self.conclude(one))

    def _work_off(self, is_late: Callable[[], bool]) -> None:
        while True:
            for trainer in self._crew.idle():
                if not self._waiting or is_late():
                    break
                self._given[trainer] = job = self._waiting.pop(0)
                trainer.give(self._training(job) if job.trained is None else self._test(job))
            if not self._crew.busy():
                return
            if self._total:
                self._stage("fine-tuning the front, epochs done:", self._done, self._total)
            for trainer, message in self._crew.messages():
                self._listen(trainer, message, self._given[trainer])

    def _listen(self, trainer: Trainer, message: Message, job: _Job) -> None:
        if isinstance(message, Epoch):
            self._done += 1
            trainer.answer(None)
        elif isinstance(message, Trained):
            self._crew.ended(trainer, message.seconds)
            self._keep(job, Repeat(result=message.result))
            if message.result.outcome is Outcome.COMPLETE:
                self._waiting.insert(0, replace(job, trained=message.result))
        elif isinstance(message, Tested) and job.trained is not None:
            self._crew.ended(trainer, message.seconds)
            self._keep(job, Repeat(result=job.trained, test_accuracy=message.accuracy))
        elif isinstance(message, Failed):
            self._crew.failed(trainer, message)
            self._warn(f"trial {job.number} could not be fine-tuned with seed {job.repeat + 1}: {message.reason}")

    def _keep(self, job: _Job, repeat: Repeat) -> None:
        self._folder.write_repeat(self._recipe.name, job.repeat, repeat)
        self.conclude(job.finalist)  # as soon as its last seed is in, whatever becomes of the other members

    def _training(self, job: _Job) -> Task:
        member = job.finalist.member
        seed = final_seed(self._file.search.seed, member.number, job.repeat)
        alone = member.number == BASELINE or self._file.search.strategy == "scratch"
        imitates = not alone and self._file.train.distillation > 0
        return Task(
            result=replace(member, seed=seed, outcome=Outcome.FAILED, reason="not finished", epochs=(), layers=()),
            schedule=self._recipe.schedule,
            initial_weights=job.finalist.weights,
            weights_file=self._folder.repeat_weights(self._recipe.name, member.number, job.repeat),
            teacher_weights=self._folder.weights_file(BASELINE) if imitates else None,
        )

    def _test(self, job: _Job) -> TestTask:
        return TestTask(number=job.number, config=job.finalist.member.config, weights=(self._weights(job),))

    def _weights(self, job: _Job) -> Path:
        if job.finalist.is_first and job.repeat == 0:
            return self._folder.weights_file(job.number)
        return self._folder.repeat_weights(self._recipe.name, job.number, job.repeat)

    def conclude(self, finalist: Finalist) -> bool:
        """Record what came out for a member and let go of the weights that are not kept; False: it is not finished."""
        name, number = self._recipe.name, finalist.member.number
        if any(True for _ in self._missing(finalist)):
            return False
        repeats = self._folder.repeats(name, number)  # more than are asked for, perhaps, from an earlier start
        kept = self._best(finalist, repeats)
        concluded = self._concluded(finalist, repeats, kept)
        if concluded != self._folder.finals(name).get(number):
            self._folder.write_final(name, concluded)
        for repeat in repeats:
            if repeat != kept:
                self._folder.repeat_weights(name, number, repeat).unlink(missing_ok=True)
        return True

    def _best(self, finalist: Finalist, repeats: dict[int, Repeat]) -> int | None:
        """The seed to keep; None where the member is better off as it is."""
        member, budget = finalist.member, Budget.of(self._file.constraints)
        is_within = not budget.excess(member)
        worth = {
            number: repeat.result.accuracy
            for number, repeat in repeats.items()
            if repeat.result.outcome is Outcome.COMPLETE
            and repeat.result.accuracy >= member.accuracy
            and not (is_within and budget.excess(repeat.result))
            and not (finalist.is_first and (number == 0 or repeat.result.accuracy == member.accuracy))
        }
        return max(worth, key=lambda number: worth[number]) if worth else None

    def _concluded(self, finalist: Finalist, repeats: dict[int, Repeat], kept: int | None) -> TrialResult:
        member, name = finalist.member, self._recipe.name
        complete = [repeat for repeat in repeats.values() if repeat.result.outcome is Outcome.COMPLETE]
        on_validation = [repeat.result.accuracy for repeat in complete]
        on_test = [repeat.test_accuracy for repeat in complete if repeat.test_accuracy is not None]
        final = FineTuning(
            epochs=self._recipe.schedule.epochs,
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
        file = self._folder.repeat_weights(name, member.number, kept)
        return replace(
            best.result,
            seed=member.seed,
            epochs=(*before, *epochs),
            seconds=member.seconds + best.result.seconds,
            final=replace(final, weights=str(file.relative_to(self._folder.path)), test_accuracy=best.test_accuracy),
        )


def of_search(file: SpaceFile) -> Recipe:
    """The recipe of a search's own last stage."""
    return Recipe(name=SEARCHED, schedule=Schedule.of_finalists(file.final), seeds=file.final.seeds)
