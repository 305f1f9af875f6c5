"""The state of a running search, gathered from its events."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from spquant_search.report.front_table import hypervolume_text
from spquant_search.report.numbers import duration
from spquant_search.report.text_table import one_line
from spquant_search.report.time_estimate import TimeEstimate, estimate_text
from spquant_search.runs import pareto, selection
from spquant_search.runs.events import SearchPlan
from spquant_search.runs.results import EpochMetrics, Origin, Outcome, TrialResult
from spquant_search.runs.work import Part, part_of
from spquant_search.space.objectives import DEFAULT_COSTS, with_columns

Clock = Callable[[], float]


@dataclass(kw_only=True, slots=True)
class RunningTrial:
    """A trial in training."""

    task: TrialResult  # as far as known: configuration and memory
    epochs: int
    latest: EpochMetrics | None = None

    @property
    def epochs_left(self) -> int:
        return max(0, self.epochs - (self.latest.epoch if self.latest else 0))


@dataclass(kw_only=True, slots=True)
class Progress:
    """The state of a search, gathered from its events. ``clock`` gives seconds."""

    clock: Clock = time.monotonic
    begun: float = 0.0
    plan: SearchPlan | None = None
    running: dict[int, RunningTrial] = field(default_factory=dict)
    finished: list[TrialResult] = field(default_factory=list)
    front: tuple[TrialResult, ...] = ()
    hypervolume: float | None = None  # without the costs that are the same in all trials
    reference: pareto.ReferencePoint | None = None
    stage: str = ""
    warnings: list[str] = field(default_factory=list)
    time_estimate: TimeEstimate | None = None

    def __post_init__(self) -> None:
        self.begun = self.clock()

    def take_plan(self, plan: SearchPlan) -> None:
        self.plan = plan
        self.finished = list(plan.finished)
        self.time_estimate = TimeEstimate.of(
            plan.parts, plan.finished, workers=plan.workers, cores=plan.cores, begun=self.begun
        )
        self._update_front()

    def take_stage(self, text: str, done: int, total: int, part: Part | None = None) -> None:
        self.stage = one_line(text) + (f" {done:,} of {total:,}" if total else "")
        if part is not None and self.time_estimate is not None:
            self.time_estimate.reach(part, done, total, self.clock())

    def take_start(self, trial: RunningTrial) -> None:
        self.stage = ""
        if self.time_estimate is not None:
            self.time_estimate.begin(part_of(trial.task), self.clock())
        self.running[trial.task.number] = trial

    def take_epoch(self, number: int, metrics: EpochMetrics) -> None:
        trial = self.running.get(number)
        if trial is None:
            return
        trial.latest = metrics
        if self.time_estimate is not None:
            self.time_estimate.step(part_of(trial.task), self.clock(), self._steps_of_epoch(trial.task))

    def _steps_of_epoch(self, trial: TrialResult) -> float:
        """Return for how many steps of its part an epoch of a trial counts.

        A finalist has the more epochs the fewer time steps it has, each of so much less work.
        """
        if part_of(trial) is not Part.FINALISTS or not self.time_steps:
            return 1.0
        return trial.config.time_steps / self.time_steps[-1]

    def take_result(self, result: TrialResult) -> None:
        trial = self.running.pop(result.number, None)
        self.finished.append(result)
        self._update_front()
        if self.time_estimate is None or not result.outcome.is_tried:
            return
        part = part_of(result)
        if result.outcome is Outcome.SUBNET or trial is None:  # without one it is another coordinator's
            epochs = max(1, result.trained_epochs)
            self.time_estimate.step(part, self.clock(), epochs * self._steps_of_epoch(result))
        else:
            self.time_estimate.skip(part, trial.epochs_left * self._steps_of_epoch(result))

    @property
    def time_steps(self) -> tuple[int, ...]:
        """The numbers of time steps that networks of the space have; none before there is a plan."""
        return () if self.plan is None else self.plan.time_steps

    @property
    def searches_steps(self) -> bool:
        """True where networks of the space differ in their time steps."""
        return len(self.time_steps) > 1

    @property
    def baseline(self) -> TrialResult | None:
        done = (result for result in self.finished if result.origin is Origin.BASELINE)
        return next((result for result in done if result.outcome is Outcome.COMPLETE), None)

    @property
    def trials_done(self) -> int:
        """The candidates that the limit on trials counts."""
        return sum(result.is_candidate and result.outcome.is_tried for result in self.finished)

    @property
    def costs(self) -> tuple[str, ...]:
        """The objectives beside the accuracy."""
        return DEFAULT_COSTS if self.plan is None else self.plan.costs

    @property
    def shown_costs(self) -> tuple[str, ...]:
        """The objectives beside the accuracy, and what is shown of every search."""
        return with_columns(self.costs)

    @property
    def hidden_costs(self) -> tuple[str, ...]:
        """The costs that no choice of the space changes, and that no trial has changed: they stay unsaid."""
        fixed = () if self.plan is None else self.plan.fixed
        compared = selection.comparable(self.finished, self.costs)
        equal = pareto.constant_objectives(compared, self.costs, fixed=fixed)
        return tuple(name for name in equal if name in fixed)

    def seconds_left(self) -> float | None:
        """Estimate the time until the search ends; None as long as nothing tells how fast this machine is."""
        return None if self.time_estimate is None else self.time_estimate.seconds_left(self.clock())

    def estimate_text(self) -> str | None:
        """Write what the search takes in all, and each of its parts; None as long as that is not known."""
        parts = None if self.time_estimate is None else self.time_estimate.in_all(self.clock())
        if self.time_estimate is None or self.plan is None or not parts:
            return None
        return estimate_text(parts, before=self.time_estimate.seconds_before(), minutes=self.plan.minutes)

    def _update_front(self) -> None:
        budget = selection.Budget() if self.plan is None else self.plan.budget
        self.front = selection.front(self.finished, self.costs, budget)
        baseline = self.baseline
        if self.plan is None or baseline is None:
            return
        self.reference = pareto.reference_point(
            baseline, self.costs, chance=self.plan.chance, dearest=self.plan.dearest
        )
        fitting = selection.within(self.front, budget)
        points = pareto.objectives(fitting, self.costs)
        self.hypervolume = pareto.hypervolume(points, self.reference, without=self.hidden_costs)


def closing_text(progress: Progress) -> str:
    """Write the last line of a search: the trials, the time, the hypervolume."""
    elapsed = duration(progress.clock() - progress.begun)
    if progress.plan is not None and progress.plan.trials == 0:  # an analysis, which tries no candidates
        return f"done in {elapsed}"
    return f"{trial_count_text(progress)} in {elapsed}; {progress_hypervolume_text(progress)}"


def progress_hypervolume_text(progress: Progress) -> str:
    """Write the hypervolume so far."""
    return hypervolume_text(progress.hypervolume, progress.reference, without=progress.hidden_costs)


def trial_count_text(progress: Progress) -> str:
    """Write how many trials are done of how many; an earlier start may have been asked for more."""
    done, wanted = progress.trials_done, progress.plan.trials if progress.plan else None
    if wanted is not None and done > wanted:
        return f"{done} trials ({wanted} asked for)"
    return f"{done} of {'?' if wanted is None else wanted} trials"


def times_text(progress: Progress) -> str:
    """Write how many trials are done, the time so far and the time left."""
    done = trial_count_text(progress) if progress.plan else "preparing"
    left = progress.seconds_left()
    estimate = f", about {duration(left)} left" if left else ""
    return f"{done}, {duration(progress.clock() - progress.begun)} elapsed{estimate}"
