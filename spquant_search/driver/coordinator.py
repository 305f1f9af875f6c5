"""The search: one coordinator asks, decides and tells; trainers train.

The coordinator owns the study and every decision; a trainer only ever sees one task. Everything that a decision is
based on lies in the run's folder before the next decision is made, so a search can be killed at any moment and goes on
with the same command: trials in work start again under their own number, finished ones are never repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import takewhile
from pathlib import Path

from spquant_search.costs.memory import FLOPS_PER_MAC, cost_report, known_effective_macs
from spquant_search.driver.early_stopping import LearningCurve, stopping_reason
from spquant_search.driver.finalists import Finalist, FineTuner, of_search
from spquant_search.driver.seeds import trial_seed
from spquant_search.driver.storage.journal import Journal
from spquant_search.driver.storage.protocol import Storage
from spquant_search.driver.study import PendingTrial, Study
from spquant_search.errors import UserError
from spquant_search.processes import available_cores
from spquant_search.profile import PROCESS
from spquant_search.report.dashboard_notes import trial_attributes
from spquant_search.runs.budget_ladder import plan_budget_ladder
from spquant_search.runs.events import Watcher
from spquant_search.runs.files import temporary_beside
from spquant_search.runs.folder import RunFolder
from spquant_search.runs.pareto import reference_point
from spquant_search.runs.results import BASELINE, EpochMetrics, Origin, Outcome, TrialResult, unmeasured
from spquant_search.runs.selection import Budget, front, select_finalists
from spquant_search.runs.sensitivity import Sensitivity, by_layer, lowered_configurations, sensitivity
from spquant_search.space.configuration import NetworkConfig
from spquant_search.training.prepared import Prepared
from spquant_search.training.schedule import Schedule
from spquant_search.training.tasks import AccuraciesTask, SubnetTask, SupernetTask, Task, TestTask
from spquant_search.workers.messages import (
    Accuracies,
    Epoch,
    Failed,
    Message,
    SupernetProgress,
    SupernetTrained,
    Tested,
    Trained,
    TrainerConfig,
)
from spquant_search.workers.pool import TrainerPool
from spquant_search.workers.process import Trainer

MAX_FAILED_IN_A_ROW = 5  # more are not the configurations' fault
MAX_DUPLICATES_IN_A_ROW = 50
# A proposal over budget costs no training, and of those of a sampler that does not know the budget few may fit.
MAX_UNTRIED_IN_A_ROW = 200
COUNTED = (Outcome.COMPLETE, Outcome.SUBNET, Outcome.STOPPED, Outcome.DIVERGED, Outcome.FAILED)
UNTRIED = (Outcome.DUPLICATE, Outcome.OVER_BUDGET)
NOT_COUNTED = (Origin.BASELINE, Origin.FINE_TUNED)  # origins of trials that the limit on trials does not know


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """When to begin no further trial."""

    trials: int
    deadline: float | None = None  # of time.monotonic()

    def reached(self, begun: int) -> bool:
        return begun >= self.trials or self.late()

    def late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline


def run_search(
    prepared: Prepared,
    folder: RunFolder,
    *,
    setup: TrainerConfig,
    limits: Limits,
    watcher: Watcher,
    storage: Storage | None = None,
    make_trainer: Callable[[TrainerConfig], Trainer] | None = None,
) -> tuple[TrialResult, ...]:
    """Search until the limits are reached, test the front's members, and return all results by number.

    ``storage``: the study's, where it does not lie in the run's folder. ``make_trainer``: as of :class:`TrainerPool`.
    """
    storage = storage or Journal(folder.study_file)
    crew = TrainerPool(setup, prepared.space.file.search.workers, warn=watcher.warning, make_trainer=make_trainer)
    coordinator = _Coordinator(prepared, folder, storage=storage, crew=crew, limits=limits, watcher=watcher)
    try:
        coordinator.train_baseline()
        if coordinator.uses_supernet:
            coordinator.train_supernet()
            coordinator.plan_ladder()
        coordinator.try_candidates()
        coordinator.fine_tune_front()
        coordinator.test_front()
    finally:
        coordinator.close()
        folder.write_profile(coordinator.profile())
    return coordinator.results


def run_sensitivity(prepared: Prepared, folder: RunFolder, *, setup: TrainerConfig, watcher: Watcher) -> Sensitivity:
    """What every lower choice costs, measured by a supernet; both are trained where the run has none yet.

    Raises:
        UserError: something could not be trained or evaluated.
    """
    storage = Journal(folder.study_file)
    crew = TrainerPool(setup, prepared.space.file.search.workers, warn=watcher.warning)
    coordinator = _Coordinator(prepared, folder, storage=storage, crew=crew, limits=Limits(trials=0), watcher=watcher)
    try:
        coordinator.train_baseline()
        coordinator.train_supernet()
        found = coordinator.read_sensitivity()
    finally:
        coordinator.close()
        folder.write_profile(coordinator.profile())
    if found is None:
        raise UserError(
            f"{folder.path}: not every choice could be evaluated, for the reasons above; fix them and start the same "
            "command again, which goes on with what is missing"
        )
    return found


class _Coordinator:
    def __init__(
        self,
        prepared: Prepared,
        folder: RunFolder,
        *,
        storage: Storage,
        crew: TrainerPool,
        limits: Limits,
        watcher: Watcher,
    ) -> None:
        self._prepared, self._folder, self._limits, self._watcher = prepared, folder, limits, watcher
        self._file = prepared.space.file
        self._storage = storage
        self._study = Study(
            storage,
            prepared.space,
            prepared.shapes,
            chance=1.0 / prepared.input.classes,
            note=watcher.warning,
        )
        self._results: dict[int, TrialResult] = {}
        self._tried: dict[NetworkConfig, int] = {}  # by configuration, the first trial of it that did not fail
        self._proposed: set[NetworkConfig] = set()
        self._known_curves: dict[int, LearningCurve] = {}  # of all that have ended
        for result in folder.results():
            self._take_in(result)
        self._open: dict[int, PendingTrial] = {}
        self._elsewhere: dict[int, PendingTrial] = {}  # what other coordinators are at work on
        self._half_asked = 0  # trials besides, of coordinators that died while they asked; to be taken over
        self._curves: dict[int, tuple[EpochMetrics, ...]] = {}
        self._crew = crew
        self._budget = Budget.of(self._file.constraints)
        # How many proposals in a row were not tried, also at the end of an earlier start: none is to go on for ever.
        self._untried = self._latest_with(UNTRIED)  # over budget, or known already
        self._duplicates = self._latest_with((Outcome.DUPLICATE,))
        self._failed_in_a_row = 0

    def profile(self) -> dict[str, dict[str, float]]:
        """Where the seconds of the coordinator and of every trainer went."""
        return {"coordinator": PROCESS.seconds(), **self._crew.seconds()}

    @property
    def results(self) -> tuple[TrialResult, ...]:
        return tuple(self._results[number] for number in sorted(self._results))

    def close(self) -> None:
        self._crew.close()
        self._storage.close()

    # ------------------------------------------------------------ stages

    def train_baseline(self) -> None:
        """Trial 0: the float network, from whose weights every candidate starts."""
        while BASELINE not in self._results:
            # Whatever the limits: a run without its baseline is nothing.
            with self._decision_lock():
                asked = None if BASELINE in self._results else self._take_over()
                # It may be finished, and its result not to be seen yet.
                if asked is None and not self._elsewhere and BASELINE not in self._study.finished():
                    asked = self._ask()
            if asked is not None:
                self._begin(self._crew.idle()[0], asked)
                self._serve_until_idle()
            elif BASELINE not in self._results:
                self._wait("another coordinator is training the float baseline")
        baseline = self._results[BASELINE]
        if baseline.outcome is not Outcome.COMPLETE:
            raise UserError(
                f"{self._folder.path}: the float baseline could not be trained: {baseline.reason}. "
                "Without it nothing can be compared; fix the cause (a smaller train.baseline_learning_rate where the "
                "loss diverged), and start a run of its own with --run NAME."
            )

    def train_supernet(self) -> None:
        """the supernet, of which every configuration is a subnet."""
        with self._alone("training the supernet", is_done=self._folder.supernet_file.is_file) as is_mine:
            if is_mine:
                self._train_supernet()

    def _train_supernet(self) -> None:
        recipe, trainer = self._file.supernet, self._crew.idle()[0]
        trainer.give(
            SupernetTask(
                schedule=Schedule(epochs=recipe.epochs, learning_rate=recipe.learning_rate),
                seed=trial_seed(self._file.search.seed, BASELINE),
                initial_weights=self._folder.weights_file(BASELINE),
                weights_file=self._folder.supernet_file,
                threads=self._all_threads,
            )
        )
        done = 0
        while self._crew.busy():
            self._watcher.stage("training the supernet, epochs done:", done, recipe.epochs)
            for speaking, message in self._crew.messages():
                if isinstance(message, SupernetProgress):
                    done = message.epoch
                elif isinstance(message, SupernetTrained):
                    self._crew.ended(speaking, message.seconds)
                elif isinstance(message, Failed):
                    raise UserError(
                        f"{self._folder.path}: the supernet could not be trained: {message.reason}. Mend the "
                        "cause (a smaller supernet.learning_rate where the loss diverged, or search.strategy "
                        "warm-start, which does without it), and start a run of its own with --run NAME."
                    )

    def plan_ladder(self) -> None:
        """Which configurations follow the references, where the limits leave room for some that are sampled."""
        search = self._file.search
        if search.ladder_points == 0 or self._limits.trials <= len(self._prepared.space.references):
            return
        found = self.read_sensitivity()
        if found is not None:
            self._study.budget_ladder = tuple(point.config for point in plan_budget_ladder(found, search.ladder_points))
        elif not self._limits.late():
            self._watcher.warning(
                "the search goes on without its plan_budget_ladder, as not every choice could be evaluated"
            )

    def read_sensitivity(self) -> Sensitivity | None:
        """The run's sensitivity analysis, after evaluating what it lacks; None where something is missing still.

        These subnets are no trials: a trial's number, and with it what the sampler proposes, does not depend on them.
        """
        what, is_done = "evaluating one lower precision after the other", self._folder.sensitivity_file.is_file
        with self._alone(what, is_done=is_done) as is_mine:
            return self._read_sensitivity() if is_mine else self._folder.sensitivity()

    def _read_sensitivity(self) -> Sensitivity | None:
        configs, known = lowered_configurations(self._prepared.space), self._folder.readings()
        missing = by_layer(name for name in configs if name not in known)
        given: dict[Trainer, tuple[str, ...]] = {}
        while True:
            for trainer in self._crew.idle():
                if missing and not self._limits.late():
                    names = given[trainer] = missing.pop(0)
                    chosen = tuple(configs[name] for name in names)
                    trainer.give(AccuraciesTask(configs=chosen, supernet_weights=self._folder.supernet_file))
            if not self._crew.busy():
                break
            self._watcher.stage("evaluating one lower precision after the other, done:", len(known), len(configs))
            for trainer, message in self._crew.messages():
                self._take_reading(trainer, message, given[trainer], known)
        if len(known) < len(configs):
            return None
        samples = self._subnet_samples
        found = sensitivity(self._prepared.space, self._prepared.shapes, known, samples=samples)
        self._folder.write_sensitivity(found)
        return found

    def _take_reading(
        self, trainer: Trainer, message: Message, names: tuple[str, ...], known: dict[str, float]
    ) -> None:
        if isinstance(message, Accuracies):
            self._crew.ended(trainer, message.seconds)
            known |= dict(zip(names, message.accuracies, strict=True))
            self._folder.write_readings(known)
        elif isinstance(message, Failed):
            more = f" and {len(names) - 1} more of its layer" if len(names) > 1 else ""
            self._watcher.warning(f"{names[0]}{more} could not be evaluated: {message.reason}")
            self._crew.failed(trainer, message)

    @property
    def _subnet_samples(self) -> int:
        every, wanted = self._folder.facts().validation_samples, self._file.supernet.validation_samples
        return every if wanted is None else min(every, wanted)

    def try_candidates(self) -> None:
        """References, the plan_budget_ladder and sampled configurations, one a trainer, until a limit is reached."""
        self._work_off(self._next_candidate)
        over = sum(result.outcome is Outcome.OVER_BUDGET for result in self._results.values())
        if over and self._begun() < self._limits.trials and not self._limits.late():
            self._watcher.warning(
                f"the search ends after {self._begun()} of {self._limits.trials} trials: {self._exhausted()}, "
                f"{over} of those proposed are over budget; raise constraints, give layers smaller choices, or take "
                "search.sampler grey-box, which proposes nothing over the memory budget"
            )

    def fine_tune_front(self) -> None:
        """What was evaluated as a subnet and is on the front or may reach it, trained at its own configuration."""
        if not self.uses_supernet or self._limits.late():
            return
        final, stopping = self._file.final, self._file.search.stopping
        read = [result for result in self.results if result.outcome is Outcome.SUBNET and result.is_measured]
        baseline = self._results[BASELINE]
        chosen = select_finalists(
            read,
            reference_point(baseline, chance=1.0 / self._prepared.input.classes),
            # Fine-tuning may lift a subnet above the least accuracy, but never below its memory.
            replace(self._budget, min_accuracy=None),
            baseline_accuracy=baseline.accuracy,
            limit=final.members,
            margin=stopping.margin,
        )
        with PROCESS.on("bookkeeping"), self._storage.decision_lock():
            self._study.enqueue_finalists(chosen)
        self._work_off(self._next_queued)
        with self._alone("fine-tuning the front with further seeds") as is_mine:
            if is_mine:
                self._repeat_finalists()

    def _repeat_finalists(self) -> None:
        """The finalists with the other seeds; the trial that fine-tuned one is its first."""
        recipe = of_search(self._file)
        tuned = [one for one in self.results if one.origin is Origin.FINE_TUNED and one.outcome is Outcome.COMPLETE]
        if recipe.seeds == 1 or not tuned:
            return
        parents = {one.number: self._results[one.parent] for one in tuned if one.parent is not None}
        FineTuner(
            [
                Finalist(
                    member=one,
                    weights=self._folder.weights_of(parents[one.number]),
                    before=parents[one.number].epochs,
                    is_first=True,
                )
                for one in tuned
            ],
            recipe,
            prepared=self._prepared,
            folder=self._folder,
            crew=self._crew,
            stage=self._watcher.stage,
            warn=self._watcher.warning,
        ).run(self._limits.late)

    def _work_off(self, next_trial: Callable[[], PendingTrial | None]) -> None:
        while True:
            for trainer in self._crew.idle():
                asked = next_trial()
                if asked is None:
                    break
                self._begin(trainer, asked)
            if self._crew.busy():
                self._listen()
            elif (left := len(self._elsewhere) + self._half_asked) and not self._limits.late():
                self._wait(f"other coordinators are at work on their last {left} trials")
            else:
                return

    def test_front(self) -> None:
        """The test accuracy of the baseline and of the front's members, each once."""
        with self._alone("testing the front on the test split") as is_mine:
            if is_mine:
                self._test_front()

    def _test_front(self) -> None:
        known = self._folder.test_accuracies()
        wanted = [self._results[BASELINE], *front(self._folder.latest_results(), self._budget)]
        tested = known.keys() | self._folder.latest_test_accuracies().keys()  # finalists are, with every seed
        missing = {member.number: member for member in wanted if member.number not in tested}
        tasks = [
            TestTask(number=number, config=member.config, weights=self._folder.weights_of(member))
            for number, member in missing.items()
        ]
        total = len(tasks)
        while tasks or self._crew.busy():
            for trainer in self._crew.idle():
                if tasks:
                    trainer.give(tasks.pop(0))
            for trainer, message in self._crew.messages():
                if isinstance(message, Tested):
                    known[message.number] = message.accuracy
                    self._folder.write_test_accuracies(known)
                    self._crew.ended(trainer, message.seconds)
                elif isinstance(message, Failed):
                    self._watcher.warning(f"a member of the front could not be tested: {message.reason}")
                    self._crew.failed(trainer, message)
            done = total - len(tasks) - len(self._crew.busy())
            self._watcher.stage("testing the front on the test split", done, total)

    # ------------------------------------------------------------ trials

    def _next_candidate(self) -> PendingTrial | None:
        """The next configuration that is worth a trainer, None where a limit is reached or the space is exhausted."""
        return self._next(lambda: self._limits.reached(self._begun()) or self._exhausted() is not None)

    def _next(self, is_over: Callable[[], bool]) -> PendingTrial | None:
        with self._decision_lock():
            return self._decided(is_over)

    def _decided(self, is_over: Callable[[], bool]) -> PendingTrial | None:
        while True:
            asked = self._take_over()
            if asked is None:
                if is_over():
                    return None
                asked = self._ask()
            stored = self._folder.result(asked.number)
            if stored is not None:  # its process died between writing the result and telling the study
                self._tell(asked, stored)
                if stored.number not in self._results:  # another coordinator's, written since this one last looked
                    self._take_in(stored)
                    self._watcher.finished(stored)
                continue
            twin = None if asked.origin is Origin.FINE_TUNED else self._same_configuration(asked.config)
            over = self._over_budget(asked)
            if twin is None and over is None:
                self._duplicates = self._untried = 0
                return asked
            self._untried += 1
            if twin is not None:
                self._duplicates += 1
                self._finish(asked, self._known(asked, Outcome.DUPLICATE, f"same configuration as trial {twin}"))
            elif over is not None:
                self._duplicates = 0
                self._finish(asked, self._known(asked, Outcome.OVER_BUDGET, over))

    def _next_queued(self) -> PendingTrial | None:
        """As :meth:`_next_candidate`, whatever the limit on trials, of those that were queued or begun before."""
        return self._next(lambda: not self._study.has_queued() or self._limits.late())

    def _ask(self) -> PendingTrial:
        with PROCESS.on("sampler"):
            return self._study.ask()

    def _begun(self) -> int:
        """Candidates that have been or are being tried."""
        origins = [result.origin for result in self._results.values() if result.outcome in COUNTED]
        origins += [asked.origin for asked in (self._open | self._elsewhere).values()]
        return sum(origin not in NOT_COUNTED for origin in origins) + self._half_asked

    def _exhausted(self) -> str | None:
        """Why nothing more is to be asked for, None while there may be."""
        space, at_work = self._prepared.space, {asked.config for asked in (self._open | self._elsewhere).values()}
        seen = self._proposed | at_work
        if len(seen if space.baseline() in space else seen - {space.baseline()}) >= space.size():
            return "every configuration of the space was proposed"
        if self._duplicates >= MAX_DUPLICATES_IN_A_ROW:
            return f"{self._duplicates} proposals in a row were known already"
        if self._untried >= MAX_UNTRIED_IN_A_ROW:
            return f"{self._untried} proposals in a row were over budget or known already"
        return None

    def _latest_with(self, outcomes: Collection[Outcome]) -> int:
        """How many of the latest proposals ended so, in a row."""
        latest_first = (result for result in reversed(self.results) if result.origin not in NOT_COUNTED)
        return sum(1 for _ in takewhile(lambda result: result.outcome in outcomes, latest_first))

    def _over_budget(self, asked: PendingTrial) -> str | None:
        """What is known beforehand to be over budget, with its value and the bound; the float baseline never is."""
        if asked.number == BASELINE or not self._budget:
            return None
        memory, flops = self._budget.max_memory_bytes, self._budget.max_effective_flops
        cost = cost_report(self._prepared.shapes, asked.config, time_steps=self._file.time_steps)
        if memory is not None and cost.memory_bytes > memory:
            return f"memory_bytes {cost.memory_bytes:,} is over constraints.memory_bytes, {memory:,.0f}"
        macs = known_effective_macs(self._prepared.shapes, asked.config, time_steps=self._file.time_steps)
        if flops is not None and macs is not None and FLOPS_PER_MAC * macs > flops:
            return f"effective_flops {FLOPS_PER_MAC * macs:,} is over constraints.effective_flops, {flops:,.0f}"
        return None

    @contextmanager
    def _decision_lock(self) -> Iterator[None]:
        """A context in which no other coordinator decides what is tried next, and what they have done is known."""
        with self._storage.decision_lock():
            if self._storage.is_shared:
                self._look_around()
            yield

    def _look_around(self) -> None:
        """Take in what other coordinators have finished, and what they are at work on."""
        at_work, self._half_asked = self._study.running_elsewhere()
        self._elsewhere = {asked.number: asked for asked in at_work}
        for number in self._study.finished():
            if number in self._results or number in self._open:
                continue
            result = self._folder.result(number)
            if result is None:  # a file system that machines share may show a file late
                continue
            self._take_in(result)
            self._watcher.finished(result)

    def _take_over(self) -> PendingTrial | None:
        """A trial that nobody works on any more, which from now on is this coordinator's."""
        asked = self._study.take_over()
        if asked is not None and self._elsewhere.pop(asked.number, None) is None:
            self._half_asked = max(0, self._half_asked - 1)
        return asked

    def _wait(self, why: str) -> None:
        self._watcher.stage(why)
        time.sleep(1.0)

    @contextmanager
    def _alone(self, what: str, *, is_done: Callable[[], bool] = lambda: False) -> Iterator[bool]:
        """A context in which no other coordinator does ``what``; gives whether it is still to be done."""
        waiting = partial(self._watcher.stage, f"another coordinator is {what}")
        with self._storage.exclusive_stage(what, is_done=is_done, waiting=waiting) as is_mine:
            with self._decision_lock():  # what others have finished is known from here on
                pass
            yield is_mine

    def _take_in(self, result: TrialResult) -> None:
        """Remember how a trial ended."""
        self._results[result.number] = result
        self._proposed.add(result.config)
        if result.outcome is not Outcome.FAILED:
            self._tried.setdefault(result.config, result.number)
        self._known_curves[result.number] = self._curve(result.number, result.memory_bytes)

    def _same_configuration(self, config: NetworkConfig) -> int | None:
        at_work = (self._open | self._elsewhere).items()
        return next((number for number, asked in at_work if asked.config == config), self._tried.get(config))

    def _known(self, asked: PendingTrial, outcome: Outcome, reason: str) -> TrialResult:
        cost = cost_report(self._prepared.shapes, asked.config, time_steps=self._file.time_steps)
        known = unmeasured(
            number=asked.number,
            origin=asked.origin,
            config=asked.config,
            seed=trial_seed(self._file.search.seed, asked.number),
            cost=cost,
            device=self._prepared.footprint(cost),
            outcome=outcome,
            reason=reason,
        )
        if asked.parent is None:
            return known
        parent = self._results[asked.parent]
        return replace(known, parent=asked.parent, epochs=parent.epochs, layers=parent.layers)

    def _schedule(self, asked: PendingTrial) -> Schedule:
        recipe = self._file.train
        if asked.number == BASELINE:
            return Schedule(epochs=recipe.baseline_epochs, learning_rate=recipe.baseline_learning_rate)
        if asked.origin is Origin.FINE_TUNED:
            return Schedule.of_finalists(self._file.final)
        return Schedule(epochs=recipe.epochs, learning_rate=recipe.learning_rate)

    def _begin(self, trainer: Trainer, asked: PendingTrial) -> None:
        known = self._known(asked, Outcome.FAILED, "not finished")
        reads = self.uses_supernet and asked.origin not in NOT_COUNTED
        trainer.give(self._read_out(known) if reads else self._training(asked, known))
        limit = self._file.search.minutes_per_trial
        if limit is not None and asked.number != BASELINE:
            self._crew.limit(trainer, 60 * limit)
        self._open[asked.number] = asked
        self._curves[asked.number] = known.epochs
        for metrics in known.epochs:  # what was evaluated as a subnet before
            self._study.report(asked, epoch=metrics.epoch, accuracy=metrics.accuracy)
        self._watcher.started(known, 0 if reads else self._schedule(asked).epochs)

    def _read_out(self, known: TrialResult) -> SubnetTask:
        return SubnetTask(
            result=known,
            supernet_weights=self._folder.supernet_file,
            weights_file=self._weights_file(known.number),
        )

    def _training(self, asked: PendingTrial, known: TrialResult) -> Task:
        return Task(
            result=known,
            schedule=self._schedule(asked),
            initial_weights=self._initial_weights(asked),
            weights_file=self._weights_file(asked.number),
            checkpoint_file=self._folder.checkpoint_file(asked.number),
            teacher_weights=self._teacher_weights(asked),
            threads=self._all_threads if asked.number == BASELINE else 1,
        )

    def _weights_file(self, number: int) -> Path:
        """Where a trainer writes a trial's weights: a draft where another coordinator may have taken the trial over."""
        file = self._folder.weights_file(number)
        return temporary_beside(file) if self._storage.is_shared else file

    def _initial_weights(self, asked: PendingTrial) -> tuple[Path, ...]:
        if asked.parent is not None:
            return self._folder.weights_of(self._results[asked.parent])
        if asked.number == BASELINE or self._file.search.strategy == "scratch":
            return ()
        return (self._folder.weights_file(BASELINE),)

    def _teacher_weights(self, asked: PendingTrial) -> Path | None:
        recipe, strategy = self._file.train, self._file.search.strategy
        alone = asked.number == BASELINE or strategy == "scratch" or recipe.distillation == 0
        return None if alone else self._folder.weights_file(BASELINE)

    @property
    def uses_supernet(self) -> bool:
        """Whether candidates are evaluated as subnets of a supernet instead of being trained."""
        return self._file.search.strategy == "supernet" and self._limits.trials > 0

    @property
    def _all_threads(self) -> int:
        """While one network is trained that all others start from, the other trainers have nothing to do."""
        return min(len(self._crew), available_cores())

    def _finish(self, asked: PendingTrial, result: TrialResult) -> None:
        """Write the result first and tell the study second: in between it can be told again, never trained again."""
        with PROCESS.on("bookkeeping"), self._storage.decision_lock():
            if not self._study.still_owned(asked):
                self._watcher.warning(
                    f"trial {asked.number}: another coordinator took it over, as this one was not heard of for long"
                )
                self._storage.release(asked.trial_id)
                self._open.pop(asked.number, None)
                if self._storage.is_shared:
                    self._weights_file(asked.number).unlink(missing_ok=True)
                return
            if self._storage.is_shared and result.outcome.has_weights:
                self._weights_file(asked.number).replace(self._folder.weights_file(asked.number))
            self._folder.write_result(result)
            self._tell(asked, result)
        self._take_in(result)
        self._open.pop(result.number, None)
        self._watcher.finished(result)

    def _tell(self, asked: PendingTrial, result: TrialResult) -> None:
        baseline = self._results.get(BASELINE, result)
        self._study.tell(asked, result, trial_attributes(result, baseline))

    # ------------------------------------------------------------ trainers

    def _serve_until_idle(self) -> None:
        while self._crew.busy():
            self._listen()

    def _listen(self) -> None:
        for trainer, message in self._crew.messages():
            asked = self._open[trainer.task.result.number]
            if isinstance(message, Epoch):
                trainer.answer(self._on_epoch(asked, message.metrics))
            elif isinstance(message, Trained):
                self._crew.ended(trainer, message.seconds)
                self._finish(asked, message.result)
                self._failed_in_a_row = 0
            elif isinstance(message, Failed):
                self._on_failure(trainer, asked, message)

    def _on_epoch(self, asked: PendingTrial, metrics: EpochMetrics) -> str | None:
        """Record an epoch; the reason to stop the trial, if there is one.

        A trial that is begun again tells its earlier epochs again.
        """
        earlier = (epoch for epoch in self._curves[asked.number] if epoch.epoch < metrics.epoch)
        self._curves[asked.number] = (*earlier, metrics)
        self._study.report(asked, epoch=metrics.epoch, accuracy=metrics.accuracy)
        self._watcher.epoch(asked.number, metrics)
        stopping = self._file.search.stopping
        # References are what everything else is compared with, and the last epoch is paid for already.
        exempt = asked.origin in (Origin.BASELINE, Origin.REFERENCE) or metrics.epoch == self._schedule(asked).epochs
        if exempt or not stopping.enabled:
            return None
        return stopping_reason(
            self._curve(asked.number, self._known(asked, Outcome.FAILED, "").memory_bytes),
            list(self._known_curves.values()),
            margin=stopping.margin,
            min_peers=stopping.min_peers,
            optimism=stopping.optimism,
        )

    def _curve(self, number: int, memory_bytes: int) -> LearningCurve:
        result = self._results.get(number)
        epochs = result.epochs if result is not None else self._curves[number]
        return LearningCurve(
            number=number,
            memory_bytes=memory_bytes,
            accuracies=tuple(epoch.accuracy for epoch in epochs),
            effective_macs=tuple(epoch.effective_macs for epoch in epochs),
            complete=result is not None and result.outcome is Outcome.COMPLETE and number != BASELINE,
            first_epoch=epochs[0].epoch if epochs else 1,
        )

    def _on_failure(self, trainer: Trainer, asked: PendingTrial, message: Failed) -> None:
        result = replace(self._known(asked, Outcome.FAILED, message.reason), epochs=self._curves[asked.number])
        if message.detail:
            self._folder.error_file(asked.number).write_text(message.detail, encoding="utf-8")
        if asked.number == BASELINE:  # not told: what came from outside may not come again, and the run needs it
            self._crew.failed(trainer, message)
            raise UserError(
                f"{self._folder.path}: the float baseline could not be trained: {message.reason}. Without it nothing "
                "can be compared; fix the cause, and start the same command again."
            )
        self._folder.checkpoint_file(asked.number).unlink(missing_ok=True)
        self._watcher.warning(f"trial {asked.number} failed: {message.reason}")
        self._finish(asked, result)
        self._crew.failed(trainer, message)
        self._failed_in_a_row += not message.late
        if self._failed_in_a_row >= MAX_FAILED_IN_A_ROW:
            raise UserError(
                f"{self._folder.path}: {self._failed_in_a_row} trials in a row failed, the latest, {asked.number}, "
                f"because {message.reason}. The search ends, as this seems to be no fault of the configurations; fix "
                "the cause (trials/*.error.txt say where), and start the same command again."
            )
